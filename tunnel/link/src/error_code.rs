//! The QUIC application error codes: what a close, a reset or a stop means to the other side.

use quinn::VarInt;

/// Why a connection was closed. The reason text beside it is for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum CloseCode {
    /// The session left, or the gateway has nothing against coming back.
    Done = 0,
    /// The gateway drains: connect again, to whoever answers next.
    Draining = 1,
    /// The versions are a major apart; the reason says which side to upgrade.
    Version = 2,
    /// The peer broke the protocol; the reason says how.
    Protocol = 3,
    /// The identity may not have a session here, or no longer; the reason names what is missing.
    Forbidden = 4,
    /// The certificate ended while the session lived.
    Expired = 5,
    /// The gateway, or the identity at it, has all the sessions it may have; the reason names the limit.
    Busy = 6,
    /// Another carrier or address won the race.
    Replaced = 7,
}

impl CloseCode {
    /// The code as QUIC carries it.
    pub const fn wire(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// What a peer's code means, `None` for one of a later version.
    pub fn from_wire(code: VarInt) -> Option<Self> {
        [
            Self::Done,
            Self::Draining,
            Self::Version,
            Self::Protocol,
            Self::Forbidden,
            Self::Expired,
            Self::Busy,
            Self::Replaced,
        ]
        .into_iter()
        .find(|known| known.wire() == code)
    }

    /// Whether connecting again with nothing changed can succeed.
    pub const fn is_worth_a_retry(self) -> bool {
        match self {
            Self::Done | Self::Draining | Self::Busy | Self::Protocol | Self::Replaced => true,
            Self::Version | Self::Forbidden | Self::Expired => false,
        }
    }
}

/// A TCP reset carried over: RESET_STREAM by the side whose socket was reset, STOP_SENDING towards the other.
pub const FLOW_RESET: VarInt = VarInt::from_u32(0x10);
/// A stream that was refused for its header, its size or its kind.
pub const STREAM_MALFORMED: VarInt = VarInt::from_u32(0x11);
/// A stream above the session's limits.
pub const STREAM_LIMIT: VarInt = VarInt::from_u32(0x12);
/// A mirrored flow whose rule is off: what was under way is not sent any more.
pub const MIRROR_ENDED: VarInt = VarInt::from_u32(0x14);
/// A DNS query that the gateway could not get answered.
pub const DNS_FAILED: VarInt = VarInt::from_u32(0x13);
