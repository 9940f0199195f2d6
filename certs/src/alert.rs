//! What a TLS alert means to the person who sees it: a handshake failure names what to do next.

/// Which side said the alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This machine: it does not trust the gateway.
    Session,
    /// The gateway: it does not trust this machine's identity.
    Gateway,
}

const BAD_CERTIFICATE: u8 = 42;
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const DECRYPT_ERROR: u8 = 51;
const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Why `side` broke off the handshake and what helps, for an alert (RFC 8446, 6.2) that is about trust; `None` for any other.
///
/// QUIC carries the alert as its error code `0x100 + alert`.
pub const fn explain_alert(alert: u8, side: Side) -> Option<&'static str> {
    Some(match (alert, side) {
        (NO_APPLICATION_PROTOCOL, _) => "what answers there is no adit gateway: check the address",
        (UNKNOWN_CA, Side::Session) | (BAD_CERTIFICATE | CERTIFICATE_UNKNOWN | DECRYPT_ERROR, Side::Session) => {
            "the gateway is not the one that issued this identity: check the address, or ask for an identity of this gateway"
        }
        (CERTIFICATE_EXPIRED, Side::Session) => {
            "the gateway's certificate is not valid at this time: check this machine's clock"
        }
        (CERTIFICATE_EXPIRED, Side::Gateway) => "the identity has expired, by the gateway's clock: ask for a new one",
        (UNKNOWN_CA | BAD_CERTIFICATE | CERTIFICATE_UNKNOWN | DECRYPT_ERROR, Side::Gateway) => {
            "the identity was not issued by this gateway: ask for one with 'adit-gateway identity issue'"
        }
        (CERTIFICATE_REQUIRED, Side::Gateway) => "the gateway wants an identity: pass --identity FILE",
        (CERTIFICATE_REVOKED, Side::Gateway) => "the identity was revoked: ask for a new one",
        (UNSUPPORTED_CERTIFICATE, Side::Gateway) => "the file is no identity for a session: ask for one",
        _ => return None,
    })
}
