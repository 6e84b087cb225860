//! `--protocol udp` against the kernel: what the plugin says, and then sockets until it refuses.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::dice::Dice;
use super::{check, check_without_netlink, entry, namespace};
use crate::support::oracle::Scene;
use crate::support::udp::{Kind, left, open, sender};

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const A6: &str = "2001:db8::1";
const TO: &str = "192.0.2.3:53";
const TO6: &str = "[2001:db8::2]:53";

/// A namespace with UDP sockets.
struct Mixture {
    scene: Scene,
    sockets: Vec<OwnedFd>,
}

impl Mixture {
    fn new(range: &str) -> Self {
        Self {
            scene: Scene::new("udp", range),
            sockets: Vec::new(),
        }
    }

    /// Opens this many sockets of a kind; port 0 lets the kernel choose.
    fn add(&mut self, count: usize, kind: Kind, from: &str, to: Option<&str>) {
        let from = from.parse().unwrap();
        let to = to.map(|to| to.parse().unwrap());
        let opened = self.scene.ns.within(|| {
            let open = |_| open(kind, from, to).expect("a port is free");
            (0..count).map(open).collect::<Vec<_>>()
        });
        self.sockets.extend(opened);
    }

    fn send(&mut self, count: usize, to: &str) {
        let to = to.parse().unwrap();
        let opened = self.scene.ns.within(|| {
            let send = |_| sender(to).expect("a port is free");
            (0..count).map(send).collect::<Vec<_>>()
        });
        self.sockets.extend(opened);
    }

    fn told(&self, args: &[&str]) -> Value {
        let args = [&["--protocol=udp", "--format=json"], args].concat();
        namespace(&check(&self.scene.ns, &args))
    }

    /// Holds every number against the kernel's.
    fn compare(&self, what: &str) {
        for address in [A, B, A6, "192.0.2.4", "0.0.0.0", "::"] {
            let active: &[&str] = if address == "0.0.0.0" {
                &["--active"]
            } else {
                &[]
            };
            let sources = |args: &[&str]| {
                let told = self.told(&[&["--source", address], args].concat());
                entry(&told["sources"], &[("address", json!(address))])["bind_free"]
                    .as_u64()
                    .unwrap()
            };
            let (seen, settled) = (sources(&[]), sources(active));
            let granted = left(&self.scene, Kind::Bound, address.parse().unwrap(), None);
            assert_eq!(settled, granted, "{what}: bind {address}");
            assert!(seen <= granted, "{what}: bind {address}, not tried");
        }
        for (source, to) in [(A, TO), (B, TO), (A6, TO6)] {
            let told = self.told(&["--source", source, "--destination", to]);
            let told = entry(&told["destinations"], &[("source", json!(source))]);
            let (from, to): (IpAddr, SocketAddr) = (source.parse().unwrap(), to.parse().unwrap());
            let granted = left(&self.scene, Kind::AddressOnly, from, Some(to));
            assert_eq!(told["free"], granted, "{what}: {source} to {to}: {told}");
        }
        for (any, to) in [("0.0.0.0", TO), ("::", TO6)] {
            let told = self.told(&["--active", "--destination", to]);
            let to: SocketAddr = to.parse().unwrap();
            let told = entry(
                &told["destinations"],
                &[("destination", json!(to.ip().to_string()))],
            );
            let granted = left(&self.scene, Kind::Unbound, any.parse().unwrap(), Some(to));
            assert_eq!(told["free"], granted, "{what}: unbound to {to}: {told}");
            assert!(told["free_min"].as_u64() <= Some(granted), "{what}: {told}");
            assert!(Some(granted) <= told["free_max"].as_u64(), "{what}: {told}");
        }
    }
}

