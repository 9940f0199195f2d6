//! Processes: one whose number was used again is told by its start time.

use std::{fs, path::Path};

use crate::cluster::{Instance, Missing, Replica, ReplicaPlace};

/// A file with more than this has no number in it.
const PID_FILE_BYTES: u64 = 64;

/// The process with this number.
pub(super) fn look(pid: u32) -> Result<Replica, Missing> {
    named(format!("pid-{pid}"), pid).map_err(|name| Missing {
        name,
        reason: format!("there is no process {pid}: start it, or correct pid; a file's path does for one that changes"),
        is_wrong: false,
    })
}

/// The process whose number this file has; it is called as the file is.
pub(super) fn look_file(path: &Path) -> Result<Replica, Missing> {
    let name = path.file_stem().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let missing = |problem: String, is_wrong| Missing {
        name: name.clone(),
        reason: format!("{} {problem}: start the process, or correct pid", path.display()),
        is_wrong,
    };
    let is_short = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= PID_FILE_BYTES);
    let text = is_short.then(|| fs::read_to_string(path).ok()).flatten();
    let text = text.ok_or_else(|| missing("is no file that can be read".to_owned(), path.exists()))?;
    let pid = text.trim().parse().map_err(|_| missing("has no number of a process".to_owned(), true))?;
    named(name.clone(), pid).map_err(|_| missing(format!("names process {pid}, which is not there"), false))
}

fn named(name: String, pid: u32) -> Result<Replica, String> {
    match started(pid) {
        Some(started) => {
            Ok(Replica { name, place: ReplicaPlace::Pid { pid, started }, instance: Instance(pid.into(), started) })
        }
        None => Err(name),
    }
}

/// When a process started, in the kernel's ticks since boot; `None` for one that is not there, or only waits for its parent.
pub(crate) fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have anything in it, parentheses as well.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let is_alive = !matches!(fields.next()?, "Z" | "X");
    // The state was the third field, the start is the 22nd.
    is_alive.then(|| fields.nth(18)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = std::process::id();
        let replica = look(own).unwrap();
        let place = ReplicaPlace::Pid { pid: own, started: replica.instance.1 };
        assert_eq!((replica.name.as_str(), &replica.place), (format!("pid-{own}").as_str(), &place));
        assert!(replica.instance.1 > 0 && replica == look(own).unwrap());
        assert_ne!(replica.instance.1, started(1).unwrap());
    }

    #[test]
    fn a_process_that_ended_is_missing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(look(pid).unwrap_err().reason.starts_with(&format!("there is no process {pid}: start it")));
    }

    #[test]
    fn a_file_names_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.pid");
        assert!(look_file(&path).unwrap_err().reason.contains("is no file that can be read"));
        fs::write(&path, "web\n").unwrap();
        assert!(look_file(&path).unwrap_err().reason.contains("has no number of a process"));
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        let replica = look_file(&path).unwrap();
        assert_eq!(replica.name, "web");
        assert!(matches!(replica.place, ReplicaPlace::Pid { pid, .. } if pid == std::process::id()));
    }
}
