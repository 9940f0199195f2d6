//! What the demo shows: commands as one would type them, what they said, how long they took, and whether that is right.
//! Before: [`super::tour`]; after: [`crate::output`].

use std::{
    cell::Cell,
    fmt::Display,
    io::{self, BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    output::{BAD, CODE, DIM, GOOD, WARN, result, styled},
    text::duration,
};

/// The column in which times stand, right-aligned.
const TIME_COLUMN: usize = 92;

/// Prints the demo as it goes and counts what did not go right.
#[derive(Debug)]
pub struct Transcript {
    started: Instant,
    wrong: Cell<u32>,
}

/// What a program said and how long it took.
#[derive(Debug)]
pub struct Said {
    /// Its standard output, without the last line break.
    pub text: String,
    /// Whether it ended with 0.
    pub succeeded: bool,
    /// From its start to its end.
    pub took: Duration,
}

impl Transcript {
    /// Begins now.
    #[expect(clippy::new_without_default, reason = "it starts a clock")]
    pub fn new() -> Self {
        Self { started: Instant::now(), wrong: Cell::new(0) }
    }

    /// How many steps did not end as they should.
    pub fn wrong(&self) -> u32 {
        self.wrong.get()
    }

    /// A heading.
    pub fn heading(&self, text: impl Display) {
        let at = format!("{:5.2} s", self.started.elapsed().as_secs_f64());
        result(format_args!("\n{} {text}", styled(DIM, at)));
    }

    /// A line of explanation.
    pub fn note(&self, text: impl Display) {
        result(format_args!("        {}", styled(DIM, text)));
    }

    /// Something that was tried without a program: what, how it ended, and whether that is right.
    pub fn tried(&self, what: &str, ended: &str, took: Duration, right: bool) {
        self.outcome(what, Some(took), right);
        self.said(ended);
    }

    /// Runs a program to its end and shows it; `check` says whether what it said is right, and may say it better.
    pub fn run(&self, shown: &str, command: &mut Command, check: impl FnOnce(&Said) -> Option<String>) {
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).output();
        let output = match output {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.missing(shown, command),
            Err(error) => return self.tried(shown, &error.to_string(), begun.elapsed(), false),
        };
        let took = begun.elapsed();
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let said = Said { text, succeeded: output.status.success(), took };
        let better = check(&said);
        self.command(shown, Some(took), better.is_some());
        self.said(better.as_deref().unwrap_or(&said.text));
        if better.is_none() {
            self.said(String::from_utf8_lossy(&output.stderr).trim_end());
        }
    }

    /// Runs a program and shows each line as it is said, on either stream; `true` when it ends with 0.
    pub fn live(&self, shown: &str, command: &mut Command) -> io::Result<bool> {
        self.command(shown, None, true);
        let (reader, writer) = io::pipe()?;
        let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // The command keeps its copies of the writing end, and the reader waits for the last of them.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        for line in BufReader::new(reader).lines() {
            self.said(&line?);
        }
        let succeeded = child.wait()?.success();
        if !succeeded {
            self.wrong.set(self.wrong.get() + 1);
        }
        Ok(succeeded)
    }

    fn missing(&self, shown: &str, command: &Command) {
        self.line(&styled(WARN, "-"), &format!("$ {shown}"), None);
        self.said(&format!("left out: {} is not installed", command.get_program().display()));
    }

    fn command(&self, shown: &str, took: Option<Duration>, right: bool) {
        self.outcome(&format!("$ {shown}"), took, right);
    }

    fn outcome(&self, shown: &str, took: Option<Duration>, right: bool) {
        if !right {
            self.wrong.set(self.wrong.get() + 1);
        }
        let mark = if right { styled(GOOD, "+") } else { styled(BAD, "x") };
        self.line(&mark, shown, took);
    }

    fn line(&self, mark: &str, shown: &str, took: Option<Duration>) {
        let Some(took) = took.map(duration) else {
            result(format_args!("      {mark} {}", styled(CODE, shown)));
            return;
        };
        let gap = TIME_COLUMN.saturating_sub(shown.chars().count() + took.len()).max(1);
        result(format_args!("      {mark} {}{:gap$}{}", styled(CODE, shown), "", styled(DIM, took)));
    }

    fn said(&self, text: &str) {
        for line in text.lines() {
            result(format_args!("          {line}"));
        }
    }
}
