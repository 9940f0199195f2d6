//! Conditions with a deadline, in place of sleeps.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// Between two looks at a condition: short beside what is waited for, long beside the cost of looking.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics with `what` when it does not within `patience`.
#[track_caller]
pub fn until(what: impl Display, patience: Duration, mut condition: impl FnMut() -> bool) {
    until_some(what, patience, || condition().then_some(()));
}

/// Waits until `look` finds something and gives that; panics with `what` when it does not within `patience`.
#[track_caller]
pub fn until_some<T>(what: impl Display, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        thread::sleep(PAUSE);
    }
}
