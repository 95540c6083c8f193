//! From the packages asked for to all that they need: Pre-Depends and Depends, never Recommends.
//!
//! What has only one answer is taken first, so that a choice between alternatives falls on what is in already. Nothing
//! depends on the order of the index, so the same suites always give the same closure.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::packages::{Package, Universe};
use crate::relation::Relation;

/// The closure of `roots`, by name.
pub fn resolve<'a>(
    closure: &str,
    roots: &[String],
    universe: &'a Universe,
) -> Result<Vec<&'a Package>> {
    let mut chosen = Chosen::default();
    for root in roots {
        let unknown = || Error::Unknown { closure: closure.to_owned(), package: root.clone() };
        chosen.add(universe.package(root).ok_or_else(unknown)?);
    }
    loop {
        let open = chosen.open();
        if open.is_empty() {
            break;
        }
        let mut choices = Vec::new();
        let mut forced = false;
        for (package, group) in open {
            if chosen.satisfy(group) {
                continue;
            }
            let mut candidates: Vec<&Package> = Vec::new();
            for candidate in group.iter().flat_map(|relation| universe.candidates(relation)) {
                if !candidates.iter().any(|known| known.name == candidate.name) {
                    candidates.push(candidate);
                }
            }
            match candidates.as_slice() {
                [] => return Err(unsatisfied(closure, package, group, universe)),
                [only] => {
                    chosen.add(only);
                    forced = true;
                }
                [first, ..] => choices.push((group, *first)),
            }
        }
        if !forced {
            if let Some((_, first)) = choices.iter().find(|(group, _)| !chosen.satisfy(group)) {
                chosen.add(first);
            }
        }
    }
    refuse_conflicts(closure, &chosen)?;
    Ok(chosen.packages.into_values().collect())
}

/// What is in, and which of it has been looked at.
#[derive(Default)]
struct Chosen<'a> {
    packages: BTreeMap<&'a str, &'a Package>,
    provided: BTreeSet<&'a str>,
}

impl<'a> Chosen<'a> {
    fn add(&mut self, package: &'a Package) {
        self.provided.extend(package.provides.iter().map(|(name, _)| name.as_str()));
        self.packages.insert(&package.name, package);
    }

    /// Groups of alternatives that nothing satisfies yet, with who needs them, in order of names.
    fn open(&self) -> Vec<(&'a Package, &'a [Relation])> {
        let groups = self
            .packages
            .values()
            .flat_map(|package| package.depends.iter().map(|group| (*package, group.as_slice())));
        groups.filter(|(_, group)| !self.satisfy(group)).collect()
    }

    fn satisfy(&self, group: &[Relation]) -> bool {
        group.iter().any(|relation| {
            self.packages
                .get(relation.name.as_str())
                .is_some_and(|package| package.satisfies(relation))
                || self.provided.contains(relation.name.as_str())
                    && self.packages.values().any(|package| package.satisfies(relation))
        })
    }
}

fn unsatisfied(closure: &str, package: &Package, group: &[Relation], universe: &Universe) -> Error {
    let relation = group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
    let found = group.iter().find_map(|relation| universe.package(&relation.name));
    let reason = match found {
        Some(other) => format!("the suites have {} {}", other.name, other.version),
        None => "no suite has it".to_owned(),
    };
    Error::Unsatisfied {
        closure: closure.to_owned(),
        package: package.name.clone(),
        relation,
        reason,
    }
}

/// A package may exclude what it provides or is itself.
fn refuse_conflicts(closure: &str, chosen: &Chosen<'_>) -> Result<()> {
    for package in chosen.packages.values() {
        for relation in &package.excludes {
            let other = chosen
                .packages
                .values()
                .find(|other| other.name != package.name && other.satisfies(relation));
            if let Some(other) = other {
                return Err(Error::Conflict {
                    closure: closure.to_owned(),
                    package: package.name.clone(),
                    other: other.name.clone(),
                    relation: relation.to_string(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::tests::universe;

    fn names(roots: &[&str], stanzas: &[&str]) -> std::result::Result<Vec<String>, String> {
        let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
        let universe = universe(stanzas);
        let packages = resolve("image", &roots, &universe).map_err(|error| error.to_string())?;
        Ok(packages.iter().map(|package| package.name.clone()).collect())
    }

    #[test]
    fn dependencies_of_dependencies_are_in_and_recommendations_are_not() {
        let stanzas = [
            "Package: a\nDepends: b\nRecommends: d",
            "Package: b\nPre-Depends: c",
            "Package: c\nDepends: a",
            "Package: d",
        ];
        assert_eq!(names(&["a"], &stanzas).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn the_first_alternative_is_taken_unless_another_is_in() {
        let stanzas =
            ["Package: a\nDepends: b | c", "Package: b", "Package: c", "Package: z\nDepends: c"];
        assert_eq!(names(&["a"], &stanzas).unwrap(), ["a", "b"]);
        assert_eq!(names(&["a", "c"], &stanzas).unwrap(), ["a", "c"]);
        // `z` is looked at after `a`, and its need decides nevertheless.
        assert_eq!(names(&["a", "z"], &stanzas).unwrap(), ["a", "c", "z"]);
    }

    #[test]
    fn an_alternative_too_old_is_passed_over() {
        let stanzas = ["Package: a\nDepends: b (>= 2) | c", "Package: b", "Package: c"];
        assert_eq!(names(&["a"], &stanzas).unwrap(), ["a", "c"]);
    }

    #[test]
    fn a_virtual_package_is_provided_by_the_most_important() {
        let stanzas = [
            "Package: a\nDepends: mta",
            "Package: b\nProvides: mta",
            "Package: c\nProvides: mta\nPriority: important",
        ];
        assert_eq!(names(&["a"], &stanzas).unwrap(), ["a", "c"]);
        assert_eq!(names(&["a", "b"], &stanzas).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_nothing_satisfies_is_refused_with_what_there_is() {
        assert_eq!(names(&["x"], &[]).unwrap_err(), "closure image asks for x, which no suite has");
        assert_eq!(
            names(&["a"], &["Package: a\nDepends: b (>= 2)", "Package: b"]).unwrap_err(),
            "closure image: a needs b (>= 2), and the suites have b 1"
        );
        assert_eq!(
            names(&["a"], &["Package: a\nDepends: b | c"]).unwrap_err(),
            "closure image: a needs b | c, and no suite has it"
        );
    }

    #[test]
    fn packages_that_exclude_each_other_are_refused_by_name() {
        let refusal =
            names(&["a", "b"], &["Package: a\nConflicts: b (<< 2)", "Package: b"]).unwrap_err();
        assert_eq!(refusal, "closure image: a excludes b (b (<< 2))");
        assert!(names(&["a", "b"], &["Package: a\nBreaks: b (<< 1)", "Package: b"]).is_ok());
    }

    #[test]
    fn a_package_may_exclude_others_that_provide_what_it_provides() {
        let stanzas = ["Package: a\nProvides: mta\nConflicts: mta", "Package: b\nProvides: mta"];
        assert!(names(&["a"], &stanzas).is_ok());
        assert!(names(&["a", "b"], &stanzas).is_err());
    }
}
