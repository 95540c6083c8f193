//! Reads a disk's partition table for the partitions' UUIDs (UEFI specification, chapter 5): this kernel does not say them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Larger tables than any firmware writes are not read.
const MOST_ENTRIES: usize = 1024;

/// UUIDs by position; what is not in use has none. Empty for a disk without a table.
pub fn load(device: &Path, block_size: u64) -> Vec<Option<String>> {
    load_entries(device, block_size).unwrap_or_default()
}

fn load_entries(device: &Path, block_size: u64) -> Option<Vec<Option<String>>> {
    let mut file = File::open(device).ok()?;
    let mut read_at = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let table = read_header(&read_at(block_size, 92)?)?;
    let entries = read_at(table.block.checked_mul(block_size)?, table.count * table.size)?;
    Some(entries.chunks(table.size).map(read_entry).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Table {
    block: u64,
    count: usize,
    size: usize,
}

fn read_header(bytes: &[u8]) -> Option<Table> {
    if !bytes.starts_with(b"EFI PART") {
        return None;
    }
    let number = |at: usize| {
        usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
    };
    let table = Table {
        block: u64::from_le_bytes(bytes.get(72..80)?.try_into().ok()?),
        count: number(80)?,
        size: number(84)?,
    };
    let sane = (1..=MOST_ENTRIES).contains(&table.count) && (128..=4096).contains(&table.size);
    sane.then_some(table)
}

fn read_entry(bytes: &[u8]) -> Option<String> {
    let in_use = bytes.get(..16)?.iter().any(|byte| *byte != 0);
    let id = bytes.get(16..32)?;
    // The first three groups are stored with their least byte first.
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (position, from) in order.into_iter().enumerate() {
        if [4, 6, 8, 10].contains(&position) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", id.get(from)?));
    }
    in_use.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_gives_its_uuid_as_it_is_written() {
        let mut entry = vec![0; 128];
        entry[0] = 1;
        for (at, byte) in entry[16..32].iter_mut().enumerate() {
            *byte = u8::try_from(at).unwrap();
        }
        assert_eq!(read_entry(&entry).unwrap(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        entry[0] = 0;
        assert_eq!(read_entry(&entry), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut header = b"EFI PART".to_vec();
            header.extend_from_slice(&bytes);
            let _ = (read_header(&header), read_entry(&bytes));
        }
    }
}
