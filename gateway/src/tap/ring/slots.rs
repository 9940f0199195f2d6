//! [`Slots`]: one `TPACKET_V2` ring, mapped; the frames in it, and what is known of frames that found no room.
//!
//! A slot belongs to the kernel until its status says otherwise, then to us until we write the status back. So a [`Frame`] borrows the ring,
//! and giving slots back needs it mutably.
//!
//! The kernel drops frames only while the slot that comes next is ours, and a batch of slots is given back last one first: so frames can only
//! be missing in front of the first frame of a batch. How many were dropped is read before each batch goes back, and what is new then is
//! missing in front of that batch; what is dropped after the look, and before the batch is back, shows in the mark that the kernel puts on
//! frames while drops are counted that nobody read.

#![expect(unsafe_code, reason = "memory that is shared with the kernel")]

use std::{
    cell::Cell,
    io,
    num::NonZeroU16,
    os::fd::{AsFd, AsRawFd},
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU32, Ordering},
};

use link::rules::RuleProtocol;

use super::{
    Layout,
    packet_socket::{PacketSocket, View},
};

/// Length of `virtio_net_hdr`, where in it are the kind of segments and their length, and the kind of UDP of linux/virtio_net.h.
const VNET_BYTES: usize = 10;
const VNET_KIND_AT: usize = 1;
const VNET_LEN_AT: usize = 4;
const VNET_KIND_UDP: u8 = 5;

/// A frame in its slot.
#[derive(Debug, Clone, Copy)]
pub(in crate::tap) struct Frame<'a> {
    /// From its IP header on, as much of it as the slot has.
    pub(in crate::tap) bytes: &'a [u8],
    /// How long it was.
    pub(in crate::tap) len: usize,
    /// When it was stored, nanoseconds since 1970-01-01 UTC.
    pub(in crate::tap) nanos: u64,
    /// The kernel dropped frames between the one before, in this ring, and this.
    pub(in crate::tap) after_loss: bool,
    /// Its checksum is known to be right, or is not finished, since it never was on a wire.
    pub(in crate::tap) verified: bool,
    /// What kind of packets it may be of.
    pub(in crate::tap) protocol: RuleProtocol,
    /// It is several datagrams of this many bytes each, the last of the rest, behind the headers of one: how they are sent through the kernel
    /// that belong together (`UDP_SEGMENT`). The target reads them one by one.
    pub(in crate::tap) datagram_bytes: Option<NonZeroU16>,
}

/// A ring.
#[derive(Debug)]
pub(in crate::tap) struct Slots {
    protocol: RuleProtocol,
    socket: PacketSocket,
    map: Map,
    layout: Layout,
    /// The slot of the oldest frame that was not given back.
    next: usize,
    given: Vec<Given>,
    /// Frames that were dropped, of which nobody has been told.
    drops: Cell<u64>,
}

/// What is known of the frame that comes into a slot next.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    /// The slot was the first of a batch when it was given back.
    first: bool,
    /// Frames were dropped before it was.
    after_loss: bool,
}

