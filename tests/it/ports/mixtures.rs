//! What the plugin says against what the kernel does, for mixtures of sockets.

mod random;
mod time_wait;

use std::net::SocketAddr;

use serde_json::json;

use super::{check, entry, namespace};
use crate::support::oracle::Scene;
use crate::support::sockets::Choice::{Bind, BindReuse, Connect};

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const TO: &str = "192.0.2.3:80";
const TO2: &str = "192.0.2.3:81";
const TO3: &str = "192.0.2.4:80";
const A6: &str = "2001:db8::1";
const TO6: &str = "[2001:db8::2]:80";
/// A port that nothing is connected to.
const FRESH: &str = "192.0.2.4:99";

/// How near the estimate has to be to the kernel's count.
#[derive(Clone, Copy, PartialEq)]
enum Promise {
    /// `free` is the number.
    Exact,
    /// The number lies within the bounds.
    Bounds,
    /// Of an odd number of ports the kernel may leave out one.
    OddRange,
}
use Promise::{Bounds, Exact, OddRange};

/// A mixture and the questions to ask of it.
struct Mixture {
    range: &'static str,
    build: fn(&mut Scene),
    connects: &'static [(&'static str, &'static str)],
    binds: &'static [&'static str],
    promise: Promise,
}

impl Default for Mixture {
    fn default() -> Self {
        Self {
            range: "20000 20199",
            build: |_| {},
            connects: &[(A, TO)],
            binds: &[A, "0.0.0.0"],
            promise: Exact,
        }
    }
}

impl Mixture {
    /// Compares each answer, in a namespace of its own: asking for ports takes them, and what is closed again is not
    /// gone for certain while another test's thread starts a process, which holds every descriptor for a moment.
    fn compare(self) {
        for (from, to) in self.connects {
            let scene = self.scene();
            let to: SocketAddr = to.parse().unwrap();
            let told = check(
                &scene.ns,
                &[
                    "--format=json",
                    "--source",
                    from,
                    "--destination",
                    &to.to_string(),
                ],
            );
            let told = entry(
                &namespace(&told)["destinations"],
                &[
                    ("source", json!(from)),
                    ("destination", json!(to.ip().to_string())),
                    ("port", json!(to.port())),
                ],
            );
            let number = |key: &str| told[key].as_u64().unwrap();
            // Trying the ports settles what is only estimated; a range of an odd number stays the kernel's whim.
            let tried = self.promise != OddRange;
            let settled = tried.then(|| settled(&scene, from, to));
            let granted = scene.connects_left(from, &to.to_string());
            if let Some(settled) = settled {
                assert_eq!(
                    settled, granted,
                    "--active, connect {from} -> {to}: the kernel granted {granted}"
                );
            }
            let what =
                format!("connect {from} -> {to}: the kernel granted {granted}, told was {told}");
            assert!(
                number("free_min") <= granted && granted <= number("free_max"),
                "{what}"
            );
            match self.promise {
                Exact => assert_eq!(number("free"), granted, "{what}"),
                OddRange => assert!(number("free").abs_diff(granted) <= 1, "{what}"),
                Bounds => {}
            }
        }
        for address in self.binds {
            let scene = self.scene();
            let told = check(&scene.ns, &["--format=json", "--source", address]);
            let told = entry(&namespace(&told)["sources"], &[("address", json!(address))]);
            let granted = scene.binds_left(address);
            let slack = u64::from(self.promise == OddRange);
            assert!(
                told["bind_free"].as_u64().unwrap().abs_diff(granted) <= slack,
                "bind {address}: the kernel granted {granted}, told was {told}"
            );
        }
    }

    fn scene(&self) -> Scene {
        let mut scene = Scene::new("oracle", self.range);
        // Ports below the range, for whoever is connected to.
        for address in [TO, TO2, TO3, FRESH, TO6, "127.0.0.1:80"] {
            scene.listen(address);
        }
        (self.build)(&mut scene);
        scene
    }
}

/// What is free after every port was tried.
fn settled(scene: &Scene, from: &str, to: SocketAddr) -> u64 {
    let to = to.to_string();
    let args = [
        "--format=json",
        "--active",
        "--source",
        from,
        "--destination",
        &to,
    ];
    let told = namespace(&check(&scene.ns, &args));
    let named = entry(&told["destinations"], &[("source", json!(from))]);
    named["free"].as_u64().unwrap()
}

