//! Splits the outer archive of a .deb into its members (deb(5), ar(5)).

use crate::error::DebError;

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Members in order: name and content.
///
/// # Errors
/// The byte at which the archive stops being one.
pub fn read_ar(bytes: &[u8]) -> Result<Vec<(String, &[u8])>, DebError> {
    let broken = |at, reason| DebError::Ar { at, reason };
    if !bytes.starts_with(MAGIC) {
        return Err(broken(0, "no ar signature"));
    }
    let mut at = MAGIC.len();
    let mut members = Vec::new();
    while at < bytes.len() {
        let header =
            bytes.get(at..at + HEADER).ok_or_else(|| broken(at, "a member's header is cut off"))?;
        if !header.ends_with(b"`\n") {
            return Err(broken(at, "a member's header does not end as one"));
        }
        let text = |from: usize, to: usize| {
            header.get(from..to).and_then(|b| std::str::from_utf8(b).ok()).map(str::trim_end)
        };
        let name = text(0, 16).ok_or_else(|| broken(at, "a member's name is not text"))?;
        let size: usize = text(48, 58)
            .and_then(|s| s.parse().ok())
            .ok_or_else(|| broken(at, "a member's size is not a number"))?;
        let start = at + HEADER;
        let content = start
            .checked_add(size)
            .and_then(|end| bytes.get(start..end))
            .ok_or_else(|| broken(at, "a member is cut off"))?;
        members.push((name.trim_end_matches('/').to_owned(), content));
        // Members start at even offsets.
        at = start + size + size % 2;
    }
    Ok(members)
}
