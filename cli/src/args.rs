//! What may be typed: clap types with their help. No behaviour. After: [`crate::commands`].

pub mod mirror;
pub mod mirror_values;

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;
use tunnel::session_options::{CarrierChoice, GatewayAddress};

/// Join this machine to a cluster's network.
#[derive(Debug, Parser)]
#[command(name = "adit", version, propagate_version = true, after_help = crate::exit::HELP, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show adit at work in a small cluster on this machine, made of network namespaces
    #[command(after_help = "Examples:\n  \
        adit demo\n  \
        adit demo --keep          and a shell on the developer's machine of the demo\n\n\
        It needs no root where ordinary users may make namespaces, does not touch this machine's network, and leaves \
        nothing behind, however it ends.")]
    Demo {
        /// Leave a shell on the developer's machine before leaving the cluster
        #[arg(long)]
        keep: bool,
    },
    /// Join: cluster addresses and names work for every program on this machine
    #[command(after_help = "Examples:\n  \
        adit connect --gateway gateway.example.com:7844 --identity alice.pem\n  \
        adit connect --gateway [fd00::1]:7844 --identity alice.pem --namespace shop --carrier tcp\n  \
        ADIT_STATE_DIR=/run/adit-2 adit connect ...      a second session beside the first\n\n\
        It returns when traffic flows, and the session stays in the background until `adit quit`.")]
    Connect(Connect),
    /// Show the session: link, routes, names, flows, mirrors, counters
    #[command(after_help = "Examples:\n  \
        adit status\n  \
        adit status --watch\n  \
        adit status -o json | jq .link.carrier")]
    Status(Status),
    /// Copy what a target receives to programs on this machine, while it goes on serving
    #[command(after_help = mirror::EXAMPLES)]
    Mirror(mirror::Mirror),
    /// Leave: the machine is as before when it returns
    #[command(after_help = "Example:\n  adit quit && echo left")]
    Quit,
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  adit completions bash > ~/.local/share/bash-completion/completions/adit")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual pages to a directory
    #[command(hide = true)]
    Man {
        /// Where to write them; it must exist.
        dir: PathBuf,
    },
    /// Print the version
    Version,
    /// The background process of `connect`: reports to its standard output
    #[command(hide = true)]
    Session(Connect),
}

/// How to join.
#[derive(Debug, Clone, ClapArgs)]
pub struct Connect {
    /// Where the gateway listens
    #[arg(long, value_name = "HOST:PORT")]
    pub gateway: GatewayAddress,
    /// The identity's file, as `adit-gateway identity issue` wrote it
    #[arg(long, value_name = "FILE")]
    pub identity: PathBuf,
    /// How packets may cross the network: QUIC over UDP, or inside one TCP connection
    #[arg(long, value_enum, default_value_t)]
    pub carrier: Carrier,
    /// Where a name without dots is looked up first
    #[arg(long, value_name = "NAMESPACE", default_value = "default", value_parser = dns_label)]
    pub namespace: String,
    /// Stay in the foreground, until Ctrl-C or SIGTERM
    #[arg(long)]
    pub foreground: bool,
    /// What the log holds: error, warn, info, debug, trace, or a filter such as tunnel=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_filter)]
    pub log_level: String,
}

/// Which carriers may be tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// Both at once; the best that works
    #[default]
    Auto,
    /// QUIC over UDP
    Udp,
    /// QUIC packets over one TCP connection
    Tcp,
}

impl Carrier {
    /// The word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl From<Carrier> for CarrierChoice {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Auto => Self::Auto,
            Carrier::Udp => Self::Udp,
            Carrier::Tcp => Self::Tcp,
        }
    }
}

/// How to show the session.
#[derive(Debug, ClapArgs)]
pub struct Status {
    /// The form: text for people, json for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
    /// Show it again and again, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Time between two, with --watch
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, requires = "watch")]
    pub interval: Duration,
}

/// The form of an output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    #[default]
    Text,
    /// For programs: the fields are documented and only ever added to
    Json,
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds between 0.1 and 86400".to_owned())
}

fn dns_label(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits =
        (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a namespace is 1 to 63 of a-z, 0-9 and '-', and neither starts nor ends with '-'".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_shown_command_but_the_plain_ones_has_an_example() {
        for command in Args::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let plain = ["version"].contains(&command.get_name());
            assert!(plain || command.get_after_help().is_some(), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn wrong_values_are_refused_where_they_are_typed() {
        let connect = ["adit", "connect", "--identity", "alice.pem", "--gateway"];
        let parse = |rest: &[&str]| {
            Args::try_parse_from(connect.iter().chain(rest)).map(|_| ()).map_err(|error| error.to_string())
        };
        assert!(parse(&["gateway.example.com:7844"]).is_ok());
        assert!(parse(&["gateway.example.com"]).unwrap_err().contains("HOST:PORT"));
        assert!(parse(&["gw:1", "--carrier", "pigeon"]).unwrap_err().contains("auto, udp, tcp"));
        assert!(parse(&["gw:1", "--namespace", "Shop"]).unwrap_err().contains("a-z"));
        assert!(parse(&["gw:1", "--log-level", "tunnel=loud"]).is_err());
    }

    fn mirror(rest: &[&str]) -> Result<mirror::Mirror, String> {
        let words = ["adit", "mirror"].iter().chain(rest);
        let parsed = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Mirror(mirror) = parsed.command else { panic!("{parsed:?}") };
        Ok(mirror)
    }

    #[test]
    fn a_target_is_told_from_what_is_done_with_rules_by_its_slash() {
        let new = mirror(&["deploy/on", "8080:3000", "9090", "--sample", "10%"]).unwrap().new.unwrap();
        assert_eq!((new.ports.len(), new.ports[0].port), (2, 8080));
        let off = mirror(&["off", "8080"]).unwrap();
        assert!(off.new.is_none() && matches!(off.change, Some(mirror::Change::Off(_))));
        assert!(mirror(&["list", "-o", "json"]).is_ok() && mirror(&["rm"]).is_ok());
        assert!(mirror(&["of", "8080"]).unwrap_err().contains("on, off, rm and list"));
        assert!(mirror(&["deploy/web"]).unwrap_err().contains("PORT"));
        assert!(mirror(&["deploy/web", "8080", "--udp", "--proxy-protocol"]).is_err());
        assert!(mirror(&["deploy/web", "8080", "--sample", "10"]).unwrap_err().contains("10%"));
        assert!(mirror(&[]).unwrap_err().contains("Examples"));
    }
}
