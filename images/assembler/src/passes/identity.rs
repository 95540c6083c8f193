//! Pass: says what the image is, and leaves open who the machine is.
//!
//! Stands for: `systemd-machine-id-setup`, first-boot's preset-all, `systemd-update-done`.

use super::Context;
use crate::error::AssembleError;
use crate::tree::{Node, Tree};

/// Completes os-release, and leaves what every machine fills in for itself empty.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let image = &context.spec.image;
    let mut release = tree
        .text("etc/os-release")
        .ok_or_else(|| AssembleError::pass("identity", "no package brings /etc/os-release"))?;
    release.push_str(&format!("IMAGE_ID={}\nIMAGE_VERSION={}\n", image.name, image.version));
    let place = tree.resolve("etc/os-release")?;
    tree.put(&place, Node::file(0o644, release))?;
    // Empty, not absent: the initrd binds the machine's own id over it.
    tree.put("etc/machine-id", Node::file(0o444, ""))?;
    // A newer stamp than /usr's would have services rebuild what the image already holds.
    let stamp = format!("TIMESTAMP_NSEC={}000000000\n", context.epoch);
    tree.put("etc/.updated", Node::file(0o644, stamp))
}
