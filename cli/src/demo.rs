//! A small cluster, its gateway and a developer's machine, made of network namespaces on this machine.
//!
//! The same pieces serve `adit demo` and the test harness. In the order they are used:
//! [`entry`] moves the process where it may make namespaces and leaves no trace, [`namespace`] makes one,
//! [`wiring`] joins them, [`plan`] holds every address and name, [`services`] runs what the cluster offers
//! ([`nameserver`], [`http`], [`echo`]), [`world`] composes all that, and [`targets`] adds pods whose traffic can be mirrored.
//! A world has no idea what will join its halves: [`stage`] adds adit to it, [`tour`] and [`mirror_tour`] hold the
//! demo's steps, [`load`] measures the pod in them, and [`transcript`] shows them.

pub mod echo;
pub mod entry;
pub mod http;
pub mod load;
pub mod mirror_tour;
pub mod nameserver;
pub mod namespace;
pub mod pattern;
pub mod plan;
pub mod services;
pub mod stage;
pub mod targets;
pub mod tour;
pub mod transcript;
pub mod wiring;
pub mod world;
pub mod zones;
