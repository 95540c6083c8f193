//! Stanzas of control data: fields, continued lines, blank lines between (deb822(5)).

use crate::error::{Error, Result};

/// One stanza's fields in the order they stand.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stanza<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Stanza<'a> {
    /// A field's first line, trimmed. Names are compared without case.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.lines(name)?.first().copied()
    }

    /// A field's lines, the first of them that of the name.
    pub fn lines(&self, name: &str) -> Option<&[&'a str]> {
        self.0
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, lines)| lines.as_slice())
    }
}

/// Reads all stanzas of `text`; `what` names it in a refusal.
pub fn read_stanzas<'a>(what: &str, text: &'a str) -> Result<Vec<Stanza<'a>>> {
    let mut stanzas = Vec::new();
    let mut stanza = Stanza::default();
    for (at, line) in text.lines().enumerate() {
        let refuse = |reason| Error::Control { what: what.to_owned(), line: at + 1, reason };
        if line.trim().is_empty() {
            if !stanza.0.is_empty() {
                stanzas.push(std::mem::take(&mut stanza));
            }
        } else if line.starts_with([' ', '\t']) {
            let (_, lines) =
                stanza.0.last_mut().ok_or_else(|| refuse("a continued line without a field"))?;
            lines.push(line.trim());
        } else if !line.starts_with('#') {
            let (name, value) =
                line.split_once(':').ok_or_else(|| refuse("no colon after a field's name"))?;
            stanza.0.push((name, vec![value.trim()]));
        }
    }
    if !stanza.0.is_empty() {
        stanzas.push(stanza);
    }
    Ok(stanzas)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_continue_and_stanzas_end_at_blank_lines() {
        let stanzas =
            read_stanzas("index", "Package: a\nDescription: one\n two\n\n\nPackage: b\n").unwrap();
        assert_eq!(stanzas.len(), 2);
        assert_eq!(stanzas[0].field("package"), Some("a"));
        assert_eq!(stanzas[0].lines("Description"), Some(&["one", "two"][..]));
        assert_eq!(stanzas[1].field("Description"), None);
    }

    #[test]
    fn a_line_that_is_no_field_is_refused_with_its_number() {
        let refusal = read_stanzas("index", "Package: a\nnonsense\n").unwrap_err().to_string();
        assert_eq!(refusal, "index, line 2: no colon after a field's name");
        assert!(read_stanzas("index", " continued\n").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = read_stanzas("index", &text);
        }

        #[test]
        fn any_lines_are_read_or_refused(lines in proptest::collection::vec("[ \tA-Za-z:#-]{0,12}", 0..20)) {
            let _ = read_stanzas("index", &lines.join("\n"));
        }
    }
}
