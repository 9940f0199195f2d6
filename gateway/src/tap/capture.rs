//! [`Capture`]: the tap's one loop, in one thread, without a runtime.
//!
//! 1. [`Capture::handle`]: frames, a few at a time; what follows from them is written from where it lies in the ring, and only then the
//!    slots go back.
//! 2. While there are frames: again. When there are none: a nap, and look again. A capture that waits in `poll` is woken by the packet, in
//!    the sender's turn and before the target is; one that naps costs the target nothing. After [`NAPS`] naps for nothing: `poll`.
//! 3. [`Capture::look_aside`], every [`ASIDE_EVERY`]: the gateway's messages, changes of interfaces, what is due, statistics.
//!
//! The only queue is the ring: a gateway that takes nothing stops the tap, and the kernel counts what finds no room.
//! Before: [`super::privileges`]; after: [`super::flows`], [`super::stream`].

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    hash::BuildHasher,
    io,
    os::fd::AsFd,
    thread,
    time::Duration,
};

use link::rules::RuleProtocol;
use netstack::moment::Moment;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::prctl,
};
use thiserror::Error;

use super::{
    batch::Batch,
    clock::Clock,
    endings::Burials,
    flows::Flows,
    interfaces::Interfaces,
    protocol::{FromTap, ListeningPort, PROTOCOL_VERSION, STATS_EVERY, TappedPort, ToTap},
    ring::{Count, Rings, RingsError},
    settling::{Reached, Settling},
    stream::{Stream, StreamEnd},
};

/// Frames whose slots are held until what they carry is written: few, so that the kernel gets slots back in time.
const BATCH_FRAMES: usize = 64;
/// How long a frame waits at most while there is traffic; at 17 Gbit/s 0.7 MiB come meanwhile.
const NAP: Duration = Duration::from_micros(300);
/// Naps for nothing before the tap sleeps until a frame comes: 15 ms.
const NAPS: u32 = 50;
/// The kernel rounds a nap up by this, by default by 50 us.
const TIMER_SLACK_NANOS: u64 = 1_000;
const ASIDE_EVERY: Duration = Duration::from_millis(1);
/// How often to look whether somebody listens by now where nobody did.
const LISTENERS_EVERY: Duration = Duration::from_secs(5);

