//! Pass: writes the list of installed packages where scanners look for it on an image whose `/var` is empty.
//!
//! Stands for: dpkg's own database. The format is dpkg's status file; nothing can be installed with it.

use super::Context;
use crate::error::AssembleError;
use crate::tree::{Node, Tree};

const STATUS: &str = "usr/lib/sysimage/dpkg/status";

/// Writes one paragraph per package, in the order of their names.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let mut text = String::new();
    for package in context.packages {
        text.push_str(&format!("Package: {}\nStatus: install ok installed\n", package.name));
        for (name, value) in package.control.fields().filter(|(name, _)| *name != "Package") {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push('\n');
    }
    tree.put(STATUS, Node::file(0o644, text))?;
    // Where dpkg-query and scanners look first; made on every state partition.
    tree.put(
        "usr/lib/tmpfiles.d/ballast-dpkg.conf",
        Node::file(0o644, format!("L /var/lib/dpkg/status - - - - /{STATUS}\n")),
    )
}
