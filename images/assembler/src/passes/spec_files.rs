//! Pass: puts the spec's files and links, the agent, and the spec itself.

use ballast_contract::paths;

use super::Context;
use crate::error::AssembleError;
use crate::tree::Node;
use crate::tree::Tree;
use crate::write::load;

const PASS: &str = "spec files";

/// Puts everything the author brings himself; a package's file of the same path is replaced.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let image = &context.spec.image;
    for file in &image.files {
        let mode = u32::from_str_radix(&file.mode, 8).map_err(|_| {
            AssembleError::pass(PASS, format!("mode {:?} of {} is not octal", file.mode, file.path))
        })?;
        tree.put(&file.path, Node::file(mode, file.text.as_bytes()))?;
    }
    for link in &image.links {
        tree.put(&link.path, Node::link(link.target.clone()))?;
    }
    tree.put(paths::AGENT, Node::file(0o755, load(context.agent)?))?;
    let spec = serde_json::to_vec_pretty(context.spec)
        .map_err(|e| AssembleError::pass(PASS, format!("the spec can't be written: {e}")))?;
    tree.put(paths::SPEC, Node::file(0o644, spec))
}