/// What is thrown in, one after the other.
#[test]
fn every_kind_of_socket_counts_as_the_kernel_counts_it() {
    type Add = fn(&mut Mixture);
    let kinds: [(&str, Add); 14] = [
        ("nothing", |_| {}),
        ("connected", |m| {
            m.add(30, Kind::Unbound, "0.0.0.0:0", Some(TO));
        }),
        ("connected over IPv6", |m| {
            m.add(30, Kind::Unbound, "[::]:0", Some(TO6));
        }),
        ("connected to a mapped address", |m| {
            m.add(20, Kind::Unbound, "[::]:0", Some("[::ffff:192.0.2.3]:53"));
        }),
        ("senders", |m| {
            m.send(15, TO);
            m.send(10, TO6);
        }),
        ("bound to addresses", |m| {
            m.add(20, Kind::Bound, "192.0.2.1:0", None);
            m.add(20, Kind::Bound, "192.0.2.2:0", Some(TO));
            m.add(10, Kind::Bound, "[2001:db8::1]:0", Some(TO6));
        }),
        ("bound to the wildcards", |m| {
            m.add(20, Kind::Bound, "0.0.0.0:0", None);
            m.add(20, Kind::Bound, "[::]:0", None);
            m.add(20, Kind::OnlyIpv6, "[::]:0", None);
        }),
        ("bound to an address, not to a port", |m| {
            m.add(20, Kind::AddressOnly, "192.0.2.1:0", Some(TO));
            m.add(20, Kind::AddressOnly, "[2001:db8::1]:0", Some(TO6));
        }),
        ("sharing", |m| {
            for _ in 0..3 {
                m.add(1, Kind::ReuseAddress, "192.0.2.1:20010", None);
                m.add(1, Kind::ReusePort, "192.0.2.2:20011", None);
                m.add(1, Kind::ReusePort, "0.0.0.0:20012", Some(TO));
            }
            m.add(1, Kind::ReusePort, "[2001:db8::1]:20013", None);
            m.add(1, Kind::ReusePort, "[::]:20013", Some(TO6));
            m.add(10, Kind::ReuseAddress, "0.0.0.0:0", None);
            m.add(10, Kind::ReusePort, "[::]:0", None);
        }),
        ("mapped and bound", |m| {
            m.add(15, Kind::Bound, "[::ffff:192.0.2.1]:0", None);
        }),
        ("a server in the range, and its clients", |m| {
            m.add(1, Kind::ReusePort, "192.0.2.3:20053", None);
            m.add(
                1,
                Kind::ReusePort,
                "192.0.2.3:20053",
                Some("192.0.2.1:4000"),
            );
            m.add(
                1,
                Kind::ReusePort,
                "192.0.2.3:20053",
                Some("192.0.2.1:4001"),
            );
        }),
        ("outside of the range", |m| {
            m.add(1, Kind::Bound, "0.0.0.0:53", None);
            m.add(1, Kind::Bound, "[::]:443", None);
            m.add(1, Kind::Bound, "192.0.2.1:19999", Some(TO));
        }),
        ("reserved", |m| {
            m.scene
                .ns
                .set("ipv4/ip_local_reserved_ports", "20000-20049,20061");
            m.add(30, Kind::Unbound, "0.0.0.0:0", Some(TO));
            m.add(1, Kind::Bound, "192.0.2.1:20007", None);
        }),
        ("full", |m| m.add(120, Kind::Unbound, "0.0.0.0:0", Some(TO))),
    ];
    for (what, add) in kinds {
        let mut mixture = Mixture::new("20000 20119");
        add(&mut mixture);
        mixture.compare(what);
    }
}

