//! The form of `gateway.toml`, with the place of every value that may turn out wrong.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::Problem;

/// What is wrong, and where in the text.
pub(super) type Misplaced = (Range<usize>, Problem);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Spanned<String>,
    pub(super) metrics: Option<Spanned<String>>,
    pub(super) state_dir: Spanned<String>,
    pub(super) audit: Option<Spanned<String>>,
    pub(super) cluster: Cluster,
    #[serde(default, rename = "target")]
    pub(super) targets: Vec<Spanned<Target>>,
    #[serde(default, rename = "allow")]
    pub(super) allows: Vec<Spanned<Allow>>,
    #[serde(default)]
    pub(super) limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) provider: Spanned<String>,
    pub(super) domain: Spanned<String>,
    pub(super) dns: Spanned<String>,
    pub(super) routes: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) namespaces: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) netns: Vec<Spanned<String>>,
    /// Numbers, and paths of files with one.
    #[serde(default)]
    pub(super) pid: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    pub(super) container: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Allow {
    pub(super) name: Spanned<String>,
    pub(super) reach: Option<Vec<Spanned<String>>>,
    pub(super) mirror: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) sessions: Option<Spanned<i64>>,
    pub(super) sessions_per_identity: Option<Spanned<i64>>,
    pub(super) streams: Option<Spanned<i64>>,
    pub(super) dials_per_second: Option<Spanned<i64>>,
    pub(super) pending_dials: Option<Spanned<i64>>,
    pub(super) udp_flows: Option<Spanned<i64>>,
    pub(super) mirrored_flows: Option<Spanned<i64>>,
    pub(super) mirror_memory_mib: Option<Spanned<i64>>,
    pub(super) memory_mib: Option<Spanned<i64>>,
    pub(super) dial_timeout_seconds: Option<Spanned<i64>>,
    pub(super) drain_seconds: Option<Spanned<i64>>,
}

/// Reads the form; what TOML and the form forbid is reported where it stands.
pub(super) fn parse(text: &str) -> Result<File, Misplaced> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim_end();
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let problem = missing.map_or_else(
            || Problem::Form(message.replace('\n', ", ")),
            |field| Problem::Missing { field: field.to_owned(), example: example(field) },
        );
        (span, problem)
    })
}

/// A line that would do for a required key.
fn example(field: &str) -> &'static str {
    match field {
        "listen" => "listen = \"0.0.0.0:7844\"",
        "state_dir" => "state_dir = \"/var/lib/adit-gateway\"",
        "cluster" => "[cluster]",
        "provider" => "provider = \"linux\"",
        "domain" => "domain = \"cluster.local\"",
        "dns" => "dns = \"10.96.0.10:53\"",
        "routes" => "routes = [\"10.96.0.0/16\"]",
        "name" => "name = \"shop/deploy/web\", or in an [[allow]] name = \"alice\"",
        _ => "it",
    }
}