impl Slots {
    /// A ring with a filter, that gets nothing until [`Slots::start`].
    pub(super) fn open(
        protocol: RuleProtocol,
        layout: Layout,
        attach: impl FnOnce(&PacketSocket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = PacketSocket::open(match protocol {
            RuleProtocol::Tcp => View::Network,
            RuleProtocol::Udp => View::Segments,
        })?;
        attach(&socket)?;
        socket.make_ring(layout)?;
        let map = Map::new(&socket, layout.bytes())?;
        Ok(Self {
            protocol,
            socket,
            map,
            layout,
            next: 0,
            given: vec![Given::default(); layout.slots()],
            drops: Cell::new(0),
        })
    }

    pub(super) fn start(&self) -> io::Result<()> {
        self.socket.start()
    }

    pub(super) const fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Frames that were dropped, as far as was looked, since the last call.
    pub(super) fn take_drops(&self) -> u64 {
        self.drops.take()
    }

    /// Looks for drops in front of the frame that comes next, with all frames handled; how many there were since the last time.
    pub(super) fn look_for_drops(&self) -> u64 {
        self.take_drops() + self.socket.drops()
    }

    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    /// The frame behind the `ahead` oldest, if the kernel has stored it.
    pub(super) fn frame(&self, ahead: usize) -> Option<Frame<'_>> {
        if ahead >= self.layout.slots() {
            return None;
        }
        let index = (self.next + ahead) % self.layout.slots();
        let status = self.status(index).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let slot = self.slot(index);
        // SAFETY: the slot is ours by its status, begins with this header, and is aligned to 16 bytes.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        let begins = usize::from(header.tp_net).min(self.layout.slot_bytes);
        // The link's header is counted, too, where it is there.
        let link = begins - usize::from(header.tp_mac).min(begins);
        let captured = (header.tp_snaplen as usize).saturating_sub(link).min(self.layout.slot_bytes - begins);
        let given = self.given[index];
        // SAFETY: the range is inside the slot, which the kernel does not touch before `release`, which needs `self` mutably.
        let bytes = unsafe { slice::from_raw_parts(slot.as_ptr().add(begins), captured) };
        Some(Frame {
            bytes,
            len: (header.tp_len as usize).saturating_sub(link),
            nanos: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            after_loss: given.after_loss || (given.first && status & libc::TP_STATUS_LOSING != 0),
            protocol: self.protocol,
            datagram_bytes: self.datagram_bytes(slot, begins - link),
            verified: status & (libc::TP_STATUS_CSUM_VALID | libc::TP_STATUS_CSUMNOTREADY) != 0,
        })
    }

    /// What the header of virtio says that stands before what is at `end`.
    fn datagram_bytes(&self, slot: NonNull<u8>, end: usize) -> Option<NonZeroU16> {
        let at = end.checked_sub(VNET_BYTES).filter(|_| self.protocol == RuleProtocol::Udp)?;
        // SAFETY: `end` is inside the slot, which is the caller's.
        let header = unsafe { slot.add(at).cast::<[u8; VNET_BYTES]>().read() };
        let len = u16::from_ne_bytes([header[VNET_LEN_AT], header[VNET_LEN_AT + 1]]);
        NonZeroU16::new(len).filter(|_| header[VNET_KIND_AT] == VNET_KIND_UDP)
    }

    /// Gives back the slots of the `frames` oldest.
    pub(super) fn release(&mut self, frames: usize) {
        if frames == 0 {
            return;
        }
        let slots = self.layout.slots();
        let drops = self.socket.drops();
        self.drops.set(self.drops.get() + drops);
        for ahead in (0..frames).rev() {
            let index = (self.next + ahead) % slots;
            let first = ahead == 0;
            self.given[index] = Given { first, after_loss: first && drops > 0 };
            self.status(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.next = (self.next + frames) % slots;
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: a slot begins with its status, 32 bits that are aligned; kernel and we access it atomically while the ring lives.
        unsafe { AtomicU32::from_ptr(self.slot(index).cast::<u32>().as_ptr()) }
    }

    fn slot(&self, index: usize) -> NonNull<u8> {
        let per_block = self.layout.slots_per_block();
        let at = index / per_block * self.layout.block_bytes + index % per_block * self.layout.slot_bytes;
        // SAFETY: `index` is below the number of slots, all of which are inside the mapping.
        unsafe { self.map.base.add(at) }
    }
}

/// The ring's memory.
#[derive(Debug)]
struct Map {
    base: NonNull<u8>,
    bytes: usize,
}

impl Map {
    fn new(socket: &PacketSocket, bytes: usize) -> io::Result<Self> {
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, socket.as_fd().as_raw_fd());
        // SAFETY: a new mapping, of the ring that the socket has, at an address that the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, bytes })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; frames borrow the ring, so there are none.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
