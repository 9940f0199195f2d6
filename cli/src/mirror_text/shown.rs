//! The lines of `adit mirror --print`: what came, like an access log.
//! Before: [`crate::commands`]; after: nothing. Texts were made harmless to terminals by the session.

use std::{fmt::Write, time::Duration};

use tunnel::control::mirror_message::{Printed, PrintedEvent};

use super::counts::{amount, reason_words};
use crate::{
    output::{CODE, DIM, WARN, styled},
    text::{bytes, utc_time_millis},
};

/// One event, without a line break at its end.
pub(crate) fn event(printed: &Printed) -> String {
    let at = utc_time_millis(Duration::from_millis(printed.unix_millis));
    let mut text = format!("{} {} {}  ", styled(DIM, at), printed.replica, printed.client);
    let _ = match &printed.event {
        PrintedEvent::Request { line, headers, body_bytes, whole } => {
            let _ = write!(text, "{}", styled(CODE, line));
            if *body_bytes > 0 {
                let _ = write!(text, "  {}", bytes(*body_bytes));
            }
            if !whole {
                let _ = write!(text, "  {}", styled(WARN, "not whole"));
            }
            for (name, value) in headers {
                let _ = write!(text, "\n    {} {value}", styled(DIM, format_args!("{name}:")));
            }
            Ok(())
        }
        PrintedEvent::Bytes { bytes: count } => write!(text, "{}", bytes(*count)),
        PrintedEvent::Datagram { bytes: count } => write!(text, "datagram of {}", bytes(*count)),
        PrintedEvent::Gap { reason, bytes, datagrams } => {
            let loss = link::rules::Loss { flows: 0, bytes: *bytes, datagrams: *datagrams };
            write!(text, "{}", styled(WARN, format_args!("{}: {}", reason_words(*reason), amount(loss))))
        }
        PrintedEvent::Ended { how, bytes: count } => {
            write!(text, "{}", styled(DIM, format_args!("{how} after {}", bytes(*count))))
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror_text::tests::plain;

    #[test]
    fn a_request_is_its_line_and_its_headers() {
        let headers = vec![("host".to_owned(), "web".to_owned()), ("accept".to_owned(), "*/*".to_owned())];
        let event = PrintedEvent::Request { line: "POST /a HTTP/1.1".to_owned(), headers, body_bytes: 12, whole: true };
        let client = "10.244.9.2:40000".parse().unwrap();
        let printed = Printed { unix_millis: 43_384_123, rule: 1, replica: "web-1".to_owned(), client, event };
        let expected = "12:03:04.123Z web-1 10.244.9.2:40000  POST /a HTTP/1.1  12 B\n    host: web\n    accept: */*";
        assert_eq!(plain(&super::event(&printed)), expected);
    }
}
