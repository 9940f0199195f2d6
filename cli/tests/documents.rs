//! What `adit` prints by itself: completions, manual pages, and nothing but text into a pipe.
//!
//! That this suite is the crate's own makes `cargo test` build the binary, which the namespace suites run.

use std::{
    fs,
    process::{Command, Output},
};

fn adit(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.args(arguments).env("ADIT_STATE_DIR", "/nonexistent/adit").output().expect("adit was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn completions_hold_every_command_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&adit(&["completions", shell]).stdout);
        for command in ["connect", "status", "mirror", "quit", "demo"] {
            assert!(script.contains(command), "{shell} does not complete {command}");
        }
    }
}

#[test]
fn manual_pages_hold_examples_and_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    assert!(adit(&["man", dir.path().to_str().unwrap()]).status.success());
    let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(page("adit.1").contains("Exit codes"));
    assert!(page("adit-connect.1").contains("gateway.example.com:7844"));
    assert!(page("adit-mirror.1").contains("8080:3000") && page("adit-mirror-off.1").contains("8080"));
}

#[test]
fn a_pipe_sees_no_colour_and_may_close_early() {
    let output = adit(&["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(!text(&output.stderr).contains('\x1b'));
    let script = format!("set -o pipefail; '{}' completions zsh | head -1", env!("CARGO_BIN_EXE_adit"));
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("#compdef adit"));
}

#[test]
fn the_version_names_the_protocol() {
    let output = adit(&["version"]);
    assert_eq!(
        text(&output.stdout),
        format!("adit {}, protocol {}\n", env!("CARGO_PKG_VERSION"), link::version::VERSION)
    );
}
