//! Pass: writes `/etc/ld.so.cache`, so that the loader finds libraries without looking through directories.
//!
//! Stands for: `ldconfig`, and the triggers that ask for it. The format is glibc's (`sysdeps/generic/dl-cache.h`),
//! version 1.1 without the older one in front of it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Context;
use crate::elf;
use crate::error::AssembleError;
use crate::tree::{Kind, Node, Tree};

const CONFIG: &str = "etc/ld.so.conf.d";
const CACHE: &str = "etc/ld.so.cache";
/// After what the configuration names, as the loader's own order has it.
const TRUSTED: [&str; 4] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"];
/// A library for x86-64's glibc.
const FLAGS: u32 = 0x0303;
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// Writes the cache of every library that a name in a library directory leads to.
pub fn pass(tree: &mut Tree, _: &Context<'_>) -> Result<(), AssembleError> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for dir in directories(tree) {
        let Ok(place) = tree.resolve(&dir) else { continue };
        let names: Vec<String> = tree.children(&place).map(|(name, _)| name.to_owned()).collect();
        for name in names {
            if !(name.contains(".so") && (name.starts_with("lib") || name.starts_with("ld-"))) {
                continue;
            }
            let path = format!("{place}/{name}");
            let Some(soname) =
                tree.resolve(&path).ok().and_then(|p| elf::soname(tree.get(&p)?.bytes()?))
            else {
                continue;
            };
            // Packages ship the link of a library's soname; where one does not, ldconfig would make it.
            let link = format!("{place}/{soname}");
            if tree.get(&link).is_none() {
                tree.put(&link, Node { kind: Kind::Link(name.clone()), ..Node::link("") })?;
            }
            found.entry(soname.clone()).or_insert(format!("{dir}/{soname}"));
        }
    }
    let bytes = write_cache(&found)
        .ok_or_else(|| AssembleError::pass("ld.so cache", "the names need more than 4 GiB"))?;
    tree.put(CACHE, Node::file(0o644, bytes))
}

fn directories(tree: &Tree) -> Vec<String> {
    let mut dirs = Vec::new();
    for (_, node) in tree.children(CONFIG).filter(|(name, _)| name.ends_with(".conf")) {
        let text = String::from_utf8_lossy(node.bytes().unwrap_or_default()).into_owned();
        let lines = text.lines().map(str::trim).filter(|l| l.starts_with('/'));
        dirs.extend(lines.map(str::to_owned));
    }
    dirs.extend(TRUSTED.map(str::to_owned));
    let mut seen = Vec::new();
    // Two names of one directory count once, under the first.
    dirs.retain(|dir| match tree.resolve(dir) {
        Ok(place) if !seen.contains(&place) => {
            seen.push(place);
            true
        }
        _ => false,
    });
    dirs
}

fn write_cache(found: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut entries: Vec<(&String, &String)> = found.iter().collect();
    // The loader searches by halves, from the greatest down.
    entries.sort_by(|a, b| compare(b.0, a.0));
    let start = HEADER + ENTRY * entries.len();
    let mut strings: Vec<u8> = Vec::new();
    let mut table = Vec::new();
    for (soname, path) in &entries {
        let path_at = u32::try_from(start + strings.len()).ok()?;
        strings.extend_from_slice(path.as_bytes());
        strings.push(0);
        let name_at =
            path_at.checked_add(u32::try_from(path.len().checked_sub(soname.len())?).ok()?)?;
        for number in [FLAGS, name_at, path_at, 0, 0, 0] {
            table.extend_from_slice(&number.to_le_bytes());
        }
    }
    let mut out = b"glibc-ld.so.cache1.1".to_vec();
    out.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(strings.len()).ok()?.to_le_bytes());
    // Little-endian; no extensions.
    out.extend_from_slice(&[2, 0, 0, 0]);
    out.resize(HEADER, 0);
    out.extend_from_slice(&table);
    out.extend_from_slice(&strings);
    Some(out)
}

/// The loader's own order: runs of digits compare as numbers, and a digit is greater than any other character.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match (x.is_ascii_digit(), y.is_ascii_digit()) {
                (true, true) => {
                    let (x, rest_a) = number(a);
                    let (y, rest_b) = number(b);
                    if x != y {
                        return x.cmp(&y);
                    }
                    (a, b) = (rest_a, rest_b);
                }
                (true, false) => return Ordering::Greater,
                (false, true) => return Ordering::Less,
                (false, false) if x != y => return x.cmp(y),
                (false, false) => {
                    a = a.get(1..).unwrap_or_default();
                    b = b.get(1..).unwrap_or_default();
                }
            },
        }
    }
}

fn number(text: &[u8]) -> (u64, &[u8]) {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    (
        digits
            .iter()
            .fold(0, |sum: u64, d| sum.saturating_mul(10).saturating_add(u64::from(d - b'0'))),
        rest,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers_and_digits_are_greatest() {
        assert_eq!(compare("libx.so.10", "libx.so.9"), Ordering::Greater);
        assert_eq!(compare("lib2.so", "liba.so"), Ordering::Greater);
        assert_eq!(compare("liba.so", "liba.so.1"), Ordering::Less);
    }

    #[test]
    fn an_entry_points_at_its_path_and_at_the_name_within_it() {
        let found = BTreeMap::from([("libx.so.1".to_owned(), "/usr/lib/libx.so.1".to_owned())]);
        let bytes = write_cache(&found).unwrap();
        let at =
            |from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[at(HEADER + 8)..][..18], b"/usr/lib/libx.so.1");
        assert_eq!(&bytes[at(HEADER + 4)..][..10], b"libx.so.1\0");
    }
}
