//! Logs that a real Icinga 2 and a real Nagios Core wrote.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{document, row, timeline};
use crate::support::debian::Unpacked;
use crate::support::icinga::Icinga;
use crate::support::nagios::{Nagios, PACKAGES};
use crate::support::netns::Netns;
use crate::support::skip::skip;

/// Nobody listens at port 9; one plugin is not there; one gets a password.
const ICINGA: &str = r#"
object CompatLogger "compat" { log_dir = LogDir + "/compat" }
object FileLogger "debug" {
  severity = "debug"
  path = LogDir + "/debug.log"
}
object CheckCommand "secret" {
  command = [ PluginContribDir + "/check_http_retry", "-I", "127.0.0.1", "-p", "9", "-u", "/a?token=hunter2", "-a", "me:hunter2", "--attempts", "1" ]
}
object CheckCommand "gone" {
  command = [ "/nowhere/check", "hunter2" ]
}
object Host "web1" {
  check_command = "dummy"
  check_interval = 1h
}
object Host "web2" {
  check_command = "dummy"
  check_interval = 1h
  max_check_attempts = 1
}
template Service "once" {
  host_name = "web1"
  max_check_attempts = 3
  check_interval = 1h
  retry_interval = 1h
}
object Service "http" {
  import "once"
  check_command = "secret"
}
object Service "gone" {
  import "once"
  check_command = "gone"
}
object Service "told" {
  import "once"
  check_command = "dummy"
  enable_active_checks = false
}
"#;

/// What the timeline makes of logs of a monitoring daemon, all its lines understood.
fn of_logs(logs: &[&Path]) -> Value {
    let mut command = timeline();
    for log in logs {
        command.arg("-i").arg(log);
    }
    let found = document(&mut command);
    for source in found["sources"].as_array().unwrap() {
        assert!(source["trouble"].is_null(), "{source}");
        assert!(source["used"].as_u64().unwrap() > 0, "{source}");
        assert!(!found.to_string().contains("hunter2"), "a secret: {found}");
    }
    found
}

fn has_row(found: &Value, group: &str) -> bool {
    let rows = found["lanes"].as_array().unwrap();
    rows.iter().any(|row| row["group"] == group)
}

#[test]
fn the_logs_of_a_real_icinga_are_read() {
    if let Err(why) = Netns::possible() {
        return skip(&why);
    }
    let netns = Netns::new("logs");
    let icinga = Icinga::start(&netns, ICINGA);
    for _ in 0..3 {
        assert_eq!(icinga.check("web1!http")["state"], 2.0);
        assert_eq!(icinga.check("web1!gone")["state"], 3.0);
    }
    icinga.submit("web1!told", 1, "PASSIVE WARNING: Connection reset by peer");
    icinga.submit("web1!told", 0, "well");
    icinga.submit("web2", 0, "well");
    icinga.submit("web2", 1, "No route to host");
    icinga.wait_until("get_host(\"web2\").last_check_result.output == \"No route to host\"");
    let folder = icinga.folder().join("log");
    let [debug, main, compat] =
        ["debug.log", "icinga2.log", "compat/icinga.log"].map(|name| folder.join(name));
    // The logs are written a moment after what they tell of.
    for (log, last, times) in [
        (&compat, "HOST ALERT: web2;DOWN;", 1),
        (&debug, "'web2' hard state change from UP to DOWN", 1),
        (&main, "'web1!gone' (PID: ", 3),
    ] {
        wait_for(log, last, times);
    }
    let text = |path: &Path| fs::read_to_string(path).unwrap();

    let found = of_logs(&[&compat]);
    for (name, alert) in [
        ("web1!http", "SERVICE ALERT: web1;http;CRITICAL;"),
        ("web1!gone", "SERVICE ALERT: web1;gone;UNKNOWN;"),
        ("web1!told", "SERVICE ALERT: web1;told;WARNING;"),
        ("web2", "HOST ALERT: web2;DOWN;"),
    ] {
        let text = text(&compat);
        let alerts = text.lines().filter(|line| line.contains(alert)).count();
        assert!(alerts > 0, "no {alert} in {text}");
        assert_eq!(row(&found, "check", name)["total"], alerts as f64, "{text}");
    }
    let service = |found: &Value, name: &str| {
        let services = found["services"].as_array().unwrap();
        let service = services.iter().find(|service| service["name"] == name);
        let service = service.unwrap_or_else(|| panic!("no {name} in {services:?}"));
        (service["failed"].clone(), service["tried"].clone())
    };
    assert_eq!(service(&found, "web1!told"), (1.into(), 2.into()));
    // The words of the plugin tell what it is.
    let causes = found["causes"].to_string();
    assert!(
        causes.contains("dead-backend") && causes.contains("upstream-closes"),
        "{causes}"
    );
    assert_eq!(found["sources"][0]["unparsed"], 0, "{}", text(&compat));

    // Runs of plugins, changes of state, and plugins that could not be run.
    let found = of_logs(&[&debug]);
    assert_eq!(
        row(&found, "run", "check_http_retry 127.0.0.1 9 /a")["total"],
        3.0,
        "{}",
        text(&debug)
    );
    let changes = |name: &str| {
        let change = format!("'{name}' soft state change from ");
        let hard = change.replace("soft", "hard");
        let all = text(&debug);
        let changes = all
            .lines()
            .filter(|line| line.contains(&change) || line.contains(&hard));
        changes
            .filter(|line| !line.contains(" to OK ") && !line.contains(" to UP "))
            .count() as f64
    };
    for name in ["web1!http", "web1!told", "web2"] {
        assert!(changes(name) >= 1.0, "{name}");
        assert_eq!(row(&found, "check", name)["total"], changes(name), "{name}");
    }
    let plugin = row(&found, "daemon", "plugin of web1!gone");
    assert_eq!(plugin["total"], 3.0);
    assert!(
        plugin["lines"]
            .to_string()
            .contains("exit code 128: it could not be started"),
        "{plugin}"
    );
    // What Icinga writes over several lines is no trouble.
    assert_eq!(found["sources"][0]["unparsed"], 0);

    let found = of_logs(&[&main]);
    assert_eq!(
        row(&found, "daemon", "plugin of web1!gone")["total"],
        3.0,
        "{}",
        text(&main)
    );
    assert!(!has_row(&found, "check") && !has_row(&found, "run"));
    assert_eq!(found["sources"][0]["unparsed"], 0);

    // The debug log and the compat log tell of the same changes; only the latter has the words.
    let both = of_logs(&[&debug, &compat]);
    for name in ["web1!told", "web2"] {
        assert_eq!(
            row(&both, "check", name)["total"],
            changes(name),
            "{name}: {}",
            text(&debug)
        );
    }
    assert!(both["causes"].to_string().contains("upstream-closes"));
    let found = of_logs(&[&debug]);
    let lines = |found: &Value| row(found, "check", "web1!http")["total"].as_f64().unwrap();
    assert!(
        lines(&both) <= lines(&found) + 1.0,
        "{} {}",
        text(&debug),
        text(&compat)
    );

    // What two logs of one daemon say is one thing.
    let found = of_logs(&[&main, &debug]);
    assert_eq!(row(&found, "daemon", "plugin of web1!gone")["total"], 3.0);
    assert_eq!(
        row(&found, "run", "check_http_retry 127.0.0.1 9 /a")["total"],
        3.0
    );
}

