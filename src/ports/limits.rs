//! The neighbours that look alike when they run out: what is used of other limits, read below a given `/proc`.

use std::path::Path;

use super::proc_net;
use super::sysctl::read_small;

/// A limit, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name in the report.
    pub name: &'static str,
    /// What is used of it.
    pub used: u64,
    /// What there is.
    pub limit: u64,
}

/// Reads those that are there. What is missing (no connection tracking, no permission) is left out: the ports are
/// what this check is about.
///
/// | name | what runs out | how it shows |
/// |---|---|---|
/// | `conntrack` | `nf_conntrack_max`, entries of connection tracking | packets dropped, timeouts, no error number |
/// | `time_wait_buckets` | `tcp_max_tw_buckets` | more are ended at once: their count no longer tells the rate of closing |
/// | `orphans` | `tcp_max_orphans`, sockets without a process | resets |
/// | `tcp_memory` | the last value of `tcp_mem`, in pages | resets, stalls |
/// | `files` | `fs.file-max` | ENFILE |
pub fn read(root: &Path, time_wait: u64) -> Vec<Neighbour> {
    let word = |path: &str, at: usize| -> Option<u64> {
        let text = read_small(&root.join(path)).ok()?;
        text.split_ascii_whitespace().nth(at)?.parse().ok()
    };
    let sockstat = read_small(&proc_net::folder(root).join("sockstat")).unwrap_or_default();
    let limit = |name, used: Option<u64>, limit: Option<u64>| {
        Some(Neighbour {
            name,
            used: used?,
            limit: limit.filter(|limit| *limit > 0)?,
        })
    };
    let netfilter = "sys/net/netfilter/nf_conntrack";
    [
        limit(
            "conntrack",
            word(&format!("{netfilter}_count"), 0),
            word(&format!("{netfilter}_max"), 0),
        ),
        limit(
            "time_wait_buckets",
            Some(time_wait),
            word("sys/net/ipv4/tcp_max_tw_buckets", 0),
        ),
        limit(
            "orphans",
            tcp_field(&sockstat, "orphan"),
            word("sys/net/ipv4/tcp_max_orphans", 0),
        ),
        limit(
            "tcp_memory",
            tcp_field(&sockstat, "mem"),
            word("sys/net/ipv4/tcp_mem", 2),
        ),
        limit(
            "files",
            word("sys/fs/file-nr", 0),
            word("sys/fs/file-nr", 2),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A number of the line `TCP: inuse 4 orphan 0 tw 12 alloc 9 mem 2`.
fn tcp_field(sockstat: &str, field: &str) -> Option<u64> {
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == field)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_missing_left_out() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("sys/net/netfilter/nf_conntrack_count", "120\n"),
            ("sys/net/netfilter/nf_conntrack_max", "262144\n"),
            ("sys/net/ipv4/tcp_max_tw_buckets", "8192\n"),
            ("sys/net/ipv4/tcp_max_orphans", "lots\n"),
            ("sys/net/ipv4/tcp_mem", "10\t20\t30\n"),
            ("sys/fs/file-nr", "1344\t0\t9223372036854775807\n"),
            (
                "net/sockstat",
                "sockets: used 9\nTCP: inuse 5 orphan 1 tw 12 alloc 9 mem 2\n",
            ),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let limits: Vec<_> = read(root.path(), 12)
            .into_iter()
            .map(|limit| (limit.name, limit.used, limit.limit))
            .collect();
        assert_eq!(
            limits,
            [
                ("conntrack", 120, 262_144),
                ("time_wait_buckets", 12, 8192),
                ("tcp_memory", 2, 30),
                ("files", 1344, 9_223_372_036_854_775_807),
            ]
        );
        assert!(read(Path::new("/nowhere"), 0).is_empty());
    }

    #[test]
    fn a_strange_sockstat_is_no_number() {
        for text in ["", "TCP:", "TCP: orphan", "TCP: orphan x", "UDP: orphan 1"] {
            assert_eq!(tcp_field(text, "orphan"), None, "{text}");
        }
    }
}
