//! What the kernel is told about client ports, read below a given `/proc`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, anyhow};

use super::port_set::{PortRange, PortSet};
use super::socket::Protocol;

/// The file of ports that are never handed out.
const RESERVED: &str = "ip_local_reserved_ports";

/// The settings of a network namespace that decide over client ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Sysctl {
    /// `ip_local_port_range`.
    pub range: PortRange,
    /// `ip_local_reserved_ports`: never handed out.
    pub reserved: PortSet,
    /// When a TIME_WAIT may be taken over.
    pub reuse: Reuse,
    /// What could not be read, and what was assumed instead.
    pub assumed: Vec<String>,
}

/// `tcp_tw_reuse` and what goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// For whom.
    pub scope: ReuseScope,
    /// `tcp_timestamps` is on. Both ends need it.
    pub timestamps: bool,
    /// How old a TIME_WAIT must be, in milliseconds (`tcp_tw_reuse_delay`, Linux 6.14; 1000 before).
    pub delay: u32,
}

/// The values of `tcp_tw_reuse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseScope {
    /// 0.
    Off,
    /// 1.
    Everyone,
    /// 2, the default since Linux 4.19.
    Loopback,
}

impl Reuse {
    /// Whether a TIME_WAIT between these two may be taken over at all, once it is old enough.
    pub fn applies(self, source: IpAddr, destination: IpAddr) -> bool {
        let scope = match self.scope {
            ReuseScope::Off => false,
            ReuseScope::Everyone => true,
            ReuseScope::Loopback => source.is_loopback() || destination.is_loopback(),
        };
        scope && self.timestamps
    }

    /// Whether one that ends in `expires` milliseconds is old enough. Every TIME_WAIT lasts 60 s.
    pub fn old_enough(self, expires: u32) -> bool {
        super::TIME_WAIT_MS.saturating_sub(expires) > self.delay
    }
}

impl Sysctl {
    /// For a namespace whose settings cannot be read: only the range is known.
    pub fn unread(range: PortRange) -> Self {
        Self {
            range,
            reserved: PortSet::default(),
            reuse: Reuse {
                scope: ReuseScope::Off,
                timestamps: true,
                delay: 1000,
            },
            assumed: vec![
                "its settings cannot be read: took --port-range, no reserved ports and tcp_tw_reuse = 0"
                    .to_owned(),
            ],
        }
    }

