//! How quantities are worded: short, in the unit that fits, the same everywhere.

use std::{
    fmt::{Display, Write},
    time::Duration,
};

use crate::output::{DIM, styled};

/// `850 us`, `12.3 ms`, `4.5 s`, `3 min`, `2 h`, `5 d`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        1_000_000..60_000_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ if seconds < 2 * 3600 => format!("{} min", seconds / 60),
        _ if seconds < 48 * 3600 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The same for what is known to the second only: `0 s`, `3 min`.
pub(crate) fn whole_seconds(time: Duration) -> String {
    if time < Duration::from_secs(60) { format!("{} s", time.as_secs()) } else { duration(time) }
}

/// `512 B`, `1.5 KiB`, `256.0 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().expect("there are units");
    while value >= 1024.0 {
        let Some(larger) = units.next() else { break };
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// `a, b, c`, or `-` for nothing.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

/// Appends a line with a label in a column of its own.
pub(crate) fn row(text: &mut String, label: &str, value: &str) {
    // Padded before it is styled, so that the escapes do not count as width.
    let _ = writeln!(text, "{} {value}", styled(DIM, format_args!("{label:<9}")));
}

/// The time of day, UTC, of a time since 1970-01-01: `12:03:04Z`.
pub(crate) fn utc_time(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The same with milliseconds: `12:03:04.123Z`.
pub(crate) fn utc_time_millis(since_epoch: Duration) -> String {
    let whole = utc_time(since_epoch);
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), since_epoch.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_use_the_unit_that_fits() {
        let words = [(0, "0 us"), (999, "999 us"), (12_340, "12.3 ms"), (4_500_000, "4.5 s"), (180_000_000, "3 min")];
        for (micros, word) in words {
            assert_eq!(duration(Duration::from_micros(micros)), word);
        }
        assert_eq!(duration(Duration::from_secs(7_200)), "2 h");
        assert_eq!(duration(Duration::from_secs(200_000)), "2 d");
    }

    #[test]
    fn bytes_use_the_unit_that_fits() {
        for (count, word) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (256 << 20, "256.0 MiB"), (u64::MAX, "16384.0 PiB")]
        {
            assert_eq!(bytes(count), word);
        }
    }
}