#[test]
fn nothing_is_there() {
    Mixture {
        connects: &[(A, TO), (A6, TO6), ("127.0.0.1", "127.0.0.1:80")],
        binds: &[A, "0.0.0.0", A6, "::"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn connections_to_two_destinations_share_ports() {
    Mixture {
        build: |scene| {
            scene.connect(A, TO, 90, Connect);
            scene.connect(A, TO2, 30, Connect);
        },
        connects: &[(A, TO), (A, TO2), (A, FRESH), (B, TO)],
        binds: &[A, B, "0.0.0.0", "::"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn a_destination_beyond_half_of_the_range() {
    Mixture {
        build: |scene| scene.connect(A, TO, 150, Connect),
        connects: &[(A, TO), (A, FRESH), (B, TO)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn bound_before_connect_closes_the_port_to_all_others() {
    Mixture {
        build: |scene| {
            scene.connect(A, TO, 60, Bind);
            scene.connect(A, TO2, 30, Connect);
        },
        connects: &[(A, TO), (A, TO2), (B, FRESH)],
        binds: &[A, B, "0.0.0.0"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn bound_beyond_half_of_the_range() {
    Mixture {
        build: |scene| {
            scene.connect(A, TO, 130, Bind);
            scene.connect(A, TO2, 40, Bind);
        },
        connects: &[(A, TO), (A, TO2), (A, FRESH)],
        promise: Bounds,
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn reuseaddr_binds_as_without() {
    Mixture {
        build: |scene| scene.connect(A, TO, 50, BindReuse),
        connects: &[(A, TO), (A, FRESH)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn bound_and_never_connected() {
    Mixture {
        build: |scene| {
            scene.bind("192.0.2.1:0", 20, Bind);
            scene.bind("0.0.0.0:0", 15, Bind);
            scene.bind("192.0.2.2:0", 10, BindReuse);
            scene.bind("[2001:db8::1]:0", 5, Bind);
            scene.connect(A, TO, 20, Connect);
        },
        connects: &[(A, TO), (B, FRESH), (A6, TO6)],
        binds: &[A, B, A6, "0.0.0.0"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn listeners_in_the_range_close_their_port_to_everybody() {
    Mixture {
        build: |scene| {
            for address in [
                "127.0.0.1:20000",
                "0.0.0.0:20002",
                "[::]:20003",
                "192.0.2.1:20010",
            ] {
                scene.listen(address);
            }
            scene.listen_v6only("[::]:20020");
            scene.connect(A, TO, 20, Connect);
        },
        connects: &[(A, TO), (A6, TO6)],
        binds: &[A, B, A6, "0.0.0.0", "::"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn accepted_connections_of_a_listener_in_the_range() {
    Mixture {
        build: |scene| {
            scene.listen("192.0.2.1:20050");
            scene.connect(B, "192.0.2.1:20050", 30, Connect);
        },
        connects: &[(A, TO), (B, "192.0.2.1:20050")],
        binds: &[A, B, "0.0.0.0"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn accepted_connections_outlive_their_listener() {
    Mixture {
        build: |scene| {
            scene.listen("192.0.2.1:20050");
            scene.connect(B, "192.0.2.1:20050", 30, Connect);
            scene.stop_listening("192.0.2.1:20050");
        },
        connects: &[(A, TO), (B, TO)],
        binds: &[A, B, "0.0.0.0"],
        promise: Bounds,
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn half_closed_on_either_side() {
    Mixture {
        build: |scene| {
            scene.half_closed(A, TO, 20);
            scene.closed_by_peer(A, TO, 20);
        },
        connects: &[(A, TO), (A, TO2)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn ipv6_and_ipv4_live_on_the_same_ports() {
    Mixture {
        build: |scene| {
            scene.connect(A6, TO6, 60, Connect);
            scene.time_wait(A6, TO6, 20, Connect);
            scene.connect(A, TO, 30, Connect);
        },
        connects: &[(A6, TO6), (A, TO), (A, FRESH)],
        binds: &[A6, A, "0.0.0.0", "::", "2001:db8::2"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn mapped_addresses_count_as_ipv4() {
    Mixture {
        build: |scene| scene.connect_mapped("192.0.2.3:80", 40),
        connects: &[("192.0.2.3", TO)],
        binds: &["192.0.2.3", "0.0.0.0", A6, "::"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn reserved_ports_are_never_handed_out() {
    Mixture {
        build: |scene| {
            scene.ns.set(
                "ipv4/ip_local_reserved_ports",
                "20000-20049,20061,20100-20110",
            );
            scene.connect(A, TO, 40, Connect);
            scene.connect(A, TO2, 10, Connect);
        },
        connects: &[(A, TO), (A, TO2)],
        ..Mixture::default()
    }
    .compare();
}

/// The kernel answers a list in one read only, and a page of it is not all of this one.
#[test]
fn a_list_of_reserved_ports_longer_than_a_page_is_read_to_its_end() {
    Mixture {
        build: |scene| {
            let list: Vec<_> = (10_000..12_000)
                .step_by(2)
                .map(|port| port.to_string())
                .collect();
            let list = format!("{},20000-20049,20061", list.join(","));
            scene.ns.set("ipv4/ip_local_reserved_ports", &list);
            scene.connect(A, TO, 40, Connect);
        },
        connects: &[(A, TO)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn a_range_that_begins_with_an_odd_port() {
    Mixture {
        range: "20001 20200",
        build: |scene| {
            scene.connect(A, TO, 40, Connect);
            scene.connect(A, TO2, 30, Bind);
        },
        connects: &[(A, TO), (A, FRESH)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn a_range_of_an_odd_number_of_ports() {
    Mixture {
        range: "20000 20200",
        build: |scene| scene.connect(A, TO, 40, Connect),
        promise: OddRange,
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn connections_outside_of_the_range_take_none_of_it() {
    Mixture {
        build: |scene| {
            scene.connect(A, TO, 50, Connect);
            scene.ns.set("ipv4/ip_local_port_range", "21000 21099");
            scene.connect(A, TO, 10, Connect);
        },
        connects: &[(A, TO), (A, TO2)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn holes_in_what_is_taken() {
    Mixture {
        build: |scene| {
            scene.connect(A, TO, 90, Connect);
            scene.thin_out();
            scene.connect(B, TO2, 20, Connect);
            scene.time_wait(A, TO3, 25, Connect);
        },
        connects: &[(A, TO), (A, TO3), (B, TO2), (B, TO)],
        binds: &[A, B, "0.0.0.0"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn several_addresses_bind_the_same_ports() {
    Mixture {
        build: |scene| {
            scene.connect(A, TO, 60, Bind);
            scene.connect(B, TO, 60, Bind);
        },
        connects: &[(A, TO), (B, TO), (A, FRESH)],
        binds: &[A, B, "0.0.0.0", "192.0.2.4"],
        promise: Bounds,
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn full_to_the_last_port() {
    Mixture {
        range: "20000 20049",
        build: |scene| scene.connect(A, TO, 50, Connect),
        connects: &[(A, TO), (A, TO2)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn ipv6_connections_that_were_not_bound_stand_in_the_way_of_ipv4() {
    Mixture {
        build: |scene| {
            scene.connect_unbound(TO6, 40);
            scene.connect(A, TO, 20, Bind);
        },
        connects: &[("2001:db8::2", TO6), (A, TO)],
        binds: &["2001:db8::2", A, "0.0.0.0", "::"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn connections_to_many_destinations_one_each() {
    Mixture {
        build: |scene| {
            for port in 1000..1060 {
                let to = format!("192.0.2.4:{port}");
                scene.listen(&to);
                scene.connect(A, &to, 1, Connect);
            }
        },
        connects: &[(A, "192.0.2.4:1000"), (A, TO), (B, TO)],
        binds: &[A, B, "0.0.0.0"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn ports_bound_by_number_in_the_range() {
    Mixture {
        build: |scene| {
            for port in ["20000", "20001", "20100"] {
                scene.bind(&format!("192.0.2.1:{port}"), 1, Bind);
                scene.bind(&format!("192.0.2.2:{port}"), 1, BindReuse);
            }
            scene.connect(A, TO, 30, Connect);
        },
        connects: &[(A, TO), (B, TO)],
        binds: &[A, B, "0.0.0.0", "192.0.2.4"],
        ..Mixture::default()
    }
    .compare();
}
