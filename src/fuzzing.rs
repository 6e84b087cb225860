//! What the program in `fuzz/` runs: for each reader of what comes from outside, a function that takes any bytes and
//! panics where a property does not hold. Compiled for it and for the tests alone; the tests give each its seeds, and
//! what was once found with it.

use crate::{http, nginx, plugin, ports, timeline};

#[path = "../tests/support/daemons.rs"]
#[allow(missing_docs, dead_code)]
pub mod daemons;

/// One reader and what holds of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder of seeds.
    pub name: &'static str,
    /// Panics where a property does not hold.
    pub check: fn(&[u8]),
}

const fn named(name: &'static str, check: fn(&[u8])) -> Target {
    Target { name, check }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    named("http_reply", http::fuzzing::reply),
    named("http_parts", http::fuzzing::parts),
    named("unpack", http::fuzzing::unpacked),
    named("redirect", http::fuzzing::redirect),
    named("cookies", http::fuzzing::cookies),
    named("jsonpath", http::fuzzing::assertions),
    named("certificate", http::fuzzing::certificate),
    named("proxy_reply", http::fuzzing::proxy_reply),
    named("packets", http::fuzzing::packets),
    named("secrets", http::fuzzing::secrets),
    named("options", http::fuzzing::options),
    named("ranges", plugin::fuzzing::ranges),
    named("report", plugin::fuzzing::report),
    named("state_file", plugin::fuzzing::state_file),
    named("queue", plugin::fuzzing::queue),
    named("nginx_line", nginx::fuzzing::line),
    named("nginx_log", nginx::fuzzing::log),
    named("wrapping", nginx::fuzzing::wrapping),
    named("journal_export", nginx::fuzzing::journal),
    named("nginx_state", nginx::fuzzing::state),
    named("netlink", ports::fuzzing::netlink),
    named("ports_state", ports::fuzzing::state),
    named("port_files", ports::fuzzing::files),
    named("timeline", timeline::fuzzing::report),
];

/// The one of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

/// Values out of bytes; zero where there are no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed<'a>(pub &'a [u8]);

impl<'a> Feed<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As many bytes as the next one says.
    pub fn some(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.bytes(count.into())
    }

    pub fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.bytes(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }
}

/// Text of ours for one line: nothing in it may steer what shows it.
pub(crate) fn assert_harmless(text: &str) {
    assert!(
        !text.contains(|c: char| c.is_control() || c == '|'),
        "{text:?}"
    );
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_seed_and_every_finding_passes_its_target() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        for target in TARGETS {
            let folder = seeds.join(target.name);
            let mut count = 0;
            for seed in fs::read_dir(&folder).expect("each target has a folder of seeds") {
                let path = seed.expect("a file").path();
                let bytes = fs::read(&path).expect("a seed");
                let passed = std::panic::catch_unwind(|| (target.check)(&bytes));
                assert!(passed.is_ok(), "{}", path.display());
                count += 1;
            }
            assert!(count > 0, "{} has no seeds", folder.display());
            (target.check)(b"");
        }
        let folders = fs::read_dir(seeds).expect("a folder").count();
        assert_eq!(folders, TARGETS.len(), "a folder without a target");
    }
}
