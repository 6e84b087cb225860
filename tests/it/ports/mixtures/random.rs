//! Mixtures that nobody thought of.

use serde_json::json;

use super::super::dice::Dice;
use super::super::{check, entry, namespace};
use super::{A, A6, B, FRESH, TO, TO2, TO3, TO6, settled};
use crate::support::oracle::Scene;
use crate::support::sockets::Choice::{Bind, BindReuse, Connect};

/// Thrown together; the seed says which. `PORTS_SEED` replays one.
#[test]
fn random_mixtures_lie_within_the_bounds() {
    let seeds = match std::env::var("PORTS_SEED") {
        Ok(seed) => vec![seed.parse().expect("PORTS_SEED is a number")],
        Err(_) => (1..=8).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        random(seed);
    }
}

fn random(seed: u64) {
    let build = |seed: u64| {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let range = dice.one_of(&["20000 20119", "20001 20120", "20000 20099"]);
        let mut scene = Scene::new("random", range);
        for address in [TO, TO2, TO3, FRESH, TO6] {
            scene.listen(address);
        }
        if dice.below(2) == 0 {
            scene
                .ns
                .set("ipv4/ip_local_reserved_ports", "20010-20017,20044");
        }
        scene
            .ns
            .set("ipv4/tcp_tw_reuse", dice.one_of(&["0", "1", "2"]));
        scene
            .ns
            .set("ipv4/tcp_tw_reuse_delay", dice.one_of(&["1", "50000"]));
        scene
            .ns
            .set("ipv4/tcp_timestamps", dice.one_of(&["0", "1"]));
        for _ in 0..6 {
            let count = 1 + usize::try_from(dice.below(12)).unwrap();
            let (from, to) = dice.one_of(&[(A, TO), (A, TO2), (B, TO), (B, TO3), (A6, TO6)]);
            let choice = dice.one_of(&[Connect, Connect, Bind, BindReuse]);
            match dice.below(6) {
                0 | 1 => scene.connect(from, to, count, choice),
                2 => scene.time_wait(from, to, count, choice),
                3 => scene.half_closed(from, to, count),
                4 => scene.closed_by_peer(from, to, count),
                _ => {
                    let address = dice.one_of(&[
                        "192.0.2.1:0",
                        "192.0.2.2:0",
                        "0.0.0.0:0",
                        "[2001:db8::1]:0",
                    ]);
                    scene.bind(address, count.min(4), choice.by_bind());
                }
            }
        }
        scene
    };
    let scene = build(seed);
    let told = namespace(&check(
        &scene.ns,
        &["--format=json", "--source", A, "--destination", TO],
    ));
    let told = entry(
        &told["destinations"],
        &[("source", json!(A)), ("port", json!(80))],
    );
    let settled = settled(&scene, A, TO.parse().unwrap());
    let granted = scene.connects_left(A, TO);
    assert_eq!(settled, granted, "seed {seed}, --active: {told}");
    assert!(
        told["free_min"].as_u64().unwrap() <= granted
            && granted <= told["free_max"].as_u64().unwrap(),
        "seed {seed}: the kernel granted {granted}, told was {told}"
    );
    let scene = build(seed);
    for address in [A, B, A6, "::"] {
        let told = namespace(&check(&scene.ns, &["--format=json", "--source", address]));
        let told = entry(&told["sources"], &[("address", json!(address))]);
        let granted = scene.binds_left(address);
        assert_eq!(
            told["bind_free"], granted,
            "seed {seed}, bind {address}: {told}"
        );
    }
}
