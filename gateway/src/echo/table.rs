//! [`Table`]: the echo requests under way, so that a reply finds who asked and nobody else. Pure.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

/// A reply that takes longer is lost to the session as well: ping itself waits for ten seconds at the end.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of all sessions within a timeout: three quarters of the sequence numbers, so that a number is not used again while a
/// late reply to it may come. When full, a request is dropped.
const MOST: usize = 49_152;

/// Who asked what, by the sequence number on the wire, which is ours and counts through all sessions.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<u16, Entry<T>>,
    /// In the order of their deadlines, which is that of their arrival. An answered one stays here until its deadline.
    deadlines: VecDeque<(Instant, u16)>,
    next_seq: u16,
}

#[derive(Debug)]
struct Entry<T> {
    to: IpAddr,
    deadline: Instant,
    asked: T,
}

impl<T> Table<T> {
    pub(super) fn new(first_seq: u16) -> Self {
        Self { entries: HashMap::new(), deadlines: VecDeque::new(), next_seq: first_seq }
    }

    /// Takes a request in; the sequence number to send it with, or `None` when full.
    pub(super) fn insert(&mut self, now: Instant, to: IpAddr, asked: T) -> Option<u16> {
        self.expire(now);
        // Answered requests count until their deadline, so that their numbers rest, and this queue is bounded as well.
        if self.deadlines.len() >= MOST {
            return None;
        }
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        let deadline = now + TIMEOUT;
        self.entries.insert(seq, Entry { to, deadline, asked });
        self.deadlines.push_back((deadline, seq));
        Some(seq)
    }

    /// Who asked, if this is the answer of the address that was asked.
    pub(super) fn take(&mut self, seq: u16, from: IpAddr) -> Option<T> {
        self.entries.get(&seq).filter(|entry| entry.to == from)?;
        self.entries.remove(&seq).map(|entry| entry.asked)
    }

    /// Forgets the requests whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((deadline, seq)) = self.deadlines.front().copied()
            && deadline <= now
        {
            self.deadlines.pop_front();
            if self.entries.get(&seq).is_some_and(|entry| entry.deadline == deadline) {
                self.entries.remove(&seq);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn a_reply_finds_who_asked_once_and_only_from_the_address_asked() {
        let mut table = Table::new(65_535);
        let now = Instant::now();
        let first = table.insert(now, TO, "first").unwrap();
        let second = table.insert(now, TO, "second").unwrap();
        assert_eq!((first, second), (65_535, 0));
        assert_eq!(table.take(first, OTHER), None);
        assert_eq!(table.take(first, TO), Some("first"));
        assert_eq!(table.take(first, TO), None);
        assert_eq!(table.take(second, TO), Some("second"));
    }

    #[test]
    fn a_request_without_an_answer_is_forgotten() {
        let mut table = Table::new(0);
        let now = Instant::now();
        let seq = table.insert(now, TO, ()).unwrap();
        table.expire(now + TIMEOUT);
        assert_eq!(table.take(seq, TO), None);
    }

    #[test]
    fn a_full_table_refuses_until_time_has_passed_and_numbers_are_never_shared() {
        let mut table = Table::new(0);
        let now = Instant::now();
        for number in 0..MOST {
            let seq = table.insert(now, TO, number).unwrap();
            assert_eq!(table.take(seq, TO), Some(number));
        }
        assert_eq!(table.insert(now, TO, 0), None);
        assert!(table.insert(now + TIMEOUT, TO, 0).is_some());
    }
}
