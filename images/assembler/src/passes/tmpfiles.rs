//! Pass: does what tmpfiles.d(5) wants outside `/var` and `/run`, because the root is read-only when systemd would.
//!
//! Stands for: `systemd-tmpfiles --create` in maintainer scripts. Lines for `/var`, `/run`, `/tmp`, `/dev`, `/proc`
//! and `/sys` stay for the boot.

use super::Context;
use super::sysusers::words;
use crate::error::AssembleError;
use crate::tree::{Node, Tree};

const PASS: &str = "tmpfiles";
const LATER: [&str; 6] = ["/var", "/run", "/tmp", "/dev", "/proc", "/sys"];

/// Applies every line that concerns the root.
pub fn pass(tree: &mut Tree, _: &Context<'_>) -> Result<(), AssembleError> {
    let files: Vec<(String, String)> = tree
        .children("usr/lib/tmpfiles.d")
        .filter(|(name, _)| name.ends_with(".conf"))
        .filter_map(|(name, node)| {
            Some((name.to_owned(), String::from_utf8_lossy(node.bytes()?).into_owned()))
        })
        .collect();
    for (name, text) in files {
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let words = words(line);
            let word = |at: usize| words.get(at).map(String::as_str).filter(|w| *w != "-");
            let (Some(kind), Some(path)) = (word(0), word(1)) else {
                return Err(AssembleError::pass(
                    PASS,
                    format!("{name}: {line:?} is no line of tmpfiles.d"),
                ));
            };
            let root = !LATER.iter().any(|p| path == *p || path.starts_with(&format!("{p}/")));
            if root && !path.contains('%') {
                apply(tree, kind, path, word(2), word(6)).map_err(|reason| {
                    AssembleError::pass(PASS, format!("{name}: {line:?}: {reason}"))
                })?;
            }
        }
    }
    Ok(())
}

fn apply(
    tree: &mut Tree,
    kind: &str,
    path: &str,
    mode: Option<&str>,
    argument: Option<&str>,
) -> Result<(), String> {
    let (letter, modifiers) = kind.split_at_checked(1).unwrap_or((kind, ""));
    // Filled from a credential when the machine boots: not ours to know.
    if modifiers.contains('^') {
        return Ok(());
    }
    let place = tree.place(path).map_err(|e| e.to_string())?;
    let there = tree.get(&place).is_some();
    let bits = |default: u32| {
        mode.map_or(Ok(default), |m| {
            u32::from_str_radix(m.trim_start_matches([':', '~']), 8).map_err(|e| e.to_string())
        })
    };
    let node = match letter {
        // Systemd would adjust a directory that is there.
        "d" | "D" | "v" | "q" | "Q" if there => {
            let bits = bits(0)?;
            if let (Some(node), Some(_)) = (tree.get_mut(&place), mode) {
                node.mode = bits;
            }
            return Ok(());
        }
        "d" | "D" | "v" | "q" | "Q" if !there => Node::dir(bits(0o755)?),
        "L" if !there || modifiers.contains('+') => {
            let target =
                argument.map_or_else(|| format!("/usr/share/factory{path}"), str::to_owned);
            Node::link(target)
        }
        "f" if !there || modifiers.contains('+') => {
            Node::file(bits(0o644)?, argument.unwrap_or_default())
        }
        "C" if !there => {
            let from = argument.map_or_else(|| format!("usr/share/factory{path}"), str::to_owned);
            match tree.get(&from) {
                Some(node) => node.clone(),
                None => return Ok(()),
            }
        }
        // Already there; or ages, removes or adjusts what a fresh image does not have.
        "d" | "D" | "v" | "q" | "Q" | "L" | "f" | "C" | "e" | "r" | "R" | "x" | "X" | "z" | "Z"
        | "h" | "H" => return Ok(()),
        _ => return Err("no pass does this".to_owned()),
    };
    tree.put(&place, node).map_err(|e| e.to_string())
}
