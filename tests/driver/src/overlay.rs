//! A machine's own disk: an empty qcow2 overlay over the image, longer than the image so that its state partition fits.
//!
//! Format: QEMU's docs/interop/qcow2.rst, version 3. QEMU itself is the judge: it opens the file or refuses.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};

const CLUSTER: u64 = 1 << 16;
/// What one entry of the first-level table covers: a cluster of eight-byte entries, one per cluster.
const COVERED_BY_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;

/// Writes an overlay of `bytes` over a raw image.
///
/// # Errors
/// When the file cannot be written, or the backing file's path is too long for the format.
pub fn save(overlay: &Path, backing: &Path, bytes: u64) -> Result<()> {
    let content = write(backing.as_os_str().as_bytes(), bytes)
        .ok_or_else(|| Error::Missing(format!("a shorter path than {}", backing.display())))?;
    fs::write(overlay, content).map_err(Error::file("writing", overlay))
}

/// The file: header, refcount table, refcount block, first-level table, one cluster each.
fn write(backing: &[u8], bytes: u64) -> Option<Vec<u8>> {
    const HEADER: u32 = 104;
    let extension: &[u8] = &[
        0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 3, b'r', b'a', b'w', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let l1_entries = u32::try_from(bytes.div_ceil(COVERED_BY_L1_ENTRY)).ok()?;
    if backing.len() > 1023 || u64::from(l1_entries) * 8 > CLUSTER {
        return None;
    }
    let name_at = u64::from(HEADER) + u64::try_from(extension.len()).ok()?;

    let mut file = Vec::new();
    file.extend_from_slice(b"QFI\xfb");
    file.extend_from_slice(&3u32.to_be_bytes());
    file.extend_from_slice(&name_at.to_be_bytes());
    file.extend_from_slice(&u32::try_from(backing.len()).ok()?.to_be_bytes());
    file.extend_from_slice(&CLUSTER.trailing_zeros().to_be_bytes());
    file.extend_from_slice(&bytes.to_be_bytes());
    file.extend_from_slice(&0u32.to_be_bytes()); // not encrypted
    file.extend_from_slice(&l1_entries.to_be_bytes());
    file.extend_from_slice(&(3 * CLUSTER).to_be_bytes()); // first-level table
    file.extend_from_slice(&CLUSTER.to_be_bytes()); // refcount table
    file.extend_from_slice(&1u32.to_be_bytes()); // of one cluster
    file.extend_from_slice(&[0; 12]); // no snapshots
    file.extend_from_slice(&[0; 24]); // no features
    file.extend_from_slice(&4u32.to_be_bytes()); // refcounts of 1 << 4 bits
    file.extend_from_slice(&HEADER.to_be_bytes());
    file.extend_from_slice(extension);
    file.extend_from_slice(backing);

    let cluster = usize::try_from(CLUSTER).ok()?;
    file.resize(cluster, 0);
    file.extend_from_slice(&(2 * CLUSTER).to_be_bytes());
    file.resize(2 * cluster, 0);
    for _ in 0..4 {
        file.extend_from_slice(&1u16.to_be_bytes());
    }
    file.resize(4 * cluster, 0);
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_too_large_for_one_table_is_refused() {
        assert!(write(b"/disk.raw", 1 << 30).is_some());
        assert!(write(b"/disk.raw", 1 << 50).is_none());
    }
}
