//! Printing: results to standard output, progress and failures to standard error, colour only on a terminal and never with NO_COLOR.
//! A reader that went away (`adit status | head -1`) is no error.

use std::{fmt::Display, io::Write};

use anstyle::{AnsiColor, Style};

use crate::exit::Failure;

/// For labels and asides.
pub const DIM: Style = Style::new().dimmed();
/// For what is right.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// For what someone should look at.
pub const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// For what went wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what can be typed.
pub const CODE: Style = AnsiColor::Cyan.on_default();

/// Text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints a result; `false` when nobody reads any more.
pub fn result(text: impl Display) -> bool {
    writeln!(anstream::stdout(), "{text}").is_ok()
}

/// Prints something that passes, such as a step.
pub fn progress(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints a failure and its remedy.
pub fn failure(failure: &Failure) {
    progress(format_args!("{} {}", styled(BAD, "error:"), failure.message));
    if let Some(remedy) = &failure.remedy {
        progress(format_args!("  {} {remedy}", styled(CODE, "try:")));
    }
}

/// Clears the terminal before a redraw; nothing when the output is no terminal.
pub fn clear() {
    let _ = write!(anstream::stdout(), "\x1b[H\x1b[2J");
}
