//! adit's own two programs, built from the sources that the tests were built from.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::process;

/// A directory that holds the programs already; then nothing is built. For test executables run without cargo.
const PREBUILT: &str = "ADIT_TESTS_PROGRAMS";

/// Path of `adit`.
pub fn adit() -> PathBuf {
    directory().join("adit")
}

/// Path of `adit-gateway`.
pub fn adit_gateway() -> PathBuf {
    directory().join("adit-gateway")
}

/// Cargo builds no binaries of other packages for a test, so a test that ran what lies about could run a stale one.
/// Once a test process, this asks cargo to bring them up to date, which costs little when they are.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match DIRECTORY.get_or_init(build) {
        Ok(directory) => directory,
        Err(error) => panic!("cannot build adit and adit-gateway: {error}"),
    }
}

fn build() -> Result<PathBuf, String> {
    if let Some(directory) = env::var_os(PREBUILT) {
        return Ok(directory.into());
    }
    // target/PROFILE/deps/SUITE-HASH
    let executable = env::current_exe().map_err(|error| error.to_string())?;
    let directory = executable.ancestors().nth(2).ok_or("the test executable is in no target directory")?;
    let profile = directory.file_name().and_then(|name| name.to_str()).ok_or("no profile in the path")?;
    let profile = if profile == "debug" { "dev" } else { profile };
    let target = directory.parent().ok_or("no target directory in the path")?;

    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["build", "--quiet", "--offline", "--package", "cli", "--package", "gateway", "--bins"]);
    command.args(["--profile", profile]).arg("--target-dir").arg(target);
    let output = process::output(&mut command);
    if !output.status.success() {
        return Err(process::describe(&command, &output));
    }
    Ok(directory.to_owned())
}