fn wait_for(log: &Path, what: &str, times: usize) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let count = || {
        let text = fs::read_to_string(log).unwrap_or_default();
        // A line that is not at its end is not there yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|line| line.contains(what)).count()
    };
    while count() < times {
        assert!(Instant::now() < deadline, "no {what} in {}", log.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A host that is there with services that fail in their ways, and one that is not.
const NAGIOS: &str = "define command {
    command_name refused
    command_line $USER1$/check_http_retry -I 127.0.0.1 -p 9 -a me:hunter2 --attempts 1
}
define command {
    command_name nowhere
    command_line /nowhere/check hunter2
}
define command {
    command_name down
    command_line /bin/sh -c 'exit 2'
}
define host {
    host_name web1
    address 127.0.0.1
    check_command check-host-alive
    max_check_attempts 1
    check_interval 1
    check_period 24x7
}
define host {
    host_name web2
    address 127.0.0.1
    check_command down
    max_check_attempts 2
    check_interval 1
    retry_interval 1
    check_period 24x7
}
define service {
    name once
    host_name web1
    max_check_attempts 3
    check_interval 1
    retry_interval 1
    check_period 24x7
    register 0
}
define service {
    use once
    service_description http
    check_command refused
}
define service {
    use once
    service_description gone
    check_command nowhere
}
define service {
    use once
    service_description told
    check_command refused
    active_checks_enabled 0
    max_check_attempts 1
}
";

#[test]
fn the_log_of_a_real_nagios_is_read() {
    let packages = match Unpacked::packages(&PACKAGES) {
        Ok(packages) => packages,
        Err(why) => return skip(&why),
    };
    if let Err(why) = Netns::possible() {
        return skip(&why);
    }
    let netns = Netns::new("logs");
    let nagios = Nagios::start(&netns, &packages, &[("all.cfg", NAGIOS)], 1);
    for service in ["http", "gone"] {
        nagios.wait_for(service, "failed for good", |status| {
            status.get("state_type").is_some_and(|is| is == "1") && status["current_attempt"] == "3"
        });
    }
    for (code, output) in [(2, "Connection reset by peer"), (0, "well")] {
        nagios.submit("web1", "told", code, output);
        nagios.wait_for("told", "told", |status| {
            status.get("plugin_output").is_some_and(|is| is == output)
        });
    }
    let log = nagios.log();
    wait_for(&log, "HOST ALERT: web2;DOWN;HARD;", 1);
    let text = fs::read_to_string(&log).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count() as f64;
    assert!(count("PASSIVE SERVICE CHECK: web1;told;2;") > 0.0, "{text}");

    let found = of_logs(&[&log]);
    for (name, alert) in [
        ("web1!http", "SERVICE ALERT: web1;http;CRITICAL;"),
        ("web1!gone", "SERVICE ALERT: web1;gone;CRITICAL;"),
        ("web2", "HOST ALERT: web2;DOWN;"),
    ] {
        assert!(count(alert) > 0.0, "no {alert} in {text}");
        assert_eq!(row(&found, "check", name)["total"], count(alert), "{text}");
    }
    // A passive result and the alert that it led to are one, and its time is that of the alert: Nagios 4.4 writes the
    // state before into the former.
    assert_eq!(row(&found, "check", "web1!told")["total"], 1.0, "{text}");
    let told = found["services"]
        .as_array()
        .unwrap()
        .iter()
        .find(|service| service["name"] == "web1!told");
    let told = told.unwrap();
    assert_eq!(
        (&told["failed"], &told["tried"]),
        (&1.into(), &2.into()),
        "{text}"
    );
    let first = text
        .lines()
        .find(|line| line.contains(" ALERT: ") && !line.contains(";OK;") && !line.contains(";UP;"));
    assert_eq!(found["first"]["line"], first.unwrap());
    let causes = found["causes"].to_string();
    assert!(
        causes.contains("dead-backend") && causes.contains("upstream-closes"),
        "{causes}"
    );
    assert_eq!(found["sources"][0]["unparsed"], 0, "{text}");
}
