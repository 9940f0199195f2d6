//! [`Refusals`]: what was refused, collected until it is written, so that a session that tries in a loop cannot fill a disk. Pure.
//!
//! What is equal becomes one entry with a count. The first refusals of a session are written within a second; while more come, the
//! next are written after two, four, and so on up to [`LONGEST`]. Once it kept quiet for that long, it starts anew.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use certs::IdentityName;

use crate::policy::Refused;

/// Different refusals of one session in one go; more are counted together as `others`. With [`LONGEST`], at most 17 lines of some 300
/// bytes a minute, 7 MB a day.
const DISTINCT: usize = 16;
/// Sessions, and identities without one, that were refused something in the last minutes. What is refused to more is not written:
/// the default limit of sessions is far below.
const SOURCES: usize = 4_096;
/// The first wait is the period with which [`super::Audit`] asks.
const SHORTEST: Duration = Duration::from_secs(1);
/// Long enough that a line a minute is no burden, short enough that a person who watches sees it go on.
const LONGEST: Duration = Duration::from_secs(64);

/// Who was refused: a session, or an identity that got none.
type Source = (Option<u64>, IdentityName);

/// What is collected.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    sources: HashMap<Source, Collected>,
}

#[derive(Debug)]
struct Collected {
    counts: HashMap<Refused, u64>,
    others: u64,
    /// When it is to be written.
    due: Instant,
    /// How long the next has to wait.
    wait: Duration,
}

/// One line to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) session: Option<u64>,
    pub(super) identity: IdentityName,
    pub(super) what: String,
    pub(super) missing: String,
    pub(super) count: u64,
}

impl Refusals {
    pub(super) fn note(&mut self, now: Instant, session: Option<u64>, identity: &IdentityName, refused: Refused) {
        let source = (session, identity.clone());
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            return;
        }
        let collected = self.sources.entry(source).or_insert_with(|| Collected {
            counts: HashMap::new(),
            others: 0,
            due: now + SHORTEST,
            wait: SHORTEST,
        });
        if let Some(count) = collected.counts.get_mut(&refused) {
            *count += 1;
        } else if collected.counts.len() < DISTINCT {
            collected.counts.insert(refused, 1);
        } else {
            collected.others += 1;
        }
    }

    /// What is to be written by now, each session's in the order of its text.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut lines = Vec::new();
        self.sources.retain(|source, collected| {
            if collected.due > now {
                return true;
            }
            let is_quiet = collected.counts.is_empty();
            collected.drain(source, &mut lines);
            collected.wait = (collected.wait * 2).min(LONGEST);
            collected.due = now + collected.wait;
            !is_quiet
        });
        lines
    }

    /// All that is collected of a session; it is forgotten.
    pub(super) fn take_session(&mut self, session: u64) -> Vec<Due> {
        let mut lines = Vec::new();
        self.sources.retain(|source, collected| {
            let is_its = source.0 == Some(session);
            if is_its {
                collected.drain(source, &mut lines);
            }
            !is_its
        });
        lines
    }

    /// All that is collected.
    pub(super) fn take_all(&mut self) -> Vec<Due> {
        let mut lines = Vec::new();
        for (source, mut collected) in self.sources.drain() {
            collected.drain(&source, &mut lines);
        }
        lines
    }

    /// Whether nothing is collected or waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

impl Collected {
    fn drain(&mut self, (session, identity): &Source, lines: &mut Vec<Due>) {
        let (session, begin) = (*session, lines.len());
        let others = Some((String::new(), "others".to_owned(), self.others)).filter(|(_, _, count)| *count > 0);
        let counts = self.counts.drain().map(|(refused, count)| (refused.to_string(), refused.what(), count));
        lines.extend(counts.map(|(missing, what, count)| Due {
            session,
            identity: identity.clone(),
            what,
            missing,
            count,
        }));
        lines[begin..].sort_unstable_by(|a, b| a.what.cmp(&b.what));
        lines.extend(others.map(|(missing, what, count)| Due {
            session,
            identity: identity.clone(),
            what,
            missing,
            count,
        }));
        self.others = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Destination;

    fn alice() -> IdentityName {
        "alice".parse().unwrap()
    }

    fn refused(port: u16) -> Refused {
        Refused::Reach { identity: alice(), to: Destination::Tcp(([10, 0, 0, 1], port).into()) }
    }

    fn counts(lines: &[Due]) -> Vec<(&str, u64)> {
        lines.iter().map(|line| (line.what.as_str(), line.count)).collect()
    }

    #[test]
    fn equal_refusals_are_one_line_with_a_count_a_second_later() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        for _ in 0..1_000 {
            refusals.note(start, Some(7), &alice(), refused(80));
        }
        refusals.note(start, Some(7), &alice(), refused(81));
        assert_eq!(refusals.due(start), []);
        let lines = refusals.due(start + SHORTEST);
        assert_eq!(counts(&lines), [("tcp 10.0.0.1:80", 1_000), ("tcp 10.0.0.1:81", 1)]);
        assert!(lines[0].missing.contains("add reach = [\"10.0.0.1:80/tcp\"]"), "{}", lines[0].missing);
    }

    #[test]
    fn a_session_that_goes_on_is_written_of_ever_less_often_and_starts_anew_when_it_kept_quiet() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let mut written = Vec::new();
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            refusals.note(now, Some(7), &alice(), refused(80));
            written.extend(refusals.due(now).iter().map(|line| (second, line.count)));
        }
        assert_eq!(written, [(1, 2), (3, 2), (7, 4), (15, 8), (31, 16), (63, 32), (127, 64), (191, 64), (255, 64)]);
        let mut now = start + Duration::from_secs(300);
        while !refusals.is_empty() {
            refusals.due(now);
            now += SHORTEST;
        }
        refusals.note(now, Some(7), &alice(), refused(80));
        assert_eq!(counts(&refusals.due(now + SHORTEST)), [("tcp 10.0.0.1:80", 1)]);
    }

    #[test]
    fn many_different_refusals_are_counted_together_and_nothing_grows_without_bound() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        for port in 1..=1_000 {
            refusals.note(start, Some(7), &alice(), refused(port));
        }
        let lines = refusals.due(start + SHORTEST);
        assert_eq!(lines.len(), DISTINCT + 1);
        assert_eq!((lines[DISTINCT].what.as_str(), lines[DISTINCT].count), ("others", 1_000 - DISTINCT as u64));
        for session in 0..10_000 {
            refusals.note(start, Some(session), &alice(), refused(80));
        }
        assert_eq!(refusals.take_all().len(), SOURCES);
    }

    #[test]
    fn what_is_left_of_a_session_is_taken_when_it_ends_and_no_other_sessions() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        refusals.note(start, Some(7), &alice(), refused(80));
        refusals.note(start, Some(8), &alice(), refused(81));
        refusals.note(start, None, &alice(), Refused::Unnamed(alice()));
        assert_eq!(counts(&refusals.take_session(7)), [("tcp 10.0.0.1:80", 1)]);
        let mut rest = refusals.take_all();
        rest.sort_by_key(|line| line.session);
        assert_eq!(counts(&rest), [("session", 1), ("tcp 10.0.0.1:81", 1)]);
        assert!(refusals.is_empty());
    }
}
