//! The shipped CheckCommands under a real Icinga 2, on the incident.

mod cluster;
mod director;
mod graphs;
mod shipped;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::icinga::Icinga;
use crate::support::incident::{BACKEND, Incident, Kind, PROXY};
use crate::support::netns::Netns;
use crate::support::plugin::{outcome, plugin, project};

const COMMANDS: [&str; 3] = ["http_retry", "port_exhaustion", "nginx_upstream_bind"];

/// What is for a command line alone; the head of commands.conf says so.
const LEFT_OUT: [&str; 6] = [
    "--help",
    "--version",
    "--until",
    "--every",
    "--forever",
    "--series",
];

/// What goes through the environment, by custom variable.
const SECRET: [&str; 4] = [
    "http_retry_authorization",
    "http_retry_proxy_authorization",
    "http_retry_bearer_token",
    "http_retry_secret_headers",
];

#[test]
fn icinga_runs_the_three_plugins_on_the_incident_and_keeps_what_they_found() {
    // Icinga runs where the ports run out, and its own connections need some: only connect() shares them.
    let incident = Incident::start(Kind::Connect);
    let icinga = Icinga::start(&incident.proxy, &objects(&incident));
    let [http, ports, log] = ["web!http", "web!ports", "web!log"];
    for service in [http, ports, log] {
        let attributes = icinga.check(service);
        assert_eq!(attributes["state"], 0, "{attributes}");
    }

    incident.squeeze();
    let load = incident.oscillate(Duration::from_millis(300), Duration::from_millis(300));
    let attributes = icinga.check(http);
    assert_critical(&attributes, "HTTP CRITICAL: HTTP/1.1 502 Bad Gateway");
    assert_eq!(
        command(&attributes),
        set(&[
            "--hostname",
            "service1.example",
            "--IP-address",
            &PROXY.ip().to_string(),
            "--url",
            "/",
            "--useragent",
            "icinga",
            "--header",
            "X-One: 1",
            "--header",
            "X-Two: 2",
            "--attempts",
            "40",
            "--interval",
            "25ms",
        ])
    );
    drop(load);
    // 40 probes of the first check and 40 of the second, in the log of the proxy itself.
    let logged = incident.requests_of("icinga", 80);
    assert_eq!(logged.len(), 80);
    let failed = logged
        .iter()
        .filter(|request| request.status == 502)
        .count();
    let perfdata = perfdata(&icinga, http, &attributes);
    assert!(failed > 0 && failed < 40, "{failed}");
    assert_eq!(perfdata["failed"]["value"], failed, "{perfdata:?}");

    incident.squeeze();
    let attributes = icinga.check(ports);
    assert_critical(&attributes, "PORTS CRITICAL: ");
    let output = attributes["last_check_result"]["output"]
        .as_str()
        .expect("text");
    assert!(output.contains(&BACKEND.to_string()), "{output}");
    assert_eq!(
        command(&attributes),
        set(&[
            "--mode",
            "both",
            "--warning",
            "60%",
            "--critical",
            "90%",
            "-v"
        ])
    );
    self::perfdata(&icinga, ports, &attributes);

    let attributes = icinga.check(log);
    let lines = incident.nginx().error_lines(Kind::Connect.error());
    assert_critical(&attributes, "NGINX CRITICAL: ");
    let perfdata = self::perfdata(&icinga, log, &attributes);
    assert_eq!(perfdata["no_free_port"]["value"], lines, "{perfdata:?}");

    incident.calm();
    for service in [http, ports] {
        let attributes = icinga.check(service);
        assert_eq!(attributes["state"], 0, "{attributes}");
    }
    assert_eq!(icinga.stop(), Vec::<String>::new(), "processes are left");
}

fn objects(incident: &Incident) -> String {
    let common = "host_name = \"web\"\n  enable_active_checks = false\n  max_check_attempts = 1";
    format!(
        r#"
object Host "web" {{
  check_command = "dummy"
  address = "{address}"
}}
object Service "http" {{
  {common}
  check_command = "http_retry"
  vars.http_retry_hostname = "service1.example"
  vars.http_retry_url = "/"
  vars.http_retry_useragent = "icinga"
  vars.http_retry_header = [ "X-One: 1", "X-Two: 2" ]
  vars.http_retry_attempts = 40
  vars.http_retry_interval = "25ms"
  vars.http_retry_sni = false
}}
object Service "ports" {{
  {common}
  check_command = "port_exhaustion"
  vars.port_exhaustion_mode = "both"
  vars.port_exhaustion_warning = "60%"
  vars.port_exhaustion_critical = "90%"
  vars.port_exhaustion_verbose = 1
}}
object Service "log" {{
  {common}
  check_command = "nginx_upstream_bind"
  vars.nginx_upstream_bind_file = "{log}"
  vars.nginx_upstream_bind_state_file = SpoolDir + "/log.state"
}}
"#,
        address = PROXY.ip(),
        log = incident.nginx().error_log().display(),
    )
}

