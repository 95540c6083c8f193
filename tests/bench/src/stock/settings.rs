//! The few files that neither mmdebstrap nor a package writes: for the tree mmdebstrap runs in, and for the machine it
//! makes.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// The stock machine's address, in the network it is given.
pub const ADDRESS: &str = "10.0.0.11/24";
/// How its root is found.
pub const ROOT_LABEL: &str = "root";

/// Directories that packages' maintainer scripts would have made in the tree mmdebstrap runs in.
const DIRECTORIES: [&str; 8] = [
    "dev",
    "proc",
    "sys",
    "tmp",
    "var/lib/dpkg",
    "var/lib/apt/lists/partial",
    "var/cache/apt/archives/partial",
    "etc/apt/apt.conf.d",
];

/// Completes an unpacked tree so far that apt and dpkg run in it.
pub fn save_chroot(root: &Path) -> Result<()> {
    for directory in DIRECTORIES {
        let path = root.join(directory);
        fs::create_dir_all(&path).map_err(Error::file("making", &path))?;
    }
    for file in ["passwd", "group"] {
        let master = root.join("usr/share/base-passwd").join(format!("{file}.master"));
        let copy = root.join("etc").join(file);
        fs::copy(&master, &copy).map_err(Error::file("copying", &master))?;
    }
    save(&root.join("var/lib/dpkg/status"), "")
}

/// Makes the tree a machine: host name, root, address, and a Consul server that is a site of its own.
///
/// Consul runs with Debian's unit and its defaults: no TLS, no access rules, which spares it work that ours does.
pub fn save_machine(tree: &Path) -> Result<()> {
    save(&tree.join("etc/hostname"), "stock\n")?;
    save(
        &tree.join("etc/fstab"),
        &format!("PARTLABEL={ROOT_LABEL} / ext4 errors=remount-ro 0 1\n"),
    )?;
    let network = format!("[Match]\nName=en* eth*\n\n[Network]\nAddress={ADDRESS}\n");
    save(&tree.join("etc/systemd/network/10-lan.network"), &network)?;
    let address = ADDRESS.split('/').next().unwrap_or(ADDRESS);
    let consul = format!("server = true\nbootstrap_expect = 1\nbind_addr = \"{address}\"\n");
    save(&tree.join("etc/consul.d/10-server.hcl"), &consul)
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("writing", path))
}
