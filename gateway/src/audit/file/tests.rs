//! A file for its owner alone, followed when it is rotated; what cannot be written is counted and tears no other line.

use std::{fs, os::unix::fs::symlink};

use super::*;

#[tokio::test]
async fn lines_are_appended_to_a_file_for_its_owner_alone_and_follow_it_when_it_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
    fs::write(&path, "before\n").unwrap();
    let writer = Writer::start(&path, Counter::default()).unwrap();
    writer.write("one".to_owned());
    writer.flush().await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\none\n");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    fs::rename(&path, &moved).unwrap();
    writer.write("two".to_owned());
    writer.flush().await;
    writer.reopen();
    writer.write("three".to_owned());
    writer.flush().await;
    assert_eq!(fs::read_to_string(&moved).unwrap(), "before\none\ntwo\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_link_a_directory_and_a_device_are_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("elsewhere"), &link).unwrap();
    let error = Writer::start(&link, Counter::default()).unwrap_err().to_string();
    assert!(error.ends_with("link is a symbolic link: give the file itself in gateway.toml"), "{error}");
    assert!(!dir.path().join("elsewhere").exists());
    let error = Writer::start(Path::new("/dev/null"), Counter::default()).unwrap_err().to_string();
    assert_eq!(error, "the audit /dev/null is no regular file: give another in gateway.toml");
    let error = Writer::start(&dir.path().join("none/audit"), Counter::default()).unwrap_err().to_string();
    assert!(error.contains("none/audit: make its directory"), "{error}");
}

/// Takes so many bytes and then fails, as a disk that is full.
struct Disk(Vec<u8>, usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.1 - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_says_how_much_of_a_line_it_took() {
    let mut disk = Disk(Vec::new(), 7);
    assert!(write_whole(&mut disk, b"1234\n").is_ok());
    let (written, error) = write_whole(&mut disk, b"5678\n").unwrap_err();
    assert_eq!((written, error.kind()), (2, io::ErrorKind::StorageFull));
}

#[test]
fn a_full_disk_costs_lines_which_are_counted_and_the_next_begins_on_a_line_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let lost = Counter::default();
    // Every write to it fails, as to a full disk.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut file = AuditFile { file: full, path: path.clone(), lost: lost.clone(), is_torn: true, is_failing: false };
    file.write("lost");
    file.write("lost");
    assert_eq!((lost.get(), file.is_torn, file.is_failing), (2, true, true));
    fs::write(&path, "half a li").unwrap();
    file.file = open(&path).unwrap();
    file.write("whole");
    file.write("whole");
    assert_eq!(fs::read_to_string(&path).unwrap(), "half a li\nwhole\nwhole\n");
    assert!(!file.is_failing);
}
