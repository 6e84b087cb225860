//! Properties of what reads the kernel's answers and what was kept of them.

use std::str::FromStr;

use super::evidence::Memory;
use super::memory::{Content, Kept};
use super::port_set::PortRange;
use super::sock_diag::read_messages;
use super::socket::State;
use super::sysctl::parse_ports;
use crate::fuzzing::Feed;

/// One datagram from the kernel.
pub fn netlink(data: &[u8]) {
    let mut count = 0;
    let result = read_messages(data, &mut |socket| {
        count += 1;
        assert_eq!(socket.expires.is_some(), socket.state == State::TimeWait);
        let _ = socket.claims_port();
    });
    // A header and a message each.
    assert!(count <= data.len() / (16 + 72));
    if let Err(error) = result {
        assert!(!error.to_string().is_empty());
    }
}

/// What one run left for the next.
pub fn state(data: &[u8]) {
    let mut feed = Feed(data);
    let now = i64::from_le_bytes(feed.number().to_le_bytes());
    let Ok(content) = serde_json::from_slice::<Content>(feed.0) else {
        return;
    };
    let stored = serde_json::to_vec(&content).expect("it can be stored");
    let again: Content = serde_json::from_slice(&stored).expect("what was stored can be read");
    assert_eq!(again.spaces, content.spaces);
    for kept in content.spaces.values() {
        let mut memory = Memory::at(now);
        kept.recall(&mut memory);
        let mut believed = memory.tuples().map(|(_, seen)| seen);
        assert!(believed.all(|seen| seen <= now && now.abs_diff(seen) < 86_400));
        let fresh = Kept::new(kept.counters, &memory, now);
        let _ = super::limits::increase(&fresh.counters, &kept.counters);
    }
}

/// What stands in the files below /proc/sys/net, and ranges as a user gives them.
pub fn files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(ports) = parse_ports(text) {
        assert_eq!(
            ports.iter().count(),
            usize::try_from(ports.len()).expect("65536 at most")
        );
    }
    if let Ok(range) = PortRange::from_str(text) {
        assert_eq!(PortRange::from_str(&range.to_string()), Ok(range));
        assert!((1..=65_536).contains(&range.size()));
    }
}