/// Thrown together; the seed says which. `PORTS_SEED` replays one.
#[test]
fn random_mixtures_are_counted_to_the_port() {
    let seeds = match std::env::var("PORTS_SEED") {
        Ok(seed) => vec![seed.parse().expect("PORTS_SEED is a number")],
        Err(_) => (1..=12).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // An odd number of ports is nothing special here.
        let mut mixture = Mixture::new(dice.one_of(&["20000 20119", "20001 20101", "1024 1123"]));
        if dice.below(2) == 0 {
            let ports = "20010-20017,20044,1030-1039";
            mixture.scene.ns.set("ipv4/ip_local_reserved_ports", ports);
        }
        for _ in 0..7 {
            let count = 1 + usize::try_from(dice.below(9)).unwrap();
            let (from, to) = dice.one_of(&[
                ("192.0.2.1:0", TO),
                ("192.0.2.2:0", TO),
                ("0.0.0.0:0", TO),
                ("[2001:db8::1]:0", TO6),
                ("[::]:0", TO6),
                ("[::]:0", "[::ffff:192.0.2.3]:53"),
                ("[::ffff:192.0.2.1]:0", "[::ffff:192.0.2.3]:53"),
            ]);
            let kind = dice.one_of(&[
                Kind::Unbound,
                Kind::Bound,
                Kind::Bound,
                Kind::AddressOnly,
                Kind::ReuseAddress,
                Kind::ReusePort,
            ]);
            let connected = dice.below(3) > 0 || matches!(kind, Kind::Unbound | Kind::AddressOnly);
            match dice.below(8) {
                0 => mixture.send(count, to),
                1 => mixture.add(count, Kind::OnlyIpv6, "[::]:0", None),
                2 => mixture.add(count, Kind::OnlyIpv6, "[::]:0", Some(TO6)),
                _ => mixture.add(count, kind, from, connected.then_some(to)),
            }
        }
        mixture.compare(&format!("seed {seed}"));
    }
}

/// A namespace with 100 ports, so many of them connected.
fn busy(count: usize) -> Mixture {
    let mut mixture = Mixture::new("20000 20099");
    mixture.add(count, Kind::Unbound, "0.0.0.0:0", Some(TO));
    mixture
}

