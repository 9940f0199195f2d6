//! [`Case`]: what becomes of those behind the tap while the target's client measures. Before: [`super::harm`]; after: [`super::scene`].

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::report::Bar;

/// What goes on while the target's client measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// A listener that reads.
    Whole,
    /// A listener that is stopped.
    ListenerStopped,
    /// A session that is stopped.
    SessionStopped,
    /// The tap reads, and its gateway throws away: what a target costs that is mirrored from elsewhere.
    Elsewhere,
    /// A gateway that was killed.
    GatewayKilled,
    /// A gateway that is stopped.
    GatewayStopped,
    /// A tap that is killed whenever it is there.
    TapKilled,
    /// A tap that is stopped.
    TapStopped,
    /// A rule for a port that nobody talks to.
    OtherPort,
}

impl Case {
    pub(super) const ALL: [Self; 9] = [
        Self::Whole,
        Self::ListenerStopped,
        Self::SessionStopped,
        Self::Elsewhere,
        Self::GatewayKilled,
        Self::GatewayStopped,
        Self::TapKilled,
        Self::TapStopped,
        Self::OtherPort,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole way",
            Self::ListenerStopped => "listener stopped",
            Self::SessionStopped => "session stopped",
            Self::Elsewhere => "tap alone",
            Self::GatewayKilled => "gateway killed",
            Self::GatewayStopped => "gateway stopped",
            Self::TapKilled => "tap killed",
            Self::TapStopped => "tap stopped",
            Self::OtherPort => "other port",
        }
    }

    /// What is asked of the target's top rate, where all share two cores.
    pub(super) const fn top_bar(self) -> Bar {
        match self {
            Self::Whole | Self::ListenerStopped | Self::SessionStopped => Bar::None,
            Self::Elsewhere => Bar::AtLeast(0.75),
            Self::GatewayKilled | Self::GatewayStopped | Self::TapKilled | Self::TapStopped | Self::OtherPort => {
                Bar::AtLeast(0.95)
            }
        }
    }
}

/// A process that can be stopped for a while, or ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stoppable(Pid);

impl Stoppable {
    pub(super) fn new(pid: u32) -> Self {
        Self(Pid::from_raw(pid.cast_signed()))
    }

    pub(super) fn stop(self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(super) fn go_on(self) {
        self.signal(Signal::SIGCONT);
    }

    pub(super) fn kill(self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(self, signal: Signal) {
        // One that has ended takes none, which the measurement shows.
        let _ = kill(self.0, signal);
    }
}
