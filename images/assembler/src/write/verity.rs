//! Writes the hash tree that lets the kernel refuse a changed root (dm-verity), through `veritysetup`.

use std::path::Path;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::erofs::uuid_from;
use crate::args;
use crate::error::AssembleError;
use crate::tool;

/// The hash that stands for a whole root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootHash(pub [u8; 32]);

impl RootHash {
    /// UUID of the data partition: the first half (Discoverable Partitions Specification).
    pub fn data_partition(&self) -> Uuid {
        self.half(0)
    }

    /// UUID of the hash partition: the last half.
    pub fn hash_partition(&self) -> Uuid {
        self.half(16)
    }

    fn half(&self, from: usize) -> Uuid {
        let mut bytes = [0; 16];
        for (to, byte) in bytes.iter_mut().zip(self.0.iter().skip(from)) {
            *to = *byte;
        }
        Uuid::from_bytes(bytes)
    }
}

impl std::fmt::Display for RootHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Writes the hash tree of `data`; salt and UUID come from the tree's digest.
///
/// # Errors
/// `veritysetup` failing, or saying no root hash.
pub fn save_verity(
    data: &Path,
    digest: &[u8; 32],
    epoch: u64,
    to: &Path,
) -> Result<RootHash, AssembleError> {
    let salt = Sha256::new().chain_update("salt").chain_update(digest).finalize();
    let _ = std::fs::remove_file(to);
    let said = tool::run(
        "veritysetup",
        &args![
            "format",
            "--hash=sha256",
            "--data-block-size=4096",
            "--hash-block-size=4096",
            format!("--salt={}", hex::encode(salt)),
            format!("--uuid={}", uuid_from(digest, "verity")),
            data,
            to,
        ],
        epoch,
        |_| Ok(()),
    )?;
    said.lines()
        .find_map(|line| line.strip_prefix("Root hash:"))
        .and_then(|text| {
            let mut hash = [0; 32];
            hex::decode_to_slice(text.trim(), &mut hash).ok()?;
            Some(RootHash(hash))
        })
        .ok_or_else(|| AssembleError::Tool {
            tool: "veritysetup".to_owned(),
            reason: "it said no root hash of 64 digits".to_owned(),
        })
}
