//! Pass: empties `/var`, which is the state partition's place, and has systemd-tmpfiles make it anew on every disk.
//!
//! Stands for: what packages ship below `/var`, and `mkdir`, `chown` there in maintainer scripts.

use super::Context;
use crate::error::AssembleError;
use crate::tree::{Kind, Node, Tree};

/// Sorts last: of two lines for one path the first file's counts (tmpfiles.d(5)), so a package's directory can be given
/// another owner by any file of an image.
const RULES: &str = "usr/lib/tmpfiles.d/zz-ballast-packages.conf";
/// Content of files goes here, below the path it has in `/var`.
const FACTORY: &str = "usr/share/factory";

/// Turns every entry below `/var` into a line of tmpfiles.d(5).
pub fn pass(tree: &mut Tree, _: &Context<'_>) -> Result<(), AssembleError> {
    let entries: Vec<(String, Node)> =
        tree.below("var").map(|(path, node)| (path.to_owned(), node.clone())).collect();
    let mut rules = String::from("# What packages ship below /var.\n");
    for (path, node) in &entries {
        if path.contains(char::is_whitespace) {
            return Err(AssembleError::pass("state", format!("/{path} has a blank in its name")));
        }
        let Node { mode, uid, gid, kind } = node;
        match kind {
            Kind::Dir => rules.push_str(&format!("d /{path} {mode:04o} {uid} {gid} -\n")),
            Kind::Link(target) => rules.push_str(&format!("L /{path} - - - - {target}\n")),
            Kind::File(_) => {
                rules.push_str(&format!("C /{path} {mode:04o} {uid} {gid} - /{FACTORY}/{path}\n"));
            }
        }
    }
    for (path, node) in entries {
        if matches!(node.kind, Kind::File(_)) {
            tree.put(&format!("{FACTORY}/{path}"), node)?;
        }
        tree.remove(&path);
    }
    tree.put(RULES, Node::file(0o644, rules))
}
