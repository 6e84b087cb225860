//! The TCP sockets out of `/proc/net/tcp` and `/proc/net/tcp6`, for where netlink is not to be had.
//!
//! Slower by five times, and with less to see: no bound sockets, no socket options, no timers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use procfs::net::{TcpNetEntries, TcpNetEntry, TcpState};
use procfs::{FromBufReadSI, current_system_info};

use super::socket::{Socket, State};

/// Gives every socket of the namespace of whoever `root` is mounted for to `each`, the listeners first.
pub fn dump(root: &Path, mut each: impl FnMut(&Socket)) -> anyhow::Result<()> {
    let net = folder(root);
    let mut tables = vec![read(&net.join("tcp"))?];
    let v6 = net.join("tcp6");
    // A kernel without IPv6 has no such file.
    if v6.exists() {
        tables.push(read(&v6)?);
    }
    let sockets = || tables.iter().flatten().map(socket);
    sockets()
        .filter(Socket::claims_port)
        .for_each(|socket| each(&socket));
    sockets()
        .filter(|socket| !socket.claims_port())
        .for_each(|socket| each(&socket));
    Ok(())
}

/// `/proc/net` is that of the process; a thread that has moved into another namespace has its own.
pub fn folder(root: &Path) -> PathBuf {
    let own = root.join("thread-self/net");
    if own.exists() { own } else { root.join("net") }
}

fn read(path: &Path) -> anyhow::Result<Vec<TcpNetEntry>> {
    let file = std::fs::File::open(path)
        .with_context(|| format!("cannot open {}; mount /proc or give --proc", path.display()))?;
    TcpNetEntries::from_buf_read(std::io::BufReader::new(file), current_system_info())
        .map(|TcpNetEntries(entries)| entries)
        .with_context(|| format!("cannot read {}", path.display()))
}

fn socket(entry: &TcpNetEntry) -> Socket {
    let address = |socket: SocketAddr| match socket.ip() {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4),
        address @ IpAddr::V4(_) => address,
    };
    Socket {
        state: state(&entry.state),
        source: address(entry.local_address),
        source_port: entry.local_address.port(),
        destination: address(entry.remote_address),
        destination_port: entry.remote_address.port(),
        v6only: false,
        expires: None,
        shares_port: false,
        inode: u32::try_from(entry.inode).unwrap_or(0),
        uid: entry.uid,
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
        dump(root.path(), |socket| seen.push(*socket)).unwrap();
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
    fn what_is_missing_or_torn_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = dump(root.path(), |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("net/tcp"), "{error:#}");
        std::fs::create_dir(root.path().join("net")).unwrap();
        std::fs::write(root.path().join("net/tcp"), format!("{HEAD}   0: 0100\n")).unwrap();
        assert!(dump(root.path(), |_| {}).is_err());
    }
}
