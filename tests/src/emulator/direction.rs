//! The thread that carries one direction.
//!
//! Before it in the flow: a [`Tun`] of the sender. After it: [`super::pipe`], and the receiver's [`Tun`].

use std::{
    fs,
    io::{self, PipeReader, PipeWriter},
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::{prctl::set_timerslack, time::TimeSpec},
    unistd::{Pid, gettid},
};

use super::{
    conditions::Conditions,
    pipe::{Counters, Pipe},
    tun::Tun,
    would_block,
};

/// Packets read before departures are looked at again: 0.8 ms of 1 Gbit/s, and few enough not to delay what is due.
const BATCH_PACKETS: usize = 64;
/// The largest packet of a device.
const PACKET_BYTES: usize = 65_536;

/// Carries packets until it is dropped.
#[derive(Debug)]
pub(super) struct Direction {
    pipe: Arc<Mutex<Pipe>>,
    thread_id: Arc<OnceLock<Pid>>,
    thread: Option<JoinHandle<()>>,
    // Closing it wakes the thread for the last time.
    stop: Option<PipeWriter>,
}

impl Direction {
    pub(super) fn start(name: &str, from: &Tun, to: &Tun, conditions: Conditions, seed: u64) -> io::Result<Self> {
        let pipe = Arc::new(Mutex::new(Pipe::new(conditions, seed, Instant::now())));
        let (stopped, stop) = io::pipe()?;
        let carrier = Carrier { from: from.try_clone()?, to: to.try_clone()?, pipe: Arc::clone(&pipe), stopped };
        let thread_id = Arc::new(OnceLock::new());
        let known = Arc::clone(&thread_id);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Set once, here.
            let _ = known.set(gettid());
            carrier.run();
        })?;
        Ok(Self { pipe, thread_id, thread: Some(thread), stop: Some(stop) })
    }

    pub(super) fn set(&self, conditions: Conditions) {
        lock(&self.pipe).set(conditions);
    }

    pub(super) fn blackout(&self, cut: bool) {
        lock(&self.pipe).set_blackout(cut);
    }

    pub(super) fn counters(&self) -> Counters {
        lock(&self.pipe).counters()
    }

    /// Time the thread has been on a CPU.
    pub(super) fn cpu(&self) -> Duration {
        let path = self.thread_id.get().map(|id| format!("/proc/self/task/{id}/schedstat"));
        let text = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
        nanoseconds.map_or(Duration::ZERO, Duration::from_nanos)
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by it.
            let _ = thread.join();
        }
    }
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Carrier {
    from: Tun,
    to: Tun,
    pipe: Arc<Mutex<Pipe>>,
    stopped: PipeReader,
}

impl Carrier {
    fn run(self) {
        // Departures are microseconds apart; the default slack of 50 would be felt. A machine without it is less exact.
        let _ = set_timerslack(1);
        let mut packet = vec![0; PACKET_BYTES];
        loop {
            let (read, next) = {
                let mut pipe = lock(&self.pipe);
                let read = self.read_batch(&mut pipe, &mut packet);
                // A packet that the receiver's kernel refuses is lost, as on any link.
                pipe.depart(Instant::now(), |packet| drop(self.to.send(packet)));
                (read, pipe.next_departure())
            };
            if read < BATCH_PACKETS && !self.wait(next) {
                return;
            }
        }
    }

    /// Reads what is there, at most a batch, and says how many packets that were.
    fn read_batch(&self, pipe: &mut Pipe, packet: &mut [u8]) -> usize {
        for read in 0..BATCH_PACKETS {
            match self.from.receive(packet) {
                Ok(length) => pipe.arrive(&packet[..length], Instant::now()),
                Err(error) if would_block(&error) => return read,
                // The device is down: whoever sets it up again makes it readable.
                Err(_) => return read,
            }
        }
        BATCH_PACKETS
    }

    /// Waits for a packet or for `departure`; `false` when the link has ended.
    fn wait(&self, departure: Option<Instant>) -> bool {
        let mut files =
            [PollFd::new(self.from.as_fd(), PollFlags::POLLIN), PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        let timeout = departure.map(|at| TimeSpec::from(at.saturating_duration_since(Instant::now())));
        let waited = ppoll(&mut files, timeout, None);
        let [device, stopped] = files.map(|file| file.revents().unwrap_or(PollFlags::empty()));
        if device.contains(PollFlags::POLLERR) {
            // A device that is down is always "readable": look again when it may be up, without spinning.
            let mut stopped = [PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(&mut stopped, Some(TimeSpec::from(Duration::from_millis(10))), None);
        }
        waited.is_ok() && stopped.is_empty() || waited == Err(nix::errno::Errno::EINTR)
    }
}
