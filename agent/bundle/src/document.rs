//! Documents that people write: read strictly, and refused with file, line and key.

use std::ops::Range;

use serde::de::DeserializeOwned;

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct DocumentError {
    /// The document's name, as its reader knows it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The sentence, lower case, no full stop.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

/// Reads a TOML document into a type.
///
/// # Errors
/// The first thing that is wrong, with its line and the key it stands at.
pub fn read_toml<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, DocumentError> {
    let at = |line, reason: String, hint: &str| DocumentError {
        file: file.to_owned(),
        line,
        reason,
        hint: hint.to_owned(),
    };
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = line_of(bytes, e.valid_up_to());
        at(line, "the text is not UTF-8".to_owned(), "save the file as UTF-8 text")
    })?;
    if text.trim().is_empty() {
        return Err(at(
            1,
            "the file is empty".to_owned(),
            "start from the example that `ballast init` writes",
        ));
    }
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        // An empty span at the start is the document as a whole, and not the fault of the key that stands first.
        let key = if span == (0..0) { None } else { key_at(text, &span) };
        let message = error.message().trim().replace('\n', ", ");
        let named = |key: &&str| !message.contains(&format!("`{}`", key.trim_matches(['[', ']'])));
        let reason = match key.filter(named) {
            Some(key) => format!("`{key}`: {message}"),
            None => message.clone(),
        };
        let hint = hint_for(&message);
        at(line_of(bytes, span.start), reason, hint)
    })
}

/// What to do about what the TOML reader says.
fn hint_for(message: &str) -> &'static str {
    let hints = [
        ("unknown field", "correct the key's spelling, or take it out"),
        ("missing field", "add the missing key"),
        ("duplicate key", "take one of the two out"),
        ("IP address", "write an address such as 10.0.0.11, and a network such as 10.0.0.0/24"),
    ];
    hints.iter().find(|(part, _)| message.contains(part)).map_or(
        "the example that `ballast init` writes shows every key with a value",
        |(_, hint)| hint,
    )
}

/// The line, from 1, that holds the byte at this offset.
pub fn line_of(bytes: &[u8], offset: usize) -> usize {
    1 + bytes.iter().take(offset).filter(|b| **b == b'\n').count()
}

/// The key or header on the line where a span starts.
fn key_at<'a>(text: &'a str, span: &Range<usize>) -> Option<&'a str> {
    let before = text.get(..span.start)?;
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = text.get(start..)?.lines().next()?;
    let key = line.split_once('=').map_or(line, |(key, _)| key).trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-[]\"".contains(c);
    (!key.is_empty() && key.chars().all(plain)).then_some(key)
}

/// Whether a name is a host name's label as RFC 1123 has it, in lower case: letters, digits and inner hyphens, 63 at most.
pub fn is_label(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    name.len() <= 63
        && ends.iter().all(|b| b.is_some_and(plain))
        && name.bytes().all(|b| plain(b) || b == b'-')
}

/// Whether this is an address, or a host's name: labels ([`is_label`]) with dots between them.
pub fn is_host(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || name.split('.').all(is_label)
}
