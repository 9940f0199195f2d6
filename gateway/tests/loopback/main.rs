//! A whole gateway on loopback, spoken to over a real link: what a session asks for, and what it must not get.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

mod audit;
mod dns;
mod echo;
mod harness;
mod limits;
mod mirror;
mod model;
mod network;
mod policy;
mod session;
mod tcp;
mod udp;
