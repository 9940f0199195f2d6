//! The `adit` command: everything but the allocator is in the library, so that suites and the demo run the very same code.

mod allocator;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
