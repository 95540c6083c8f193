//! What the suites offer: every package once, in the version that wins, and who provides what.

use std::collections::BTreeMap;

use crate::control::{Stanza, read_stanzas};
use crate::error::{Error, Result};
use crate::relation::{Relation, read_relations};
use crate::version::Version;

/// A package as an index lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The archive whose pool it is in, `debian`.
    pub archive: String,
    /// Its path below the archive's root.
    pub path: String,
    /// Of the .deb, in hexadecimal.
    pub sha256: String,
    /// Of the .deb, in bytes.
    pub size: u64,
    /// Ranks providers: lower is more important.
    pub priority: usize,
    /// Pre-Depends and Depends.
    pub depends: Vec<Vec<Relation>>,
    /// Conflicts and Breaks.
    pub excludes: Vec<Relation>,
    /// Virtual packages, perhaps with a version.
    pub provides: Vec<(String, Option<Version>)>,
}

/// All that can be chosen from.
#[derive(Debug, Default)]
pub struct Universe {
    packages: BTreeMap<String, Package>,
    providers: BTreeMap<String, Vec<String>>,
}

impl Universe {
    /// Offers a package; of two with one name the higher version stays.
    pub fn offer(&mut self, package: Package) {
        match self.packages.get(&package.name) {
            Some(known) if known.version >= package.version => {}
            _ => {
                self.packages.insert(package.name.clone(), package);
            }
        }
    }

    /// Notes who provides what, once all is offered.
    pub fn finish(mut self) -> Self {
        for package in self.packages.values() {
            for (name, _) in &package.provides {
                self.providers.entry(name.clone()).or_default().push(package.name.clone());
            }
        }
        self
    }

    /// The package of this name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.get(name)
    }

    /// Packages that satisfy a relation: the one of that name first, then providers by priority and name.
    pub fn candidates(&self, relation: &Relation) -> Vec<&Package> {
        let mut providers: Vec<&Package> =
            (self.providers.get(&relation.name).into_iter().flatten())
                .filter_map(|name| self.packages.get(name))
                .filter(|package| package.name != relation.name && package.provides_for(relation))
                .collect();
        providers.sort_by_key(|package| (package.priority, &package.name));
        let own = self.packages.get(&relation.name).filter(|package| package.satisfies(relation));
        own.into_iter().chain(providers).collect()
    }
}

impl Package {
    /// Whether this package, by its name or by what it provides, is what a relation asks for.
    pub fn satisfies(&self, relation: &Relation) -> bool {
        relation.means(&self.name, Some(&self.version)) || self.provides_for(relation)
    }

    fn provides_for(&self, relation: &Relation) -> bool {
        self.provides.iter().any(|(name, version)| relation.means(name, version.as_ref()))
    }
}

/// Reads an index `Packages` of one archive and suite.
pub fn read_packages(archive: &str, suite: &str, text: &str) -> Result<Vec<Package>> {
    let stanzas = read_stanzas(&format!("the packages of {suite}"), text)?;
    stanzas.iter().map(|stanza| read_package(archive, suite, stanza)).collect()
}

fn read_package(archive: &str, suite: &str, stanza: &Stanza<'_>) -> Result<Package> {
    let name = stanza.field("Package").unwrap_or_default();
    let missing = |field| Error::Field { package: name.to_owned(), suite: suite.to_owned(), field };
    let field = |field: &'static str| {
        stanza.field(field).filter(|value| !value.is_empty()).ok_or_else(|| missing(field))
    };
    let relations = |field: &str| {
        let text = stanza.field(field).unwrap_or_default();
        read_relations(text)
            .ok_or_else(|| Error::Relation { package: name.to_owned(), text: text.to_owned() })
    };
    let path = field("Filename")?;
    let sha256 = field("SHA256")?;
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || !path.ends_with(".deb")
    {
        return Err(missing("Filename"));
    }
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(missing("SHA256"));
    }
    let mut depends = relations("Pre-Depends")?;
    depends.extend(relations("Depends")?);
    let mut excludes: Vec<Relation> = relations("Conflicts")?.into_iter().flatten().collect();
    excludes.extend(relations("Breaks")?.into_iter().flatten());
    let provides = relations("Provides")?.into_iter().flatten();
    let priorities = ["required", "important", "standard", "optional"];
    let priority = stanza.field("Priority").unwrap_or_default();
    Ok(Package {
        name: field("Package")?.to_owned(),
        version: Version::new(field("Version")?),
        architecture: field("Architecture")?.to_owned(),
        archive: archive.to_owned(),
        path: path.to_owned(),
        sha256: sha256.to_ascii_lowercase(),
        size: field("Size")?.parse().map_err(|_| missing("Size"))?,
        priority: priorities
            .iter()
            .position(|known| *known == priority)
            .unwrap_or(priorities.len()),
        depends,
        excludes,
        provides: provides
            .map(|relation| (relation.name, relation.bound.map(|(_, version)| version)))
            .collect(),
    })
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A universe from the fields that matter: `Package: a\nDepends: b`, and so on.
    pub fn universe(stanzas: &[&str]) -> Universe {
        let mut universe = Universe::default();
        for stanza in stanzas {
            let version = if stanza.contains("Version:") { "" } else { "Version: 1\n" };
            let text = format!(
                "{stanza}\n{version}Architecture: all\nFilename: pool/p_1_all.deb\nSize: 1\nSHA256: {}\n",
                "0".repeat(64)
            );
            for package in read_packages("debian", "trixie", &text).unwrap() {
                universe.offer(package);
            }
        }
        universe.finish()
    }

    #[test]
    fn the_higher_version_wins_whatever_the_order() {
        for stanzas in [
            ["Package: a\nVersion: 1.10", "Package: a\nVersion: 1.9"],
            ["Package: a\nVersion: 1.9", "Package: a\nVersion: 1.10"],
        ] {
            assert_eq!(universe(&stanzas).package("a").unwrap().version.to_string(), "1.10");
        }
    }

    #[test]
    fn a_path_that_leaves_the_pool_is_refused() {
        for path in ["/etc/passwd.deb", "pool/../../x.deb", "pool/x.tar"] {
            let text = format!(
                "Package: a\nVersion: 1\nArchitecture: all\nFilename: {path}\nSize: 1\nSHA256: {}\n",
                "0".repeat(64)
            );
            let refusal = read_packages("debian", "trixie", &text).unwrap_err().to_string();
            assert_eq!(refusal, "package a of trixie has no usable Filename");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = read_packages("debian", "trixie", &text);
        }

        #[test]
        fn any_values_are_read_or_refused(values in proptest::collection::vec("[ -~]{0,20}", 6)) {
            let fields = ["Package", "Version", "Filename", "SHA256", "Depends", "Provides"];
            let text: String = fields.iter().zip(&values).map(|(field, value)| format!("{field}: {value}\n")).collect();
            let _ = read_packages("debian", "trixie", &text);
        }
    }
}
