//! What goes first, what stays, and when.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::flow::{ClusterAddr, HostAddr, Protocol};

const LIMITS: Limits = Limits { flows: 4, dials: 2, datagrams_idle: Duration::from_secs(60) };

fn key(port: u16) -> FlowKey {
    FlowKey {
        host: HostAddr(SocketAddr::from(([10, 0, 0, 1], port))),
        cluster: ClusterAddr(SocketAddr::from(([10, 96, 0, 1], 80))),
        protocol: Protocol::Tcp,
    }
}

fn at(seconds: u64) -> Moment {
    Moment::ORIGIN + Duration::from_secs(seconds)
}

fn add(table: &mut FlowTable<u16>, port: u16, standing: Standing, seconds: u64) -> Result<Option<u16>, DropReason> {
    Ok(table.insert(key(port), standing, at(seconds), || port)?.map(|(_, value)| value))
}

#[test]
fn the_longest_idle_udp_flow_goes_before_any_established_one() {
    let mut table = FlowTable::new(LIMITS);
    add(&mut table, 1, Standing::Established, 0).unwrap();
    add(&mut table, 2, Standing::Datagrams, 1).unwrap();
    add(&mut table, 3, Standing::Datagrams, 2).unwrap();
    add(&mut table, 4, Standing::Dialing, 3).unwrap();
    assert_eq!(add(&mut table, 5, Standing::Established, 4), Ok(Some(4)), "a dial goes before UDP");
    assert!(matches!(table.lookup(&key(2), at(5)), Lookup::Live(2)), "2 has had traffic, so 3 is idle the longest");
    assert_eq!(add(&mut table, 6, Standing::Established, 6), Ok(Some(3)));
    assert_eq!(add(&mut table, 7, Standing::Established, 7), Ok(Some(2)));
    assert_eq!(add(&mut table, 8, Standing::Established, 8), Err(DropReason::FlowsFull));
    assert_eq!(table.count(Standing::Established), 4);
}

#[test]
fn tombstones_go_first_and_a_closed_one_before_a_silent_one() {
    let mut table = FlowTable::new(LIMITS);
    for port in 1..=4 {
        add(&mut table, port, Standing::Established, 0).unwrap();
    }
    assert_eq!(table.bury(&key(1), Tombstone::Silent, at(1)), Some(1));
    assert_eq!(table.bury(&key(2), Tombstone::Closed, at(2)), Some(2));
    assert_eq!(table.bury(&key(2), Tombstone::Closed, at(2)), None);
    assert_eq!(add(&mut table, 5, Standing::Established, 3), Ok(None));
    assert!(matches!(table.lookup(&key(2), at(3)), Lookup::Unknown));
    assert!(matches!(table.lookup(&key(1), at(3)), Lookup::Buried(Tombstone::Silent)));
}

#[test]
fn a_dial_too_many_is_refused_and_not_exchanged_for_another() {
    let mut table = FlowTable::new(LIMITS);
    add(&mut table, 1, Standing::Dialing, 0).unwrap();
    add(&mut table, 2, Standing::Dialing, 0).unwrap();
    assert_eq!(add(&mut table, 3, Standing::Dialing, 0), Err(DropReason::DialsFull));
    table.set_standing(&key(1), Standing::Established, at(1));
    assert_eq!(add(&mut table, 3, Standing::Dialing, 1), Ok(None));
}

#[test]
fn a_name_in_use_is_taken_over() {
    let mut table = FlowTable::new(LIMITS);
    add(&mut table, 1, Standing::Established, 0).unwrap();
    assert_eq!(add(&mut table, 1, Standing::Dialing, 1), Ok(Some(1)));
    table.bury(&key(1), Tombstone::Closed, at(1));
    assert_eq!(add(&mut table, 1, Standing::Dialing, 2), Ok(None));
    assert_eq!(table.len(), 1);
}

