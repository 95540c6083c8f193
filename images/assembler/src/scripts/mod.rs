//! Refuses packages whose maintainer scripts do something that no pass does. Nothing here runs a script.
//!
//! A script is reduced to what a human wrote: blocks that debhelper generated are known by their helper's name, and
//! go with comments and blank lines. What is left must stand in the table of scripts that were read, by its digest;
//! a new version with another text is refused until someone reads it.

mod known;
mod reduce;

use sha2::{Digest, Sha256};

use crate::error::AssembleError;
use crate::read::Package;

pub use reduce::alternatives;

/// The control members that dpkg runs on the way to a configured system.
const RUN: [&str; 2] = ["preinst", "postinst"];

/// A script, or a trigger, that nothing covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    pub package: String,
    /// `postinst`, or `interest in update-foo`.
    pub what: String,
    /// Digest of what is left of the script, for the table.
    pub digest: String,
    /// What is left of it.
    pub rest: String,
}

/// Refuses the packages that nothing covers, but for those the author has read himself.
///
/// # Errors
/// Their names, with what it is.
pub fn check(packages: &[Package], read_by_author: &[String]) -> Result<(), AssembleError> {
    let sentences: Vec<String> = packages
        .iter()
        .filter(|package| !read_by_author.contains(&package.name))
        .flat_map(uncovered)
        .map(|u| format!("package {}: {} has an effect no pass covers", u.package, u.what))
        .collect();
    if sentences.is_empty() {
        return Ok(());
    }
    Err(AssembleError::Scripts(format!(
        "{}\nhint: `ballast-assemble scripts` shows what is left of them; an author who has read one names its package in scripts_without_effect",
        sentences.join("; ")
    )))
}

/// What nothing covers in one package.
pub fn uncovered(package: &Package) -> Vec<Uncovered> {
    let mut found = Vec::new();
    for name in RUN {
        let Some(text) = package.scripts.get(name) else { continue };
        let rest = reduce::reduce(text, &package.name, &package.version);
        if rest.is_empty() {
            continue;
        }
        let digest = digest(&rest);
        if !known::covers(&package.name, name, &digest) {
            found.push(Uncovered {
                package: package.name.clone(),
                what: name.to_owned(),
                digest,
                rest,
            });
        }
    }
    for line in package.scripts.get("triggers").map(String::as_str).unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        if let (Some(directive), Some(trigger)) = (words.next(), words.next()) {
            if directive.starts_with("interest")
                && !known::TRIGGERS.iter().any(|(t, _)| *t == trigger)
            {
                found.push(Uncovered {
                    package: package.name.clone(),
                    what: format!("its interest in trigger {trigger}"),
                    digest: String::new(),
                    rest: line.to_owned(),
                });
            }
        }
    }
    found
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text)).chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Paragraph;

    fn package(name: &str, script: &str, text: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            control: Paragraph::default(),
            scripts: [(script.to_owned(), text.to_owned())].into(),
            items: Vec::new(),
            sha256: [0; 32],
            size: 0,
            newest: 0,
        }
    }

    #[test]
    fn a_package_with_an_effect_no_pass_covers_is_refused_by_name() {
        let packages = [package("foo", "postinst", "#!/bin/sh\nset -e\nmake-a-mess\n")];
        let error = check(&packages, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("package foo: postinst has an effect no pass covers\nhint:"),
            "{error}"
        );
    }

    #[test]
    fn an_author_who_read_a_script_is_believed() {
        let packages = [package("foo", "postinst", "make-a-mess\n")];
        assert!(check(&packages, &["foo".to_owned()]).is_ok());
    }

    #[test]
    fn an_unknown_trigger_is_an_effect() {
        let packages = [package("foo", "triggers", "interest-noawait update-foo\n")];
        let error = check(&packages, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("package foo: its interest in trigger update-foo has an effect"),
            "{error}"
        );
        assert!(check(&[package("foo", "triggers", "activate-noawait ldconfig\n")], &[]).is_ok());
    }

    #[test]
    fn a_script_that_debhelper_wrote_alone_is_covered() {
        let text = "#!/bin/sh\nset -e\n# Automatically added by dh_installsystemd/13.24\nif x; then\n y\nfi\n# End automatically added section\nexit 0\n";
        assert!(check(&[package("foo", "postinst", text)], &[]).is_ok());
        let other = text.replace("dh_installsystemd", "dh_made_up");
        assert!(check(&[package("foo", "postinst", &other)], &[]).is_err());
    }
}
