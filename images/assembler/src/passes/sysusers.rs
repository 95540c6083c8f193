//! Reads sysusers.d(5): the accounts that packages want.

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Group { name: String, id: Option<u32> },
    User { name: String, id: Option<u32>, group: Group, gecos: String, home: String, shell: String },
    Member { user: String, group: String },
}

/// A user's primary group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// One of its own name.
    Own,
    Id(u32),
    Name(String),
}

/// Reads a file. Ranges (`r`) are passed over: ids come from our own.
///
/// # Errors
/// The line that is none of the format's.
pub fn read_sysusers(text: &str) -> Result<Vec<Wanted>, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| read_line(line).ok_or_else(|| line.to_owned()).transpose())
        .collect()
}

fn read_line(line: &str) -> Option<Option<Wanted>> {
    let words = words(line);
    let word = |at: usize| words.get(at).map(String::as_str).filter(|w| *w != "-");
    let kind = word(0)?.trim_end_matches('!');
    if kind == "r" {
        return Some(None);
    }
    let name = word(1)?.to_owned();
    let wanted = match kind {
        "g" => Wanted::Group { name, id: word(2).map(str::parse).transpose().ok()? },
        "u" => {
            let (id, group) = match word(2) {
                None => (None, Group::Own),
                Some(text) => {
                    let (id, group) =
                        text.split_once(':').map_or((text, None), |(i, g)| (i, Some(g)));
                    let group = group.map_or(Group::Own, |g| {
                        g.parse().map_or(Group::Name(g.to_owned()), Group::Id)
                    });
                    (if id == "-" { None } else { Some(id.parse().ok()?) }, group)
                }
            };
            Wanted::User {
                name,
                id,
                group,
                gecos: word(3).unwrap_or_default().to_owned(),
                home: word(4).unwrap_or("/").to_owned(),
                shell: word(5).unwrap_or("/usr/sbin/nologin").to_owned(),
            }
        }
        "m" => Wanted::Member { user: name, group: word(2)?.to_owned() },
        _ => return None,
    };
    Some(Some(wanted))
}

/// Words between blanks; quotes hold blanks together.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_groups_and_quoted_names_are_read() {
        let read = read_sysusers(
            "u sync 4:65534 - /bin /bin/sync\nu! net - \"systemd Network\"\ng kvm -\nr - 500-900",
        )
        .unwrap();
        assert_eq!(read.len(), 3);
        assert!(matches!(&read[0], Wanted::User { id: Some(4), group: Group::Id(65534), .. }));
        assert!(matches!(&read[1], Wanted::User { gecos, .. } if gecos == "systemd Network"));
    }

    #[test]
    fn a_line_of_another_format_is_named() {
        assert_eq!(read_sysusers("x y z").unwrap_err(), "x y z");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = read_sysusers(&text);
        }
    }
}
