//! `adit status`: asks the session once, or watches it.

use std::{io::IsTerminal, time::Duration};

use tunnel::control::{
    message::{Reply, Request},
    state_dir::StateDir,
    status::Status,
};

use crate::{
    args::{self, Form},
    exit::{Exit, Failure},
    ipc, output, status_text,
};

pub(super) fn run(args: &args::Status) -> Result<Exit, Failure> {
    let dir = StateDir::from_environment()?;
    let shown =
        if args.watch { watch(&dir, args) } else { ipc::status(&dir).map(|status| show_once(&status, args.output)) };
    if args.output == Form::Json && matches!(&shown, Err(failure) if failure.exit == Exit::NotConnected) {
        // A program that reads JSON gets some in this case too.
        output::result(match dir.last_words() {
            Some(ended) => serde_json::json!({ "state": "not_connected", "ended": ended }),
            None => serde_json::json!({ "state": "not_connected" }),
        });
    }
    shown.map(|()| Exit::Done)
}

fn show_once(status: &Status, form: Form) {
    output::result(match form {
        Form::Text => status_text::full(status),
        Form::Json => serde_json::to_string_pretty(status).expect("a status is JSON"),
    });
}

fn watch(dir: &StateDir, args: &args::Status) -> Result<(), Failure> {
    let interval_millis = u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX);
    let mut conversation = ipc::ask(dir, &Request::Watch { interval_millis })?;
    conversation.set_patience(args.interval + Duration::from_secs(5));
    let redraw = std::io::stdout().is_terminal();
    loop {
        let status = match conversation.next(dir)? {
            Some(Reply::Status(status)) => status,
            Some(Reply::Refused { reason }) => return Err(Failure::new(Exit::Failed, reason)),
            Some(Reply::Leaving | Reply::Mirror { .. } | Reply::Printed { .. }) | None => {
                return Err(ipc::not_connected(dir));
            }
        };
        let read = match args.output {
            Form::Json => output::result(serde_json::to_string(&status).expect("a status is JSON")),
            Form::Text => {
                if redraw {
                    output::clear();
                }
                output::result(format_args!("{}{}", status_text::full(&status), if redraw { "" } else { "\n" }))
            }
        };
        if !read {
            return Ok(());
        }
    }
}
