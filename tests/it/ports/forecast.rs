//! The forecast against the moment at which the kernel refuses.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{check, entry, namespace};
use crate::support::oracle::Scene;

const A: &str = "192.0.2.1";
const TO: &str = "192.0.2.3:80";

/// Connections a second, and for how long.
const CALM: (u32, Duration) = (10, Duration::from_secs(3));
const STORM: u32 = 50;

/// Opens and closes at this rate until the time is over or there is no port left. Returns whether there was one.
fn load(scene: &Scene, rate: u32, duration: Duration) -> bool {
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < duration {
        if scene.one_time_wait(A, TO).is_err() {
            return false;
        }
        count += 1;
        let due = begun + Duration::from_secs(1) * count / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    true
}

#[test]
fn a_stepped_load_fills_the_ports_when_foreseen() {
    let mut scene = Scene::new("forecast", "20000 20799");
    scene.listen(TO);
    assert!(load(&scene, CALM.0, CALM.1));
    let told = || {
        let told = namespace(&check(&scene.ns, &["--format=json"]));
        entry(&told["destinations"], &[("port", json!(80))])
    };
    assert_eq!(
        told()["seconds_left"],
        json!(null),
        "800 ports bear 13 a second"
    );
    // The load goes on while the plugin looks, however long that takes.
    let (called, foreseen, answered, outcome, full) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            assert!(
                !load(&scene, STORM, Duration::from_mins(1)),
                "it never filled"
            );
            Instant::now()
        });
        // The rate is that of the last 5 s.
        std::thread::sleep(Duration::from_millis(5500));
        let called = Instant::now();
        let foreseen = told()["seconds_left"].as_f64().expect("it fills up");
        let answered = Instant::now();
        let outcome = check(&scene.ns, &["--seconds-left-critical", "60:", "-v"]);
        let full = storm.join().unwrap();
        (called, foreseen, answered, outcome, full)
    });
    assert_eq!(outcome.code, Some(2), "{}", outcome.text);
    assert!(
        outcome.headline().contains("; full in"),
        "{}",
        outcome.headline()
    );
    let [soonest, latest] =
        [answered, called].map(|seen| full.saturating_duration_since(seen).as_secs_f64());
    assert!(
        (soonest * 0.9..=latest * 1.1).contains(&foreseen),
        "foreseen in {foreseen:.1} s, happened in {soonest:.1} to {latest:.1} s"
    );
}
