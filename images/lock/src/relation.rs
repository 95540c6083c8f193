//! Relations between packages: `libc6 (>= 2.38) | libc6.1, dpkg` (Debian Policy, chapter 7).

use std::cmp::Ordering;
use std::fmt;

use crate::version::Version;

/// One package name, perhaps with a bound on its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The package's name, without an architecture.
    pub name: String,
    /// The bound, if there is one.
    pub bound: Option<(Operator, Version)>,
}

/// How a version is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Exactly,
    /// `>=`
    AtLeast,
    /// `>>`
    Greater,
}

impl Operator {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Exactly => order == Ordering::Equal,
            Self::AtLeast => order != Ordering::Less,
            Self::Greater => order == Ordering::Greater,
        }
    }
}

impl Relation {
    /// Whether a package of this name and version is meant. A virtual package without a version satisfies no bound.
    pub fn means(&self, name: &str, version: Option<&Version>) -> bool {
        self.name == name
            && match (&self.bound, version) {
                (None, _) => true,
                (Some((operator, bound)), Some(version)) => operator.holds(version.cmp(bound)),
                (Some(_), None) => false,
            }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)?;
        if let Some((operator, version)) = &self.bound {
            let sign = match operator {
                Operator::Less => "<<",
                Operator::AtMost => "<=",
                Operator::Exactly => "=",
                Operator::AtLeast => ">=",
                Operator::Greater => ">>",
            };
            write!(out, " ({sign} {version})")?;
        }
        Ok(())
    }
}

/// Reads a field of relations: all of the outer list hold, any of an inner list is enough. `None` if it is no such field.
pub fn read_relations(text: &str) -> Option<Vec<Vec<Relation>>> {
    text.split(',')
        .filter(|group| !group.trim().is_empty())
        .map(|group| group.split('|').map(read_relation).collect())
        .collect()
}

fn read_relation(text: &str) -> Option<Relation> {
    let text = text.trim();
    let (name, bound) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => (name.trim(), Some(read_bound(rest.strip_suffix(')')?)?)),
    };
    let name = name.split(':').next().unwrap_or(name);
    let belongs =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    (!name.is_empty() && name.bytes().all(belongs))
        .then(|| Relation { name: name.to_owned(), bound })
}

fn read_bound(text: &str) -> Option<(Operator, Version)> {
    // Longest signs first; the single `<` and `>` of old mean what `<=` and `>=` do.
    let signs = [
        ("<<", Operator::Less),
        ("<=", Operator::AtMost),
        (">>", Operator::Greater),
        (">=", Operator::AtLeast),
        ("=", Operator::Exactly),
        ("<", Operator::AtMost),
        (">", Operator::AtLeast),
    ];
    let text = text.trim();
    signs.iter().find_map(|(sign, operator)| {
        let version = text.strip_prefix(sign)?.trim();
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b".+~:-".contains(&byte);
        (!version.is_empty() && version.bytes().all(belongs))
            .then(|| (*operator, Version::new(version)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alternatives_bounds_and_architectures_are_read() {
        let relations =
            read_relations("libc6 (>= 2.38), python3:any | perl (<< 6~), dpkg,").unwrap();
        let shown: Vec<Vec<String>> =
            relations.iter().map(|group| group.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(shown, [vec!["libc6 (>= 2.38)"], vec!["python3", "perl (<< 6~)"], vec!["dpkg"]]);
    }

    #[test]
    fn what_is_no_relation_is_refused() {
        for text in ["libc6 (>= 2", "libc6 (2)", "Libc6", "(>= 1)", "a | | b", "a (>= )"] {
            assert_eq!(read_relations(text), None, "{text}");
        }
    }

    #[test]
    fn a_virtual_package_without_a_version_satisfies_no_bound() {
        let bound =
            Relation { name: "mta".into(), bound: Some((Operator::AtLeast, Version::new("1"))) };
        assert!(!bound.means("mta", None));
        assert!(bound.means("mta", Some(&Version::new("1"))));
        assert!(!bound.means("mta", Some(&Version::new("0.9"))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = read_relations(&text);
        }

        #[test]
        fn what_is_shown_reads_back(name in "[a-z][a-z0-9+.-]{0,6}", version in "[0-9][0-9a-z.+~-]{0,6}") {
            for sign in ["<<", "<=", "=", ">=", ">>"] {
                let text = format!("{name} ({sign} {version})");
                let read = read_relations(&text).unwrap();
                prop_assert_eq!(read[0][0].to_string(), text);
            }
        }
    }
}
