//! Composes a session out of the link, the TUN device, the outbound flows, DNS and the host's network.
//! Before: `cli::session_process`; after: `gateway_link`, `device`, `outbound`.

use std::{io, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    control::status::SessionStatus,
    session_options::{Progress, SessionError, SessionOptions},
};

/// Runs a session until `stop` is cancelled, and restores the host's network before it returns. It makes its own runtimes, so it is
/// called from a plain thread.
///
/// # Errors
/// [`SessionError`] when the session cannot start, or ends for a reason that no retry can mend.
pub fn run(
    options: &SessionOptions,
    status: &Arc<SessionStatus>,
    mut progress: impl FnMut(Progress),
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    let _ = (options, status, stop);
    progress(Progress::Connecting);
    Err(SessionError::Host { action: "start a session", source: io::ErrorKind::Unsupported.into() })
}
