//! Reads dm-verity's superblock (cryptsetup's on-disk format, version 1).
//!
//! It is not covered by the root hash, and need not be: parameters other than those the tree was made with give another root hash.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::InitError;

/// What the hash tree was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Blocks of 4096 bytes that are verified.
    pub data_blocks: u64,
    /// Hexadecimal, or `-` for none, as the kernel's table wants it.
    pub salt: String,
}

/// Loads the superblock from the start of a hash device.
///
/// # Errors
/// A device without one, or one made with parameters we never use.
pub fn load(device: &Path) -> Result<Superblock, InitError> {
    let mut bytes = [0; 512];
    File::open(device)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| InitError::Read(device.to_owned(), e))?;
    read(&bytes).map_err(|reason| InitError::Superblock { device: device.to_owned(), reason })
}

fn read(bytes: &[u8]) -> Result<Superblock, &'static str> {
    let short = "it is cut off";
    let slice = |from: usize, len: usize| bytes.get(from..from + len).ok_or(short);
    let number =
        |from: usize| slice(from, 4)?.try_into().map(u32::from_le_bytes).map_err(|_| short);
    if slice(0, 8)? != b"verity\0\0" || number(8)? != 1 {
        return Err("it has no superblock of version 1");
    }
    if number(12)? != 1 || !slice(32, 32)?.starts_with(b"sha256\0") {
        return Err("its hash is not SHA-256 of the usual type");
    }
    if number(64)? != 4096 || number(68)? != 4096 {
        return Err("its blocks are not of 4096 bytes");
    }
    let data_blocks = u64::from_le_bytes(slice(72, 8)?.try_into().map_err(|_| short)?);
    let salt_size = usize::from(u16::from_le_bytes(slice(80, 2)?.try_into().map_err(|_| short)?));
    if salt_size > 256 || data_blocks == 0 || data_blocks > 1 << 40 {
        return Err("its sizes make no sense");
    }
    let salt: String = slice(88, salt_size)?.iter().map(|b| format!("{b:02x}")).collect();
    Ok(Superblock { data_blocks, salt: if salt.is_empty() { "-".to_owned() } else { salt } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[8] = 1;
        bytes[12] = 1;
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[65] = 16;
        bytes[69] = 16;
        bytes[72] = 7;
        bytes[80] = 2;
        bytes[88] = 0xab;
        bytes
    }

    #[test]
    fn a_superblock_gives_blocks_and_salt() {
        let read = read(&whole()).unwrap();
        assert_eq!((read.data_blocks, read.salt.as_str()), (7, "ab00"));
    }

    #[test]
    fn another_hash_or_block_size_is_refused() {
        let mut other = whole();
        other[35] = b'1';
        assert!(read(&other).is_err());
        let mut other = whole();
        other[65] = 8;
        assert!(read(&other).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }
    }
}