/// The tap cannot go on.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The work is over, or the gateway makes no sense.
    #[error(transparent)]
    Stream(#[from] StreamEnd),
    /// The kernel does not tell its interfaces.
    #[error("cannot list the target's interfaces: {0}")]
    Interfaces(io::Error),
    /// Nothing to capture into.
    #[error(transparent)]
    Rings(#[from] RingsError),
    /// The kernel does not wait.
    #[error("cannot wait for packets: {0}")]
    Wait(Errno),
}

/// Everything that a tap has.
#[derive(Debug)]
pub(super) struct Capture {
    stream: Stream,
    interfaces: Interfaces,
    rings: Rings,
    flows: Flows,
    settling: Settling,
    burials: Burials,
    /// Ports with a rule where nobody listens.
    unheard: BTreeSet<ListeningPort>,
    clock: Clock,
    /// How far the frames have been handled.
    reached: Reached,
    aside_at: Moment,
    drops_at: Moment,
    stats_at: Moment,
    listeners_at: Moment,
}

impl Capture {
    /// Looks at the namespace that the thread is in, and captures nothing yet.
    ///
    /// # Errors
    /// [`CaptureError::Interfaces`].
    pub(super) fn new(stream: Stream) -> Result<Self, CaptureError> {
        let seed = RandomState::new().hash_one(std::process::id());
        let interfaces = Interfaces::open().map_err(CaptureError::Interfaces)?;
        let mut flows = Flows::new(seed);
        flows.local.replace(interfaces.local());
        Ok(Self {
            stream,
            interfaces,
            rings: Rings::default(),
            flows,
            settling: Settling::default(),
            burials: Burials::default(),
            unheard: BTreeSet::new(),
            clock: Clock::start(),
            reached: Reached::default(),
            aside_at: Moment::ORIGIN,
            drops_at: Moment::ORIGIN,
            stats_at: Moment::ORIGIN,
            listeners_at: Moment::ORIGIN,
        })
    }

    /// Says that it is there, and copies until the gateway ends it.
    ///
    /// Returns why it ended; that the gateway is gone is one of the reasons.
    pub(super) fn run(&mut self) -> CaptureError {
        let Err(error) = self.start().and_then(|()| self.go_on());
        error
    }

    /// To say why it ended.
    pub(super) const fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    fn start(&mut self) -> Result<(), CaptureError> {
        if let Err(errno) = prctl::set_timerslack(TIMER_SLACK_NANOS) {
            tracing::debug!(%errno, "naps are longer than they should be");
        }
        let ready = FromTap::Ready { version: PROTOCOL_VERSION, interfaces: self.interfaces.names() };
        self.say(|_, batch| batch.say(&ready))
    }

    fn go_on(&mut self) -> Result<std::convert::Infallible, CaptureError> {
        let mut naps = 0;
        loop {
            let now = self.clock.now();
            if now >= self.aside_at {
                self.look_aside(now)?;
                self.aside_at = now + ASIDE_EVERY;
            }
            if self.handle(now)? > 0 {
                naps = NAPS;
                continue;
            }
            self.settle(now)?;
            if naps > 0 {
                naps -= 1;
                thread::sleep(NAP);
            } else {
                self.wait()?;
                self.aside_at = Moment::ORIGIN;
            }
        }
    }

    /// Handles the frames that are there at `now`, [`BATCH_FRAMES`] at most; how many.
    fn handle(&mut self, now: Moment) -> Result<usize, CaptureError> {
        let Self { rings, flows, stream, reached, clock, .. } = self;
        let mut taken = Count::default();
        let mut batch = Batch::with_capacity(BATCH_FRAMES);
        while taken.sum() < BATCH_FRAMES {
            let Some((frame, next)) = rings.frame(taken) else { break };
            if frame.after_loss {
                // None are counted where the look before an earlier frame counted them, too; they were lost here all the same.
                flows.lost(frame.protocol, rings.take_drops(frame.protocol));
            }
            let came = clock.of_frame(frame.nanos);
            flows.frame(&frame, came, &mut batch);
            reached.nanos = frame.nanos;
            reached.moment = reached.moment.max(came.min(now));
            taken = next;
        }
        if taken.sum() < BATCH_FRAMES {
            reached.moment = now;
        }
        reached.none_left = taken.sum() == 0;
        if !batch.is_empty() {
            stream.write(&mut batch.slices())?;
        }
        drop(batch);
        rings.release(taken);
        Ok(taken.sum())
    }

    /// With every frame handled: what was dropped behind the last of them, and the answers of the target's sockets.
    fn settle(&mut self, now: Moment) -> Result<(), CaptureError> {
        if now >= self.drops_at {
            self.drops_at = now + ASIDE_EVERY;
            for protocol in [RuleProtocol::Tcp, RuleProtocol::Udp] {
                let drops = self.rings.look_for_drops(protocol);
                if drops > 0 {
                    self.flows.lost(protocol, drops);
                }
            }
        }
        self.hand_in_answers(now)
    }

    fn hand_in_answers(&mut self, now: Moment) -> Result<(), CaptureError> {
        self.say(|this, batch| {
            this.burials.settle(&mut this.flows, this.reached, batch);
            this.settling.settle(&mut this.flows, this.reached, now, batch);
        })
    }

    fn look_aside(&mut self, now: Moment) -> Result<(), CaptureError> {
        self.stream.listen()?;
        while let Some(message) = self.stream.take() {
            match message {
                ToTap::Rules { generation, ports } => self.apply(generation, &ports)?,
                ToTap::Alive | ToTap::Unknown => {}
            }
        }
        self.follow_interfaces(now)?;
        self.hand_in_answers(now)?;
        // A tap that was held up has missed nothing by that: what comes in time is in the ring.
        let reached = self.reached.moment;
        if self.flows.poll_at().is_some_and(|due| reached >= due) {
            self.say(|this, batch| this.flows.timeout(reached, batch))?;
        }
        self.burials.hear(&self.flows, now);
        self.settling.ask(&mut self.flows, &self.interfaces.indexes(), now);
        if !self.unheard.is_empty() && now >= self.listeners_at {
            self.look_for_listeners(now);
        }
        if now >= self.stats_at {
            self.stats_at = now + STATS_EVERY;
            self.say(|this, batch| batch.say(&this.stats()))?;
        }
        Ok(())
    }

    /// Takes over rules. What is off is dropped from here on, also what is in the rings already.
    fn apply(&mut self, generation: u64, ports: &[TappedPort]) -> Result<(), CaptureError> {
        self.say(|this, batch| this.flows.apply(ports, batch))?;
        let wanted = self.flows.ports.wanted(self.interfaces.indexes());
        self.rings.want(&wanted)?;
        self.settling.begin(&mut self.flows);
        let now = self.clock.now();
        self.look_for_listeners(now);
        let ring = self.rings.state();
        let nobody_listens = self.unheard.iter().copied().collect();
        tracing::debug!(generation, ports = ports.len(), ?ring, "rules in force");
        self.say(|_, batch| batch.say(&FromTap::RulesApplied { generation, ring, nobody_listens }))
    }

    fn follow_interfaces(&mut self, now: Moment) -> Result<(), CaptureError> {
        if self.interfaces.refresh(now) {
            self.flows.local.replace(self.interfaces.local());
            let wanted = self.flows.ports.wanted(self.interfaces.indexes());
            self.rings.want(&wanted)?;
        }
        Ok(())
    }

    fn look_for_listeners(&mut self, now: Moment) {
        let ports: Vec<ListeningPort> = self.flows.ports.iter().collect();
        self.unheard = self.settling.unheard(&ports);
        self.listeners_at = now + LISTENERS_EVERY;
    }

    fn stats(&self) -> FromTap {
        let mut stats = self.flows.stats();
        for port in &mut stats.ports {
            port.nobody_listens = self.unheard.contains(&ListeningPort { port: port.port, protocol: port.protocol });
        }
        FromTap::Stats(stats)
    }

    /// Writes what `fill` has to say.
    fn say(&mut self, fill: impl FnOnce(&mut Self, &mut Batch<'static>)) -> Result<(), CaptureError> {
        let mut batch = Batch::default();
        fill(self, &mut batch);
        if !batch.is_empty() {
            self.stream.write(&mut batch.slices())?;
        }
        Ok(())
    }

    /// Sleeps until a frame or a message comes, or something is due.
    fn wait(&mut self) -> Result<(), CaptureError> {
        let now = self.clock.now();
        let due = [
            self.flows.poll_at(),
            self.settling.poll_at(&self.flows),
            self.interfaces.poll_at(),
            self.burials.poll_at(now),
            Some(self.stats_at),
        ]
        .into_iter()
        .flatten()
        .min();
        // Up to the next millisecond, so that it is due then.
        let pause = due.map_or(STATS_EVERY, |due| due.since(now)) + Duration::from_micros(999);
        let timeout = PollTimeout::try_from(pause.min(STATS_EVERY)).expect("a second at most");
        let sockets = [self.stream.as_fd(), self.interfaces.as_fd()].into_iter().chain(self.rings.sockets());
        let mut sockets: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
        match poll(&mut sockets, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(CaptureError::Wait(errno)),
        }
    }
}
