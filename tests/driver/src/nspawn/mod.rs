//! Machines in systemd-nspawn: the image's root without firmware, kernel and verity, started within a second.
//!
//! Needs root. Everything happens in namespaces of the run's own: the host's network, mounts and processes are not
//! touched.

mod disk;
mod links;
mod machine;
pub mod stage;
pub mod within;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use links::Links;
use machine::NspawnMachine;
use stage::Stage;

use crate::cluster;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::machine::{Machine, Site, Wanted};
use crate::network::Network;
use crate::programs::{Programs, output};

/// The bridge between the machines, in the run's own network.
const BRIDGE: &str = "site";

/// A site of containers on one bridge.
pub struct NspawnSite {
    dir: PathBuf,
    images: Images,
    programs: Programs,
    stage: Stage,
    /// Roles whose root is unpacked.
    unpacked: Mutex<Vec<String>>,
    links: Mutex<Links>,
}

impl NspawnSite {
    /// Sets the stage in `dir`. A role's root is unpacked when its first machine is made.
    ///
    /// # Errors
    /// When a namespace may not be made.
    pub fn new(programs: Programs, images: Images, dir: &Path) -> Result<Self> {
        let stage = Stage::set(dir)?;
        let clients = cluster::CLIENTS_ADDRESS;
        for words in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", BRIDGE, "type", "bridge"],
            &["address", "add", clients, "dev", BRIDGE],
            &["link", "set", BRIDGE, "up"],
        ] {
            output(stage.command(&programs, "ip")?.args(words))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            images,
            programs,
            stage,
            unpacked: Mutex::default(),
            links: Mutex::default(),
        })
    }

    /// The root of a role's machines, which they share.
    fn root(&self, role: &str) -> Result<PathBuf> {
        let root = self.dir.join(format!("{role}.root"));
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if !unpacked.iter().any(|ready| ready == role) {
            let image = self.images.of(role)?.parts()?.join("root.erofs");
            let mut extract = self.programs.command("fsck.erofs");
            extract.arg(format!("--extract={}", root.display())).arg(&image);
            output(&mut extract)?;
            unpacked.push(role.to_owned());
        }
        Ok(root)
    }

    /// Why this machine cannot run containers, or nothing if it can as far as a look tells.
    pub fn obstacle(programs: &Programs) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("it needs root".into());
        }
        let missing = ["systemd-nspawn", "fsck.erofs", "ip", "nft"];
        if let Some(program) = missing.iter().find(|program| !programs.has(program)) {
            return Some(format!("{program} is missing"));
        }
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        (!known.contains("cgroup2")).then(|| "the kernel has no cgroup2".into())
    }

    fn change_links(&self, change: impl FnOnce(&mut Links)) -> Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut links);
        let file = self.dir.join("links.nft");
        fs::write(&file, links.rules()).map_err(Error::file("writing", &file))?;
        output(self.stage.command(&self.programs, "nft")?.arg("-f").arg(&file)).map(drop)
    }
}

impl Site for NspawnSite {
    fn machine(&self, wanted: Wanted) -> Result<Box<dyn Machine>> {
        let root = self.root(&wanted.role)?;
        let dir = self.dir.join(&wanted.name);
        fs::create_dir(&dir).map_err(Error::file("making", &dir))?;
        let machine = NspawnMachine::new(&self.programs, &self.stage, &root, wanted, dir)?;
        Ok(Box::new(machine))
    }

    fn cut(&self, a: &str, b: &str) -> Result<()> {
        self.change_links(|links| links.cut(a, b))
    }

    fn restore(&self, a: &str, b: &str) -> Result<()> {
        self.change_links(|links| links.restore(a, b))
    }

    fn lose(&self, a: &str, b: &str, percent: u8) -> Result<()> {
        self.change_links(|links| links.lose(a, b, percent))
    }

    fn isolate(&self, machine: &str) -> Result<()> {
        self.change_links(|links| links.isolate(machine))
    }

    fn rejoin(&self, machine: &str) -> Result<()> {
        self.change_links(|links| links.rejoin(machine))
    }

    fn network(&self) -> Result<Network> {
        Network::of(self.stage.pid())
    }
}
