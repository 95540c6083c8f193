//! Pass: enables and masks units as `systemctl --root` would, and has everything else stay off.
//!
//! Stands for: `deb-systemd-helper`, `update-rc.d`, `systemctl enable` and presets in any maintainer script.

use std::collections::BTreeSet;

use super::Context;
use crate::error::AssembleError;
use crate::tree::{Kind, Node, Tree};

const PASS: &str = "units";
const VENDOR: &str = "usr/lib/systemd/system";
const LOCAL: &str = "etc/systemd/system";

/// What a unit's `[Install]` section says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Install {
    alias: Vec<String>,
    wanted_by: Vec<String>,
    required_by: Vec<String>,
    upheld_by: Vec<String>,
    also: Vec<String>,
    default_instance: Option<String>,
}

/// Makes the links.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let units = &context.spec.image.units;
    for kind in ["system", "user"] {
        tree.put(
            &format!("etc/systemd/{kind}-preset/00-ballast.preset"),
            Node::file(0o644, "disable *\n"),
        )?;
    }
    let mut todo: Vec<String> = units.enable.iter().rev().cloned().collect();
    let mut done = BTreeSet::new();
    while let Some(unit) = todo.pop() {
        if done.insert(unit.clone()) {
            todo.extend(enable(tree, &unit)?);
        }
    }
    for unit in &units.mask {
        let path = format!("{LOCAL}/{unit}");
        if tree.get(&path).is_some_and(|node| !matches!(node.kind, Kind::Link(_))) {
            return Err(AssembleError::pass(
                PASS,
                format!("{unit} can't be masked: /{path} is a file"),
            ));
        }
        tree.put(&path, Node::link("/dev/null"))?;
    }
    let target = &units.default_target;
    if find(tree, target).is_none() {
        return Err(AssembleError::pass(
            PASS,
            format!("the default target {target} does not exist"),
        ));
    }
    tree.put(&format!("{LOCAL}/default.target"), Node::link(format!("/{VENDOR}/{target}")))
}

/// Makes one unit's links; returns the units it names in `Also=`.
fn enable(tree: &mut Tree, unit: &str) -> Result<Vec<String>, AssembleError> {
    let (place, text) = find(tree, unit).ok_or_else(|| {
        AssembleError::pass(PASS, format!("{unit} is to be enabled and does not exist"))
    })?;
    let install = read_install(&text);
    if install == Install::default() {
        return Err(AssembleError::pass(
            PASS,
            format!("{unit} is to be enabled and has no [Install] section"),
        ));
    }
    let link = Node::link(format!("/{place}"));
    // A template is enabled as its default instance.
    let name = match (unit.split_once("@."), &install.default_instance) {
        (Some((stem, suffix)), Some(instance)) => format!("{stem}@{instance}.{suffix}"),
        _ => unit.to_owned(),
    };
    for alias in &install.alias {
        tree.put(&format!("{LOCAL}/{}", expand(alias, &name)), link.clone())?;
    }
    let lists = [
        (&install.wanted_by, "wants"),
        (&install.required_by, "requires"),
        (&install.upheld_by, "upholds"),
    ];
    for (targets, how) in lists {
        for target in targets {
            tree.put(&format!("{LOCAL}/{}.{how}/{name}", expand(target, &name)), link.clone())?;
        }
    }
    Ok(install.also.iter().map(|also| expand(also, &name)).collect())
}

/// Where a unit stands, and its text; an instance's is its template's.
fn find(tree: &Tree, unit: &str) -> Option<(String, String)> {
    let template = unit
        .split_once('@')
        .and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
    for name in std::iter::once(unit.to_owned()).chain(template) {
        for dir in [LOCAL, VENDOR] {
            let path = format!("{dir}/{name}");
            if let Some(text) = tree.get(&path).and_then(|_| tree.text(&path)) {
                return Some((path, text));
            }
        }
    }
    None
}

fn read_install(text: &str) -> Install {
    let mut install = Install::default();
    let mut inside = false;
    for line in text.replace("\\\n", " ").lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[Install]";
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            let words = || value.split_whitespace().map(str::to_owned);
            match key.trim() {
                "Alias" => install.alias.extend(words()),
                "WantedBy" => install.wanted_by.extend(words()),
                "RequiredBy" => install.required_by.extend(words()),
                "UpheldBy" => install.upheld_by.extend(words()),
                "Also" => install.also.extend(words()),
                "DefaultInstance" => install.default_instance = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    install
}

/// The specifiers that `[Install]` sections use: %i, %j, %n, %N, %p, %%.
fn expand(text: &str, unit: &str) -> String {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('i')) => out.push_str(instance),
            ('%', Some('n')) => out.push_str(unit),
            ('%', Some('N')) => out.push_str(stem),
            ('%', Some('p')) => out.push_str(prefix),
            ('%', Some('j')) => out.push_str(prefix.rsplit('-').next().unwrap_or_default()),
            ('%', Some(other)) => out.push(other),
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_with(name: &str, install: &str) -> Tree {
        let mut tree = Tree::default();
        let text = format!("[Service]\nWantedBy=not-this\n[Install]\n{install}\n");
        tree.put(&format!("{VENDOR}/{name}"), Node::file(0o644, text)).unwrap();
        tree
    }

    fn target<'a>(tree: &'a Tree, path: &str) -> Option<&'a str> {
        match &tree.get(path)?.kind {
            Kind::Link(target) => Some(target),
            _ => None,
        }
    }

    #[test]
    fn wants_requires_and_aliases_become_links() {
        let mut tree = tree_with(
            "a.service",
            "WantedBy=x.target y.target\nRequiredBy=z.target\nAlias=b.service",
        );
        assert!(enable(&mut tree, "a.service").unwrap().is_empty());
        let vendor = Some("/usr/lib/systemd/system/a.service");
        assert_eq!(target(&tree, "etc/systemd/system/x.target.wants/a.service"), vendor);
        assert_eq!(target(&tree, "etc/systemd/system/y.target.wants/a.service"), vendor);
        assert_eq!(target(&tree, "etc/systemd/system/z.target.requires/a.service"), vendor);
        assert_eq!(target(&tree, "etc/systemd/system/b.service"), vendor);
        assert!(tree.get("etc/systemd/system/not-this.wants").is_none());
    }

    #[test]
    fn an_instance_is_linked_to_its_template() {
        let mut tree = tree_with("g@.service", "WantedBy=getty.target\nDefaultInstance=tty1");
        enable(&mut tree, "g@.service").unwrap();
        enable(&mut tree, "g@hvc0.service").unwrap();
        let template = Some("/usr/lib/systemd/system/g@.service");
        assert_eq!(target(&tree, "etc/systemd/system/getty.target.wants/g@tty1.service"), template);
        assert_eq!(target(&tree, "etc/systemd/system/getty.target.wants/g@hvc0.service"), template);
    }

    #[test]
    fn a_unit_that_is_not_there_is_refused() {
        let error = enable(&mut Tree::default(), "gone.service").unwrap_err();
        assert_eq!(
            error.to_string(),
            "pass units: gone.service is to be enabled and does not exist"
        );
    }
}
