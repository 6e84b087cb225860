//! The shipped objects under a real Nagios Core 4 and the shipped commands under a real NRPE, on the incident.

use std::fs;
use std::path::Path;

use crate::support::debian::Unpacked;
use crate::support::incident::{Incident, Kind, PROXY};
use crate::support::nagios::{Daemon, Nagios, PACKAGES, plugins};
use crate::support::plugin::project;
use crate::support::skip::skip;

fn shipped(name: &str) -> String {
    fs::read_to_string(project().join("nagios").join(name)).expect("it is shipped")
}

/// Starts NRPE on the proxy, with the shipped commands on the incident's log.
fn start_nrpe(incident: &Incident, packages: &Unpacked, folder: &Path) -> Daemon {
    let plugins = plugins(packages, folder);
    let state = folder.join("state");
    let log = format!(
        "{} --state-file {}",
        incident.nginx().error_log().display(),
        state.join("log").display()
    );
    fs::create_dir_all(&state).expect("a folder");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&state, everybody).expect("it is ours");
    let commands = shipped("nrpe.cfg")
        .replace("/usr/lib/nagios/plugins", plugins.to_str().expect("text"))
        .replace("/var/log/nginx/error.log", &log);
    let text = format!(
        "server_address={}\nallowed_hosts=192.0.2.1\ncommand_timeout=60\npid_file={}\n{commands}",
        PROXY.ip(),
        state.join("pid").display()
    );
    let configuration = folder.join("nrpe.cfg");
    fs::write(&configuration, text).expect("a configuration");
    let program = packages.path("/usr/sbin/nrpe");
    let words = [&program, Path::new("-f"), Path::new("-c"), &configuration];
    let words = words.map(|word| word.to_str().expect("text"));
    Daemon::start(&incident.proxy, packages, &words, &folder.join("output"))
}

#[test]
fn the_shipped_objects_find_the_incident_at_the_first_look() {
    let packages = match Unpacked::packages(&PACKAGES) {
        Ok(packages) => packages,
        Err(why) => return skip(&why),
    };
    let incident = Incident::start(Kind::Bind);
    let nrpe = start_nrpe(&incident, &packages, &incident.folder().join("nrpe"));
    // Ten times as fast, and apart from that as they are.
    let commands = shipped("commands.cfg").replace(
        "--duration 45s --interval 1s",
        "--duration 4500ms --interval 100ms",
    );
    let services = shipped("services.cfg");
    let objects = [
        ("commands.cfg", commands.as_str()),
        ("services.cfg", &services),
    ];
    let nagios = Nagios::start(&incident.client, &packages, &objects, 6);

    let [http, ports, log] = ["HTTP service1", "Client ports", "nginx to its upstreams"];
    for service in [http, ports, log] {
        let status = nagios.wait_for(service, "OK", |status| {
            status.get("has_been_checked").is_some_and(|is| is == "1")
                && status["current_state"] == "0"
        });
        assert!(status["performance_data"].contains('='), "{status:?}");
    }

    incident.squeeze();
    for (service, start, label) in [
        (
            http,
            "HTTP CRITICAL: HTTP/1.1 500 Internal Server Error - ",
            "'failed'=",
        ),
        (ports, "PORTS CRITICAL: ", "'bind_"),
        (log, "NGINX CRITICAL: ", "'bind_in_use'="),
    ] {
        let status = nagios.wait_for(service, "critical for good", |status| {
            status["current_state"] == "2" && status["state_type"] == "1"
        });
        assert!(status["plugin_output"].starts_with(start), "{status:?}");
        assert!(status["performance_data"].contains(label), "{status:?}");
        assert!(!status["long_plugin_output"].is_empty(), "{status:?}");
    }
    drop(nrpe);
}
