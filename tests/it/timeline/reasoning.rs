//! What the reasoning makes of noise beside an incident.

use std::fs;

use super::{FORM, clock, document, timeline};

/// A hundred requests without a client port within ten minutes; through the hour three that took too long, five that nobody
/// waited for, and two refused by a backend that is well otherwise.
#[test]
fn a_little_noise_is_no_candidate() {
    let folder = tempfile::tempdir().unwrap();
    let (mut access, mut errors) = (Vec::new(), Vec::new());
    for second in 0..3600 {
        let status = match second {
            _ if (1200..1800).contains(&second) && second % 6 == 0 => 500,
            700 | 2500 | 3300 => 504,
            100 | 900 | 2000 | 2900 | 3500 => 499,
            400 | 3000 => 502,
            _ => 200,
        };
        let (time, backend) = (clock(second), "10.0.0.1:80");
        access.push(format!(
            "192.0.2.1 - - [23/Nov/2026:{time} +0000] \"GET / HTTP/1.1\" {status} 9 \"-\" \"-\" a.example {backend}\n"
        ));
        let what = match status {
            500 => "[crit] 7#7: *1 bind(0.0.0.0) failed (98: Address already in use)",
            502 => "[error] 7#7: *1 connect() failed (111: Connection refused)",
            _ => continue,
        };
        errors.push(format!(
            "2026/11/23 {time} {what} while connecting to upstream, client: 192.0.2.1, server: a.example, request: \"GET / HTTP/1.1\", upstream: \"http://{backend}/\", host: \"a.example\"\n"
        ));
    }
    // Another backend, so that there is something to compare with.
    for second in 0..3600 {
        access.push(format!(
            "192.0.2.1 - - [23/Nov/2026:{} +0000] \"GET / HTTP/1.1\" 200 9 \"-\" \"-\" b.example 10.0.0.2:80\n",
            clock(second)
        ));
    }
    fs::write(folder.path().join("access.log"), access.concat()).unwrap();
    fs::write(folder.path().join("error.log"), errors.concat()).unwrap();
    let mut command = timeline();
    command.current_dir(folder.path());
    command.args(["-a", "access.log", "-e", "error.log", "--log-format", FORM]);
    let found = document(&mut command);
    // Who did not wait is not counted among the failures.
    let summary = found["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("105 failures by the access logs, in 15 of 60 bins of 1 min, "),
        "{summary}"
    );
    let score = |name: &str| {
        let causes = found["causes"].as_array().unwrap();
        let cause = causes.iter().find(|cause| cause["cause"] == name);
        cause.map_or(0.0, |cause| cause["score"].as_f64().unwrap())
    };
    assert_eq!(found["causes"][0]["cause"], "client-ports");
    assert!(score("client-ports") > 0.85, "{}", found["causes"]);
    assert!(score("slow-upstream") < 0.05, "{}", found["causes"]);
    assert!(score("dead-backend") < 0.05, "{}", found["causes"]);
    // What failed at the backend failed for want of ports: it is not dead for that.
    let causes = found["causes"].as_array().unwrap();
    let dead = causes
        .iter()
        .find(|cause| cause["cause"] == "dead-backend")
        .unwrap();
    assert!(!dead["for"].to_string().contains("tries at"), "{dead}");
}
