//! A packet socket with its ring: what the kernel hands over, without a library in between. The one place of this
//! check, beside a socket option, that is not safe Rust.
//!
//! The socket is one of SOCK_DGRAM, so that packets begin with the IP header on every kind of link. The ring is one of
//! TPACKET_V3 (linux/if_packet.h): blocks that the kernel fills with packets of any length and hands over when they are
//! full, or a little after the first packet. A socket's own buffer would do, but may be enlarged by CAP_NET_ADMIN alone.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libc::sock_filter;

/// A block holds the largest packet that segmentation offload makes, twice.
const BLOCK: usize = 128 * 1024;

/// With [`BLOCK`] four megabytes: what a probe's page may be without a loss while this process does something else.
const BLOCKS: usize = 32;

/// A block that is not full is handed over this long after its first packet, at the latest.
pub const HANDOVER: Duration = Duration::from_millis(10);

/// What lies in a frame before the packet: `struct tpacket3_hdr` and behind it `struct sockaddr_ll`.
const HEADER: usize = 48;
const LINK: usize = HEADER + 20;

/// Where in a block (`struct tpacket_block_desc`) its state, the number of packets and the first of them stand.
const STATE: usize = 8;
const COUNT: usize = 12;
const FIRST: usize = 16;

/// A packet in the ring.
#[derive(Debug)]
pub struct Frame<'a> {
    /// When it passed, in nanoseconds since 1970.
    pub nanoseconds: u64,
    /// Its length, from the IP header on.
    pub length: u32,
    /// The number of the interface.
    pub interface: u32,
    /// The kind of the interface (ARPHRD_*).
    pub hardware: u16,
    /// Whose it is (PACKET_HOST, PACKET_OUTGOING …).
    pub kind: u8,
    /// The protocol, by its Ethernet number.
    pub protocol: u16,
    /// The sender's hardware address, and how much of it counts.
    pub address: ([u8; 8], u8),
    /// Its bytes, from the IP header on.
    pub bytes: &'a [u8],
}

/// The socket and its ring.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    /// The block to look at next.
    next: usize,
    lost: u64,
}

// SAFETY: the memory belongs to this value alone, and nothing in it is bound to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens one that captures nothing before [`Self::filter`] says what. It takes CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        // SAFETY: no pointers are passed. Protocol 0: no packet comes before it is bound.
        let socket = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was opened just now, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        attach(&socket, &super::filter::program(&[]))?;
        set(
            &socket,
            libc::SOL_PACKET,
            libc::PACKET_VERSION,
            &libc::tpacket_versions::TPACKET_V3,
        )?;
        let request = libc::tpacket_req3 {
            tp_block_size: u32::try_from(BLOCK).unwrap_or(0),
            tp_block_nr: u32::try_from(BLOCKS).unwrap_or(0),
            // Frames have no size of their own in this version; the number must fit.
            tp_frame_size: 2048,
            tp_frame_nr: u32::try_from(BLOCK / 2048 * BLOCKS).unwrap_or(0),
            tp_retire_blk_tov: u32::try_from(HANDOVER.as_millis()).unwrap_or(0),
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a new mapping at a place of the kernel's choice, as long as the ring that was set up above.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BLOCK * BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = Self {
            socket,
            memory: NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            next: 0,
            lost: 0,
        };
        ring.bind()?;
        Ok(ring)
    }

    /// Has packets of all interfaces and protocols come: those that leave are told to sockets for all alone.
    fn bind(&self) -> io::Result<()> {
        // SAFETY: a structure of plain numbers, for which zeros are good.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or(0).to_be();
        // SAFETY: the structure lives through the call, and its size is given.
        let bound = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0),
            )
        };
        checked(bound)
    }

    /// Has the kernel pick packets by this program from now on.
    pub fn filter(&self, program: &[sock_filter]) -> io::Result<()> {
        attach(&self.socket, program)
    }

    /// Shows all packets that the kernel has handed over, and gives their memory back.
    pub fn drain(&mut self, mut each: impl FnMut(&Frame<'_>)) {
        // Once round at most: what comes meanwhile is for the next time.
        for _ in 0..BLOCKS {
            // SAFETY: `next` is below BLOCKS, so that the block lies within the mapping.
            let block = unsafe { self.memory.add(self.next * BLOCK) };
            // SAFETY: the state is a word of the block's descriptor, aligned as the block is, and both sides treat it as
            // atomic.
            let state = unsafe { AtomicU32::from_ptr(block.add(STATE).cast().as_ptr()) };
            if state.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return;
            }
            // SAFETY: the block is in the mapping, and until its state is set back below the kernel leaves it alone. The
            // slice is gone by then. Its first words, with the state, are left out.
            let bytes =
                unsafe { std::slice::from_raw_parts(block.add(COUNT).as_ptr(), BLOCK - COUNT) };
            frames(bytes, &mut each);
            state.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % BLOCKS;
        }
    }

    /// How many packets found the ring full, since it was opened.
    pub fn lost(&mut self) -> u64 {
        // SAFETY: a structure of plain numbers, for which zeros are good.
        let mut statistics: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
        let mut size = u32::try_from(size_of::<libc::tpacket_stats_v3>()).unwrap_or(0);
        // SAFETY: the structure lives through the call, and its size is given.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut size,
            )
        };
        if result == 0 {
            // To read them sets them to zero.
            self.lost += u64::from(statistics.tp_drops);
        }
        self.lost
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast::<c_void>(), BLOCK * BLOCKS) };
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes a block apart, without its first [`COUNT`] bytes. What does not fit together ends it.
pub(super) fn frames(block: &[u8], each: &mut impl FnMut(&Frame<'_>)) {
    let word = |at: usize| Some(u32::from_ne_bytes(block.get(at..at + 4)?.try_into().ok()?));
    let offset = |at: usize| usize::try_from(word(at)?).ok();
    let (Some(count), Some(first)) = (word(0), offset(FIRST - COUNT)) else {
        return;
    };
    let mut at = first.saturating_sub(COUNT);
    for _ in 0..count {
        let Some((frame, next)) = frame(block, at) else {
            return;
        };
        each(&frame);
        if next == 0 {
            return;
        }
        at += next;
    }
}

fn frame(block: &[u8], at: usize) -> Option<(Frame<'_>, usize)> {
    let header = block.get(at..at.checked_add(LINK)?)?;
    let word = |at: usize| Some(u32::from_ne_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(header.get(at..at + 2)?.try_into().ok()?));
    let begin = at + usize::from(half(24)?);
    let kept = usize::try_from(word(12)?).ok()?;
    let frame = Frame {
        nanoseconds: u64::from(word(4)?) * 1_000_000_000 + u64::from(word(8)?),
        length: word(16)?,
        protocol: u16::from_be(half(HEADER + 2)?),
        interface: word(HEADER + 4)?,
        hardware: half(HEADER + 8)?,
        kind: header[HEADER + 10],
        address: (
            header[HEADER + 12..].try_into().ok()?,
            header[HEADER + 11].min(8),
        ),
        bytes: block.get(begin..begin.checked_add(kept)?)?,
    };
    Some((frame, usize::try_from(word(0)?).ok()?))
}

fn attach(socket: impl AsFd, program: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        // The kernel copies it and does not write to it.
        filter: program.as_ptr().cast_mut(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set<T>(socket: impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value lives through the call, and its size is given; what a program of `attach` points to lives as
    // long.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            u32::try_from(size_of::<T>()).unwrap_or(0),
        )
    };
    checked(result)
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
