//! Failures where ports are not to blame, made with a real nginx: the true one comes first, and the ports are acquitted.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::lab::{CLOSES, LATE, Lab, Odd, PROXY, WELL, assert_cause, backend, text};
use crate::support::identity::{DAY, Identity};
use crate::support::names::Names;

/// How long each phase takes: a few bins of a second.
const PHASE: Duration = Duration::from_millis(2500);

#[test]
fn a_dead_backend_of_three_is_named() {
    let lab = Lab::new("dead");
    let mut backends: Vec<_> = (2..5)
        .map(|number| lab.nginx(backend(number), &format!("listen {};", backend(number))))
        .collect();
    let servers: Vec<_> = (2..5)
        .map(|number| format!("server {} max_fails=0;", backend(number)))
        .collect();
    let servers = servers.concat();
    let _proxy = lab.proxy(
        "worker_processes 1;",
        &format!("upstream web {{ {servers} }}"),
        "proxy_next_upstream off; location / { proxy_pass http://web; }",
    );
    lab.ask_for(PHASE);
    drop(backends.remove(1));
    lab.ask_for(PHASE);
    let document = lab.report(&[]);
    assert_cause(&document, "dead-backend");
    let dead = backend(3).to_string();
    assert_eq!(
        document["common"][0]["value"], *dead,
        "{}",
        document["common"]
    );
    assert!(
        document["causes"][0]["for"]
            .to_string()
            .contains(&format!("tries at {dead} failed, 0 of")),
        "{}",
        document["causes"][0]
    );
    assert!(
        document["causes"][0]["next"][0]
            .as_str()
            .unwrap()
            .contains("-I 127.0.0.3 -p 8080")
    );
}

#[test]
fn file_descriptors_are_named() {
    let lab = Lab::new("files");
    let _backend = lab.nginx(backend(2), &format!("listen {};", backend(2)));
    // Its files run out, and check_port_exhaustion of other tests would be CRITICAL for that.
    let proxy = lab.hidden_proxy(
        "worker_processes 1;",
        "",
        &format!("location / {{ proxy_pass http://{}; }}", backend(2)),
    );
    lab.ask_for(PHASE);
    let children = format!("/proc/{0}/task/{0}/children", proxy.id());
    let children = std::fs::read_to_string(children).unwrap();
    let worker = children
        .split_whitespace()
        .next()
        .expect("a worker")
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process");
    let open = std::fs::read_dir(format!("/proc/{}/fd", worker.as_raw_nonzero())).unwrap();
    let open: Vec<u64> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let free = |limit: u64| (0..limit).filter(|file| !open.contains(file)).count();
    let limit = (1..4096).find(|limit| free(*limit) == 1).unwrap();
    // The client's connection finds a place, that to the backend none.
    let usual = prlimit(
        Some(worker),
        Resource::Nofile,
        Rlimit {
            current: Some(limit),
            maximum: Some(4096),
        },
    )
    .unwrap();
    lab.ask_for(PHASE);
    prlimit(Some(worker), Resource::Nofile, usual).unwrap();
    lab.ask_for(Duration::from_secs(1));
    assert_cause(&lab.report(&[]), "file-descriptors");
}

#[test]
fn a_slow_upstream_is_named() {
    let lab = Lab::new("slow");
    let odd = Odd::start(&lab, backend(2));
    let _proxy = lab.proxy(
        "worker_processes 1;",
        "",
        &format!(
            "proxy_read_timeout 400ms; location / {{ proxy_pass http://{}; }}",
            backend(2)
        ),
    );
    lab.ask_for(PHASE);
    odd.turn(LATE);
    lab.ask_for(PHASE);
    odd.turn(WELL);
    lab.ask_for(Duration::from_secs(1));
    assert_cause(&lab.report(&[]), "slow-upstream");
}

