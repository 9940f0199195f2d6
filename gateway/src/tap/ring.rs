//! [`Rings`]: where the kernel puts frames, and frames in the order in which they came.
//!
//! Two rings, each with a socket of its own: many short slots and few long ones, since a slot takes one frame whatever its length. Both
//! sockets look at every interface of the namespace and have the program of [`super::filter`]. The rings are the tap's only queue: when one is
//! full, the kernel drops frames and counts them.
//!
//! Before: [`super::filter`]; after: [`super::capture`].

mod packet_socket;
mod slots;

use std::io;

use self::packet_socket::PacketSocket;
pub(super) use self::slots::{Frame, Slots};
use super::{
    filter::{self, Size, Wanted},
    protocol::RingState,
};

/// Whether this kernel has packet sockets, and lets the process have one.
///
/// # Errors
/// The kernel's answer.
pub(super) fn probe() -> io::Result<()> {
    PacketSocket::open().map(drop)
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
    assert!(Layout::SHORT.slot_bytes >= filter::SHORT_BYTES as usize + 80, "a short slot takes every short frame");
const _: () = assert!(Layout::SHORT.bytes() + Layout::LONG.bytes() == 64 << 20, "the bound that is promised");

/// A number of frames in each ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    short: usize,
    long: usize,
}

impl Count {
    pub(super) const fn sum(self) -> usize {
        self.short + self.long
    }
}

/// Both rings.
#[derive(Debug)]
pub(super) struct Rings {
    short: Slots,
    long: Slots,
    reduced: bool,
}

impl Rings {
    /// Opens both, with what is wanted. Nothing else ever gets into them.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(wanted: &Wanted) -> io::Result<Self> {
        Self::open_with(wanted, Layout::SHORT, Layout::LONG, false).or_else(|error| {
            tracing::warn!(%error, "the kernel does not give the rings that a full rate needs: a quarter is tried");
            Self::open_with(wanted, Layout::SHORT.reduced(), Layout::LONG.reduced(), true)
        })
    }

    fn open_with(wanted: &Wanted, short: Layout, long: Layout, reduced: bool) -> io::Result<Self> {
        let short = Slots::open(short, &filter::program(wanted, Size::Short))?;
        let long = Slots::open(long, &filter::program(wanted, Size::Long))?;
        let rings = Self { short, long, reduced };
        rings.long.start()?;
        rings.short.start()?;
        Ok(rings)
    }

    /// Changes what is wanted, without a frame lost. Frames that are in the rings stay.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn want(&self, wanted: &Wanted) -> io::Result<()> {
        // Short frames begin connections: what follows one must not meet the filter before.
        self.long.attach(&filter::program(wanted, Size::Long))?;
        self.short.attach(&filter::program(wanted, Size::Short))
    }

    /// The frame that comes after `taken` others, by time.
    pub(super) fn frame(&self, taken: Count) -> Option<(Frame<'_>, Count)> {
        let mut short = self.short.frame(taken.short);
        let long = self.long.frame(taken.long);
        // A frame that was stored before one of the other ring was there when that was: so look at the first ring again.
        if short.is_none() && long.is_some() {
            short = self.short.frame(taken.short);
        }
        match (short, long) {
            (Some(short), Some(long)) if long.nanos < short.nanos => Some((long, taken.one_long())),
            (Some(short), _) => Some((short, Count { short: taken.short + 1, ..taken })),
            (None, Some(long)) => Some((long, taken.one_long())),
            (None, None) => None,
        }
    }

    /// Gives the slots of the first `taken` frames back to the kernel.
    pub(super) fn release(&mut self, taken: Count) {
        self.short.release(taken.short);
        self.long.release(taken.long);
    }

    /// Frames that were dropped before those that are there now, since the last call.
    pub(super) fn take_drops(&self) -> u64 {
        self.short.take_drops() + self.long.take_drops()
    }

    /// The same with all frames handled: also those that were dropped behind the last of them.
    pub(super) fn look_for_drops(&mut self) -> u64 {
        self.short.look_for_drops() + self.long.look_for_drops()
    }

    /// The sockets, to wait for frames.
    pub(super) fn sockets(&self) -> [std::os::fd::BorrowedFd<'_>; 2] {
        [self.short.socket(), self.long.socket()]
    }

    pub(super) const fn state(&self) -> RingState {
        let bytes = self.short.layout().bytes() + self.long.layout().bytes();
        RingState::Open { bytes: bytes as u64, reduced: self.reduced }
    }
}

impl Count {
    const fn one_long(self) -> Self {
        Self { short: self.short, long: self.long + 1 }
    }
}
