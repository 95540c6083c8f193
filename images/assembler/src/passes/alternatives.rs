//! Pass: links each alternative's name to the installed choice of highest priority.
//!
//! Stands for: `update-alternatives --install` in maintainer scripts. There is no administrator to choose otherwise,
//! so the link goes straight to the program, without `/etc/alternatives`.

use std::collections::BTreeMap;

use super::Context;
use crate::error::AssembleError;
use crate::scripts::alternatives;
use crate::tree::{Node, Tree};

/// Makes the links, slaves included, for what is in the tree.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let mut best = BTreeMap::new();
    for package in context.packages {
        for alternative in
            package.scripts.get("postinst").map(|text| alternatives(text)).unwrap_or_default()
        {
            let name = alternative.name.clone();
            // Of equal priority the first package by name wins, as every other order would be as good.
            let better =
                best.get(&name).is_none_or(|(_, priority)| alternative.priority > *priority);
            if better && exists(tree, &alternative.path) {
                let priority = alternative.priority;
                best.insert(name, (alternative, priority));
            }
        }
    }
    for (alternative, _) in best.into_values() {
        let pairs = std::iter::once((alternative.link, alternative.path)).chain(alternative.slaves);
        for (link, path) in pairs {
            let place = tree.place(&link)?;
            if exists(tree, &path) && tree.get(&place).is_none() {
                tree.put(&place, Node::link(path))?;
            }
        }
    }
    Ok(())
}

fn exists(tree: &Tree, path: &str) -> bool {
    tree.resolve(path).ok().and_then(|path| tree.get(&path)).is_some()
}
