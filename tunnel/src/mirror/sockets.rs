//! [`Sockets`]: how many sockets to listeners there may be, so that a session whose listeners have every descriptor they may still asks
//! nameservers, takes commands and dials gateways.
//!
//! The kernel's limit is shared out at the start: most of it to mirrored flows, the rest to everything else. All flows run on one thread.
//! Used by [`super::copy`] and [`super::datagrams`].

use std::{cell::Cell, io, rc::Rc};

use nix::sys::resource::{Resource, getrlimit};

/// Of the descriptors one in so many is kept from mirrored flows.
const KEPT_SHARE: usize = 4;
/// But at least so many, unless that is more than half: a session that does nothing has two dozen open.
const KEPT_LEAST: usize = 128;

/// The sockets of all mirrored flows.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    open: Rc<Cell<usize>>,
    most: usize,
}

/// A place for one socket; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot(Rc<Cell<usize>>);

impl Sockets {
    /// Shares out what the kernel grants this process.
    pub(super) fn of_process() -> Self {
        Self::new(limit())
    }

    pub(super) fn new(limit: usize) -> Self {
        let kept = (limit / KEPT_SHARE).max(KEPT_LEAST).min(limit / 2);
        Self { open: Rc::default(), most: limit - kept }
    }

    /// A place for one socket; a flow that gets none loses its copy, which is counted.
    pub(super) fn claim(&self) -> Option<Slot> {
        (self.open.get() < self.most).then(|| {
            self.open.set(self.open.get() + 1);
            Slot(Rc::clone(&self.open))
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// How many descriptors this process may have.
pub(super) fn limit() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Whether no descriptor was left for a socket, which says nothing about the listener.
pub(super) fn ran_out(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_leave_a_share_to_everything_else() {
        for (limit, most) in [(65_536, 49_152), (1_024, 768), (256, 128), (64, 32), (1, 1)] {
            let sockets = Sockets::new(limit);
            let slots: Vec<_> = std::iter::from_fn(|| sockets.claim()).collect();
            assert_eq!(slots.len(), most, "{limit}");
            drop(slots);
            assert!(sockets.claim().is_some());
        }
    }

    #[test]
    fn a_lack_of_descriptors_is_not_the_listeners() {
        let is_lack = [libc::EMFILE, libc::ENFILE, libc::ECONNREFUSED, libc::EHOSTUNREACH]
            .map(|error| ran_out(&io::Error::from_raw_os_error(error)));
        assert_eq!(is_lack, [true, true, false, false]);
    }
}
