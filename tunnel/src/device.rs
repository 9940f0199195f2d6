//! The TUN device: made, read and written here, one packet a call, each behind its 10-byte `virtio_net_hdr`.
//!
//! MTU 65,535 and checksums left to the kernel: TCP ends in our own stack, so no link bounds a packet, and a bulk flow crosses
//! the device in a tenth of the calls. Segmentation offload stays off: a packet is never larger than the MTU. The device is not
//! persistent, so it ends with the process, whatever ends that, and takes its addresses and routes with it.
//! Before: the kernel; after: [`crate::outbound`], and back.

#![expect(unsafe_code, reason = "a TUN device is made by ioctl, and no safe wrapper leaves the virtio header in place")]

use std::{
    ffi::CStr,
    fs::OpenOptions,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::{errno::Errno, libc};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

/// The largest IP packet.
pub const MTU: u16 = u16::MAX;

const DEVICE_FILE: &str = "/dev/net/tun";
/// `TUN_F_CSUM` of linux/if_tun.h: packets may arrive with unfinished checksums.
const TUN_F_CSUM: libc::c_uint = 1;

mod ioctl {
    use nix::libc;

    nix::ioctl_write_ptr_bad!(tun_set_interface, libc::TUNSETIFF, libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_offload, libc::TUNSETOFFLOAD);
    nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, libc::ifreq);
    nix::ioctl_readwrite_bad!(interface_index, libc::SIOCGIFINDEX, libc::ifreq);
}

/// Why there is no device.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The kernel has no TUN driver, or the container no device file.
    #[error("{DEVICE_FILE} is missing")]
    Missing,
    /// The process has no `CAP_NET_ADMIN`, or may not open the device file.
    #[error("this process may not make a TUN device")]
    Forbidden,
    /// Anything else that the kernel said.
    #[error("cannot {action}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A TUN device of ours.
#[derive(Debug)]
pub struct Device {
    file: AsyncFd<std::fs::File>,
    name: String,
    index: u32,
}

impl Device {
    /// Makes a device called `adit0`, or with the next free number, with [`MTU`] and without addresses, down. Must be called inside
    /// a tokio runtime.
    ///
    /// # Errors
    /// [`DeviceError`] as its variants say; nothing is left behind.
    pub fn make() -> Result<Self, DeviceError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE_FILE)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => DeviceError::Missing,
                Some(libc::EACCES | libc::EPERM) => DeviceError::Forbidden,
                _ => DeviceError::Failed { action: "open /dev/net/tun", source: error },
            })?;
        let mut request = empty_request();
        for (to, from) in request.ifr_name.iter_mut().zip(c"adit%d".to_bytes()) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("the three flags fit 15 bits");
        // SAFETY: `request` is a whole `ifreq` that outlives the call, and the descriptor is open.
        unsafe { ioctl::tun_set_interface(file.as_raw_fd(), &raw const request) }.map_err(|errno| {
            if errno == Errno::EPERM {
                return DeviceError::Forbidden;
            }
            DeviceError::Failed { action: "make a TUN device", source: errno.into() }
        })?;
        // The kernel wrote the number into the name.
        let (name, index) = configure(&file, request)?;
        let failed = |source| DeviceError::Failed { action: "watch the TUN device", source };
        Ok(Self { file: register(file).map_err(failed)?, name, index })
    }

    /// The device's name, such as `adit0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's number of the device.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Waits for a packet, or for the device's end: one that somebody deletes is in error, but not readable.
    ///
    /// # Errors
    /// The device is gone.
    pub async fn readable(&self) -> io::Result<()> {
        self.file.ready(Interest::READABLE | Interest::ERROR).await.map(|mut guard| guard.retain_ready())
    }

    /// Reads one packet behind its virtio header; `WouldBlock` when none waits.
    ///
    /// # Errors
    /// The device is gone.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut when = |ready| self.file.try_io(ready, |mut file| file.read(buffer));
        match when(Interest::READABLE) {
            // Only the second tells of a device that is gone, and neither asks the kernel unless its readiness is there.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => when(Interest::ERROR),
            read => read,
        }
    }

    /// Writes one packet behind its virtio header; the kernel takes it all the way to the reading socket.
    ///
    /// # Errors
    /// `EIO` while the device is down, `EINVAL` for what is no packet.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        self.file.get_ref().write(packet).map(|_| ())
    }
}

/// Sets offload and MTU; returns name and index. The queue's length is set with the addresses: this way it would need a privilege on the
/// whole machine.
fn configure(file: &std::fs::File, mut request: libc::ifreq) -> Result<(String, u32), DeviceError> {
    let failed = |action| move |errno: Errno| DeviceError::Failed { action, source: errno.into() };
    // SAFETY: the argument is an integer, and the descriptor an attached TUN device.
    unsafe { ioctl::tun_set_offload(file.as_raw_fd(), TUN_F_CSUM.cast_signed()) }
        .map_err(failed("leave checksums to the kernel on the TUN device"))?;
    let socket = any_socket().map_err(failed("open a socket to configure the TUN device"))?;
    request.ifr_ifru.ifru_mtu = libc::c_int::from(MTU);
    // SAFETY: `request` is a whole `ifreq` with a terminated name; the same holds for the call below.
    unsafe { ioctl::set_mtu(socket.as_raw_fd(), &raw const request) }
        .map_err(failed("set the TUN device's MTU to 65535"))?;
    // SAFETY: as above, and the kernel writes an integer into it.
    unsafe { ioctl::interface_index(socket.as_raw_fd(), &raw mut request) }
        .map_err(failed("look up the TUN device's index"))?;
    // SAFETY: the kernel wrote this member of the union, and terminated the name.
    let (index, name) = unsafe { (request.ifr_ifru.ifru_ifindex, CStr::from_ptr(request.ifr_name.as_ptr())) };
    Ok((name.to_string_lossy().into_owned(), index.unsigned_abs()))
}

fn any_socket() -> nix::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

fn empty_request() -> libc::ifreq {
    // SAFETY: `ifreq` is plain data for which all zeros is an empty name and an empty argument.
    unsafe { std::mem::zeroed() }
}

fn register(file: std::fs::File) -> io::Result<AsyncFd<std::fs::File>> {
    // SAFETY: a `File` keeps its one descriptor open until it is dropped, and the `AsyncFd` owns it from here on.
    unsafe { AsyncFd::register(file) }.map_err(io::Error::from)
}
