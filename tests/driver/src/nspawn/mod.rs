//! Machines in systemd-nspawn: the image's root without firmware, kernel and verity, started within a second.
//!
//! Needs root. Everything happens in namespaces of the run's own: the host's network, mounts and processes are not
//! touched.

mod machine;
pub mod stage;
pub mod within;

use std::fs;
use std::path::{Path, PathBuf};

use machine::NspawnMachine;
use stage::Stage;

use crate::error::{Error, Result};
use crate::machine::{Machine, Site, Wanted};
use crate::programs::{Programs, output};

/// A site of containers on one bridge.
pub struct NspawnSite {
    dir: PathBuf,
    root: PathBuf,
    programs: Programs,
    stage: Stage,
}

impl NspawnSite {
    /// Sets the stage in `dir` and unpacks the root of the image whose parts these are.
    ///
    /// # Errors
    /// When a program of the tree is missing, or a namespace may not be made.
    pub fn new(programs: Programs, parts: &Path, dir: &Path) -> Result<Self> {
        let root = dir.join("root");
        let image = parts.join("root.erofs");
        let mut extract = programs.command("fsck.erofs");
        extract.arg(format!("--extract={}", root.display())).arg(&image);
        output(&mut extract)?;
        let stage = Stage::set(dir)?;
        for words in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "site", "type", "bridge"],
            &["link", "set", "site", "up"],
        ] {
            output(stage.command(&programs, "ip")?.args(words))?;
        }
        Ok(Self { dir: dir.to_path_buf(), root, programs, stage })
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

    fn filter(&self, rules: &str) -> Result<()> {
        let file = self.dir.join("cut.nft");
        fs::write(&file, rules).map_err(Error::file("writing", &file))?;
        output(self.stage.command(&self.programs, "nft")?.arg("-f").arg(&file)).map(drop)
    }
}

impl Site for NspawnSite {
    fn machine(&self, wanted: Wanted) -> Result<Box<dyn Machine>> {
        let dir = self.dir.join(&wanted.name);
        fs::create_dir(&dir).map_err(Error::file("making", &dir))?;
        let machine = NspawnMachine::new(&self.programs, &self.stage, &self.root, wanted, dir)?;
        Ok(Box::new(machine))
    }

    fn cut(&self, a: &str, b: &str) -> Result<()> {
        // A table of its own per pair: made and removed as a whole.
        let (table, a, b) = cut_names(a, b);
        self.filter(&format!(
            "table bridge {table} {{\n\
             chain cut {{\n\
             type filter hook forward priority 0\n\
             iifname {a} oifname {b} drop\n\
             iifname {b} oifname {a} drop\n\
             }}\n}}\n"
        ))
    }

    fn restore(&self, a: &str, b: &str) -> Result<()> {
        let (table, ..) = cut_names(a, b);
        self.filter(&format!("delete table bridge {table}\n"))
    }
}

fn cut_names(a: &str, b: &str) -> (String, String, String) {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    let plain = |name: &str| name.replace('-', "_");
    (format!("cut_{}_{}", plain(a), plain(b)), format!("\"vb-{a}\""), format!("\"vb-{b}\""))
}
