//! One TCP socket as the kernel shows it: plain data, whichever way it was read.

use std::net::IpAddr;

use clap::ValueEnum;

/// A socket's state; the numbers are the kernel's (`include/net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// A connection in use.
    Established = 1,
    /// connect() waits for the answer.
    SynSent = 2,
    /// A listener's half-open connection. It holds no port of its own.
    SynRecv = 3,
    /// Closed by this side, not yet acknowledged.
    FinWait1 = 4,
    /// Closed by this side, the other side is still open.
    FinWait2 = 5,
    /// Closed by this side first: the port stays taken for 60 s.
    TimeWait = 6,
    /// Bound to a port, neither connected nor listening. Linux shows these from 6.8 on.
    Bound = 7,
    /// Closed by the other side alone.
    CloseWait = 8,
    /// Closed by both, the last acknowledgement is out.
    LastAck = 9,
    /// A listener.
    Listen = 10,
    /// Closed by both at once.
    Closing = 11,
}

impl State {
    /// Every state, in the order of the kernel's numbers.
    pub const ALL: [Self; 11] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Bound,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
    ];

    /// By the kernel's number; 12 is a request socket (`TCP_NEW_SYN_RECV`), 13 what a bound one is asked for by.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            12 => Some(Self::SynRecv),
            13 => Some(Self::Bound),
            n => Self::ALL.get(usize::from(n).checked_sub(1)?).copied(),
        }
    }

    /// Its place in [`State::ALL`].
    pub fn index(self) -> usize {
        self as usize - 1
    }

    /// Its name in the report's `sockets`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::TimeWait => "time_wait",
            Self::Bound => "bound",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
        }
    }
}

/// Whose ports: the two have a table each, and share nothing but the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// A port can be used once for each destination.
    Tcp,
    /// A port is taken against everybody on its local address.
    Udp,
}

impl Protocol {
    /// As in the options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A TCP or UDP socket. IPv4-mapped addresses are IPv4 here, as they are to the kernel's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Its state.
    pub state: State,
    /// The local address.
    pub source: IpAddr,
    /// The local port.
    pub source_port: u16,
    /// The remote address; unspecified where there is none.
    pub destination: IpAddr,
    /// The remote port; 0 where there is none.
    pub destination_port: u16,
    /// `IPV6_V6ONLY`, where it is told: for listeners and bound sockets.
    pub v6only: bool,
    /// Milliseconds until a TIME_WAIT ends. `/proc/net/tcp` through the procfs crate does not tell.
    pub expires: Option<u32>,
    /// `IP_BIND_ADDRESS_NO_PORT` is set: connect() chose the port, so that other connects may share it.
    pub shares_port: bool,
    /// The inode, by which its owner can be found; 0 for those that no process holds.
    pub inode: u32,
    /// The user it belongs to.
    pub uid: u32,
}

impl Socket {
    /// Whether it claims its port as a listener or a bound socket does: against every connect(), on any address.
    pub fn claims_port(&self) -> bool {
        matches!(self.state, State::Listen | State::Bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_go_by_the_kernels_numbers() {
        for (at, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state.index(), at);
            assert_eq!(State::from_number(state as u8), Some(state));
        }
        assert_eq!(State::from_number(12), Some(State::SynRecv));
        assert_eq!(State::from_number(13), Some(State::Bound));
        for unknown in [0, 14, 255] {
            assert_eq!(State::from_number(unknown), None);
        }
    }
}
