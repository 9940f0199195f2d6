//! The labels by which [`super::Metrics`] tells counts apart, each a closed set of values.

use link::{header::DialOutcome, rules::LossReason};

/// A closed set of values of one label.
pub(crate) trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value; the position of each is its discriminant.
    const ALL: &'static [Self];
    /// The value as text.
    fn text(self) -> &'static str;
    /// The position in [`Self::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident, $label:literal: $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant),+ }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// What became of a peer that proved its certificate.
    Arrival, "outcome":
    Welcomed = "welcomed",
    /// It closed before it said hello: the other carrier won its race.
    Left = "left",
    Busy = "busy",
    /// Its identity has all the sessions it may have.
    IdentityBusy = "identity_busy",
    Forbidden = "forbidden",
    Version = "version",
    Protocol = "protocol",
}

labels! {
    /// How a dial ended; the first seven are the link's outcomes in their order.
    Dial, "outcome":
    Connected = "connected",
    Refused = "refused",
    TimedOut = "timed_out",
    HostUnreachable = "host_unreachable",
    NetworkUnreachable = "network_unreachable",
    Prohibited = "prohibited",
    Busy = "busy",
    /// This process has no descriptor left; the session is told that the gateway is busy.
    NoDescriptor = "no_descriptor",
    /// The session gave up first.
    Abandoned = "abandoned",
}

labels! {
    /// Why a stream was refused before it was anything.
    RefusedStream, "reason":
    Limit = "limit",
    Malformed = "malformed",
    /// Its header did not come in time.
    Slow = "slow",
}

labels! {
    /// What became of a DNS query.
    Dns, "outcome":
    Answered = "answered",
    Failed = "failed",
    Malformed = "malformed",
    Limit = "limit",
    Prohibited = "prohibited",
}

labels! {
    /// What became of a configuration that was read again.
    Reload, "outcome":
    Applied = "applied",
    Failed = "failed",
}

labels! {
    /// What became of an echo request.
    Echo, "outcome":
    Answered = "answered",
    Unreachable = "unreachable",
    Limit = "limit",
}

labels! {
    /// Why a datagram went no further.
    Dropped, "reason":
    Malformed = "malformed",
    /// On a stream that did not end in time, or was too long.
    BadStream = "bad_stream",
    Prohibited = "prohibited",
    /// The kernel's queue towards the cluster was full.
    Blocked = "blocked",
    /// The kernel refused this one datagram.
    Refused = "refused",
    /// This process has no descriptor left for a new flow.
    NoDescriptor = "no_descriptor",
    /// Too many large answers were under way to the session.
    Limit = "limit",
}

labels! {
    /// Why something that was to be mirrored was not; in the order of [`link::rules::LossReason`].
    Unmirrored, "reason":
    Ring = "ring",
    Reassembly = "reassembly",
    Lag = "lag",
    Sample = "sample",
    Rate = "rate",
    Existing = "existing",
    Absent = "absent",
    Unknown = "unknown",
}

impl Dial {
    /// What the session is told.
    pub(crate) const fn outcome(self) -> DialOutcome {
        match self {
            Self::Connected => DialOutcome::Connected,
            Self::Refused => DialOutcome::Refused,
            Self::TimedOut => DialOutcome::TimedOut,
            Self::HostUnreachable => DialOutcome::HostUnreachable,
            Self::NetworkUnreachable => DialOutcome::NetworkUnreachable,
            Self::Prohibited => DialOutcome::Prohibited,
            Self::Busy | Self::NoDescriptor | Self::Abandoned => DialOutcome::Busy,
        }
    }
}

impl From<DialOutcome> for Dial {
    fn from(outcome: DialOutcome) -> Self {
        Self::ALL[outcome as usize]
    }
}

impl From<LossReason> for Unmirrored {
    fn from(reason: LossReason) -> Self {
        Self::ALL.get(reason as usize).copied().unwrap_or(Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_link_keeps_its_name() {
        for byte in 0..=7 {
            let reason = LossReason::from(byte);
            assert_eq!(format!("{:?}", Unmirrored::from(reason)), format!("{reason:?}"));
        }
    }

    #[test]
    fn every_outcome_of_the_link_keeps_its_name() {
        for byte in 0..=6 {
            let outcome = DialOutcome::try_from(byte).unwrap();
            let name = format!("{outcome:?}");
            assert_eq!(format!("{:?}", Dial::from(outcome)), name);
            assert_eq!(Dial::from(outcome).outcome(), outcome);
        }
    }
}
