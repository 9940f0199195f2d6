//! [`Census`]: what the target received on every connection to some ports, read from the kernel in parts, so that frames have their turn
//! between them. Before: [`super::settling`]; after: [`super::sockets`].

use std::{
    collections::{BTreeSet, HashMap},
    io,
};

use super::sockets::{Connection, FAMILIES, Known, Sockets};

/// What has been read.
#[derive(Debug)]
pub(super) struct Census {
    sockets: Sockets,
    ports: BTreeSet<u16>,
    /// The family that is being read.
    family: usize,
    all: HashMap<Connection, Known>,
}

impl Census {
    /// # Errors
    /// The kernel's, where it has no `sock_diag`.
    pub(super) fn begin(ports: BTreeSet<u16>) -> io::Result<Self> {
        let mut sockets = Sockets::open()?;
        sockets.begin(FAMILIES[0])?;
        Ok(Self { sockets, ports, family: 0, all: HashMap::new() })
    }

    /// Reads one part; whether it was the last.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn go_on(&mut self) -> io::Result<bool> {
        if !self.sockets.more(&self.ports, &mut self.all)? {
            return Ok(false);
        }
        self.family += 1;
        let Some(family) = FAMILIES.get(self.family) else { return Ok(true) };
        self.sockets.begin(*family)?;
        Ok(false)
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn finish(mut self) -> io::Result<HashMap<Connection, Known>> {
        while !self.go_on()? {}
        Ok(self.all)
    }

    /// The ports, and what was read.
    pub(super) fn into_parts(self) -> (BTreeSet<u16>, HashMap<Connection, Known>) {
        (self.ports, self.all)
    }
}
