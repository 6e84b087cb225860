//! The sockets out of `/proc/net/tcp` and `/proc/net/tcp6`, or of `udp` and `udp6`, for where netlink is not to be had.
//!
//! Slower by five times, and with less to see: no bound sockets of TCP, no socket options, no timers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use procfs::net::{TcpNetEntries, TcpNetEntry, TcpState, UdpNetEntries, UdpNetEntry, UdpState};
use procfs::{FromBufReadSI, ProcResult, current_system_info};

use super::socket::{Protocol, Socket, State};

/// A line has 150 characters.
const LONGEST_LINE: u64 = 1024;
/// Lines that are parsed at a time.
const BATCH: usize = 1000;

/// Gives every socket of the namespace of whoever `root` is mounted for to `each`, those that claim a port first.
///
/// Each table is gone through twice, so that no more than a batch of it has to be kept.
pub fn dump(root: &Path, protocol: Protocol, mut each: impl FnMut(&Socket)) -> anyhow::Result<()> {
    let net = folder(root);
    let names = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let [v4, v6] = names.map(|name| net.join(name));
    // A kernel without IPv6 has no such file.
    let tables = [Some(&v4), Some(&v6).filter(|v6| v6.exists())];
    for path in tables.into_iter().flatten() {
        read(path, protocol, |sockets| {
            let mut claiming = sockets.iter().filter(|s| s.claims_port()).peekable();
            // TCP's listeners stand at the beginning: behind a batch without one there are none.
            let more = protocol == Protocol::Udp || claiming.peek().is_some();
            claiming.for_each(&mut each);
            more
        })?;
    }
    for path in tables.into_iter().flatten() {
        read(path, protocol, |sockets| {
            sockets
                .iter()
                .filter(|s| !s.claims_port())
                .for_each(&mut each);
            true
        })?;
    }
    Ok(())
}

/// `/proc/net` is that of the process; a thread that has moved into another namespace has its own.
pub fn folder(root: &Path) -> PathBuf {
    let own = root.join("thread-self/net");
    if own.exists() { own } else { root.join("net") }
}

/// Reads a table for `each`.
fn read(
    path: &Path,
    protocol: Protocol,
    each: impl FnMut(&[Socket]) -> bool,
) -> anyhow::Result<()> {
    let file = File::open(path)
        .with_context(|| format!("cannot open {}; mount /proc or give --proc", path.display()))?;
    batches(file, protocol, each).with_context(|| format!("cannot read {}", path.display()))
}

/// Gives a table to `each`, some sockets at a time, as long as it wants more.
fn batches(
    table: impl Read,
    protocol: Protocol,
    mut each: impl FnMut(&[Socket]) -> bool,
) -> anyhow::Result<()> {
    let mut table = BufReader::new(table);
    let mut add_line = |text: &mut String| table.by_ref().take(LONGEST_LINE).read_line(text);
    let mut text = String::new();
    // The heading, which the parser leaves out in each batch.
    add_line(&mut text)?;
    let heading = text.len();
    loop {
        text.truncate(heading);
        let mut lines = 0;
        while lines < BATCH && add_line(&mut text)? > 0 {
            lines += 1;
        }
        if lines == 0 || !each(&parse(&text, protocol)?) {
            return Ok(());
        }
    }
}

fn parse(table: &str, protocol: Protocol) -> ProcResult<Vec<Socket>> {
    let (text, system) = (table.as_bytes(), current_system_info());
    match protocol {
        Protocol::Tcp => TcpNetEntries::from_buf_read(text, system)
            .map(|TcpNetEntries(entries)| entries.iter().map(tcp).collect()),
        Protocol::Udp => UdpNetEntries::from_buf_read(text, system)
            .map(|UdpNetEntries(entries)| entries.iter().map(udp).collect()),
    }
}

fn tcp(entry: &TcpNetEntry) -> Socket {
    Socket {
        inode: u32::try_from(entry.inode).unwrap_or(0),
        uid: entry.uid,
        ..socket(
            state(&entry.state),
            entry.local_address,
            entry.remote_address,
        )
    }
}

fn udp(entry: &UdpNetEntry) -> Socket {
    let state = match entry.state {
        UdpState::Established => State::Established,
        UdpState::Close => State::Bound,
    };
    Socket {
        inode: u32::try_from(entry.inode).unwrap_or(0),
        uid: entry.uid,
        ..socket(state, entry.local_address, entry.remote_address)
    }
}

