//! Containers, found by the cgroup of their processes: every engine puts the container's id into its path, so none is asked.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::cluster::{Instance, Missing, Replica, ReplicaPlace, linux::process::started};

/// The characters of a whole id, as docker, containerd, CRI-O and podman write it.
const ID_CHARS: usize = 64;
/// The characters that these show.
const SHORT_ID_CHARS: usize = 12;

/// Containers that were found: while the process lives, nothing is searched.
#[derive(Debug, Default)]
pub(super) struct Containers(Mutex<HashMap<String, Found>>);

#[derive(Debug, Clone)]
struct Found {
    id: String,
    pid: u32,
    start: u64,
}

impl Containers {
    /// The container whose id begins so, if there is exactly one.
    pub(super) fn look(&self, prefix: &str) -> Result<Replica, Missing> {
        let known = self.lock().get(prefix).cloned().filter(|found| started(found.pid) == Some(found.start));
        let found = match known {
            Some(found) => found,
            None => search(prefix, Path::new("/proc"))?,
        };
        self.lock().insert(prefix.to_owned(), found.clone());
        let name = short(&found.id).to_owned();
        let place = ReplicaPlace::Pid { pid: found.pid, started: found.start };
        Ok(Replica { name, place, instance: Instance(found.pid.into(), found.start) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn short(id: &str) -> &str {
    id.get(..SHORT_ID_CHARS).unwrap_or(id)
}

/// The oldest process of the container: the engine's own first one, which lives as long as the container does.
fn search(prefix: &str, proc: &Path) -> Result<Found, Missing> {
    let mut containers: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if let Some(id) = cgroups.lines().find_map(container_of).filter(|id| id.starts_with(prefix)) {
            containers.entry(id.to_owned()).or_default().push(pid);
        }
    }
    let missing = |reason, is_wrong| Missing { name: short(prefix).to_owned(), reason, is_wrong };
    if containers.len() > 1 {
        return Err(missing(
            format!("{} containers begin with {prefix}: write more of the id", containers.len()),
            true,
        ));
    }
    let first = containers.into_iter().next().and_then(|(id, pids)| {
        let (start, pid) = pids.into_iter().filter_map(|pid| Some((started(pid)?, pid))).min()?;
        Some(Found { id, pid, start })
    });
    first.ok_or_else(|| missing(format!("no container {prefix} runs here: start it, or correct container"), false))
}

/// The innermost container of a line of `/proc/PID/cgroup`, such as `0::/system.slice/docker-4f1d….scope`.
fn container_of(line: &str) -> Option<&str> {
    let path = line.splitn(3, ':').nth(2)?;
    path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        // `docker-ID`, `cri-containerd-ID`, `crio-ID`, `libpod-ID`, or `kubepods-…:cri-containerd:ID`.
        let id = part.rsplit(['-', ':']).next()?;
        let is_id = id.len() == ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1d9c02a7be4f1d9c02a7be4f1d9c02a7be4f1d9c02a7be4f1d9c02a7be4f1d";

    #[test]
    fn an_id_is_found_as_every_engine_writes_it() {
        for path in [
            format!("0::/system.slice/docker-{ID}.scope"),
            format!("0::/docker/{ID}"),
            format!("12:memory:/docker/{ID}/nested"),
            format!("0::/../docker-{ID}.scope/init"),
            format!("0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-{ID}.scope"),
            format!("0::/system.slice/containerd.service/kubepods-besteffort:cri-containerd:{ID}"),
            format!("0::/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(container_of(&path), Some(ID), "{path}");
        }
        for path in ["0::/", "0::/user.slice/user-1000.slice", "0::/docker/4f1d9c02a7be", "nonsense"] {
            assert_eq!(container_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_beginning_must_be_of_one_container_and_the_oldest_process_is_taken() {
        let proc = tempfile::tempdir().unwrap();
        let add = |pid: u32, id: &str| {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("cgroup"), format!("0::/docker/{id}\n")).unwrap();
        };
        let other = ID.replacen("4f1d", "4f1e", 1);
        // Whether it lives is asked of the real /proc.
        add(std::process::id(), ID);
        add(1, &other);
        let found = search("4f1d", proc.path()).unwrap();
        assert_eq!((found.id.as_str(), found.pid), (ID, std::process::id()));
        let two = search("4f1", proc.path()).unwrap_err();
        assert_eq!(two.reason, "2 containers begin with 4f1: write more of the id");
        let none = search("abcd", proc.path()).unwrap_err();
        assert_eq!(none.reason, "no container abcd runs here: start it, or correct container");
        add(2, ID);
        assert_eq!(search("4f1d", proc.path()).unwrap().pid, if started(2).is_some() { 2 } else { std::process::id() });
    }
}
