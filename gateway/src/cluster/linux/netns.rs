//! Network namespaces that have a path, as `ip netns add` and container engines make them.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use nix::sys::statfs::{NSFS_MAGIC, statfs};

use crate::cluster::{Instance, Missing, Replica, ReplicaPlace};

/// What is at this path.
pub(super) fn look(path: &Path) -> Result<Replica, Missing> {
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let missing = |problem: &str, is_wrong| Missing {
        name: name.clone(),
        is_wrong,
        reason: format!(
            "{} {problem}: make it ('ip netns add NAME') or correct netns; it is looked for again when mirrored",
            path.display()
        ),
    };
    let metadata = fs::metadata(path).map_err(|error| {
        let is_absent = error.kind() == io::ErrorKind::NotFound;
        let problem = if is_absent { "does not exist".to_owned() } else { format!("cannot be looked at ({error})") };
        missing(&problem, !is_absent)
    })?;
    // What `ip netns del` leaves for a moment, or a file that nothing was mounted on, is no namespace.
    let is_namespace = statfs(path).is_ok_and(|filesystem| filesystem.filesystem_type() == NSFS_MAGIC);
    if !is_namespace {
        return Err(missing("is no namespace", true));
    }
    // A number is not used again while a tap is in the namespace.
    let instance = Instance(metadata.dev(), metadata.ino());
    Ok(Replica { name, place: ReplicaPlace::Netns(path.to_owned()), instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_told_from_what_is_none() {
        let replica = look(Path::new("/proc/self/ns/net")).unwrap();
        assert_eq!(replica.name, "net");
        assert_eq!(look(Path::new("/proc/thread-self/ns/net")).unwrap().instance, replica.instance);
        let file = look(Path::new("/proc/self/stat")).unwrap_err();
        assert!(file.is_wrong && file.reason.starts_with("/proc/self/stat is no namespace: make it"), "{file:?}");
        assert!(!look(Path::new("/nonexistent")).unwrap_err().is_wrong);
    }
}
