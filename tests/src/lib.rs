//! The namespace harness and what it is made of. The suites are in `tests/`.
//!
//! - [`machine`]: before `main`, the test process moves into namespaces of its own.
//! - [`lab`]: a world for one test, programs in it, and adit's own two ([`programs`]).
//! - [`mirror`]: a lab whose session mirrors, and [`recorder`]: a listener that keeps what comes.
//! - [`impostor`]: a gateway that says what it should not.
//! - [`process`]: a program that dies with its test and whose output shows when the test fails.
//! - [`emulator`]: a link with delay, rate, loss and blackouts.
//! - [`direct`]: the same world joined by the kernel, to compare with and to check the suites.
//! - [`sockets`]: sockets in a namespace, and checked bytes over them.
//! - [`mod@tap`]: a tap without its gateway, and a target for it.
//! - [`observe`]: what `ip` and `/proc` say, for comparisons before and after.
//! - [`wait`]: conditions with a deadline, in place of sleeps.
//! - [`fuzz`]: what the fuzz targets run.

pub mod direct;
pub mod emulator;
pub mod fuzz;
pub mod impostor;
pub mod lab;
pub mod machine;
pub mod mirror;
pub mod observe;
pub mod process;
pub mod programs;
pub mod recorder;
pub mod sockets;
pub mod tap;
pub mod wait;
