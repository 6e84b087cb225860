//! The neighbours that look alike when they run out: what is used of other limits, read below a given `/proc`.

use std::path::Path;

use super::proc_net;
use super::socket::Protocol;
use super::sysctl::read_small;
use crate::plugin::{Finding, Limits, Range, State};

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

impl Neighbour {
    /// The share used, in percent.
    pub fn share(&self) -> f64 {
        self.used as f64 * 100.0 / self.limit.max(1) as f64
    }
}

/// The names, in the order of the report.
pub const NAMES: [&str; 7] = [
    "conntrack",
    "time_wait_buckets",
    "orphans",
    "tcp_memory",
    "udp_memory",
    "files",
    "open_files",
];

/// What the kernel counts when one of them was reached, since it started.
///
/// | name | what was counted |
/// |---|---|
/// | `conntrack_insert_failed` | connections that found no free port of a SNAT rule, or lost a race: no error number |
/// | `conntrack_drop` | packets dropped as the table was full, or as above |
/// | `time_wait_overflows` | connections that skipped TIME_WAIT |
/// | `listen_overflows` | connections that found a listener's accept queue full |
/// | `listen_drops` | connections that a listener dropped for this or another reason |
/// | `udp_buffer_errors` | datagrams that found their socket's receive buffer full, IPv4 and IPv6 |
pub const COUNTERS: [&str; 6] = [
    "conntrack_insert_failed",
    "conntrack_drop",
    "time_wait_overflows",
    "listen_overflows",
    "listen_drops",
    "udp_buffer_errors",
];

/// Their values, in the order of [`COUNTERS`]; `None` for one that is not to be had.
pub type Counters = [Option<u64>; COUNTERS.len()];

/// Reads the counters of this thread's namespace; those of the other protocol are left out.
pub fn read_counters(root: &Path, protocol: Protocol) -> Counters {
    let net = proc_net::folder(root);
    let read = |name: &str| read_small(&net.join(name)).unwrap_or_default();
    let conntrack = read("stat/nf_conntrack");
    let mut counters = Counters::default();
    counters[0] = conntrack_sum(&conntrack, "insert_failed");
    counters[1] = conntrack_sum(&conntrack, "drop");
    match protocol {
        Protocol::Tcp => {
            let netstat = read("netstat");
            let names = ["TCPTimeWaitOverflow", "ListenOverflows", "ListenDrops"];
            for (counter, name) in counters[2..5].iter_mut().zip(names) {
                *counter = titled(&netstat, "TcpExt:", name);
            }
        }
        Protocol::Udp => {
            let v4 = titled(&read("snmp"), "Udp:", "RcvbufErrors");
            let v6 = named(&read("snmp6"), "Udp6RcvbufErrors");
            counters[5] = v4.map(|v4| v4.saturating_add(v6.unwrap_or(0)));
        }
    }
    counters
}

/// What was counted since; a counter that went back is of another namespace or after a restart, and tells nothing.
pub fn increase(now: &Counters, before: &Counters) -> Counters {
    std::array::from_fn(|at| now[at]?.checked_sub(before[at]?))
}

/// Keeps of each limit the look at which most of it was used.
pub fn keep_most_used(kept: &mut Vec<Neighbour>, seen: &[Neighbour]) {
    for limit in seen {
        match kept.iter_mut().find(|kept| kept.name == limit.name) {
            Some(kept) if limit.share() >= kept.share() => *kept = limit.clone(),
            Some(_) => {}
            None => kept.push(limit.clone()),
        }
    }
}

/// The sum of a column over the processors' lines, which are hexadecimal.
fn conntrack_sum(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let at = lines
        .next()?
        .split_ascii_whitespace()
        .position(|name| name == column)?;
    lines
        .map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(at)?, 16).ok())
        .try_fold(0, |sum: u64, more| Some(sum.saturating_add(more?)))
}

/// A value of the two lines that begin so: one with the names, one with the numbers.
fn titled(text: &str, title: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(title));
    let at = lines
        .next()?
        .split_ascii_whitespace()
        .position(|word| word == name)?;
    lines.next()?.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// The number on the line of this name.
fn named(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .trim()
        .parse()
        .ok()
}

