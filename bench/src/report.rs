//! Figures, each against its bar, as a table and as JSON.

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

/// What a figure has to be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// This much or less.
    AtMost(f64),
    /// This much or more.
    AtLeast(f64),
    /// Only for comparison.
    None,
}

#[derive(Debug, Serialize)]
struct Figure {
    group: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    /// All rounds, sorted; the value is the median.
    rounds: Vec<f64>,
    bar: Bar,
    holds: bool,
}

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure: the median of its rounds. It is printed at once, for whoever waits.
    pub(crate) fn add(
        &mut self,
        group: &'static str,
        name: impl Into<String>,
        rounds: Vec<f64>,
        unit: &'static str,
        bar: Bar,
    ) {
        let mut rounds = rounds;
        rounds.sort_by(f64::total_cmp);
        let value = rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN);
        let holds = match bar {
            Bar::AtMost(most) => value <= most,
            Bar::AtLeast(least) => value >= least,
            Bar::None => true,
        };
        let figure = Figure { group, name: name.into(), value, unit, rounds, bar, holds };
        println!("{figure}");
        self.figures.push(figure);
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bar = match self.bar {
            Bar::AtMost(most) => format!("<= {most}"),
            Bar::AtLeast(least) => format!(">= {least}"),
            Bar::None => String::new(),
        };
        let verdict = match (self.bar, self.holds) {
            (Bar::None, _) => "",
            (_, true) => "ok",
            (_, false) => "MISSED",
        };
        let span = match (self.rounds.first(), self.rounds.last()) {
            (Some(first), Some(last)) => format!("{first:.2}..{last:.2}"),
            _ => String::new(),
        };
        let Self { group, name, value, unit, .. } = self;
        write!(f, "{group:<11} {name:<58} {value:>10.3} {unit:<8} {span:<20} {bar:<9} {verdict}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<11} {:<58} {:>10} {:<8} {:<20} {:<9}", "group", "figure", "median", "unit", "rounds", "bar")?;
        for figure in &self.figures {
            writeln!(f, "{figure}")?;
        }
        let missed = self.figures.iter().filter(|figure| !figure.holds).count();
        write!(f, "{} figures, {missed} bars missed", self.figures.len())
    }
}
