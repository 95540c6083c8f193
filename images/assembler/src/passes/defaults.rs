//! Pass: puts the small files that maintainer scripts write from a package's own template or from a fixed text.
//!
//! Stands for: the postinst of base-files, netbase, debianutils, openssl, libc-bin, libpam-modules, readline-common, tzdata,
//! and dbus.

use super::Context;
use crate::error::AssembleError;
use crate::tree::{Node, Tree};

/// From a template that a package brings, to where the script would copy it.
const COPIES: [(&str, &str); 7] = [
    ("usr/share/base-files/dot.profile", "root/.profile"),
    ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
    ("usr/share/base-files/profile", "etc/profile"),
    ("usr/share/base-files/motd", "etc/motd"),
    ("usr/share/debianutils/shells", "etc/shells"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ("usr/share/readline/inputrc", "etc/inputrc"),
];

/// Directories base-files makes.
const DIRS: [&str; 6] = ["mnt", "srv", "opt", "etc/opt", "media", "efi"];

/// The zone tzdata asks for when nobody chose another.
const UTC: &str = "usr/share/zoneinfo/Etc/UTC";

const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n";

/// Puts whatever is not there yet.
pub fn pass(tree: &mut Tree, _: &Context<'_>) -> Result<(), AssembleError> {
    for (from, to) in COPIES {
        if let (Some(node), None) = (tree.get(from).cloned(), tree.get(to)) {
            tree.put(to, node)?;
        }
    }
    for dir in DIRS {
        missing(tree, dir, Node::dir(0o755))?;
    }
    missing(tree, "etc/hosts", Node::file(0o644, HOSTS))?;
    missing(tree, "etc/environment", Node::file(0o644, ""))?;
    missing(tree, "etc/security/opasswd", Node::file(0o600, ""))?;
    missing(tree, "etc/dpkg/origins/default", Node::link("debian"))?;
    missing(tree, "usr/lib/ssl", Node::link("/etc/ssl"))?;
    if tree.get(UTC).is_some() {
        missing(tree, "etc/localtime", Node::link(format!("/{UTC}")))?;
    }
    launch_helper(tree)
}

/// The bus may start services as other users: its helper belongs to root, and only the bus's group may run it.
fn launch_helper(tree: &mut Tree) -> Result<(), AssembleError> {
    const HELPER: &str = "usr/lib/dbus-1.0/dbus-daemon-launch-helper";
    const GROUP: &str = "messagebus";
    if tree.get(HELPER).is_none() {
        return Ok(());
    }
    let gid = tree.text("etc/group").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with(&format!("{GROUP}:")))?.to_owned();
        line.split(':').nth(2)?.parse().ok()
    });
    let gid = gid.ok_or_else(|| {
        AssembleError::pass("default files", format!("no group {GROUP} for /{HELPER}"))
    })?;
    if let Some(node) = tree.get_mut(HELPER) {
        (node.gid, node.mode) = (gid, 0o4754);
    }
    Ok(())
}

fn missing(tree: &mut Tree, path: &str, node: Node) -> Result<(), AssembleError> {
    let place = tree.place(path)?;
    if tree.get(&place).is_none() { tree.put(&place, node) } else { Ok(()) }
}
