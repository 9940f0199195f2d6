//! [`Explain`]: what a failed attempt means for the person who waits: which error of the session, in which words.
//! Before: [`super::attempt`]; after: `cli`, which prints it, and the status. Pure.

use std::io;

use certs::Side;
use link::{dial::DialError, error_code::CloseCode, printable::printable};
use quinn::{ConnectionError, TransportErrorCode};

use super::WORDS_CHARS;
use crate::session_options::{GatewayAddress, SessionError};

/// Words failures of attempts at this gateway.
pub(super) struct Explain<'a>(pub(super) &'a GatewayAddress);

impl Explain<'_> {
    pub(super) fn unreachable(&self, reason: String) -> SessionError {
        SessionError::Unreachable { gateway: self.0.clone(), reason: printable(&reason, WORDS_CHARS) }
    }

    pub(super) fn foreign(&self, reason: String) -> SessionError {
        SessionError::Foreign { gateway: self.0.clone(), reason: printable(&reason, WORDS_CHARS) }
    }

    /// Why there is no link.
    pub(super) fn dial(&self, error: DialError) -> SessionError {
        match error {
            DialError::Refused { .. } | DialError::NoAnswer { .. } | DialError::HungUp { .. } => {
                self.unreachable(error.to_string())
            }
            DialError::Unreachable { ref source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                SessionError::Privilege { action: "mark the link's own packets" }
            }
            DialError::Unreachable { ref source, .. } => self.unreachable(format!("{error}: {source}")),
            DialError::NotAGateway { .. } => self.foreign(error.to_string()),
            DialError::Handshake { source, .. } => self.close(&source),
            DialError::Tls { .. } => self.foreign(error.to_string()),
        }
    }

    /// What the end of a connection that was never welcomed means.
    pub(super) fn close(&self, reason: &ConnectionError) -> SessionError {
        match reason {
            ConnectionError::ApplicationClosed(close) => {
                let words = printable(&String::from_utf8_lossy(&close.reason), WORDS_CHARS);
                match CloseCode::from_wire(close.error_code) {
                    Some(CloseCode::Version) => SessionError::Version { gateway: self.0.clone(), reason: words },
                    Some(CloseCode::Forbidden | CloseCode::Expired) => {
                        SessionError::Refused { gateway: self.0.clone(), reason: words }
                    }
                    Some(CloseCode::Busy) => SessionError::Busy { gateway: self.0.clone(), reason: words },
                    Some(code) if code.is_worth_a_retry() => self.unreachable(words),
                    Some(_) | None => self.foreign(words),
                }
            }
            ConnectionError::ConnectionClosed(close) => self.alert(close.error_code, Side::Gateway, reason),
            ConnectionError::TransportError(error) => self.alert(error.code, Side::Session, reason),
            ConnectionError::TimedOut | ConnectionError::Reset | ConnectionError::LocallyClosed => {
                self.unreachable(reason.to_string())
            }
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => self.foreign(reason.to_string()),
        }
    }

    /// A TLS alert in a person's words: QUIC carries it as `0x100 + alert` (RFC 9001, 4.8).
    fn alert(&self, code: TransportErrorCode, by: Side, reason: &ConnectionError) -> SessionError {
        let alert = u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
        let gateway = self.0.clone();
        match (alert.and_then(|alert| certs::explain_alert(alert, by)), by) {
            (Some(words), Side::Gateway) => SessionError::Refused { gateway, reason: words.to_owned() },
            (Some(words), Side::Session) => SessionError::Foreign { gateway, reason: words.to_owned() },
            (None, _) => self.foreign(reason.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quinn::ApplicationClose;

    use super::*;

    #[test]
    fn a_gateway_that_is_full_is_not_told_as_one_that_cannot_be_reached() {
        let gateway: GatewayAddress = "gateway.example.com:7844".parse().unwrap();
        let reason = "alice has 16 sessions already".into();
        let close = ApplicationClose { error_code: CloseCode::Busy.wire(), reason };
        let error = Explain(&gateway).close(&ConnectionError::ApplicationClosed(close));
        assert!(matches!(error, SessionError::Busy { .. }), "{error}");
        assert!(error.to_string().contains("alice has 16 sessions"), "{error}");
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("adit quit") && !remedy.contains("port")));
    }
}
