//! One receive buffer a thread: an idle flow owns none.

use std::cell::RefCell;

/// The largest datagram, and an IP header in front of it on a raw socket.
const SCRATCH_BYTES: usize = 65_535 + 60;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Lends the buffer to `use_it`, which must not ask for it again.
pub(crate) fn with<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| use_it(scratch))
}
