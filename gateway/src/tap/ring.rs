//! [`Rings`]: where the kernel puts frames, and frames in the order in which they came.
//!
//! For each protocol that is wanted two rings, each with a socket of its own: many short slots and few long ones, since a slot takes one frame
//! whatever its length. The sockets look at every interface of the namespace and have the program of [`super::filter`]. The rings are the tap's
//! only queue: when one is full, the kernel drops frames and counts them.
//!
//! Before: [`super::filter`]; after: [`super::capture`].

mod packet_socket;
mod slots;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use libc::{E2BIG, ENOMEM};
use link::rules::RuleProtocol;
use thiserror::Error;

use self::packet_socket::{PacketSocket, View};
pub(super) use self::slots::{Frame, Slots};
use super::{
    filter::{self, PORT_RANGES, Size, Wanted},
    protocol::RingState,
};

/// Whether this kernel has packet sockets, and lets the process have one.
///
/// # Errors
/// The kernel's answer.
pub(super) fn probe() -> io::Result<()> {
    PacketSocket::open(View::Network).map(drop)
}

/// Nothing can be captured.
#[derive(Debug, Error)]
pub enum RingsError {
    /// No rings.
    #[error("cannot open the capture rings (up to 96 MiB of kernel memory; with a quarter it was tried as well): {0}")]
    Open(io::Error),
    /// The kernel does not take the filter.
    #[error("the kernel refuses the capture's filter: {0}")]
    Filter(io::Error),
}

/// How much memory a ring has, and in what pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of a slot, a multiple of 16: a header of 80 bytes and the frame.
    pub(super) slot_bytes: usize,
    /// Bytes of a block: what the kernel allocates at once.
    pub(super) block_bytes: usize,
    /// Blocks.
    pub(super) blocks: usize,
}

impl Layout {
    /// 8,192 frames of up to 1,968 bytes.
    const SHORT: Self = Self { slot_bytes: 2_048, block_bytes: 4 << 20, blocks: 4 };
    /// 756 frames of up to 65,712 bytes; a GSO frame has 65,536.
    const LONG: Self = Self { slot_bytes: 65_792, block_bytes: 4 << 20, blocks: 12 };
    /// 252 of them. Long ones are rare: larger datagrams come as fragments.
    const LONG_UDP: Self = Self { blocks: 4, ..Self::LONG };

    const fn long(protocol: RuleProtocol) -> Self {
        match protocol {
            RuleProtocol::Tcp => Self::LONG,
            RuleProtocol::Udp => Self::LONG_UDP,
        }
    }

    /// A quarter of it in small blocks, for kernels that are short of memory in one piece.
    const fn reduced(self) -> Self {
        Self { block_bytes: self.block_bytes / 16, blocks: self.blocks * 4, ..self }
    }

    pub(super) const fn bytes(self) -> usize {
        self.block_bytes * self.blocks
    }

    pub(super) const fn slots_per_block(self) -> usize {
        self.block_bytes / self.slot_bytes
    }

    pub(super) const fn slots(self) -> usize {
        self.slots_per_block() * self.blocks
    }
}

const _: () =
    assert!(Layout::SHORT.slot_bytes >= filter::SHORT_BYTES as usize + 96, "a short slot takes every short frame");
const _: () = assert!(Layout::SHORT.bytes() + Layout::LONG.bytes() == 64 << 20, "the bound that is promised");
const _: () =
    assert!(Layout::SHORT.bytes() + Layout::LONG_UDP.bytes() == 32 << 20, "and beside it, with a rule for UDP");

const RINGS: usize = 4;

/// A number of frames in each ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count([usize; RINGS]);

