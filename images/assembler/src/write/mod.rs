//! Writes the formats an image is made of, from the root's file system out to the disk.

pub mod cpio;
pub mod disk;
pub mod erofs;
pub mod esp;
pub mod manifest;
pub mod transport;
pub mod uki;
pub mod verity;

use std::path::Path;

use crate::error::AssembleError;

/// Saves bytes at a path.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), AssembleError> {
    std::fs::write(path, bytes)
        .map_err(|source| AssembleError::Write { path: path.to_owned(), source })
}

/// Loads the bytes at a path.
pub fn load(path: &Path) -> Result<Vec<u8>, AssembleError> {
    std::fs::read(path).map_err(|source| AssembleError::Read { path: path.to_owned(), source })
}
