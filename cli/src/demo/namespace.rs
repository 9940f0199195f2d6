//! One network namespace with a resolver configuration of its own: a machine, as far as programs on it can tell.
//!
//! Namespaces have no name in `/run/netns` and no process of their own: an open descriptor keeps each alive, so that
//! they end with the process. Needs [`super::entry::enter`] first.
//! Next in the flow: [`super::wiring`], which gives the namespace its links.

#![expect(unsafe_code, reason = "pre_exec: the child enters the namespace between fork and exec")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    net::IpAddr,
    os::unix::process::CommandExt,
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use thiserror::Error;

/// Where a host keeps what would answer names past the namespace's own nameserver: nscd, nss-resolve.
const FOREIGN_RESOLVERS: [&str; 3] = ["/run/nscd", "/var/run/nscd", "/run/systemd/resolve"];

/// A namespace could not be made or used.
#[derive(Debug, Error)]
#[error("network namespace '{name}': cannot {step}")]
pub struct NamespaceError {
    name: String,
    step: String,
    source: io::Error,
}

/// What `/etc/resolv.conf` says in a namespace.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    /// `nameserver` lines.
    pub nameservers: Vec<IpAddr>,
    /// The `search` line; none when empty.
    pub search: Vec<String>,
}

/// A network namespace and a mount namespace that go together. Clones are the same namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    network: File,
    mounts: File,
}

impl Namespace {
    /// A new namespace with its loopback device down and no other device. Files of its own are kept under `directory`.
    pub fn new(name: &str, directory: &Path, resolver: &Resolver) -> Result<Self, NamespaceError> {
        let etc = directory.join(name).join("etc");
        let files = EtcFiles::write(&etc, name, resolver).map_err(|source| NamespaceError {
            name: name.to_owned(),
            step: format!("write {}", etc.display()),
            source,
        })?;
        let made = in_thread(name, || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            files.bind()?;
            // Addresses are usable at once and never change state: nobody else is on these links.
            fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")?;
            Ok(Inner {
                name: name.to_owned(),
                network: File::open("/proc/thread-self/ns/net")?,
                mounts: File::open("/proc/thread-self/ns/mnt")?,
            })
        });
        made.map(|inner| Self { inner: Arc::new(inner) }).map_err(|source: io::Error| NamespaceError {
            name: name.to_owned(),
            step: "make it".to_owned(),
            source,
        })
    }

    /// What it was called when it was made; only for people.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The descriptor that names the network namespace to the kernel.
    pub fn network(&self) -> &File {
        &self.inner.network
    }

    /// Runs `work` in a thread inside the namespace and gives its result; a panic goes on in the caller.
    ///
    /// What `work` opens stays in the namespace wherever it is used afterwards: sockets, devices, netlink.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_thread(&self.inner.name, || {
            self.enter().expect("a namespace that could be made can be entered");
            work()
        })
    }

    /// Moves the calling thread, and no other of the process, into the namespace, for good.
    pub fn enter(&self) -> io::Result<()> {
        // A thread that shares its root and working directory with others may not change mount namespaces.
        unshare(CloneFlags::CLONE_FS)?;
        let directory = std::env::current_dir()?;
        self.enter_single_threaded()?;
        std::env::set_current_dir(directory)
    }

    /// The kernel calls of [`Self::enter`] alone: async-signal-safe, leaves the working directory at the root.
    fn enter_single_threaded(&self) -> io::Result<()> {
        setns(&self.inner.network, CloneFlags::CLONE_NEWNET)?;
        setns(&self.inner.mounts, CloneFlags::CLONE_NEWNS)?;
        Ok(())
    }

    /// A program that will run inside the namespace, in the caller's working directory.
    ///
    /// It does not die with the thread that spawns it; [`super::entry`] makes it die with the process.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.clone();
        // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                let mut path = [0_u8; libc::PATH_MAX as usize];
                let known = !libc::getcwd(path.as_mut_ptr().cast(), path.len()).is_null();
                namespace.enter_single_threaded()?;
                if known && libc::chdir(path.as_ptr().cast()) != 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command
    }

    /// Writes a network setting of this namespace, such as `net/ipv4/ping_group_range`.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), NamespaceError> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| fs::write(&path, value)).map_err(|source| NamespaceError {
            name: self.inner.name.clone(),
            step: format!("set {key} to '{value}'"),
            source,
        })
    }
}

/// Runs `work` in a thread of its own, and a panic of it in the caller.
fn in_thread<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.chars().take(15).collect()).spawn_scoped(scope, work);
        let thread = thread.expect("the machine can start a thread");
        thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}

/// The files under `/etc` that decide how names are resolved, prepared outside and bound over the machine's.
struct EtcFiles {
    resolv_conf: PathBuf,
    nsswitch: PathBuf,
    hosts: PathBuf,
}

impl EtcFiles {
    fn write(directory: &Path, name: &str, resolver: &Resolver) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let files = Self {
            resolv_conf: directory.join("resolv.conf"),
            nsswitch: directory.join("nsswitch.conf"),
            hosts: directory.join("hosts"),
        };
        let mut text = String::new();
        for nameserver in &resolver.nameservers {
            text.push_str(&format!("nameserver {nameserver}\n"));
        }
        if !resolver.search.is_empty() {
            text.push_str(&format!("search {}\n", resolver.search.join(" ")));
        }
        fs::write(&files.resolv_conf, text)?;
        fs::write(&files.nsswitch, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")?;
        fs::write(&files.hosts, format!("127.0.0.1 localhost {name}\n::1 localhost {name}\n"))?;
        Ok(files)
    }

    /// Called in the new mount namespace.
    fn bind(&self) -> io::Result<()> {
        // Where a link leads is asked before the directories are hidden that it may lead into.
        let resolv_conf = fs::canonicalize("/etc/resolv.conf");
        for hidden in FOREIGN_RESOLVERS.iter().filter(|path| Path::new(path).is_dir()) {
            mount(Some("tmpfs"), *hidden, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        }
        bind_over(&self.resolv_conf, &resolv_conf.unwrap_or_else(|_| "/etc/resolv.conf".into()))?;
        bind_over(&self.hosts, Path::new("/etc/hosts"))?;
        if Path::new("/etc/nsswitch.conf").exists() {
            bind_over(&self.nsswitch, Path::new("/etc/nsswitch.conf"))?;
        }
        Ok(())
    }
}

fn bind_over(file: &Path, target: &Path) -> io::Result<()> {
    if !target.exists() {
        File::create(target)?;
    }
    mount(Some(file), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("bind {} over {}: {error}", file.display(), target.display()))
    })
}
