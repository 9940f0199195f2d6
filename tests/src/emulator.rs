//! A link with delay, rate, queue, loss, reordering, duplication and blackouts, in user space.
//!
//! Many kernels have no netem. So each of two namespaces gets a TUN device, and one thread a direction carries packets
//! from one to the other:
//!
//! ```text
//! 1. read     up to a batch of packets from the sender's TUN
//! 2. arrive   [`pipe`]: queue, rate, loss, duplicate, delay; pure, its time is an argument
//! 3. depart   packets whose time has come are written to the receiver's TUN
//! 4. wait     for a packet or for the next departure
//! ```
//!
//! [`conditions`] says what a direction does; it can be changed at any time. The devices themselves are in [`tun`].

pub mod conditions;
mod direction;
pub mod pipe;
pub mod tun;

use std::{io, time::Duration};

use cli::demo::{
    namespace::Namespace,
    wiring::{Wiring, WiringError},
};

pub use self::conditions::Conditions;
use self::{direction::Direction, pipe::Counters, tun::Tun};

/// Packets the kernel holds for each device while the emulator's thread is elsewhere; it must not drop what the
/// emulated queue would keep.
const DEVICE_QUEUE_PACKETS: u32 = 10_000;

/// A link between two namespaces. It ends when this is dropped, and its devices with it.
#[derive(Debug)]
pub struct Emulator {
    forward: Direction,
    backward: Direction,
}

impl Emulator {
    /// Makes a device called `device` in both namespaces and joins them. Both devices are down and have no address.
    ///
    /// The same `seed` and the same packets at the same times give the same losses.
    pub fn join(
        device: &str,
        from: &Namespace,
        to: &Namespace,
        conditions: Conditions,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let open = |namespace: &Namespace| -> anyhow::Result<Tun> {
            let tun = namespace.run(|| Tun::open(device))?;
            Self::prepare(device, namespace, &conditions)?;
            Ok(tun)
        };
        let (near, far) = (open(from)?, open(to)?);
        let forward = Direction::start("link-forward", &near, &far, conditions.clone(), seed)?;
        // Any other seed will do, so that the two directions do not lose the same packets.
        let backward = Direction::start("link-backward", &far, &near, conditions, !seed)?;
        Ok(Self { forward, backward })
    }

    fn prepare(device: &str, namespace: &Namespace, conditions: &Conditions) -> Result<(), WiringError> {
        let wiring = Wiring::open(namespace)?;
        wiring.set_mtu(device, conditions.mtu)?;
        wiring.set_queue_len(device, DEVICE_QUEUE_PACKETS)
    }

    /// Changes both directions from the next packet on; packets under way keep their departure.
    pub fn set(&self, conditions: &Conditions) {
        self.set_forward(conditions.clone());
        self.set_backward(conditions.clone());
    }

    /// Changes the direction from the first namespace to the second.
    pub fn set_forward(&self, conditions: Conditions) {
        self.forward.set(conditions);
    }

    /// Changes the direction from the second namespace to the first.
    pub fn set_backward(&self, conditions: Conditions) {
        self.backward.set(conditions);
    }

    /// Cuts the link, or mends it: while it is cut, packets under way and packets sent are gone.
    pub fn blackout(&self, cut: bool) {
        self.forward.blackout(cut);
        self.backward.blackout(cut);
    }

    /// CPU time that the forward direction has taken, for the emulator's own figures and to subtract it from others.
    pub fn forward_cpu(&self) -> Duration {
        self.forward.cpu()
    }

    /// What became of the packets from the first namespace to the second, so far.
    pub fn forward_counters(&self) -> Counters {
        self.forward.counters()
    }

    /// What became of the packets from the second namespace to the first, so far.
    pub fn backward_counters(&self) -> Counters {
        self.backward.counters()
    }
}

/// Whether an I/O error only says that there is nothing to do.
fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
