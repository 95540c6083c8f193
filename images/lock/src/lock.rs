//! `debian.lock.json`: pinned packages and the closures made of them, one package per line so that a diff reads as a list.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::packages::Package;

/// The format this program reads and writes.
pub const LOCK_VERSION: u32 = 1;

/// The whole lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`LOCK_VERSION`].
    pub version: u32,
    /// When Debian's snapshot service had all of these packages, `20260912T135541Z`.
    pub snapshot: String,
    /// The first executable of the build.
    pub seed: Seed,
    /// By name.
    pub packages: BTreeMap<String, Pin>,
    /// By name: an image's, or one of the build's own.
    pub closures: BTreeMap<String, Closure>,
}

/// The file of a package that every build starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Its name in the store.
    pub name: String,
    /// The package that holds it.
    pub package: String,
    /// Where it is in that package.
    pub file: String,
    /// Of the store path, as Nix writes it.
    pub hash: String,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Version as Debian writes it.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The archive whose pool it is in, `debian`.
    pub archive: String,
    /// Its path below the archive's root.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// What was asked for, and all that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closure {
    /// Sorted.
    pub roots: Vec<String>,
    /// Sorted.
    pub packages: Vec<String>,
}

impl From<&Package> for Pin {
    fn from(package: &Package) -> Self {
        Self {
            version: package.version.to_string(),
            architecture: package.architecture.clone(),
            archive: package.archive.clone(),
            path: package.path.clone(),
            size: package.size,
            sha256: package.sha256.clone(),
        }
    }
}

/// Reads a lock of any version; the caller looks at it.
pub fn read_lock(text: &str) -> Result<Lock, serde_json::Error> {
    serde_json::from_str(text)
}

/// The lock as it stands in its file.
pub fn write_lock(lock: &Lock) -> Result<String, serde_json::Error> {
    let mut text = String::from("{\n");
    let mut line = |indent: usize, content: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:indent$}{content}", "");
    };
    line(2, &format!("\"version\": {},", lock.version));
    line(2, &format!("\"snapshot\": {},", serde_json::to_string(&lock.snapshot)?));
    line(2, "\"seed\": {");
    let seed = [
        ("name", &lock.seed.name),
        ("package", &lock.seed.package),
        ("file", &lock.seed.file),
        ("hash", &lock.seed.hash),
    ];
    for (at, (key, value)) in seed.iter().enumerate() {
        line(4, &format!("\"{key}\": {}{}", serde_json::to_string(value)?, comma(at, seed.len())));
    }
    line(2, "},");
    line(2, "\"packages\": {");
    for (at, (name, pin)) in lock.packages.iter().enumerate() {
        let fields = serde_json::to_value(pin)?;
        let fields = ["version", "architecture", "archive", "path", "size", "sha256"]
            .map(|key| {
                format!("\"{key}\": {}", fields.get(key).unwrap_or(&serde_json::Value::Null))
            })
            .join(", ");
        line(
            4,
            &format!(
                "{}: {{{fields}}}{}",
                serde_json::to_string(name)?,
                comma(at, lock.packages.len())
            ),
        );
    }
    line(2, "},");
    line(2, "\"closures\": {");
    for (at, (name, closure)) in lock.closures.iter().enumerate() {
        line(4, &format!("{}: {{", serde_json::to_string(name)?));
        let roots =
            closure.roots.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        line(6, &format!("\"roots\": [{}],", roots.join(", ")));
        line(6, "\"packages\": [");
        for (at, package) in closure.packages.iter().enumerate() {
            line(
                8,
                &format!(
                    "{}{}",
                    serde_json::to_string(package)?,
                    comma(at, closure.packages.len())
                ),
            );
        }
        line(6, "]");
        line(4, &format!("}}{}", comma(at, lock.closures.len())));
    }
    line(2, "}");
    line(0, "}");
    Ok(text)
}

fn comma(at: usize, length: usize) -> &'static str {
    if at + 1 < length { "," } else { "" }
}

