//! Pass: takes away the paths the spec leaves out.

use super::Context;
use crate::error::AssembleError;
use crate::tree::Tree;

/// Takes away every path that a pattern of `leave_out` matches, with what is below it.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    for pattern in &context.spec.image.leave_out {
        let found: Vec<String> = if pattern.contains('*') {
            tree.iter()
                .filter(|(path, _)| matches(pattern, path))
                .map(|(p, _)| p.to_owned())
                .collect()
        } else {
            vec![tree.place(pattern)?]
        };
        for path in found {
            tree.remove(&path);
        }
    }
    Ok(())
}

/// Whether a pattern names a path: `*` stands for any characters within one component.
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    let path: Vec<&str> = path.trim_matches('/').split('/').collect();
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(p, c)| component(p, c))
}

fn component(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| component(tail, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_component() {
        assert!(matches("/usr/lib/*/gconv", "usr/lib/x86_64-linux-gnu/gconv"));
        assert!(matches("/usr/share/*.txt", "usr/share/a.b.txt"));
        assert!(!matches("/usr/*/gconv", "usr/lib/x86_64-linux-gnu/gconv"));
    }
}
