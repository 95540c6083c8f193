//! The stock side: what a Debian user gets from mmdebstrap, initramfs-tools, systemd-boot and ext4 out of the same
//! packages.
//!
//! All of it comes from one locked tree of packages that is run by its own loader, and mmdebstrap in a copy of that tree; the
//! machine's own Debian, if it is one, plays no part. Running maintainer scripts needs root. Mounts and processes live in
//! namespaces that end with them.

mod disk;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ballast_machines::programs::Programs;

use crate::bench::Package;
use crate::error::{Error, Result};
use crate::timed::{self, Took};

/// Debian's essential packages come by themselves; these two make an initrd as an installed Debian has it.
const BESIDE_OURS: [&str; 2] = ["initramfs-tools", "zstd"];

const LIMIT: Duration = Duration::from_secs(600);

/// What the stock side is built from.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// A tree of mmdebstrap's packages and of those that make file systems.
    pub tools: &'a Path,
    /// Our image's packages, Debian's essential ones and initramfs-tools, with all they depend on.
    pub debs: &'a [Package],
    /// The packages asked for: those of our image.
    pub packages: &'a [String],
}

/// A place where stock images are built.
pub struct Stock {
    programs: Programs,
    packages: String,
    dir: PathBuf,
}

/// How long building one took.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    /// mmdebstrap, initrd included.
    pub tree: Took,
    /// The root file system.
    pub file_system: Took,
}

impl Stock {
    /// Prepares to build in `dir`: copies tools and packages there, and writes the packages' index.
    ///
    /// # Errors
    /// Without root, or when a program of the tree fails.
    pub fn prepare(sources: &Sources, dir: PathBuf) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Lacking("maintainer scripts of stock packages need root".into()));
        }
        let stock = Self {
            programs: Programs::new(&[sources.tools.to_path_buf()]),
            packages: include(sources.packages),
            dir,
        };
        let root = stock.root();
        stock.tool("cp", |cp| {
            cp.args(["-r", "--preserve=mode,links"]).arg(sources.tools).arg(&root)
        })?;
        settings::save_chroot(&root)?;
        let debs = root.join("debs");
        fs::create_dir(&debs).map_err(Error::file("making", &debs))?;
        for package in sources.debs {
            let copy = debs.join(format!("{}.deb", package.name));
            fs::copy(&package.path, copy).map_err(Error::file("copying", &package.path))?;
        }
        stock.inside("apt-ftparchive", "cd /debs && exec apt-ftparchive packages . >Packages")?;
        Ok(stock)
    }

    /// Builds the image anew and says how long it took.
    ///
    /// # Errors
    /// When one of its tools fails.
    pub fn build(&self) -> Result<Built> {
        let tree = self.tree();
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(Error::file("removing", &tree))?;
        }
        let bootstrap = format!(
            "exec mmdebstrap --quiet --mode=root --variant=essential --include={} '' /tree \
             'deb [trusted=yes] copy:/debs ./'",
            self.packages
        );
        let took = self.inside("mmdebstrap", &bootstrap)?;
        settings::save_machine(&tree)?;
        self.inside("systemctl", "exec chroot /tree systemctl enable systemd-networkd consul")?;
        let file_system = self.save_disk()?;
        Ok(Built { tree: took, file_system })
    }

    /// The disk image that the last build left.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.raw")
    }

    /// The initrd in that image.
    ///
    /// # Errors
    /// When there is none.
    pub fn initrd(&self) -> Result<PathBuf> {
        self.boot_file("initrd.img-")
    }

    fn boot_file(&self, prefix: &str) -> Result<PathBuf> {
        let boot = self.tree().join("boot");
        let entries = fs::read_dir(&boot).map_err(Error::file("listing", &boot))?;
        entries
            .filter_map(std::io::Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .ok_or_else(|| Error::Lacking(format!("the stock image has no {prefix}* in /boot")))
    }

    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn tree(&self) -> PathBuf {
        self.root().join("tree")
    }

    /// Runs a program of the tools' tree on this machine's files.
    fn tool(
        &self,
        name: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Took> {
        let mut command = self.programs.command(name);
        command
            .env("MKE2FS_CONFIG", self.root().join("etc/mke2fs.conf"))
            .env("MTOOLS_SKIP_CHECK", "1")
            .env("GCONV_PATH", self.root().join("usr/lib/x86_64-linux-gnu/gconv"));
        arguments(&mut command);
        timed::run(name, &mut command, &self.dir, LIMIT)
    }

    /// Runs a script in the copied tree, in namespaces of its own.
    fn inside(&self, name: &str, script: &str) -> Result<Took> {
        let mut root = std::ffi::OsString::from("--root=");
        root.push(self.root());
        let mut command = self.programs.command("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(root)
            .args(["/usr/bin/sh", "-euc"])
            .arg(format!("mount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n{script}"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .env("LC_ALL", "C.UTF-8");
        timed::run(name, &mut command, &self.dir, LIMIT)
    }
}

fn include(packages: &[String]) -> String {
    let mut names: Vec<&str> = packages.iter().map(String::as_str).chain(BESIDE_OURS).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_image_gets_our_packages_and_a_stock_initrd() {
        let ours = ["consul".to_owned(), "systemd".to_owned(), "zstd".to_owned()];
        assert_eq!(include(&ours), "consul,initramfs-tools,systemd,zstd");
    }
}