impl Count {
    pub(super) fn sum(self) -> usize {
        self.0.into_iter().sum()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Rings {
    tcp: Option<Pair>,
    udp: Option<Pair>,
}

/// The rings of a protocol.
#[derive(Debug)]
struct Pair {
    short: Slots,
    long: Slots,
    reduced: bool,
}

impl Rings {
    /// Changes what is wanted, without a frame lost of what was wanted before. Frames that are in the rings stay, unless nothing of their
    /// protocol is wanted. Nothing else ever gets into the rings.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn want(&mut self, wanted: &Wanted) -> Result<(), RingsError> {
        for (protocol, pair) in [(RuleProtocol::Tcp, &mut self.tcp), (RuleProtocol::Udp, &mut self.udp)] {
            match pair {
                _ if wanted.ports(protocol).is_empty() => *pair = None,
                Some(pair) => pair.want(wanted, protocol)?,
                None => *pair = Some(Pair::open(wanted, protocol)?),
            }
        }
        Ok(())
    }

    /// The frame that comes after `taken` others, by time.
    pub(super) fn frame(&self, taken: Count) -> Option<(Frame<'_>, Count)> {
        let mut first: Option<(Frame<'_>, usize)> = None;
        let mut empty = [false; RINGS];
        for (index, slots) in self.slots() {
            match slots.frame(taken.0[index]) {
                Some(frame) if first.is_none_or(|(other, _)| frame.nanos < other.nanos) => first = Some((frame, index)),
                Some(_) => {}
                None => empty[index] = true,
            }
        }
        let (_, found) = first?;
        // A frame that was stored before one of another ring was there when that was: so look again at rings that were empty before.
        for (index, slots) in self.slots().filter(|(index, _)| *index < found && empty[*index]) {
            if let Some(frame) = slots.frame(taken.0[index])
                && first.is_none_or(|(other, _)| frame.nanos <= other.nanos)
            {
                first = Some((frame, index));
            }
        }
        first.map(|(frame, index)| {
            let mut next = taken;
            next.0[index] += 1;
            (frame, next)
        })
    }

    /// Gives the slots of the first `taken` frames back to the kernel.
    pub(super) fn release(&mut self, taken: Count) {
        let pairs = [&mut self.tcp, &mut self.udp].into_iter().enumerate();
        for (index, pair) in pairs.filter_map(|(index, pair)| Some((2 * index, pair.as_mut()?))) {
            pair.short.release(taken.0[index]);
            pair.long.release(taken.0[index + 1]);
        }
    }

    /// Frames of a protocol that were dropped before those that are there now, since the last call.
    pub(super) fn take_drops(&self, protocol: RuleProtocol) -> u64 {
        self.pair(protocol).map_or(0, |pair| pair.short.take_drops() + pair.long.take_drops())
    }

    /// The same with all frames handled: also those that were dropped behind the last of them.
    pub(super) fn look_for_drops(&self, protocol: RuleProtocol) -> u64 {
        self.pair(protocol).map_or(0, |pair| pair.short.look_for_drops() + pair.long.look_for_drops())
    }

    /// The sockets, to wait for frames.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.slots().map(|(_, slots)| slots.socket().as_fd())
    }

    pub(super) fn state(&self) -> RingState {
        let bytes: usize = self.slots().map(|(_, slots)| slots.layout().bytes()).sum();
        let reduced = [&self.tcp, &self.udp].into_iter().flatten().any(|pair| pair.reduced);
        if bytes == 0 { RingState::Closed } else { RingState::Open { bytes: bytes as u64, reduced } }
    }

    const fn pair(&self, protocol: RuleProtocol) -> Option<&Pair> {
        match protocol {
            RuleProtocol::Tcp => self.tcp.as_ref(),
            RuleProtocol::Udp => self.udp.as_ref(),
        }
    }

    /// Each with its place in a [`Count`].
    fn slots(&self) -> impl Iterator<Item = (usize, &Slots)> {
        let pairs = [&self.tcp, &self.udp].into_iter().enumerate();
        pairs
            .filter_map(|(index, pair)| Some((2 * index, pair.as_ref()?)))
            .flat_map(|(index, pair)| [(index, &pair.short), (index + 1, &pair.long)])
    }
}

impl Pair {
    fn open(wanted: &Wanted, protocol: RuleProtocol) -> Result<Self, RingsError> {
        let (short, long) = (Layout::SHORT, Layout::long(protocol));
        Self::open_with(wanted, protocol, (short, long))
            .or_else(|error| {
                tracing::warn!(%error, "the kernel does not give the rings that a full rate needs: a quarter is tried");
                let pair = Self::open_with(wanted, protocol, (short.reduced(), long.reduced()))?;
                Ok(Self { reduced: true, ..pair })
            })
            .map_err(RingsError::Open)
    }

    fn open_with(wanted: &Wanted, protocol: RuleProtocol, (short, long): (Layout, Layout)) -> io::Result<Self> {
        let open = |layout, size| Slots::open(protocol, layout, |socket| attach(socket, wanted, protocol, size));
        let pair = Self { short: open(short, Size::Short)?, long: open(long, Size::Long)?, reduced: false };
        pair.long.start()?;
        pair.short.start()?;
        Ok(pair)
    }

    fn want(&self, wanted: &Wanted, protocol: RuleProtocol) -> Result<(), RingsError> {
        // Short frames begin connections: what follows one must not meet the filter before.
        [(&self.long, Size::Long), (&self.short, Size::Short)]
            .into_iter()
            .try_for_each(|(slots, size)| attach(slots.socket(), wanted, protocol, size))
            .map_err(RingsError::Filter)
    }
}

/// Attaches a program, of many ports a coarser one if need be: before Linux 6.8 a socket's filter, with the one that it replaces, has 20 KiB.
fn attach(socket: &PacketSocket, wanted: &Wanted, protocol: RuleProtocol, size: Size) -> io::Result<()> {
    let mut attached = Ok(());
    for most in PORT_RANGES {
        attached = socket.attach(&filter::program(wanted, protocol, size, most));
        match &attached {
            Err(error) if matches!(error.raw_os_error(), Some(ENOMEM | E2BIG)) => {
                tracing::debug!(%error, most, ?protocol, "the kernel has no room for so long a filter");
            }
            _ => break,
        }
    }
    attached
}
