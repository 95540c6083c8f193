//! Reduces a maintainer script to what a human wrote and what matters to a first installation.

use super::known::DEBHELPER;

/// What is left of a script, line by line; empty when nothing is.
///
/// The package's own version, and a kernel's release in its package's name, are written as `@version@` and
/// `@release@`, so that a rebuild with the same script keeps its digest.
pub fn reduce(text: &str, package: &str, version: &str) -> String {
    let release = package
        .strip_prefix("linux-image-")
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let mut left = Vec::new();
    let mut generated = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(helper) = line.strip_prefix("# Automatically added by ") {
            let helper = helper.split(['/', ' ']).next().unwrap_or_default();
            generated = DEBHELPER.iter().any(|(name, _)| *name == helper);
            if !generated {
                left.push(format!("block of {helper}"));
            }
            continue;
        }
        if line == "# End automatically added section" {
            generated = false;
            continue;
        }
        let says_nothing = line.is_empty()
            || line.starts_with('#')
            || ["set -e", "set -eu", "exit 0"].contains(&line);
        if generated || says_nothing {
            continue;
        }
        let mut line = line.replace(version, "@version@");
        if let Some(release) = release {
            line = line.replace(release, "@release@");
        }
        left.push(line);
    }
    left.join("\n")
}

/// One `update-alternatives --install`, as a script states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    pub link: String,
    pub name: String,
    pub path: String,
    pub priority: i64,
    /// Link and path of each slave.
    pub slaves: Vec<(String, String)>,
}

/// Every alternative a script installs. Those whose words are not plain text are passed over: no pass covers them,
/// and their script is then not in the table either.
pub fn alternatives(text: &str) -> Vec<Alternative> {
    let text = text.replace("\\\n", " ");
    text.lines().filter_map(read_alternative).collect()
}

fn read_alternative(line: &str) -> Option<Alternative> {
    let mut words = line.trim().strip_prefix("update-alternatives")?.split_whitespace();
    if words.next()? != "--install" || line.contains('$') {
        return None;
    }
    let mut next = || words.next().map(str::to_owned);
    let mut alternative = Alternative {
        link: next()?,
        name: next()?,
        path: next()?,
        priority: next()?.parse().ok()?,
        slaves: Vec::new(),
    };
    while let Some(word) = next() {
        if word == "--slave" {
            let (link, _, path) = (next()?, next()?, next()?);
            alternative.slaves.push((link, path));
        }
    }
    Some(alternative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn another_version_with_the_same_script_has_the_same_rest() {
        let one = reduce("run 1.0-1 now\n# why", "foo", "1.0-1");
        let two = reduce("\nrun 1.0-2 now", "foo", "1.0-2");
        assert_eq!(one, two);
        let kernel = reduce("version=6.1-cloud", "linux-image-6.1-cloud", "6.1.9-1");
        assert_eq!(kernel, "version=@release@");
    }

    #[test]
    fn an_alternative_is_read_over_several_lines() {
        let read = alternatives(
            "  update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n --slave /usr/bin/nawk nawk /usr/bin/mawk\n",
        );
        assert_eq!(read[0].priority, 5);
        assert_eq!(read[0].slaves, [("/usr/bin/nawk".to_owned(), "/usr/bin/mawk".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".*", version in ".+") {
            let _ = (reduce(&text, "linux-image-6", &version), alternatives(&text));
        }
    }
}
