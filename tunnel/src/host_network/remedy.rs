//! What a user can do when the kernel refuses: by what was tried and by errno. Pure but for a look at who runs the process.
//! Before: [`super::HostError`], [`crate::session_options::SessionError`]; after: `cli`, which prints it.

use std::io;

use nix::{errno::Errno, unistd::geteuid};

use super::HostError;

impl HostError {
    /// What the user can do about it, where the text does not say so itself.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NotPermitted { .. } if geteuid().is_root() => Some(FORBIDDEN_TO_ROOT.to_owned()),
            Self::NotPermitted { .. } | Self::NoTunDevice(_) | Self::Unsupported { .. } | Self::TooManySessions => None,
            Self::DeviceGone { .. } => Some(DEVICE_GONE.to_owned()),
            Self::Refused { source, .. } => Some(of_errno(source).unwrap_or(LOOK).to_owned()),
            Self::Netlink(source) => Some(of_errno(source).unwrap_or(NO_NETLINK).to_owned()),
        }
    }
}

const FORBIDDEN_TO_ROOT: &str = "a container needs --cap-add NET_ADMIN; outside one, a security policy forbids it to root too (seccomp, \
                                 AppArmor, SELinux: see dmesg)";
const FORBIDDEN: &str = "run it as root (sudo adit connect ...), or with CAP_NET_ADMIN; if it is, a security policy forbids it (seccomp, \
                         AppArmor, SELinux: see dmesg)";
const DEVICE_GONE: &str =
    "connect again; if it goes again, find out what removes network devices here (NetworkManager, a container runtime)";
const LOOK: &str = "compare 'ip rule' and 'ip route show table all' with what was to be changed, and see dmesg";
const NO_NETLINK: &str = "use a kernel with NETLINK_ROUTE: some sandboxes (gVisor) have little of it";

/// The remedy for a refusal whose errno tells enough.
pub(crate) fn of_errno(error: &io::Error) -> Option<&'static str> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "errno has a hundred values, of which these have a remedy")]
    Some(match Errno::from_raw(error.raw_os_error()?) {
        Errno::EPERM | Errno::EACCES => FORBIDDEN,
        Errno::ENOSYS => {
            "the kernel, or a sandbox around this process (seccomp, gVisor), has no such call: run it outside of it"
        }
        Errno::ENOMEM | Errno::ENOBUFS => "free memory, or raise the memory limit of this container",
        Errno::ENOSPC => {
            "a limit of the kernel is reached: raise net.ipv6.route.max_size or fs.epoll.max_user_watches (sysctl), or free space"
        }
        Errno::EMFILE | Errno::ENFILE => {
            "raise the limit of open files (ulimit -n; for the machine, sysctl fs.file-max), or end what holds them"
        }
        Errno::EEXIST => {
            "something else has the same rule or route: find it with 'ip rule' and 'ip route show table all', and remove it"
        }
        Errno::EBUSY => {
            "another program holds the device or its name: end it, or delete the device (ip link del adit0)"
        }
        Errno::ENODEV | Errno::ENXIO | Errno::EBADFD | Errno::EFAULT => DEVICE_GONE,
        Errno::ENETDOWN | Errno::EIO => "something has set the device down: connect again, and find out what does",
        Errno::EINVAL | Errno::ENOTTY | Errno::EOPNOTSUPP => {
            "this kernel is too old or lacks a part of TUN: use Linux 5.4 or later"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_that_a_user_can_mend_has_its_remedy() {
        for (errno, word) in [
            (Errno::ENOSPC, "sysctl"),
            (Errno::ENOMEM, "memory"),
            (Errno::EMFILE, "ulimit -n"),
            (Errno::EBUSY, "ip link del"),
            (Errno::EEXIST, "ip rule"),
            (Errno::EPERM, "AppArmor"),
            (Errno::ENOSYS, "seccomp"),
        ] {
            let refused = HostError::Refused { action: "add a route".to_owned(), source: errno.into() };
            let remedy = refused.remedy().unwrap();
            assert!(remedy.contains(word), "{errno}: {remedy}");
        }
    }

    #[test]
    fn a_refusal_without_a_known_reason_says_where_to_look() {
        for error in [
            HostError::Refused { action: "add a route".to_owned(), source: Errno::EDOM.into() },
            HostError::Netlink(io::Error::other("no errno")),
            HostError::DeviceGone { action: "set it up".to_owned(), source: Errno::ENODEV.into() },
        ] {
            assert!(error.remedy().is_some(), "{error}");
        }
    }
}