#[test]
fn idle_times_end_in_order_and_are_announced() {
    let mut table = FlowTable::new(LIMITS);
    add(&mut table, 1, Standing::Datagrams, 0).unwrap();
    add(&mut table, 2, Standing::Datagrams, 10).unwrap();
    add(&mut table, 3, Standing::Established, 10).unwrap();
    table.bury(&key(3), Tombstone::Closed, at(20));
    assert_eq!(table.next_expiry(), Some(at(22)));
    assert_eq!(table.expire(at(22)), None, "a tombstone has no flow to give back");
    assert_eq!((table.len(), table.next_expiry()), (2, Some(at(60))));
    table.lookup(&key(1), at(30));
    assert_eq!(table.next_expiry(), Some(at(70)));
    assert_eq!(table.expire(at(69)), None);
    assert_eq!(table.expire(at(1000)), Some((key(2), 2)));
    assert_eq!(table.expire(at(1000)), Some((key(1), 1)));
    assert_eq!(table.next_expiry(), None);
    assert!(table.is_empty());
}

#[test]
fn tombstones_are_bounded() {
    let mut table = FlowTable::new(Limits::DEFAULT);
    for port in 1..=5000 {
        add(&mut table, port, Standing::Established, 0).unwrap();
        table.bury(&key(port), Tombstone::Closed, at(0));
    }
    assert_eq!(table.len(), MAX_TOMBSTONES);
}

proptest! {
    /// Against a list that is searched from end to end.
    #[test]
    fn any_order_of_calls_behaves_like_a_plain_list(calls in prop::collection::vec((0u8..6, 1u16..8), 0..200)) {
        let mut table = FlowTable::new(LIMITS);
        // (name, class, live), the oldest first
        let mut model: Vec<(u16, Class, bool)> = Vec::new();
        for (second, (call, port)) in calls.into_iter().enumerate() {
            let now = Moment::from_micros(second as u64);
            let place = model.iter().position(|&(other, ..)| other == port);
            match call {
                0..=2 => {
                    let standing = [Standing::Dialing, Standing::Datagrams, Standing::Established][usize::from(call)];
                    let dials = model.iter().filter(|&&(_, class, _)| class == Class::Dialing).count();
                    let expected = if standing == Standing::Dialing && dials >= LIMITS.dials {
                        Err(DropReason::DialsFull)
                    } else if let Some(place) = place {
                        Ok(Some(model.remove(place)))
                    } else if model.len() < LIMITS.flows {
                        Ok(None)
                    } else {
                        [Class::Closed, Class::Silent, Class::Dialing, Class::Datagrams]
                            .into_iter()
                            .find_map(|class| model.iter().position(|&(_, other, _)| other == class))
                            .map(|place| Some(model.remove(place)))
                            .ok_or(DropReason::FlowsFull)
                    };
                    if expected.is_ok() {
                        model.push((port, standing.into(), true));
                    }
                    let expected = expected.map(|gone| gone.and_then(|(other, _, live)| live.then_some((key(other), other))));
                    prop_assert_eq!(table.insert(key(port), standing, now, || port), expected);
                }
                3 => {
                    let live = place.map(|place| model.remove(place)).filter(|&(.., live)| live);
                    prop_assert_eq!(table.remove(&key(port)), live.map(|_| port));
                }
                4 => {
                    let place = place.filter(|&place| model[place].2);
                    prop_assert_eq!(table.bury(&key(port), Tombstone::Closed, now), place.map(|_| port));
                    if let Some(place) = place {
                        model.remove(place);
                        model.push((port, Class::Closed, false));
                    }
                }
                _ => {
                    let found = table.lookup(&key(port), now);
                    prop_assert_eq!(matches!(found, Lookup::Live(_)), place.is_some_and(|place| model[place].2));
                    if let Some(place) = place && model[place].1 == Class::Datagrams {
                        let flow = model.remove(place);
                        model.push(flow);
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.iter().count(), model.iter().filter(|&&(.., live)| live).count());
        }
    }
}
