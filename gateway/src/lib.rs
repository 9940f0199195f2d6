//! The cluster's half.

pub mod config;
