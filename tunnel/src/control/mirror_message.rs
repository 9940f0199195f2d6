//! What a command says about mirroring, and what it is answered: the rules as a person means them, and what became of each.
//! Before: [`super::message`]; after: [`crate::mirror`].

use std::{fmt, net::SocketAddr, str::FromStr};

use link::rules::{LossReason, RuleProtocol, RuleState, Sample};
use serde::{Deserialize, Serialize};

/// A port of a target, and where its copy goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRule {
    /// `namespace/kind/name`.
    pub target: String,
    /// The port that the target receives on.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: RuleProtocol,
    /// Where the copy goes: `ADDRESS:PORT`, or `print`.
    pub listener: Listener,
    /// One replica by its name; all of them when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// The share of flows that is copied, in millionths.
    #[serde(default)]
    pub sample: Sample,
    /// Payload bytes a second that are copied at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<u64>,
    /// What is done with connections that were open before the rule.
    #[serde(default)]
    pub existing: Existing,
    /// Each connection to the listener begins with a PROXY protocol header (version 2) that names the real client. TCP only.
    #[serde(default)]
    pub proxy_protocol: bool,
}

/// Where a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Listener {
    /// A program's socket.
    At(SocketAddr),
    /// Nowhere: what arrives is told to whoever asked with [`super::message::Request::Print`]. When the last of those goes, so does
    /// the rule.
    Print,
}

const PRINT: &str = "print";

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Print => f.write_str(PRINT),
        }
    }
}

impl FromStr for Listener {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == PRINT { Ok(Self::Print) } else { text.parse().map(Self::At) }
    }
}

impl From<Listener> for String {
    fn from(listener: Listener) -> Self {
        listener.to_string()
    }
}

impl TryFrom<String> for Listener {
    type Error = std::net::AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What is done with connections that were open before the rule, or whose copy was broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// They are left out.
    Skip,
    /// They are joined where their next HTTP/1 request starts; what is no HTTP/1 is left out.
    #[default]
    Http,
    /// They are copied from wherever they are.
    Raw,
}

/// Which rules a command means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Selector {
    /// All of them.
    All,
    /// Those for this port of any target.
    Port {
        /// The target's port.
        port: u16,
    },
    /// Those for this target.
    Target {
        /// As in the rule, or its last parts: `deploy/web` or `web` for `shop/deploy/web`.
        target: String,
        /// Only this port of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
}

/// What became of one rule by a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReply {
    /// The session's number for it, `None` for a rule that was not taken.
    pub id: Option<u32>,
    /// The rule.
    #[serde(flatten)]
    pub rule: NewRule,
    /// What became of it.
    #[serde(flatten)]
    pub standing: Standing,
    /// It is copied, but at some replica nothing listens on the port.
    #[serde(default)]
    pub nobody_listens: bool,
}

/// How a rule stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// Not told to the gateway yet, or not answered: it is in force as soon as the gateway knows of it.
    Waiting {
        /// Why, for a person.
        reason: String,
    },
    /// In force: every replica that is there is copied.
    On,
    /// Switched off.
    #[default]
    Off,
    /// In force, but the target has no replica now: they are copied when they come.
    NoReplica,
    /// Taken away by this command.
    Removed,
    /// The gateway's configuration does not allow it.
    Refused {
        /// The line that is missing, for a person.
        reason: String,
    },
    /// There is no such target.
    UnknownTarget {
        /// The nearest names, the best first.
        nearest: Vec<String>,
    },
    /// The target has no such replica.
    UnknownReplica {
        /// Those it has.
        replicas: Vec<String>,
    },
    /// It cannot be copied.
    Failed {
        /// What is wrong and what to do, for a person.
        reason: String,
    },
    /// The session did not take it: nothing was changed.
    Rejected {
        /// Why, for a program.
        why: Rejection,
        /// What is wrong and what to do, for a person.
        reason: String,
    },
}

impl Standing {
    /// Whether a rule that stands so is of any use: a command that adds one takes it away again when not.
    pub const fn is_hopeful(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::On | Self::Off | Self::NoReplica)
    }
}

/// Characters of a gateway's words that a person is shown.
const WORDS_CHARS: usize = 400;

