//! What docs/containers.md promises: any user, no capability, nowhere to write.

mod calls;

use std::process::Command;

use crate::support::incident::{Incident, Kind, PROXY};
use crate::support::netns::Netns;
use crate::support::plugin::{binary_folder, copy_program, outcome};

/// A command that runs a plugin as a hardened container would: a user that nobody knows, no capabilities and no way to
/// any, the root read-only.
fn confined(netns: &Netns, incident: &Incident, name: &str, words: &[&str]) -> Command {
    let plugin = incident.folder().join(name);
    copy_program(binary_folder().join(name), &plugin);
    let mut command = netns.command("unshare");
    let script = r#"mount --rbind / /mnt && mount -o remount,bind,ro /mnt && exec chroot /mnt sh -c '
        if touch /var/tmp/proxy-checks-may-not 2> /dev/null; then echo "that was no read-only root"; exit 9; fi
        exec setpriv --reuid 12345 --regid 12345 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
        ' sh "$@""#;
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(plugin)
        .args(words);
    command
}

#[test]
fn the_plugins_need_no_privileges_and_nowhere_to_write() {
    let incident = Incident::start(Kind::Connect);
    incident.squeeze();
    let proxy = PROXY.ip().to_string();
    let log = incident.nginx().error_log();
    let log = log.to_str().expect("a temporary folder's name is text");
    let runs = [
        confined(
            &incident.client,
            &incident,
            "check_http_retry",
            &["-I", &proxy, "--attempts", "2"],
        ),
        confined(&incident.proxy, &incident, "check_port_exhaustion", &[]),
        confined(
            &incident.proxy,
            &incident,
            "check_nginx_upstream_bind",
            &["-f", log],
        ),
    ];
    for (mut command, start) in runs.into_iter().zip(["HTTP", "PORTS", "NGINX"]) {
        let outcome = outcome(&mut command);
        assert_eq!(outcome.code, Some(2), "{}", outcome.text);
        assert!(
            outcome.text.starts_with(&format!("{start} CRITICAL: ")),
            "{}",
            outcome.text
        );
    }
}