#[test]
fn an_upstream_that_hangs_up_is_named() {
    let lab = Lab::new("closes");
    let odd = Odd::start(&lab, backend(2));
    let _proxy = lab.proxy(
        "worker_processes 1;",
        "",
        &format!("location / {{ proxy_pass http://{}; }}", backend(2)),
    );
    lab.ask_for(Duration::from_secs(1));
    odd.turn(CLOSES);
    lab.ask_for(Duration::from_secs(1));
    assert_cause(&lab.report(&[]), "upstream-closes");
}

#[test]
fn a_certificate_that_ran_out_on_one_of_two_addresses_is_named() {
    let lab = Lab::new("tls");
    let authority = Identity::authority();
    let now = SystemTime::now();
    let mut backends = Vec::new();
    for (number, until) in [(2, now + 30 * DAY), (3, now - DAY)] {
        let identity = Identity::signed("backend.example", until, &authority);
        let (chain, key) = (
            lab.path(&format!("{number}.pem")),
            lab.path(&format!("{number}.key")),
        );
        std::fs::write(&chain, identity.pem()).unwrap();
        std::fs::write(&key, identity.key_pem()).unwrap();
        let server = format!(
            "listen {} ssl; ssl_certificate {}; ssl_certificate_key {};",
            backend(number),
            chain.display(),
            key.display()
        );
        backends.push(lab.nginx(backend(number), &server));
    }
    let root = lab.path("ca.pem");
    std::fs::write(&root, authority.pem()).unwrap();
    let _proxy = lab.proxy(
        "worker_processes 1;",
        &format!("upstream web {{ server {} max_fails=0; server {} max_fails=0; }}", backend(2), backend(3)),
        &format!(
            "proxy_next_upstream off; proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_name backend.example; proxy_ssl_server_name on; location / {{ proxy_pass https://web; }}",
            root.display()
        ),
    );
    lab.ask_for(PHASE);
    let document = lab.report(&[]);
    assert_cause(&document, "certificate");
    let expired = backend(3).to_string();
    assert_eq!(
        document["common"][0]["value"], *expired,
        "{}",
        document["common"]
    );
}

/// A proxy that asks a name server of ours for its backend.
fn with_names(lab: &Lab) -> crate::support::nginx::Nginx {
    lab.proxy(
        "worker_processes 1;",
        "",
        "resolver 127.0.0.53 valid=1s ipv6=off; resolver_timeout 500ms; proxy_next_upstream off; set $to backend.example; location / { proxy_pass http://$to:8080; }",
    )
}

fn address(number: u8) -> IpAddr {
    IpAddr::V4(*backend(number).ip())
}

#[test]
fn dns_that_lies_is_named() {
    let lab = Lab::new("lies");
    let names = Names::start(&lab.netns, "backend.example", &[address(2)]);
    let _backend = lab.nginx(backend(2), &format!("listen {};", backend(2)));
    let _proxy = with_names(&lab);
    lab.ask_for(PHASE);
    // Nobody listens at the second one, which never was an address of this name.
    names.change(&[address(2), address(66)]);
    lab.ask_for(PHASE);
    names.change(&[address(2)]);
    lab.ask_for(PHASE);
    let document = lab.report(&[]);
    assert_cause(&document, "dns");
    assert!(
        document["causes"][0]["for"]
            .to_string()
            .contains("127.0.0.66:8080 was never tried"),
        "{}",
        document["causes"]
    );
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let lab = Lab::new("names");
    let names = Names::start(&lab.netns, "backend.example", &[address(2)]);
    let _backend = lab.nginx(backend(2), &format!("listen {};", backend(2)));
    let _proxy = with_names(&lab);
    lab.ask_for(Duration::from_secs(1));
    names.change(&[]);
    lab.ask_for(PHASE);
    assert_cause(&lab.report(&[]), "dns");
    assert!(
        text(&lab.path("proxy/error.log")).contains("could not be resolved"),
        "{PROXY}"
    );
}