impl From<&RuleState> for Standing {
    fn from(state: &RuleState) -> Self {
        let words = |words: &String| link::printable::printable(words, WORDS_CHARS);
        // A person reads a handful; a gateway may send many.
        let names = |names: &Vec<String>| names.iter().take(16).map(words).collect();
        match state {
            RuleState::On => Self::On,
            RuleState::NoReplica => Self::NoReplica,
            RuleState::Refused { reason } => Self::Refused { reason: words(reason) },
            RuleState::UnknownTarget { nearest } => Self::UnknownTarget { nearest: names(nearest) },
            RuleState::UnknownReplica { replicas } => Self::UnknownReplica { replicas: names(replicas) },
            RuleState::Failed { reason } => Self::Failed { reason: words(reason) },
            RuleState::Unknown => {
                Self::Waiting { reason: "the gateway says something newer than this adit".to_owned() }
            }
        }
    }
}

/// Why a session does not take a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// There is a rule for this target, port and protocol.
    Duplicate,
    /// The listener's port is a socket of this session.
    OwnPort,
    /// The listener is in the cluster: a copy would go back to where it came from.
    InCluster,
    /// There are as many rules as there may be.
    TooMany,
    /// The rule contradicts itself, such as a PROXY header for UDP.
    Invalid,
}

/// One line of `adit mirror ... --print`. Texts hold nothing that a terminal acts upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// When, milliseconds since 1970-01-01 UTC.
    pub unix_millis: u64,
    /// The rule's number.
    pub rule: u32,
    /// The replica that received it.
    pub replica: String,
    /// Who sent it.
    pub client: SocketAddr,
    /// What was received.
    #[serde(flatten)]
    pub event: PrintedEvent,
}

/// What was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PrintedEvent {
    /// An HTTP/1 request, told when it has ended.
    Request {
        /// Its first line.
        line: String,
        /// Its header fields in their order.
        headers: Vec<(String, String)>,
        /// Bytes of its body, without chunk framing.
        body_bytes: u64,
        /// It arrived to its end.
        whole: bool,
    },
    /// Bytes of a connection that is no HTTP/1, or of one that is not followed any more.
    Bytes {
        /// How many arrived together.
        bytes: u64,
    },
    /// A UDP datagram.
    Datagram {
        /// Its size.
        bytes: u64,
    },
    /// Something was not copied.
    Gap {
        /// Why.
        reason: LossReason,
        /// Payload bytes.
        bytes: u64,
        /// UDP datagrams.
        datagrams: u64,
    },
    /// A connection ended.
    Ended {
        /// `finished`, `reset` or `gone`.
        how: String,
        /// Its payload bytes.
        bytes: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(listener: Listener) -> NewRule {
        NewRule {
            target: "shop/deploy/web".to_owned(),
            port: 8080,
            protocol: RuleProtocol::Tcp,
            listener,
            replica: None,
            sample: Sample::ALL,
            max_rate: None,
            existing: Existing::Http,
            proxy_protocol: false,
        }
    }

    #[test]
    fn a_reply_survives_its_json() {
        for (listener, text) in
            [(Listener::Print, "print"), (Listener::At("[::1]:3000".parse().unwrap()), "[::1]:3000")]
        {
            let standing = Standing::Rejected { why: Rejection::Duplicate, reason: "no".to_owned() };
            let reply = RuleReply { id: None, rule: rule(listener), standing, nobody_listens: false };
            let json = serde_json::to_string(&reply).unwrap();
            assert!(json.contains(&format!(r#""listener":"{text}""#)), "{json}");
            assert!(json.contains(r#""standing":"rejected""#), "{json}");
            assert_eq!(serde_json::from_str::<RuleReply>(&json).unwrap(), reply);
        }
    }

    #[test]
    fn a_rule_needs_no_more_than_what_it_is_about() {
        let json = r#"{"target":"shop/deploy/web","port":8080,"protocol":"tcp","listener":"print"}"#;
        assert_eq!(serde_json::from_str::<NewRule>(json).unwrap(), rule(Listener::Print));
    }

    #[test]
    fn a_gateways_words_hold_nothing_that_a_terminal_acts_upon() {
        let standing = Standing::from(&RuleState::Refused { reason: "\u{1b}[2Jno".to_owned() });
        assert_eq!(standing, Standing::Refused { reason: "[2Jno".to_owned() });
    }
}