#[test]
fn the_first_line_says_that_the_ports_are_everybodys() {
    let mut mixture = busy(60);
    mixture.send(30, TO);
    let outcome = check(&mixture.scene.ns, &["--protocol=udp", "--explain"]);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(
        outcome.headline(),
        "PORTS CRITICAL: UDP, unbound IPv4 sockets: 90 of 100 ports used (90 %), 10 free; 192.0.2.3:53 leads with 60 of 90 sockets"
    );
    for (label, value) in [
        ("used_share", Some(90.0)),
        ("used", Some(90.0)),
        ("free", Some(10.0)),
        ("bind_free", Some(10.0)),
        ("sockets", Some(90.0)),
        ("established", Some(60.0)),
        ("outgoing", Some(90.0)),
        ("closed_per_second", None),
        ("limit_per_second", None),
        ("seconds_left", None),
    ] {
        assert_eq!(
            outcome.metric(label),
            value,
            "{label} in {}",
            outcome.first_line()
        );
    }
    // Those of TCP are left out.
    assert_eq!(outcome.metric("time_wait_buckets_used"), None);
    let pid = std::process::id();
    for part in [
        "[CRITICAL] connect() or sendto() of unbound IPv4 sockets: 90 of 100 ports used (90 %), 10 free, over all",
        "UDP sockets on these ports: 90 of 90 live sockets: ",
        &format!("process {pid})"),
        "proxy_timeout",
        "64512 ports instead of 100",
        "60 of 90 sockets are connected to 192.0.2.3:53",
    ] {
        assert!(outcome.text.contains(part), "{part} in {}", outcome.text);
    }
    let told = mixture.told(&[]);
    assert_eq!(told["protocol"], "udp");
    assert_eq!(told["sockets"]["bound"], 30);
    let to = entry(&told["destinations"], &[("port", json!(53))]);
    assert_eq!(
        (
            &to["closed_per_second"],
            &to["limit_per_second"],
            &to["seconds_left"]
        ),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    // The ports of TCP are others.
    assert_eq!(
        check(&mixture.scene.ns, &[]).metric("used_share"),
        Some(0.0)
    );
}

#[test]
fn a_local_address_has_ports_of_its_own_when_it_is_asked_for() {
    let mut mixture = busy(0);
    mixture.add(60, Kind::Bound, "192.0.2.1:0", Some(TO));
    mixture.add(40, Kind::Bound, "192.0.2.2:0", Some(TO));
    for (args, code) in [
        (&["--source", "192.0.2.1"][..], 1),
        (&["--source", "192.0.2.2"], 0),
        (&["--source", "192.0.2.4"], 0),
        (&["--source", "192.0.2.2", "--destination", TO], 0),
        (&["--source", "192.0.2.1", "--destination", TO], 1),
        (&["--mode", "bind", "--source", "192.0.2.1"], 1),
    ] {
        let outcome = check(&mixture.scene.ns, &[&["--protocol=udp"], args].concat());
        assert_eq!(outcome.code, Some(code), "{args:?}: {}", outcome.text);
    }
}

#[test]
fn where_netlink_is_refused_proc_says_the_same_of_udp() {
    let mut mixture = busy(30);
    mixture.add(10, Kind::Bound, "192.0.2.1:0", None);
    mixture.add(10, Kind::Unbound, "[::]:0", Some(TO6));
    mixture.send(5, TO);
    let args = ["--protocol=udp", "--format=json"];
    let mut told = [
        namespace(&check(&mixture.scene.ns, &args)),
        namespace(&check_without_netlink(&mixture.scene, &args)),
    ];
    for told in &mut told {
        (told["limits"], told["owners"]) = (Value::Null, Value::Null);
    }
    assert_eq!(told[0], told[1]);
    let text = check_without_netlink(&mixture.scene, &["--protocol=udp"]).text;
    assert!(text.contains("read /proc/net/udp"), "{text}");
}

#[test]
fn only_a_sample_foretells_and_it_does_within_a_tenth() {
    let mixture = busy(10);
    let needs = check(
        &mixture.scene.ns,
        &["--protocol=udp", "--seconds-left-critical=60:"],
    );
    assert_eq!(needs.code, Some(3), "{}", needs.text);
    assert!(needs.text.contains("need --sample"), "{}", needs.text);
    let still = check(&mixture.scene.ns, &["--protocol=udp", "-v"]);
    assert!(still.text.contains("no forecast"), "{}", still.text);

    // Twenty ports a second, so that the last of 200 goes after 10 s; the first three are looked at.
    let scene = Scene::new("trend", "20000 20199");
    let begun = Instant::now();
    let load = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut held = Vec::new();
            loop {
                let to = TO.parse().unwrap();
                let opened = scene
                    .ns
                    .within(|| open(Kind::Unbound, "0.0.0.0:0".parse().unwrap(), Some(to)));
                match opened {
                    Ok(socket) => held.push(socket),
                    Err(_) => return begun.elapsed(),
                }
                let due = begun + Duration::from_millis(50) * u32::try_from(held.len()).unwrap();
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let args = [
            "--protocol=udp",
            "--sample=3s",
            "--seconds-left-critical=60:",
        ];
        let called = begun.elapsed();
        let told = check(&scene.ns, &args);
        let answered = begun.elapsed();
        (load.join().unwrap(), called, answered, told)
    });
    let (full, called, answered, told) = load;
    assert_eq!(told.code, Some(2), "{}", told.text);
    assert!(told.headline().contains("; full in "), "{}", told.text);
    let foreseen = told.metric("seconds_left").expect("it fills up");
    // The last look is 3 s after the first, or later.
    let [soonest, latest] = [answered, called + Duration::from_secs(3)]
        .map(|seen| full.saturating_sub(seen).as_secs_f64());
    assert!(
        (soonest * 0.9..=latest * 1.1).contains(&foreseen),
        "foreseen in {foreseen:.1} s, happened in {soonest:.1} to {latest:.1} s"
    );
}