/// What is near its limit, and what was counted since the last run.
pub fn judge(neighbours: &[Neighbour], counted: &Counters, limits: &Limits<Range>) -> Vec<Finding> {
    let mut findings: Vec<_> = neighbours
        .iter()
        // A full TIME_WAIT table hurts nobody, see below.
        .filter(|neighbour| neighbour.name != "time_wait_buckets")
        .filter_map(|neighbour| {
            let state = limits.judge(neighbour.share());
            (state != State::Ok).then(|| {
                let (cause, what, advice) = words(neighbour.name);
                Finding {
                    cause,
                    state,
                    text: format!(
                        "{what}: {} of {} used ({:.0} %)",
                        neighbour.used,
                        neighbour.limit,
                        neighbour.share()
                    ),
                    advice: advice.to_owned(),
                }
            })
        })
        .collect();
    let [insert_failed, drop, skipped, overflows, drops, buffers] =
        counted.map(Option::unwrap_or_default);
    let full = neighbours
        .iter()
        .find(|limit| limit.name == "time_wait_buckets" && limit.used >= limit.limit);
    if full.is_some() || skipped > 0 {
        let reached = full.map_or_else(
            || "was reached".to_owned(),
            |full| format!("is reached: {} of {}", full.used, full.limit),
        );
        findings.push(Finding {
            cause: "time-wait-buckets",
            state: State::Ok,
            text: format!(
                "tcp_max_tw_buckets {reached}, connections skip TIME_WAIT ({skipped} since the last run), and the rate of \
                 closing is higher than it looks"
            ),
            advice: "it costs no port and no connection; raise net.ipv4.tcp_max_tw_buckets to see the rate".to_owned(),
        });
    }
    if insert_failed > 0 || drop > 0 {
        findings.push(Finding {
            cause: "conntrack-drops",
            state: State::Warning,
            text: format!(
                "connection tracking failed to insert {insert_failed} connections and dropped {drop} packets since the last \
                 run: a SNAT rule has no port left, or the table is full; the clients see no error but time out"
            ),
            advice: "more addresses for the SNAT rule or a wider --to-ports range, a larger nf_conntrack_max, or no NAT \
                     for these connections"
                .to_owned(),
        });
    }
    if overflows > 0 || drops > 0 {
        findings.push(Finding {
            cause: "accept-queue",
            state: State::Warning,
            text: format!(
                "listeners dropped {drops} connections since the last run, {overflows} of them as their accept queue was full"
            ),
            advice: "a server here does not accept fast enough: more workers, a larger backlog= and net.core.somaxconn; 'ss \
                     -ltn' shows whose queue is full"
                .to_owned(),
        });
    }
    if buffers > 0 {
        findings.push(Finding {
            cause: "receive-buffer",
            state: State::Warning,
            text: format!(
                "{buffers} UDP datagrams were dropped since the last run as a receive buffer was full"
            ),
            advice: "whoever receives is too slow or has too little room: more workers, a larger SO_RCVBUF and \
                     net.core.rmem_max; 'ss -uam' shows whose buffer it is"
                .to_owned(),
        });
    }
    findings
}

