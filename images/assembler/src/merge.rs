//! Merges packages into one tree, as dpkg would lay them out on an empty disk with a merged `/usr`.
//!
//! Invariant: the result depends on the set of packages alone, never on their order.

use std::collections::BTreeMap;

use crate::error::AssembleError;
use crate::read::{Item, Package, Shape};
use crate::tree::{Kind, Node, Tree};

/// Lays every package's files into one tree.
///
/// # Errors
/// Two packages that bring different files to one path, when neither says it replaces the other.
pub fn merge(packages: &[Package]) -> Result<Tree, AssembleError> {
    let mut tree = Tree::default();
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    aliases(&mut tree, packages)?;
    for (index, package) in packages.iter().enumerate() {
        for item in &package.items {
            if item.path.is_empty() {
                continue;
            }
            let place = tree.place(&item.path)?;
            let Some(node) = node(&tree, item)? else { continue };
            if settles(&tree, packages, &owners, &place, &node, index)? {
                tree.put(&place, node)?;
                owners.insert(place, index);
            }
        }
    }
    Ok(tree)
}

/// Links at the top (`bin`, `lib`, …) come first: everything that is placed later runs through them.
fn aliases(tree: &mut Tree, packages: &[Package]) -> Result<(), AssembleError> {
    for item in packages.iter().flat_map(|package| &package.items) {
        if let (false, Shape::Link(target)) = (item.path.contains('/'), &item.shape) {
            tree.put(&item.path, Node::link(target.clone()))?;
        }
    }
    Ok(())
}

fn node(tree: &Tree, item: &Item) -> Result<Option<Node>, AssembleError> {
    let kind = match &item.shape {
        Shape::Dir => Kind::Dir,
        Shape::File(content) => Kind::File(content.clone()),
        Shape::Link(target) => Kind::Link(target.clone()),
        Shape::Hard(path) => {
            let first = tree.get(&tree.place(path)?).map(|node| node.kind.clone());
            first.ok_or_else(|| AssembleError::Place {
                path: item.path.clone(),
                reason: format!("it is another name of /{path}, which the package does not bring"),
            })?
        }
    };
    Ok(Some(Node { mode: item.mode, uid: item.uid, gid: item.gid, kind }))
}

/// Whether the new node takes the place; false leaves what stands there.
fn settles(
    tree: &Tree,
    packages: &[Package],
    owners: &BTreeMap<String, usize>,
    place: &str,
    new: &Node,
    index: usize,
) -> Result<bool, AssembleError> {
    let Some(old) = tree.get(place) else { return Ok(true) };
    let same = match (&old.kind, &new.kind) {
        (Kind::Dir, Kind::Dir) => return Ok(!owners.contains_key(place)),
        // A directory that is a link elsewhere to a directory: what is below it follows the link.
        (Kind::Link(_), Kind::Dir) => true,
        (Kind::Link(a), Kind::Link(b)) => a == b,
        (Kind::File(a), Kind::File(b)) => a.bytes() == b.bytes() && old.mode == new.mode,
        _ => false,
    };
    let Some(&owner) = owners.get(place) else { return Ok(!same) };
    if same || owner == index {
        return Ok(false);
    }
    let (Some(first), Some(second)) = (packages.get(owner), packages.get(index)) else {
        return Ok(false);
    };
    let replaces = |a: &Package, b: &Package| a.control.names("Replaces").contains(&b.name);
    match (replaces(second, first), replaces(first, second)) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        _ => Err(AssembleError::Conflict {
            path: place.to_owned(),
            first: first.name.clone(),
            second: second.name.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Paragraph;

    fn package(name: &str, control: &str, files: &[(&str, &str)]) -> Package {
        let item =
            |path: &str, shape| Item { path: path.to_owned(), mode: 0o644, uid: 0, gid: 0, shape };
        Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            control: Paragraph::read(control),
            scripts: BTreeMap::new(),
            items: files
                .iter()
                .map(|(path, text)| match text.strip_prefix("-> ") {
                    Some(target) => item(path, Shape::Link(target.to_owned())),
                    None => item(path, Shape::File(text.as_bytes().to_vec().into())),
                })
                .collect(),
            sha256: [0; 32],
            size: 0,
            newest: 0,
        }
    }

    #[test]
    fn two_packages_with_different_files_at_one_path_are_refused_by_name() {
        let packages =
            [package("a", "", &[("usr/bin/x", "1")]), package("b", "", &[("usr/bin/x", "2")])];
        let error = merge(&packages).unwrap_err().to_string();
        assert_eq!(error, "merging packages: a and b both bring /usr/bin/x, and differ");
    }

    #[test]
    fn equal_files_are_no_conflict_and_a_package_may_replace_anothers() {
        let equal = [package("a", "", &[("x", "1")]), package("b", "", &[("x", "1")])];
        assert!(merge(&equal).is_ok());
        let newer =
            [package("a", "", &[("x", "1")]), package("b", "Replaces: a (<< 2)", &[("x", "2")])];
        let tree = merge(&newer).unwrap();
        assert_eq!(tree.get("x").unwrap().bytes(), Some(b"2".as_slice()));
        let older = [package("a", "Replaces: b", &[("x", "1")]), package("b", "", &[("x", "2")])];
        let tree = merge(&older).unwrap();
        assert_eq!(tree.get("x").unwrap().bytes(), Some(b"1".as_slice()));
    }

    #[test]
    fn a_package_from_before_the_merged_usr_keeps_its_directory_links() {
        let packages = [
            package("consul", "", &[("lib/systemd/system/consul.service", "x")]),
            package("zz-base", "", &[("lib", "-> usr/lib")]),
        ];
        let tree = merge(&packages).unwrap();
        assert!(tree.get("usr/lib/systemd/system/consul.service").is_some());
        assert!(matches!(tree.get("lib").unwrap().kind, Kind::Link(_)));
    }
}