/// At once and for good, since one look is enough; with this at the start of the output and nothing of Icinga's own
/// in it.
fn assert_critical(attributes: &Value, start: &str) {
    assert_eq!(
        (&attributes["state"], &attributes["state_type"]),
        (&json!(2), &json!(1)),
        "{attributes}"
    );
    let result = &attributes["last_check_result"];
    assert_eq!(result["exit_status"], 2);
    let output = result["output"].as_str().expect("text");
    assert!(output.starts_with(start), "{output}");
    assert!(!output.contains('|') && !output.contains('<'), "{output}");
}

/// The words of the command line but the first, in any order.
fn command(attributes: &Value) -> BTreeMap<String, usize> {
    let words = attributes["last_check_result"]["command"]
        .as_array()
        .expect("a list");
    let words: Vec<_> = words
        .iter()
        .skip(1)
        .map(|word| word.as_str().expect("text"))
        .collect();
    set(&words)
}

/// How often each word occurs.
fn set(words: &[&str]) -> BTreeMap<String, usize> {
    let mut set = BTreeMap::new();
    for word in words {
        *set.entry((*word).to_owned()).or_default() += 1;
    }
    set
}

/// The performance data as Icinga parses it: every item that the plugin printed, none with a name or a unit that a
/// metrics writer would spoil.
fn perfdata(icinga: &Icinga, service: &str, attributes: &Value) -> BTreeMap<String, Value> {
    let parsed = icinga.perfdata(service);
    let printed = attributes["last_check_result"]["performance_data"]
        .as_array()
        .expect("a list");
    assert_eq!(parsed.len(), printed.len(), "{printed:?}");
    for (label, value) in &parsed {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert!(label.bytes().all(plain), "{label}");
        assert!(
            value["value"].is_f64() || value["value"].is_u64(),
            "{label}: {value}"
        );
        assert!(
            ["", "seconds", "percent", "bytes"].contains(&value["unit"].as_str().unwrap_or("?")),
            "{value}"
        );
    }
    parsed
}

