//! The `adit` command: everything is in the library, so that suites and the demo run the very same code.

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
