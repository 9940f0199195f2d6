//! [`Queue`]: the queues of a Linux receiver (`tcp_data_queue`, `tcp_data_queue_ofo` and `tcp_ofo_queue` of 6.18). Two things can't be
//! known from outside and are chance here: whether two buffers can be joined (`skb_try_coalesce`), and which of the buffers in front of a
//! segment are met on the way through the tree to its place.

pub(crate) struct Queue {
    chance: u64,
    next: u32,
    /// In the order of their starts.
    held: Vec<(u32, Vec<u8>)>,
    pub(crate) read: Vec<u8>,
}

fn end((start, bytes): &(u32, Vec<u8>)) -> u32 {
    start + u32::try_from(bytes.len()).unwrap()
}

impl Queue {
    pub(crate) const fn new(chance: u64) -> Self {
        Self { chance, next: 0, held: Vec::new(), read: Vec::new() }
    }

    const fn chance(&mut self) -> bool {
        self.chance = self.chance.rotate_left(1);
        self.chance & 1 == 1
    }

    pub(crate) fn add(&mut self, start: u32, bytes: &[u8]) {
        let segment = (start, bytes.to_vec());
        if start > self.next {
            return self.hold(segment);
        }
        self.take(segment);
        while !self.held.is_empty() && self.held[0].0 <= self.next {
            let first = self.held.remove(0);
            self.take(first);
        }
    }

    fn take(&mut self, segment: (u32, Vec<u8>)) {
        let skip = (self.next - segment.0) as usize;
        self.read.extend(segment.1.get(skip..).unwrap_or(&[]));
        self.next = self.next.max(end(&segment));
    }

    fn hold(&mut self, segment: (u32, Vec<u8>)) {
        let place = self.held.iter().position(|other| segment.0 < other.0).unwrap_or(self.held.len());
        for at in 0..place {
            // The one directly in front is always met.
            let (met, joins) = (self.chance() || at + 1 == place, self.chance());
            let other = &mut self.held[at];
            if !met {
                continue;
            }
            if segment.0 < end(other) {
                if end(&segment) <= end(other) {
                    return;
                }
                if segment.0 == other.0 {
                    *other = segment;
                    return self.drop_covered(at);
                }
            } else if segment.0 == end(other) && joins {
                other.1.extend(segment.1);
                return;
            }
        }
        self.held.insert(place, segment);
        self.drop_covered(place);
    }

    fn drop_covered(&mut self, at: usize) {
        let last = end(&self.held[at]);
        while self.held.get(at + 1).is_some_and(|other| last > other.0 && last >= end(other)) {
            self.held.remove(at + 1);
        }
    }
}
