//! [`Netlink`]: questions to the kernel of the namespace, and the attributes of its answers. Used by [`super::interfaces`], which asks about
//! interfaces, and by [`super::sockets`], which asks about the target's sockets.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
            socket,
            sockopt::{RcvBuf, ReceiveTimeout},
        },
        time::{TimeVal, TimeValLike},
    },
};

/// Length of `nlmsghdr`.
const HEADER_BYTES: usize = 16;
const DUMP: u16 = 0x300;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: something changed while it was read.
const INTERRUPTED: u16 = 0x10;
/// What the kernel puts into one datagram at most.
const BUFFER_BYTES: usize = 64 << 10;

/// A netlink socket of one protocol.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    /// A change was read while an answer was waited for.
    changed: bool,
}

impl Netlink {
    /// One that also hears of changes, of the multicast `groups`.
    pub(super) fn open(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // The kernel answers within the call that asks; an answer that was lost for want of room never comes.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(1))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER_BYTES], changed: false })
    }

    /// Asks for everything of a kind; `each` gets the body of each answer.
    pub(super) fn dump(&mut self, kind: u16, body: &[u8], each: impl FnMut(&[u8])) -> io::Result<()> {
        self.ask(kind, REQUEST | DUMP, body, each)
    }

    /// Asks for one thing.
    pub(super) fn one(&mut self, kind: u16, body: &[u8], each: impl FnMut(&[u8])) -> io::Result<()> {
        self.ask(kind, REQUEST, body, each)
    }

    /// Asks for everything of a kind, and reads no answer yet: that is for [`Netlink::go_on`]. Nothing else may be asked meanwhile.
    pub(super) fn begin(&mut self, kind: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, REQUEST | DUMP, body)
    }

    /// Reads as many answers as the kernel gives at once; whether those were the last.
    pub(super) fn go_on(&mut self, each: impl FnMut(&[u8])) -> io::Result<bool> {
        self.read(REQUEST | DUMP, each)
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(kind, flags, body)?;
        while !self.read(flags, &mut each)? {}
        Ok(())
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = u32::try_from(HEADER_BYTES + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut request = len.to_ne_bytes().to_vec();
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(&flags.to_ne_bytes());
        request.extend_from_slice(&self.sequence.to_ne_bytes());
        request.extend_from_slice(&[0; 4]);
        request.extend_from_slice(body);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        Ok(())
    }

    fn read(&mut self, flags: u16, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let read = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
            Err(Errno::ENOBUFS) => 0,
            read => read?,
        };
        self.changed |= read == 0;
        for message in messages(&self.buffer[..read]) {
            if message.sequence != self.sequence {
                self.changed = true;
                continue;
            }
            self.changed |= message.flags & INTERRUPTED != 0;
            match message.kind {
                DONE => return Ok(true),
                ERROR => return refusal(message.body).map(|()| true),
                _ => each(message.body),
            }
            if flags & DUMP == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What it heard since the last call, each message's body, and not what it had no room for.
    pub(super) fn hear(&mut self, mut each: impl FnMut(&[u8])) {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(read) => messages(&self.buffer[..read]).for_each(|message| each(message.body)),
                Err(Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    /// As much room as the kernel gives for what is not heard at once.
    pub(super) fn make_room(&self, bytes: usize) {
        if let Err(errno) = setsockopt(&self.socket, RcvBuf, &bytes) {
            tracing::debug!(%errno, "the kernel keeps less of what a tap does not hear at once");
        }
    }

    /// Whether something changed that it hears of, since the last call. What it missed for want of room is a change, too.
    pub(super) fn heard(&mut self) -> bool {
        let mut heard = std::mem::take(&mut self.changed);
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS) => heard = true,
                Err(_) => return heard,
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn refusal(body: &[u8]) -> io::Result<()> {
    match field::<4>(body, 0).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(field(bytes, 0)?) as usize;
        let message = Message {
            kind: u16::from_ne_bytes(field(bytes, 4)?),
            flags: u16::from_ne_bytes(field(bytes, 6)?),
            sequence: u32::from_ne_bytes(field(bytes, 8)?),
            body: bytes.get(HEADER_BYTES..len)?,
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a row: kind without flags, and value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const FLAGS: u16 = 0xc000;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(field(bytes, 0)?));
        let attribute = (u16::from_ne_bytes(field(bytes, 2)?) & !FLAGS, bytes.get(4..len)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

/// `N` bytes from `at` on.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
