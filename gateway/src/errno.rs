//! What the kernel's errors mean to the session: the outcome of a dial, or why a datagram cannot arrive. Pure.

use std::io;

use link::{datagram::Unreachable, header::DialOutcome};
use nix::errno::Errno;

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Whether this process, or the whole machine, has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(errno(error), Errno::EMFILE | Errno::ENFILE)
}

/// How a dial that failed with `error` ended.
#[expect(clippy::wildcard_enum_match_arm, reason = "errno has a hundred values, of which these can be met here")]
pub(crate) fn dial_outcome(error: &io::Error) -> DialOutcome {
    match errno(error) {
        Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ECONNABORTED => DialOutcome::Refused,
        Errno::ETIMEDOUT => DialOutcome::TimedOut,
        Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EAFNOSUPPORT | Errno::ENODEV | Errno::EINVAL => {
            DialOutcome::NetworkUnreachable
        }
        Errno::EACCES | Errno::EPERM => DialOutcome::Prohibited,
        // No descriptor, port or memory left here: it says nothing about the service.
        Errno::EMFILE | Errno::ENFILE | Errno::EADDRNOTAVAIL | Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM => {
            DialOutcome::Busy
        }
        _ => DialOutcome::HostUnreachable,
    }
}

/// Why nothing arrives, if `error` says so; `None` for an error that is only this datagram's, or ours.
#[expect(clippy::wildcard_enum_match_arm, reason = "errno has a hundred values, of which these can be met here")]
pub(crate) fn unreachable(error: &io::Error) -> Option<Unreachable> {
    match errno(error) {
        Errno::ECONNREFUSED | Errno::ENOPROTOOPT => Some(Unreachable::Port),
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => Some(Unreachable::Host),
        Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EAFNOSUPPORT | Errno::ENODEV => Some(Unreachable::Network),
        Errno::EACCES | Errno::EPERM => Some(Unreachable::Prohibited),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_keeps_its_meaning() {
        for (raw, outcome) in [
            (Errno::ECONNREFUSED, DialOutcome::Refused),
            (Errno::ETIMEDOUT, DialOutcome::TimedOut),
            (Errno::EHOSTUNREACH, DialOutcome::HostUnreachable),
            (Errno::ENETUNREACH, DialOutcome::NetworkUnreachable),
            (Errno::EACCES, DialOutcome::Prohibited),
            (Errno::EMFILE, DialOutcome::Busy),
            (Errno::EADDRNOTAVAIL, DialOutcome::Busy),
        ] {
            assert_eq!(dial_outcome(&io::Error::from(raw)), outcome, "{raw}");
        }
        assert_eq!(unreachable(&io::Error::from(Errno::ECONNREFUSED)), Some(Unreachable::Port));
        assert_eq!(unreachable(&io::Error::from(Errno::EMSGSIZE)), None);
        assert_eq!(unreachable(&io::Error::other("no errno")), None);
    }
}