fn socket(state: State, local: SocketAddr, remote: SocketAddr) -> Socket {
    let address = |socket: SocketAddr| match socket.ip() {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4),
        address @ IpAddr::V4(_) => address,
    };
    Socket {
        state,
        source: address(local),
        source_port: local.port(),
        destination: address(remote),
        destination_port: remote.port(),
        v6only: false,
        expires: None,
        shares_port: false,
        inode: 0,
        uid: 0,
    }
}

fn state(state: &TcpState) -> State {
    match state {
        TcpState::Established => State::Established,
        TcpState::SynSent => State::SynSent,
        TcpState::SynRecv | TcpState::NewSynRecv => State::SynRecv,
        TcpState::FinWait1 => State::FinWait1,
        TcpState::FinWait2 => State::FinWait2,
        TcpState::TimeWait => State::TimeWait,
        TcpState::Close => State::Bound,
        TcpState::CloseWait => State::CloseWait,
        TcpState::LastAck => State::LastAck,
        TcpState::Listen => State::Listen,
        TcpState::Closing => State::Closing,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn a_table_reads_with_its_listeners_first() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("net")).unwrap();
        let lines = "   0: 0100007F:9C40 0200007F:1F90 06 00000000:00000000 03:00000171 00000000     0        0 0 3 0000000000000000\n   \
                     1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0\n";
        std::fs::write(root.path().join("net/tcp"), format!("{HEAD}{lines}")).unwrap();
        let mut seen = Vec::new();
        dump(root.path(), Protocol::Tcp, |socket| seen.push(*socket)).unwrap();
        assert_eq!(
            seen.iter().map(|s| s.state).collect::<Vec<_>>(),
            [State::Listen, State::TimeWait]
        );
        assert_eq!(
            (seen[1].source_port, seen[1].destination_port),
            (40000, 8080)
        );
        assert_eq!(seen[0].inode, 4711);
    }

    #[test]
    fn a_table_of_udp_reads_with_its_unconnected_sockets_first() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("net")).unwrap();
        let head = HEAD.replace("inode", "inode ref pointer drops");
        let lines = "  100: 0100007F:9C40 0200007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 12 2 0000000000000000 0\n  \
                     101: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0\n";
        std::fs::write(root.path().join("net/udp"), format!("{head}{lines}")).unwrap();
        let mut seen = Vec::new();
        dump(root.path(), Protocol::Udp, |socket| seen.push(*socket)).unwrap();
        let told: Vec<_> = seen
            .iter()
            .map(|s| (s.state, s.source_port, s.destination_port, s.inode))
            .collect();
        assert_eq!(
            told,
            [
                (State::Bound, 53, 0, 4711),
                (State::Established, 40000, 53, 12)
            ]
        );
    }

    /// A table, and how much of it was read.
    struct Table<'a> {
        text: &'a [u8],
        read: &'a Cell<usize>,
    }

    impl Read for Table<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.text.read(buffer)?;
            self.read.set(self.read.get() + length);
            Ok(length)
        }
    }

    #[test]
    fn no_more_than_a_batch_of_a_table_is_kept() {
        const LINE: &str = "   0: 0100007F:9C40 0200007F:1F90 06 00000000:00000000 03:00000171 00000000     0        0 0 3 0000000000000000\n";
        let text = HEAD.to_owned() + &LINE.repeat(5 * BATCH);
        let (read, mut seen) = (Cell::new(0), 0);
        let table = Table {
            text: text.as_bytes(),
            read: &read,
        };
        batches(table, Protocol::Tcp, |sockets| {
            // What a reader has in advance.
            assert!(read.get() <= HEAD.len() + (seen + BATCH) * LINE.len() + 8 * 1024);
            seen += sockets.len();
            true
        })
        .unwrap();
        assert_eq!(seen, 5 * BATCH);
    }

    #[test]
    fn what_is_missing_or_torn_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = dump(root.path(), Protocol::Tcp, |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("net/tcp"), "{error:#}");
        std::fs::create_dir(root.path().join("net")).unwrap();
        std::fs::write(root.path().join("net/tcp"), format!("{HEAD}   0: 0100\n")).unwrap();
        assert!(dump(root.path(), Protocol::Tcp, |_| {}).is_err());
    }
}
