//! What may be typed after `adit mirror`. The values' own forms are in [`super::mirror_values`].
//! Before: [`super`]; after: [`crate::commands`].

use clap::{Args, Subcommand, ValueEnum};
use link::rules::Sample;
use tunnel::control::mirror_message::Existing;

use super::{
    Form,
    mirror_values::{Mapping, TargetName, Which, mapping, port, rate, replica, sample, target, which},
};

/// Examples, for `--help` and the manual page.
pub(super) const EXAMPLES: &str = "Examples:\n  \
    adit mirror shop/deploy/web 8080:3000        what the target gets on 8080 comes to 127.0.0.1:3000 as well\n  \
    adit mirror deploy/web 8080 9090:[::1]:3001  two ports, in the session's namespace\n  \
    adit mirror shop/deploy/dns 53:5353 --udp\n  \
    adit mirror shop/deploy/web 8080 --print     shows the requests, without a program that takes them\n  \
    adit mirror off 8080                         and on again: adit mirror on 8080\n  \
    adit mirror rm all\n  \
    adit mirror list -o json\n\n\
    The target goes on serving: it gets, answers and notices nothing of it. What the program here answers is read and thrown \
    away. What could not be copied is counted: adit status shows it.";

/// Copy what a target receives to programs on this machine.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub struct Mirror {
    /// What to do with rules that are there.
    #[command(subcommand)]
    pub change: Option<Change>,
    /// A new rule.
    #[command(flatten)]
    pub new: Option<New>,
}

/// New rules: a target and its ports.
#[derive(Debug, Args)]
pub struct New {
    /// Whose traffic: NAMESPACE/KIND/NAME, or KIND/NAME in the session's namespace
    #[arg(value_name = "TARGET", value_parser = target)]
    pub target: TargetName,
    /// Which port, and which program here gets it: 8080 is 8080:127.0.0.1:8080
    #[arg(value_name = "PORT[:[HOST:]PORT]", required = true, value_parser = mapping)]
    pub ports: Vec<Mapping>,
    /// UDP datagrams instead of TCP connections
    #[arg(long)]
    pub udp: bool,
    /// Only this replica of the target
    #[arg(long, value_name = "NAME", value_parser = replica)]
    pub replica: Option<String>,
    /// Only a share of the connections, each whole or not at all
    #[arg(long, value_name = "PERCENT", value_parser = sample, default_value = "100%")]
    pub sample: Sample,
    /// Only so many bytes a second, such as 5MB/s
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub max_rate: Option<u64>,
    /// What to do with connections that are open already
    #[arg(long, value_enum, default_value_t)]
    pub existing: ExistingChoice,
    /// Tell the program the real client, by a PROXY protocol header (version 2)
    #[arg(long, conflicts_with_all = ["udp", "print"])]
    pub proxy_protocol: bool,
    /// Show what comes, like an access log, until Ctrl-C; then the rule is gone
    #[arg(long)]
    pub print: bool,
}

/// Connections that were open before the rule, or whose copy was broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ExistingChoice {
    /// Leave them out
    Skip,
    /// From their next HTTP/1 request on; others are left out
    #[default]
    Http,
    /// From wherever they are
    Raw,
}

impl From<ExistingChoice> for Existing {
    fn from(choice: ExistingChoice) -> Self {
        match choice {
            ExistingChoice::Skip => Self::Skip,
            ExistingChoice::Http => Self::Http,
            ExistingChoice::Raw => Self::Raw,
        }
    }
}

/// What to do with rules that are there.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Switch rules on again
    #[command(after_help = "Examples:\n  adit mirror on 8080\n  adit mirror on shop/deploy/web\n  adit mirror on all")]
    On(Choice),
    /// Switch rules off: nothing more arrives once it returns
    #[command(
        after_help = "Examples:\n  adit mirror off 8080\n  adit mirror off deploy/web 8080\n  adit mirror off all"
    )]
    Off(Choice),
    /// Take rules away
    #[command(after_help = "Examples:\n  adit mirror rm 8080\n  adit mirror rm shop/deploy/web\n  adit mirror rm all")]
    Rm(Choice),
    /// Show the rules; how much they copied is in `adit status`
    #[command(after_help = "Examples:\n  adit mirror list\n  adit mirror list -o json | jq '.[].target'")]
    List {
        /// The form: text for people, json for programs
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
}

/// Which rules.
#[derive(Debug, Args)]
pub struct Choice {
    /// The target's port, the target, or all; needed only when there are several rules
    #[arg(value_name = "PORT|TARGET|all", value_parser = which)]
    pub which: Option<Which>,
    /// Only this port of the target
    #[arg(value_name = "PORT", value_parser = port)]
    pub port: Option<u16>,
}