/// What changed, one line per package or closure, for people.
pub fn write_changes(old: Option<&Lock>, new: &Lock) -> Vec<String> {
    let (no_packages, no_closures) = (BTreeMap::new(), BTreeMap::new());
    let packages = old.map_or(&no_packages, |lock| &lock.packages);
    let closures = old.map_or(&no_closures, |lock| &lock.closures);
    let mut lines = Vec::new();
    for (name, pin) in &new.packages {
        match packages.get(name) {
            None => lines.push(format!("+ {name} {}", pin.version)),
            Some(known) if known.version != pin.version => {
                lines.push(format!("  {name} {} -> {}", known.version, pin.version))
            }
            Some(known) if known != pin => {
                lines.push(format!("  {name} {} (another build of it)", pin.version))
            }
            Some(_) => {}
        }
    }
    let gone = packages.iter().filter(|(name, _)| !new.packages.contains_key(*name));
    lines.extend(gone.map(|(name, pin)| format!("- {name} {}", pin.version)));
    for (name, closure) in &new.closures {
        if closures.get(name) != Some(closure) {
            lines.push(format!("  closure {name}: {} packages", closure.packages.len()));
        }
    }
    lines.extend(
        closures
            .keys()
            .filter(|name| !new.closures.contains_key(*name))
            .map(|name| format!("- closure {name}")),
    );
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pin(version: &str) -> Pin {
        Pin {
            version: version.into(),
            architecture: "all".into(),
            archive: "debian".into(),
            path: format!("pool/a_{version}_all.deb"),
            size: 1,
            sha256: "0".repeat(64),
        }
    }

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let names: Vec<String> = packages.iter().map(|(name, _)| name.to_string()).collect();
        Lock {
            version: LOCK_VERSION,
            snapshot: "20260912T075541Z".into(),
            seed: Seed {
                name: "seed".into(),
                package: "b".into(),
                file: "bin/b".into(),
                hash: "sha256-".into(),
            },
            packages: packages
                .iter()
                .map(|(name, version)| (name.to_string(), pin(version)))
                .collect(),
            closures: BTreeMap::from([(
                "image".to_owned(),
                Closure { roots: names.clone(), packages: names },
            )]),
        }
    }

    #[test]
    fn a_package_is_one_line() {
        let text = write_lock(&lock(&[("a", "1"), ("b", "2")])).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("sha256\"")).count(), 2);
    }

    #[test]
    fn changes_name_what_came_went_and_changed() {
        let (old, new) = (lock(&[("a", "1"), ("b", "1")]), lock(&[("b", "2"), ("c", "1")]));
        let changes = write_changes(Some(&old), &new);
        assert_eq!(changes, ["  b 1 -> 2", "+ c 1", "- a 1", "  closure image: 2 packages"]);
        assert!(write_changes(Some(&new), &new).is_empty());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let text = write_lock(&lock(&[])).unwrap().replacen(
            "\"version\"",
            "\"colour\": 1, \"version\"",
            1,
        );
        assert!(read_lock(&text).unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn the_repository_lock_is_as_this_program_writes_it() {
        let text = include_str!("../../debian.lock.json");
        assert_eq!(write_lock(&read_lock(text).unwrap()).unwrap(), text);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(names in proptest::collection::btree_set(".{0,6}", 0..5), version in ".{0,6}") {
            let packages: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), version.as_str())).collect();
            let lock = lock(&packages);
            prop_assert_eq!(read_lock(&write_lock(&lock).unwrap()).unwrap(), lock);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = read_lock(&text);
        }

        #[test]
        fn a_lock_cut_or_changed_anywhere_is_read_or_refused(at in 0usize..700, byte in any::<char>()) {
            let text = write_lock(&lock(&[("a", "1"), ("b", "2")])).unwrap();
            let at = at.min(text.len());
            prop_assume!(text.is_char_boundary(at));
            let (head, tail) = text.split_at(at);
            let _ = read_lock(head);
            let _ = read_lock(&format!("{head}{byte}{tail}"));
        }
    }
}
