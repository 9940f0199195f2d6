//! The tap: what a target's clients send is copied, each byte once, or said to be missing; and nothing else happens.

#[path = "tap/copies.rs"]
mod copies;
#[path = "tap/life.rs"]
mod life;
#[path = "tap/losses.rs"]
mod losses;
