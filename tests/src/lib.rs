//! The namespace harness and what it is made of. The suites are in `tests/`.
//!
//! - [`machine`]: before `main`, the test process moves into namespaces of its own.
//! - [`lab`]: a world for one test, programs in it, and adit's own two.
//! - [`process`]: a program that dies with its test and whose output shows when the test fails.
//! - [`observe`]: what `ip` and `/proc` say, for comparisons before and after.
//! - [`wait`]: conditions with a deadline, in place of sleeps.

pub mod machine;
