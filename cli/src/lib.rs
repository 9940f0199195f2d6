//! The `adit` command.

pub mod demo;