#[test]
fn every_custom_variable_is_rendered_as_its_option() {
    let netns = Netns::new("icinga");
    let service = |name: &str, command: &str, variables: &str| {
        format!(
            "object Service \"{name}\" {{\n  host_name = \"web\"\n  check_command = \"{command}\"\n  \
             enable_active_checks = false\n{variables}}}\n"
        )
    };
    let mut objects = vec!["object Host \"web\" { check_command = \"dummy\" }\n".to_owned()];
    for name in COMMANDS {
        // 1 is true for a switch, a text for a value and a level for the verbosity.
        let variables = options(name)
            .into_iter()
            .map(|option| format!("  vars.{} = 1\n", variable(name, &option)));
        objects.push(service(name, name, &variables.collect::<String>()));
    }
    // A version, and an address that the plugin is to look up itself.
    let variables = "  vars.http_retry_hostname = \"service1.invalid\"
  vars.http_retry_ip_address = \"\"
  vars.http_retry_ssl = \"1.2+\"
  vars.http_retry_verbose = 3\n";
    objects.push(service("https", "http_retry", variables));
    // The same as a number.
    let variables = "  vars.http_retry_ip_address = \"192.0.2.1\"\n  vars.http_retry_ssl = 1.2\n";
    objects.push(service("number", "http_retry", variables));
    // A switch as a text.
    let variables = "  vars.http_retry_hostname = \"service1.invalid\"
  vars.check_address = \"192.0.2.1\"
  vars.http_retry_all_addresses = \"true\"\n";
    objects.push(service("text", "http_retry", variables));
    // All addresses of a name, and not the one of the host.
    let variables = "  vars.http_retry_hostname = \"service1.invalid\"
  vars.check_address = \"192.0.2.1\"
  vars.http_retry_all_addresses = true\n";
    objects.push(service("addresses", "http_retry", variables));
    let variables = "  vars.check_address = \"127.0.0.1\"
  vars.http_retry_via = [ \"proxy0=127.0.0.1:1\", \"direct\" ]\n";
    objects.push(service("paths", "http_retry", variables));
    let listener = netns.within(|| TcpListener::bind(("127.0.0.1", 8080)).expect("a free port"));
    let server = FaultServer::on(listener, None, |_| Act::Send(page("200 OK", "")));
    let variables = "  vars.http_retry_ip_address = \"127.0.0.1\"
  vars.http_retry_port = 8080
  vars.http_retry_attempts = 1
  vars.http_retry_bearer_token = \"hush\"
  vars.http_retry_secret_headers = \"X-Key: one;two\\nX-Other: three\"\n";
    objects.push(service("secret", "http_retry", variables));
    let icinga = Icinga::start(&netns, &objects.concat());
    for name in COMMANDS {
        let attributes = icinga.check(&format!("web!{name}"));
        let words = command(&attributes);
        for option in options(name) {
            // All addresses of the name are asked for as well.
            if option == "--IP-address" || SECRET.contains(&&*variable(name, &option)) {
                assert_eq!(words.get(&option), None, "{option}");
                continue;
            }
            let word = if option == "--verbose" { "-v" } else { &option };
            assert_eq!(words.get(word), Some(&1), "{option}: {words:?}");
        }
    }
    let attributes = icinga.check("web!https");
    assert_eq!(
        command(&attributes),
        set(&["--hostname", "service1.invalid", "--ssl=1.2+", "-vvv"])
    );
    let words = command(&icinga.check("web!number"));
    assert_eq!(words, set(&["--IP-address", "192.0.2.1", "--ssl=1.2"]));
    for name in ["addresses", "text"] {
        let words = command(&icinga.check(&format!("web!{name}")));
        let expected = ["--hostname", "service1.invalid", "--all-addresses"];
        assert_eq!(words, set(&expected), "{name}");
    }
    let words = command(&icinga.check("web!paths"));
    let vias = ["--via", "proxy0=127.0.0.1:1", "--via", "direct"];
    assert_eq!(
        words,
        set(&[&["--IP-address", "127.0.0.1"], &vias[..]].concat())
    );
    let attributes = icinga.check("web!secret");
    assert_eq!(attributes["state"], 0, "{attributes}");
    let words = command(&attributes);
    assert_eq!(words.values().sum::<usize>(), 6, "{words:?}");
    let seen = &server.seen()[0];
    for (name, value) in [
        ("authorization", "Bearer hush"),
        ("x-key", "one;two"),
        ("x-other", "three"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{}", seen.head);
    }
}

#[test]
fn every_option_is_a_custom_variable_and_every_custom_variable_an_option() {
    let file =
        fs::read_to_string(project().join("icinga2-conf/commands.conf")).expect("it is shipped");
    for name in COMMANDS {
        let start = format!("object CheckCommand \"{name}\" {{\n");
        let (_, block) = file
            .split_once(&start)
            .unwrap_or_else(|| panic!("no {name}"));
        let (block, _) = block.split_once("\n}\n").expect("an end");
        let options = options(name);
        assert!(options.len() > 5, "{name}: {options:?}");
        let wanted: BTreeSet<_> = options
            .iter()
            .map(|option| variable(name, option))
            .chain(
                SECRET
                    .map(str::to_owned)
                    .into_iter()
                    .filter(|secret| secret.starts_with(name)),
            )
            .collect();
        let prefix = format!("{name}_");
        let used = block
            .split('$')
            .filter(|word| word.starts_with(&prefix))
            .map(str::to_owned);
        assert_eq!(wanted, used.collect(), "{name}");

        let arguments = block
            .lines()
            .filter_map(|line| line.strip_prefix("\t\t\"--")?.strip_suffix("\" = {"));
        for argument in arguments {
            let option = format!("--{}", argument.split('=').next().unwrap_or_default());
            assert!(options.contains(&option), "{name}: {option}");
        }
    }
}

/// The long options of a plugin that its CheckCommand has to have.
fn options(name: &str) -> BTreeSet<String> {
    let help = outcome(plugin(&format!("check_{name}")).arg("--help")).text;
    let left_out = |option: &str| LEFT_OUT.contains(&option) || option.starts_with("--submit");
    let options = long_options(&help).filter(|option| !left_out(option));
    options.map(str::to_owned).collect()
}

fn variable(command: &str, option: &str) -> String {
    let option = option.trim_start_matches('-').replace('-', "_");
    format!("{command}_{}", option.to_lowercase())
}

/// The long options that a help text lists, as in `  -t, --timeout <SECONDS>`.
fn long_options(help: &str) -> impl Iterator<Item = &str> {
    let listed = help
        .lines()
        .filter(|line| line.starts_with("  ") && line.trim_start().starts_with('-'));
    let long = listed.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
    long.map(|word| {
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        &word[..end.unwrap_or(word.len())]
    })
}