    /// Reads the settings; `range` overrules the kernel's. Those of TIME_WAIT are TCP's alone.
    pub fn read(root: &Path, range: Option<PortRange>, protocol: Protocol) -> anyhow::Result<Self> {
        let folder = root.join("sys/net/ipv4");
        let mut assumed = Vec::new();
        let range = match range {
            Some(range) => range,
            None => read_range(&folder.join("ip_local_port_range"))?,
        };
        let mut read = |name: &str, fallback: &str| {
            let path = folder.join(name);
            let is_list = name == RESERVED;
            let text = if is_list {
                read_list(&path)
            } else {
                read_small(&path)
            };
            text.unwrap_or_else(|error| {
                assumed.push(format!("{}: {error}; took '{fallback}'", path.display()));
                fallback.to_owned()
            })
        };
        let reserved_text = read(RESERVED, "");
        let reserved = parse_ports(&reserved_text)
            .ok_or_else(|| anyhow!("{RESERVED} holds no list of ports: '{reserved_text}'"))?;
        if protocol == Protocol::Udp {
            return Ok(Self {
                range,
                reserved,
                assumed,
                ..Self::unread(range)
            });
        }
        let reuse_text = read("tcp_tw_reuse", "0");
        let timestamps = read("tcp_timestamps", "1").trim() != "0";
        let scope = match reuse_text.trim() {
            "1" => ReuseScope::Everyone,
            "2" => ReuseScope::Loopback,
            _ => ReuseScope::Off,
        };
        // Before Linux 6.14 there is no such setting, and a TIME_WAIT has to be a full second old.
        let delay = read_small(&folder.join("tcp_tw_reuse_delay"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(1000);
        Ok(Self {
            range,
            reserved,
            reuse: Reuse {
                scope,
                timestamps,
                delay,
            },
            assumed,
        })
    }
}

fn read_range(path: &Path) -> anyhow::Result<PortRange> {
    let text = read_small(path).with_context(|| {
        format!(
            "cannot read {}; mount /proc, say where it is with --proc, or give --port-range LOW-HIGH",
            path.display()
        )
    })?;
    text.parse()
        .map_err(|error: String| anyhow!("{}: {error}", path.display()))
}

/// Reads a file of `/proc`. These are short; whatever else the path leads to is not read to its end.
pub fn read_small(path: &Path) -> io::Result<String> {
    // With room in it, one read gets the whole of nearly every file.
    let mut text = String::with_capacity(4096);
    File::open(path)?
        .take(512 * 1024)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a list of ports, which the kernel answers in one read only (`proc_do_large_bitmap` in its `kernel/sysctl.c`): what
/// fills a page is read once more, with room for the longest one.
fn read_list(path: &Path) -> io::Result<String> {
    let mut list = Vec::new();
    for room in [4096, 512 * 1024] {
        list = BufReader::with_capacity(room, File::open(path)?)
            .fill_buf()?
            .to_vec();
        if list.len() < room {
            break;
        }
    }
    String::from_utf8(list).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// `8080,9000-9010`, as the kernel prints bitmaps.
pub(super) fn parse_ports(text: &str) -> Option<PortSet> {
    let mut ports = PortSet::default();
    for item in text.trim().split(',').filter(|item| !item.is_empty()) {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        for port in low..=high {
            ports.insert(port);
        }
    }
    Some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ports_read_as_the_kernel_prints_them() {
        for (text, count) in [
            ("\n", 0),
            ("", 0),
            ("8080\n", 1),
            ("8080,9000-9010,1-3\n", 15),
            ("65535", 1),
        ] {
            assert_eq!(parse_ports(text).unwrap().len(), count, "{text}");
        }
        for text in ["x", "1-", "70000", "1,,x"] {
            assert_eq!(parse_ports(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_wait_is_reusable_where_scope_age_and_timestamps_allow() {
        let [near, far]: [IpAddr; 2] = ["127.0.0.1", "192.0.2.1"].map(|a| a.parse().unwrap());
        let reuse = |scope, timestamps| Reuse {
            scope,
            timestamps,
            delay: 1000,
        };
        for (reuse, source, destination, expected) in [
            (reuse(ReuseScope::Off, true), near, near, false),
            (reuse(ReuseScope::Everyone, true), far, far, true),
            (reuse(ReuseScope::Everyone, false), far, far, false),
            (reuse(ReuseScope::Loopback, true), far, far, false),
            (reuse(ReuseScope::Loopback, true), near, near, true),
        ] {
            assert_eq!(reuse.applies(source, destination), expected, "{reuse:?}");
        }
        let reuse = reuse(ReuseScope::Everyone, true);
        assert!(reuse.old_enough(58_999) && !reuse.old_enough(59_000) && !reuse.old_enough(61_000));
    }

    #[test]
    fn what_is_missing_is_assumed_and_said_but_the_range_is_not() {
        let root = tempfile::tempdir().unwrap();
        let error = Sysctl::read(root.path(), None, Protocol::Tcp).unwrap_err();
        assert!(format!("{error:#}").contains("--port-range"), "{error:#}");
        let sysctl = Sysctl::read(root.path(), PortRange::new(100, 199), Protocol::Tcp).unwrap();
        assert_eq!(sysctl.reuse.scope, ReuseScope::Off);
        assert_eq!(sysctl.assumed.len(), 3);
        let udp = Sysctl::read(root.path(), PortRange::new(100, 199), Protocol::Udp).unwrap();
        assert_eq!(udp.assumed.len(), 1);
    }
}
