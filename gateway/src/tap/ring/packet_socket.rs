//! [`PacketSocket`]: the calls of an `AF_PACKET` socket that no safe wrapper has. Used by [`super::slots`].

#![expect(unsafe_code, reason = "socket options that nix does not know, and the bind of a packet socket")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::{c_int, c_void, socklen_t};

use super::Layout;

/// `TPACKET_V2` and `PACKET_VNET_HDR` of linux/if_packet.h.
const TPACKET_V2: c_int = 1;
const VNET_HEADER: c_int = 15;

/// What a socket sees of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// From the IP header on.
    Network,
    /// From the link's header on, and before that a header of virtio, which says of what lengths a frame is made.
    Segments,
}

/// A socket that sees frames once [`PacketSocket::start`] was called.
#[derive(Debug)]
pub(super) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Sees nothing yet.
    pub(super) fn open(view: View) -> io::Result<Self> {
        let kind = match view {
            View::Network => libc::SOCK_DGRAM,
            View::Segments => libc::SOCK_RAW,
        };
        let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; protocol 0 receives nothing.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave it to us and to nobody else.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // Before Linux 4.20 it does not exist. The filter leaves out what goes out as well.
        let _ = socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32);
        if view == View::Segments {
            socket.set(libc::SOL_PACKET, VNET_HEADER, &1_i32)?;
        }
        Ok(socket)
    }

    /// Makes the ring that [`super::slots`] maps.
    pub(super) fn make_ring(&self, layout: Layout) -> io::Result<()> {
        let number = |value: usize| u32::try_from(value).expect("a layout is far below 4 GiB");
        let request = libc::tpacket_req {
            tp_block_size: number(layout.block_bytes),
            tp_block_nr: number(layout.blocks),
            tp_frame_size: number(layout.slot_bytes),
            tp_frame_nr: number(layout.slots()),
        };
        self.set(libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V2)?;
        self.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
    }

    /// Replaces the filter at one stroke.
    pub(super) fn attach(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        let len = u16::try_from(program.len()).expect("the kernel takes 4,096 instructions, and programs have fewer");
        let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Begins to see the frames of every interface in the namespace.
    pub(super) fn start(&self) -> io::Result<()> {
        // SAFETY: all bytes zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: the pointer is to a live sockaddr_ll, and the length is its own.
        let bound =
            unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), len_of::<libc::sockaddr_ll>()) };
        if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Frames that found no slot, since the last call.
    pub(super) fn drops(&self) -> u64 {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = len_of::<libc::tpacket_stats>();
        // SAFETY: both pointers are to live values, and the kernel writes `len` bytes at most.
        let read = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut len,
            )
        };
        if read == 0 { statistics.tp_drops.into() } else { 0 }
    }

    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let value: *const T = value;
        // SAFETY: the pointer is to a live value of that length; what it points to itself (a filter) lives as long as the call.
        let set = unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, value.cast::<c_void>(), len_of::<T>()) };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn len_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("options are small")
}
