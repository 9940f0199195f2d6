//! SIGHUP to the real program: it lives on, reads its file again, says what is wrong with it, and opens its audit anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

struct Gateway(Child);

impl Gateway {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit-gateway"))
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("gateway ready")));
        // The rest of the log is read to its end, so that the gateway never waits for a reader.
        thread::spawn(move || lines.count());
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The audit's last line once there are so many.
fn line(audit: &Path, number: usize) -> serde_json::Value {
    loop {
        let text = fs::read_to_string(audit).unwrap_or_default();
        if text.lines().count() >= number && text.ends_with('\n') {
            return serde_json::from_str(text.lines().nth(number - 1).unwrap()).unwrap();
        }
        thread::yield_now();
    }
}

#[test]
fn a_hangup_reads_the_file_again_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, audit, moved) =
        (dir.path().join("gateway.toml"), dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
    let write = |rest: &str| {
        let head = format!(
            "listen = \"127.0.0.1:0\"\nstate_dir = \"{}\"\naudit = \"{}\"\n",
            dir.path().join("state").display(),
            audit.display()
        );
        let cluster =
            "[cluster]\nprovider = \"linux\"\ndomain = \"c\"\ndns = \"127.0.0.1\"\nroutes = [\"127.0.0.0/8\"]\n";
        fs::write(&config, format!("{head}{cluster}{rest}")).unwrap();
    };
    write("");
    let mut gateway = Gateway::start(&config);
    assert_eq!(fs::metadata(&audit).unwrap().mode() & 0o777, 0o600);

    write("[[allow]]\nname = \"alice\"\nreach = [\"127.0.0.1:80\"]\n");
    gateway.signal(Signal::SIGHUP);
    let reloaded = line(&audit, 1);
    assert_eq!((&reloaded["event"], &reloaded["allows"]), (&"reloaded".into(), &1.into()));

    write("[[allow]]\nname = \"alice\"\nreach = [\"127.0.0.1:http\"]\n");
    gateway.signal(Signal::SIGHUP);
    let failed = line(&audit, 2);
    assert_eq!(failed["event"], "reload_failed");
    let problem = failed["problem"].as_str().unwrap();
    assert!(problem.contains("gateway.toml:11: allow[1].reach: 'http' is no port"), "{problem}");

    fs::rename(&audit, &moved).unwrap();
    write("[limits]\nstreams = 7\n");
    gateway.signal(Signal::SIGHUP);
    let restart = line(&audit, 1);
    assert_eq!((&restart["allows"], &restart["restart"][0]), (&0.into(), &"limits".into()));
    assert_eq!(fs::read_to_string(&moved).unwrap().lines().count(), 2);
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.0.wait().unwrap().success());
}
