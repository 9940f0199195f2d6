//! The tap: a process of its own in the target's network namespace, that copies what arrives for chosen ports and says what it could not
//! copy. It changes nothing there.
//!
//! 1. [`enter`](mod@enter): into the namespace; [`privileges`]: nothing is kept but the right to capture.
//! 2. [`capture`]: the loop. Frames come from the [`ring`], into which the kernel copies what the [`filter`] takes, on the chosen
//!    [`interfaces`].
//! 3. [`flows`]: which flow a frame belongs to, by the [`ports`] of the rules; [`fragments`], [`netstack::reassembly`] and [`udp_flows`]
//!    make it the flow's next bytes, or a gap. What is not in a sample is [`left_out`], what is not for the target itself ([`local`]) ignored. [`settling`] asks the target's [`sockets`] after a loss, and
//!    [`endings`] hears of those that go.
//! 4. [`batch`]: what is written to the gateway, through the [`stream`], as [`protocol`] says.
//!
//! It ends when its gateway does, or says nothing for [`protocol::LEASE`]. Before it in the flow: the target's packets; after:
//! `gateway::mirror`, which starts it.

mod batch;
mod capture;
mod census;
mod clock;
mod endings;
mod enter;
mod filter;
mod flows;
mod fragments;
mod interfaces;
mod left_out;
mod local;
mod netlink;
mod ports;
mod privileges;
pub mod protocol;
mod ring;
mod settling;
mod sockets;
mod stream;
mod udp_flows;
mod unplaced;

use std::{
    error::Error,
    io::{self, IoSlice},
    os::fd::AsFd,
};

use thiserror::Error;

use self::{capture::Capture, protocol::FromTap, stream::Stream};
pub use self::{
    capture::CaptureError,
    enter::{EnterError, Place},
    stream::StreamEnd,
};

/// A tap ended for another reason than that its gateway did.
#[derive(Debug, Error)]
pub enum TapError {
    /// It has nobody to speak to.
    #[error("descriptor 0 is no stream to a gateway: a gateway starts taps, by its configuration")]
    NoStream(#[source] io::Error),
    /// It is not where it should be.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// It has rights that it could not give up.
    #[error("cannot give up privileges")]
    Privileges(#[source] io::Error),
    /// It could not go on.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

impl TapError {
    /// Whether the user's privileges are what is missing.
    pub const fn is_privilege(&self) -> bool {
        matches!(self, Self::Enter(error) if error.is_privilege())
    }
}

/// Copies what arrives at `place` to the gateway at descriptor 0, until that ends it. Needs a process of its own with one thread: it leaves
/// the namespace, closes descriptors and gives up rights.
///
/// # Errors
/// [`TapError`]; the gateway has been told.
pub fn run(place: &Place) -> Result<(), TapError> {
    privileges::close_inherited();
    let own = |fd: io::Result<_>| fd.map_err(TapError::NoStream);
    let (input, output) = (io::stdin().as_fd().try_clone_to_owned(), io::stdout().as_fd().try_clone_to_owned());
    let mut stream = Stream::new(own(input)?, own(output)?).map_err(TapError::NoStream)?;
    let prepared = prepare(place);
    if let Err(error) = prepared {
        report(&mut stream, &error);
        return Err(error);
    }
    let mut capture = Capture::new(stream)?;
    let error = capture.run();
    if matches!(error, CaptureError::Stream(StreamEnd::Closed | StreamEnd::Silent)) {
        tracing::debug!(reason = %error, "the tap ends");
        return Ok(());
    }
    let error = error.into();
    report(capture.stream(), &error);
    Err(error)
}

fn prepare(place: &Place) -> Result<(), TapError> {
    enter::enter(place)?;
    privileges::give_up().map_err(TapError::Privileges)
}

/// Tells the gateway, if it is there to hear it.
fn report(stream: &mut Stream, error: &TapError) {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason.push_str(&format!(": {error}"));
        source = error.source();
    }
    let record = FromTap::Failed { reason }.record();
    if let Err(end) = stream.write(&mut [IoSlice::new(&record)]) {
        tracing::debug!(%end, "nobody hears why the tap ends");
    }
}