/// Cause, words and advice.
fn words(name: &str) -> (&'static str, &'static str, &'static str) {
    match name {
        "conntrack" => (
            "conntrack-full",
            "connection tracking entries (nf_conntrack_max)",
            "raise net.netfilter.nf_conntrack_max, shorten its time-outs, or do not track these connections",
        ),
        "orphans" => (
            "orphans",
            "TCP sockets without a process (tcp_max_orphans)",
            "beyond it the kernel resets connections: find who closes with unsent data, or raise net.ipv4.tcp_max_orphans",
        ),
        "tcp_memory" => (
            "tcp-memory",
            "pages of TCP memory (tcp_mem)",
            "raise net.ipv4.tcp_mem, or find the connections with full buffers ('ss -tm')",
        ),
        "udp_memory" => (
            "udp-memory",
            "pages of UDP memory (udp_mem)",
            "raise net.ipv4.udp_mem, or find the sockets that nobody reads ('ss -uam')",
        ),
        "files" => (
            "files",
            "open files of the host (fs.file-max)",
            "raise fs.file-max, or find who holds them",
        ),
        _ => (
            "open-files",
            "open files of a proxy's process against its own limit",
            "raise worker_rlimit_nofile (nginx), or LimitNOFILE of the service: each proxied request takes two",
        ),
    }
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
/// | `udp_memory` | the last value of `udp_mem`, in pages | datagrams dropped |
/// | `files` | `fs.file-max` | ENFILE |
///
/// Those of the other protocol are left out.
pub fn read(root: &Path, protocol: Protocol, time_wait: u64) -> Vec<Neighbour> {
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
    let of_protocol = match protocol {
        Protocol::Tcp => [
            limit(
                "time_wait_buckets",
                Some(time_wait),
                word("sys/net/ipv4/tcp_max_tw_buckets", 0),
            ),
            limit(
                "orphans",
                sockstat_field(&sockstat, "TCP:", "orphan"),
                word("sys/net/ipv4/tcp_max_orphans", 0),
            ),
            limit(
                "tcp_memory",
                sockstat_field(&sockstat, "TCP:", "mem"),
                word("sys/net/ipv4/tcp_mem", 2),
            ),
        ],
        Protocol::Udp => [
            limit(
                "udp_memory",
                sockstat_field(&sockstat, "UDP:", "mem"),
                word("sys/net/ipv4/udp_mem", 2),
            ),
            None,
            None,
        ],
    };
    let conntrack = limit(
        "conntrack",
        word(&format!("{netfilter}_count"), 0),
        word(&format!("{netfilter}_max"), 0),
    );
    let files = limit(
        "files",
        word("sys/fs/file-nr", 0),
        word("sys/fs/file-nr", 2),
    );
    let all = std::iter::once(conntrack).chain(of_protocol).chain([files]);
    all.flatten().collect()
}

/// A number of the line that begins so, as in `TCP: inuse 4 orphan 0 tw 12 alloc 9 mem 2`.
pub fn sockstat_field(sockstat: &str, start: &str, field: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix(start))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == field)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_are_as_large_as_can_be_do_not_wrap_round() {
        let text = "entries drop\n00 ffffffffffffffff\n00 ffffffffffffffff\n";
        assert_eq!(conntrack_sum(text, "drop"), Some(u64::MAX));
    }

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
        let limits: Vec<_> = read(root.path(), Protocol::Tcp, 12)
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
        assert!(read(Path::new("/nowhere"), Protocol::Udp, 0).is_empty());
    }

    #[test]
    fn counters_are_summed_over_processors_and_compared() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("net/stat")).unwrap();
        std::fs::write(
            root.path().join("net/stat/nf_conntrack"),
            "entries  insert insert_failed drop\n00000010  00000000 0000000a 00000001\n00000010  00000000 00000006 00000000\n",
        )
        .unwrap();
        std::fs::write(
            root.path().join("net/netstat"),
            "TcpExt: ListenOverflows ListenDrops\nTcpExt: 7 9\nIpExt: InOctets\nIpExt: 1\n",
        )
        .unwrap();
        let now = read_counters(root.path(), Protocol::Tcp);
        assert_eq!(now, [Some(16), Some(1), None, Some(7), Some(9), None]);
        std::fs::write(
            root.path().join("net/snmp"),
            "Udp: InDatagrams RcvbufErrors\nUdp: 5 7\nUdpLite: InDatagrams\nUdpLite: 0\n",
        )
        .unwrap();
        std::fs::write(root.path().join("net/snmp6"), "Udp6RcvbufErrors  \t2\n").unwrap();
        let udp = read_counters(root.path(), Protocol::Udp);
        assert_eq!(udp, [Some(16), Some(1), None, None, None, Some(9)]);
        let since = increase(&now, &[Some(6), Some(2), None, Some(7), None, None]);
        assert_eq!(since, [Some(10), None, None, Some(0), None, None]);
        assert_eq!(
            read_counters(Path::new("/nowhere"), Protocol::Udp),
            [None; 6]
        );
    }

    #[test]
    fn what_is_near_its_limit_or_was_counted_is_found() {
        let limits = Limits {
            warning: Some(Range::up_to(90.0)),
            critical: Some(Range::up_to(98.0)),
        };
        let of = |name, used| Neighbour {
            name,
            used,
            limit: 100,
        };
        let causes = |neighbours: &[Neighbour], counted: Counters| {
            judge(neighbours, &counted, &limits)
                .into_iter()
                .map(|finding| (finding.cause, finding.state))
                .collect::<Vec<_>>()
        };
        assert!(
            causes(
                &[of("conntrack", 90), of("time_wait_buckets", 99)],
                [Some(0); 6]
            )
            .is_empty()
        );
        assert_eq!(
            causes(&[of("conntrack", 95), of("open_files", 100)], [None; 6]),
            [
                ("conntrack-full", State::Warning),
                ("open-files", State::Critical)
            ]
        );
        assert_eq!(
            causes(&[], [Some(3), Some(0), Some(5), Some(0), Some(1), Some(2)]),
            [
                ("time-wait-buckets", State::Ok),
                ("conntrack-drops", State::Warning),
                ("accept-queue", State::Warning),
                ("receive-buffer", State::Warning)
            ]
        );
    }

    #[test]
    fn a_strange_sockstat_is_no_number() {
        for text in ["", "TCP:", "TCP: orphan", "TCP: orphan x", "UDP: orphan 1"] {
            assert_eq!(sockstat_field(text, "TCP:", "orphan"), None, "{text}");
        }
    }
}
