//! The form that Munin reads, through a real munin-node with the shipped plugin, on the incident.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::debian::Unpacked;
use crate::support::incident::{Incident, Kind, PORTS, PROXY};
use crate::support::nagios::Daemon;
use crate::support::plugin::{binary_folder, copy_program, project};
use crate::support::skip::skip;

const PACKAGES: [&str; 3] = ["munin-node", "munin-common", "libnet-server-perl"];

/// Links the shipped plugin under the names of the graphs, and starts a node where the ports run out.
fn start_node(incident: &Incident, packages: &Unpacked, folder: &Path) -> Daemon {
    let everybody = || std::os::unix::fs::PermissionsExt::from_mode(0o777);
    for name in ["plugins", "plugin-conf.d", "state", "checks"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
        fs::set_permissions(folder.join(name), everybody()).expect("it is ours");
    }
    for name in ["check_http_retry", "check_port_exhaustion"] {
        copy_program(binary_folder().join(name), folder.join("checks").join(name));
    }
    let plugin = folder.join("checks/proxy_checks");
    copy_program(project().join("munin/proxy_checks"), &plugin);
    for name in ["check_http_retry_service1", "check_port_exhaustion"] {
        symlink(&plugin, folder.join("plugins").join(name)).expect("a link");
    }
    let text = |path: &Path| {
        path.to_str()
            .expect("a temporary folder's name is text")
            .to_owned()
    };
    let options = format!("-I {} -H service1.example --attempts 3", PROXY.ip());
    let settings = format!(
        "[*]\nenv.folder {}\n[check_http_retry_service1]\nenv.options {options}\n\
         [check_port_exhaustion]\nenv.options --mode bind\n",
        text(&folder.join("checks"))
    );
    fs::write(folder.join("plugin-conf.d/proxy_checks"), settings).expect("a configuration");
    let state = text(&folder.join("state"));
    let main = format!(
        "log_level 4\nlog_file {state}/log\npid_file {state}/pid\nbackground 0\nsetsid 0\n\
         user nagios\ngroup nagios\nallow ^127\\.0\\.0\\.1$\nhost 127.0.0.1\nport 4949\n"
    );
    fs::write(folder.join("munin-node.conf"), main).expect("a configuration");
    // Its folders are fixed when the package is made.
    let defaults = packages.path("/usr/share/perl5/Munin/Common/Defaults.pm");
    let fixed = fs::read_to_string(&defaults).expect("a part of munin-common");
    let fixed = fixed
        .replace("/etc/munin", &text(folder))
        .replace("/var/lib/munin-node/plugin-state", &state)
        .replace("/var/run/munin", &state);
    fs::write(&defaults, fixed).expect("it is ours");
    let words = [
        "perl".to_owned(),
        "-T".to_owned(),
        format!("-I{}", text(&packages.path("/usr/share/perl5"))),
        text(&packages.path("/usr/sbin/munin-node")),
        "--config".to_owned(),
        text(&folder.join("munin-node.conf")),
    ];
    let words = words.each_ref().map(String::as_str);
    Daemon::start(&incident.proxy, packages, &words, &folder.join("output"))
}

/// What the node answers to a command of a master, which ends with a dot on a line of its own.
fn ask(node: &mut BufReader<TcpStream>, question: &str) -> String {
    writeln!(node.get_mut(), "{question}").expect("the node reads");
    let mut answer = String::new();
    loop {
        let mut line = String::new();
        let length = node.read_line(&mut line).expect("the node answers");
        assert!(length > 0, "{question}: {answer}");
        if line == ".\n" {
            return answer;
        }
        answer.push_str(&line);
    }
}

/// `graph.field.key` to its value, as a master keeps it.
fn fields(answer: &str) -> BTreeMap<String, String> {
    let mut graph = "";
    let mut fields = BTreeMap::new();
    for line in answer.lines() {
        let (key, value) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        if key == "multigraph" {
            graph = value;
        } else {
            fields.insert(format!("{graph}.{key}"), value.to_owned());
        }
    }
    fields
}

#[test]
fn a_munin_node_gives_the_numbers_and_says_what_they_are() {
    let packages = match Unpacked::packages(&PACKAGES) {
        Ok(packages) => packages,
        Err(why) => return skip(&why),
    };
    let incident = Incident::start(Kind::Bind);
    let folder = incident.folder().join("munin");
    let daemon = start_node(&incident, &packages, &folder);
    let deadline = Instant::now() + Duration::from_secs(20);
    let stream = loop {
        match incident
            .proxy
            .within(|| TcpStream::connect("127.0.0.1:4949"))
        {
            Ok(stream) => break stream,
            Err(error) => assert!(
                Instant::now() < deadline,
                "{error}: {}",
                fs::read_to_string(folder.join("output")).unwrap_or_default()
            ),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    stream
        .set_read_timeout(Some(Duration::from_mins(1)))
        .expect("a time-out");
    let mut node = BufReader::new(stream);
    let mut line = String::new();
    node.read_line(&mut line).expect("a greeting");
    writeln!(node.get_mut(), "cap multigraph").expect("the node reads");
    line.clear();
    node.read_line(&mut line).expect("what it can");
    assert!(
        line.starts_with("cap ") && line.contains("multigraph"),
        "{line}"
    );

    let config = fields(&ask(&mut node, "config check_port_exhaustion"));
    let shares = "check_port_exhaustion_percent.used_share";
    assert_eq!(config[&format!("{shares}.warning")], "50");
    assert_eq!(config[&format!("{shares}.critical")], "80");
    incident.squeeze();
    let values = fields(&ask(&mut node, "fetch check_port_exhaustion"));
    assert_eq!(values["check_port_exhaustion_state.state.value"], "2");
    assert_eq!(
        values["check_port_exhaustion_count.capacity.value"],
        PORTS.to_string()
    );
    // Every number has a description, and every description a number.
    let named = |all: &BTreeMap<String, String>, end: &str| {
        let names = all.keys().filter_map(|key| key.strip_suffix(end));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(named(&config, ".label"), named(&values, ".value"));

    let values = fields(&ask(&mut node, "fetch check_http_retry_service1"));
    assert_eq!(values["check_http_retry_service1_state.state.value"], "2");
    assert_eq!(values["check_http_retry_service1_count.failed.value"], "3");
    let state = &values["check_http_retry_service1_state.state.extinfo"];
    assert!(state.starts_with("HTTP CRITICAL: HTTP/1.1 500 "), "{state}");
    drop(daemon);
}

#[test]
fn a_pattern_among_the_options_is_left_to_the_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["a.error.log", "b.error.log"] {
        fs::write(at(name), "").expect("it is ours");
    }
    let plugin = at("check_nginx_upstream_bind");
    symlink(project().join("munin/proxy_checks"), &plugin).expect("a link");
    let options = format!(
        "-f {} --state-file {}",
        at("*.error.log").display(),
        at("state").display()
    );
    let output = std::process::Command::new(plugin)
        .env("folder", binary_folder())
        .env("options", options)
        .output()
        .expect("there is a shell");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("count.value 0\n"), "{told}");
}
