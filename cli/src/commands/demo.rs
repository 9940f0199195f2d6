//! `adit demo`: moves into namespaces of its own, where nothing of the machine's network can be touched, and shows adit at work.
//! Before: [`crate::args`]; after: [`crate::demo::tour`].

use crate::{
    demo::{entry, tour},
    exit::{Exit, Failure},
};

pub(super) fn run(keep: bool) -> Result<Exit, Failure> {
    entry::enter().map_err(|error| Failure::from_error(Exit::NoPrivilege, &error))?;
    let wrong = tour::show(keep).map_err(|error| Failure::new(Exit::Failed, format!("{error:#}")))?;
    match wrong {
        0 => Ok(Exit::Done),
        1 => Err(Failure::new(Exit::Failed, "one step of the demo went wrong")),
        more => Err(Failure::new(Exit::Failed, format!("{more} steps of the demo went wrong"))),
    }
}
