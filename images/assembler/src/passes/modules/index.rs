//! Writes kmod's index files, `modules.*.bin`: a trie of keys with values (the format is that of kmod's libkmod-index,
//! version 2.1; numbers are big-endian).

use std::collections::BTreeMap;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;

/// A trie in the making.
#[derive(Debug, Default)]
pub struct Index {
    /// Values of each key, with the order in which they were inserted.
    keys: BTreeMap<Vec<u8>, Vec<(u32, String)>>,
    count: u32,
}

impl Index {
    /// Adds a value to a key.
    pub fn insert(&mut self, key: &str, value: &str) {
        let values = self.keys.entry(key.as_bytes().to_vec()).or_default();
        if !values.iter().any(|(_, known)| known == value) {
            values.push((self.count, value.to_owned()));
            self.count += 1;
        }
    }

    /// The file.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [MAGIC, VERSION, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let all: Vec<Entry<'_>> =
            self.keys.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect();
        let root = node(&mut out, &all, 0);
        if let Some(place) = out.get_mut(8..12) {
            place.copy_from_slice(&root.to_be_bytes());
        }
        out
    }
}

type Entry<'a> = (&'a [u8], &'a [(u32, String)]);

/// Writes the node of all entries, which share their first `depth` bytes, after its children; returns where it stands.
fn node(out: &mut Vec<u8>, entries: &[Entry<'_>], depth: usize) -> u32 {
    let shared = shared_prefix(entries, depth);
    let end = depth + shared.len();
    let values = entries.first().filter(|(key, _)| key.len() == end).map(|(_, values)| *values);

    let mut children: BTreeMap<u8, Vec<Entry<'_>>> = BTreeMap::new();
    for entry in entries {
        if let Some(byte) = entry.0.get(end) {
            children.entry(*byte).or_default().push(*entry);
        }
    }
    let places: BTreeMap<u8, u32> =
        children.iter().map(|(byte, below)| (*byte, node(out, below, end + 1))).collect();

    let mut flags = 0;
    let here = u32::try_from(out.len()).unwrap_or_default();
    if !shared.is_empty() {
        flags |= PREFIX;
        out.extend_from_slice(&shared);
        out.push(0);
    }
    if let (Some((first, _)), Some((last, _))) = (places.first_key_value(), places.last_key_value())
    {
        flags |= CHILDREN;
        out.extend_from_slice(&[*first, *last]);
        for byte in *first..=*last {
            let place = places.get(&byte).copied().unwrap_or_default();
            out.extend_from_slice(&place.to_be_bytes());
        }
    }
    if let Some(values) = values {
        flags |= VALUES;
        out.extend_from_slice(&u32::try_from(values.len()).unwrap_or_default().to_be_bytes());
        for (priority, value) in values {
            out.extend_from_slice(&priority.to_be_bytes());
            out.extend_from_slice(value.as_bytes());
            out.push(0);
        }
    }
    here | flags
}

fn shared_prefix(entries: &[Entry<'_>], depth: usize) -> Vec<u8> {
    // Sorted: what the first and the last share, all share.
    let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
        return Vec::new();
    };
    let rest = |key: &[u8]| key.get(depth..).unwrap_or_default().to_vec();
    rest(first).into_iter().zip(rest(last)).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// A pattern as kmod asks for it: hyphens are underscores, but for those in brackets.
pub fn plain_alias(pattern: &str) -> String {
    let mut inside = false;
    pattern
        .chars()
        .map(|c| {
            inside = (inside || c == '[') && c != ']';
            if c == '-' && !inside { '_' } else { c }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_begins_another_keeps_its_own_value() {
        let mut index = Index::default();
        index.insert("nvme", "a");
        index.insert("nvme_core", "b");
        let bytes = index.write();
        assert_eq!(&bytes[..8], [0xb0, 0x07, 0xf4, 0x57, 0, 2, 0, 1]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("nvme\0") && text.contains("core\0"));
    }

    #[test]
    fn hyphens_in_brackets_stay() {
        assert_eq!(plain_alias("usb-x[0-9]-y"), "usb_x[0-9]_y");
    }
}
