//! [`Rings`]: a TCP flow's receive and transmit ring, and [`RingPool`], which keeps a few of them hot.
//!
//! Before and after: [`crate::tcp_flow`]. A ring is allocated zeroed and untouched, so only the pages that carried something are
//! resident, provided that the allocator maps blocks of this size by themselves (glibc: a fixed `M_MMAP_THRESHOLD`, which is the
//! binary's to set). Making a flow of fresh rings costs twice as much as making it of recycled ones, hence the pool.

use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::tcp,
};

/// Size of one ring: four segments of the 65,535-byte device in flight. Half of it costs 14 % more CPU, twice it gains nothing.
///
/// It is the largest window that a 16-bit field scaled by 2 can say, because smoltcp accepts what the window in its SYN-ACK (65,535,
/// unscaled) would say if it were scaled: with 256 KiB, scaled by 3, that would lie beyond the ring's end.
pub const RING_BYTES: usize = (u16::MAX as usize) << 2;

const _: () = assert!(RING_BYTES.ilog2() - 15 == 2, "smoltcp must scale the window of such a ring by 2");

/// Rings of this much or more are given back to the allocator when their flow ends: more resident pages than a fresh flow touches.
const DIRTY_BYTES: usize = 16 * 1024;

/// Rings kept by default, bounds how much memory a burst of connections leaves behind: 64 x 2 x (16 + 4) KiB = 2.5 MiB at most.
/// When full, the ring that is given back is freed.
pub const HOT_RINGS: usize = 64;

/// A flow's two rings, inside the socket that owns them: smoltcp never gives a buffer back, but lets a socket listen again.
pub struct Rings {
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) handle: SocketHandle,
    /// The most that one flow wrote into them, both together. Each flow begins at their beginning again.
    pub(crate) dirty_bytes: usize,
}

impl Rings {
    /// Two fresh rings of [`RING_BYTES`].
    pub fn new() -> Self {
        Self::allocate(RING_BYTES)
    }

    /// Two fresh rings of `bytes`, for tests of what happens at their ends.
    ///
    /// # Panics
    /// When `bytes` is 0 or over 65,535: see [`RING_BYTES`].
    pub fn small(bytes: u16) -> Self {
        assert!(bytes > 0, "a ring holds something");
        Self::allocate(usize::from(bytes))
    }

    fn allocate(bytes: usize) -> Self {
        let socket = tcp::Socket::new(tcp::SocketBuffer::new(vec![0; bytes]), tcp::SocketBuffer::new(vec![0; bytes]));
        // Room for exactly the one socket; growing by push would make room for four.
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { sockets, handle, dirty_bytes: 0 }
    }

    pub(crate) fn socket(&self) -> &tcp::Socket<'static> {
        self.sockets.get(self.handle)
    }

    pub(crate) fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

impl Default for Rings {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rings").field("dirty_bytes", &self.dirty_bytes).finish_non_exhaustive()
    }
}

/// Rings of flows that have ended, the last used first.
#[derive(Debug)]
pub struct RingPool {
    hot: Vec<Rings>,
    capacity: usize,
}

impl RingPool {
    /// A pool that keeps at most `capacity` pairs.
    pub const fn new(capacity: usize) -> Self {
        Self { hot: Vec::new(), capacity }
    }

    /// Recycled rings, else fresh ones.
    pub fn take(&mut self) -> Rings {
        self.hot.pop().unwrap_or_default()
    }

    /// Keeps `rings`, or frees them when the pool is full or they have carried much.
    pub fn give_back(&mut self, rings: Rings) {
        if self.hot.len() < self.capacity
            && rings.dirty_bytes <= DIRTY_BYTES
            && rings.socket().recv_capacity() == RING_BYTES
        {
            self.hot.push(rings);
        }
    }

    /// Pairs in the pool.
    pub const fn len(&self) -> usize {
        self.hot.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.hot.is_empty()
    }
}

impl Default for RingPool {
    fn default() -> Self {
        Self::new(HOT_RINGS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_clean_rings_up_to_its_capacity() {
        let mut pool = RingPool::new(2);
        let taken: Vec<_> = (0..3).map(|_| pool.take()).collect();
        for rings in taken {
            pool.give_back(rings);
        }
        assert_eq!(pool.len(), 2);
        let mut rings = pool.take();
        rings.dirty_bytes = DIRTY_BYTES + 1;
        pool.give_back(rings);
        pool.give_back(Rings::small(100));
        assert_eq!(pool.len(), 1);
    }
}
