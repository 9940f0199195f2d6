//! A `[[target]]` of `gateway.toml`: a name, and the places where its replicas run. Before: [`super::validate`]; after:
//! [`crate::cluster`], which looks what is there.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, path::PathBuf};

use toml::{Spanned, Value};

use super::{
    Problem, raw,
    validate::{Checked, absolute, at, is_domain, is_label},
};

/// Replicas of one target at most: a session is told of each in one message.
pub(super) const MOST_REPLICAS: usize = 256;
/// Characters of a container's id: a shorter beginning is a guess, and a longer one than the whole is none.
pub(super) const CONTAINER_CHARS: RangeInclusive<usize> = 4..=64;
/// What `kernel.pid_max` allows.
const MOST_PID: i64 = 1 << 22;

/// A workload whose inbound traffic may be mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `namespace/kind/name`.
    pub name: String,
    /// Where its replicas run, at least one.
    pub places: Vec<Place>,
}

/// Where a replica runs, as the file says it; what is there may come and go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A network namespace that has this absolute path.
    Netns(PathBuf),
    /// A process.
    Pid(u32),
    /// The process whose number this file has.
    PidFile(PathBuf),
    /// A container, by the beginning of its id.
    Container(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::PidFile(path) => write!(f, "the process of {}", path.display()),
            Self::Container(id) => write!(f, "container {id}"),
        }
    }
}

pub(super) fn targets(list: &[Spanned<raw::Target>]) -> Checked<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    for raw in list {
        let target = target(raw.get_ref())?;
        if targets.iter().any(|other| other.name == target.name) {
            return Err(at(&raw.get_ref().name, Problem::TargetTwice(target.name)));
        }
        targets.push(target);
    }
    Ok(targets)
}

fn target(raw: &raw::Target) -> Checked<Target> {
    let name = raw.name.get_ref();
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() != 3 || !parts.iter().all(|part| is_domain(part)) || !is_label(parts[0]) {
        return Err(at(&raw.name, Problem::TargetName(name.clone())));
    }
    let netns = raw.netns.iter().map(|path| Ok((path.span(), Place::Netns(absolute(path)?))));
    let pids = raw.pid.iter().map(|value| Ok((value.span(), pid(value)?)));
    let containers = raw.container.iter().map(|id| Ok((id.span(), container(id)?)));
    let mut known = BTreeSet::new();
    let mut places = Vec::new();
    for place in netns.chain(pids).chain(containers) {
        let (span, place) = place?;
        if !known.insert(place.clone()) {
            return Err((span, Problem::ReplicaTwice(place.to_string())));
        }
        places.push(place);
    }
    match places.len() {
        0 => Err(at(&raw.name, Problem::NoReplica(name.clone()))),
        1..=MOST_REPLICAS => Ok(Target { name: name.clone(), places }),
        more => Err(at(&raw.name, Problem::Replicas(more))),
    }
}

fn pid(value: &Spanned<Value>) -> Checked<Place> {
    let wrong = || at(value, Problem::Pid(value.get_ref().to_string()));
    if let Some(number) = value.get_ref().as_integer() {
        let within = (1..=MOST_PID).contains(&number).then(|| u32::try_from(number).ok()).flatten();
        return within.map(Place::Pid).ok_or_else(wrong);
    }
    let path = PathBuf::from(value.get_ref().as_str().ok_or_else(wrong)?);
    if path.is_absolute() { Ok(Place::PidFile(path)) } else { Err(wrong()) }
}

fn container(id: &Spanned<String>) -> Checked<Place> {
    let text = id.get_ref();
    let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_id = is_hex && CONTAINER_CHARS.contains(&text.len());
    if is_id { Ok(Place::Container(text.clone())) } else { Err(at(id, Problem::Container(text.clone()))) }
}
