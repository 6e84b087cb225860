//! Tests that cannot run on every machine.

use std::io::Write;

/// Says that the calling test does not run here, and why. Past the test harness' capture, so that `make test` can count
/// it.
pub fn skip(why: &str) {
    let test = std::thread::current();
    let name = test.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "\nskipped: {name}: {why}");
}
