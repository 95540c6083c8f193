//! Machines in QEMU: from our images, on a switch in user space, with no privilege.

mod accel;
mod arguments;
mod machine;
mod shell;

use std::path::{Path, PathBuf};

pub use accel::{Accel, probe_kvm};
pub use arguments::uuid;
use machine::QemuMachine;

use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::images::Images;
use crate::machine::{Machine, Site, Wanted};
use crate::network::Network;
use crate::programs::Programs;

/// What QEMU machines are made from.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Where `qemu-system-x86_64` and its firmware come from.
    pub programs: Programs,
    /// What the machines are made from.
    pub images: Images,
    /// How instructions are run.
    pub accel: Accel,
    /// Memory of each machine.
    pub memory_mib: u32,
    /// Words added to the kernel's command line, where systemd-boot, its stub or the hypervisor hands them on.
    pub words: Vec<String>,
}

/// A site of QEMU machines, whose files stand in one directory.
pub struct QemuSite {
    hardware: Hardware,
    dir: PathBuf,
    hub: Hub,
}

impl QemuSite {
    /// A site whose machines keep their files in `dir`.
    pub fn new(hardware: Hardware, dir: &Path) -> Self {
        Self { hardware, dir: dir.to_path_buf(), hub: Hub::new(dir) }
    }

    /// The switch.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

impl Site for QemuSite {
    fn machine(&self, wanted: Wanted) -> Result<Box<dyn Machine>> {
        let dir = self.dir.join(&wanted.name);
        std::fs::create_dir(&dir).map_err(Error::file("making", &dir))?;
        let port = self.hub.open_port(&wanted.name)?;
        Ok(Box::new(QemuMachine::new(&self.hardware, wanted, dir, port)?))
    }

    fn cut(&self, a: &str, b: &str) -> Result<()> {
        self.hub.cut(a, b);
        Ok(())
    }

    fn restore(&self, a: &str, b: &str) -> Result<()> {
        self.hub.restore(a, b);
        Ok(())
    }

    fn lose(&self, a: &str, b: &str, percent: u8) -> Result<()> {
        self.hub.lose(a, b, percent);
        Ok(())
    }

    fn isolate(&self, machine: &str) -> Result<()> {
        self.hub.isolate(machine);
        Ok(())
    }

    fn rejoin(&self, machine: &str) -> Result<()> {
        self.hub.rejoin(machine);
        Ok(())
    }

    fn network(&self) -> Result<Network> {
        Err(Error::Missing("clients beside the machines: QEMU's switch has machines alone".into()))
    }
}
