//! Writes the disk: a GUID partition table around the ESP, the root and its hash tree
//! (UEFI specification, chapter 5; UAPI.2 Discoverable Partitions Specification).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gpt::partition::Partition;
use gpt::partition_types::{self, OperatingSystem, Type};
use uuid::Uuid;

use crate::error::AssembleError;

const SECTOR: u64 = 512;
/// Partitions start on whole mebibytes; the first leaves room for the table.
const ALIGN: u64 = 1 << 20;
const ROOT_VERITY_X64: Uuid = Uuid::from_u128(0x2c73_57ed_ebd2_46d9_aec1_23d4_37ec_2bf5);

/// One partition with what it holds from its first byte on.
#[derive(Debug)]
pub struct Slot {
    pub kind: SlotKind,
    pub label: String,
    pub uuid: Uuid,
    pub size: u64,
    pub content: PathBuf,
}

/// What a partition is for, as its type says.
#[derive(Debug, Clone, Copy)]
pub enum SlotKind {
    Esp,
    Root,
    RootVerity,
}

impl SlotKind {
    fn type_and_flags(self) -> (Type, u64) {
        // Read-only (DPS, flag 60): nothing may mount slots for writing.
        const READ_ONLY: u64 = 1 << 60;
        match self {
            Self::Esp => (partition_types::EFI, 0),
            Self::Root => (partition_types::LINUX_ROOT_X64, READ_ONLY),
            Self::RootVerity => {
                (Type { guid: ROOT_VERITY_X64, os: OperatingSystem::Linux }, READ_ONLY)
            }
        }
    }
}

/// Writes the disk to `to`: as large as its partitions need, holes where they hold nothing.
///
/// # Errors
/// A content larger than its partition, or the disk failing.
pub fn save_disk(slots: &[Slot], disk: Uuid, to: &Path) -> Result<u64, AssembleError> {
    let write = |source| AssembleError::Write { path: to.to_owned(), source };
    let table = |reason: String| AssembleError::Format { format: "partition table", reason };
    let mut partitions = BTreeMap::new();
    let mut starts = Vec::new();
    let mut next = ALIGN;
    for (id, slot) in (1..).zip(slots) {
        let size = slot.size.next_multiple_of(ALIGN);
        let (part_type_guid, flags) = slot.kind.type_and_flags();
        partitions.insert(
            id,
            Partition {
                part_type_guid,
                part_guid: slot.uuid,
                first_lba: next / SECTOR,
                last_lba: (next + size) / SECTOR - 1,
                flags,
                name: slot.label.clone(),
            },
        );
        starts.push(next);
        next += size;
    }
    // The table's copy stands in the last 33 sectors.
    let whole = next + ALIGN;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)
        .map_err(write)?;
    file.set_len(whole).map_err(write)?;

    gpt::mbr::ProtectiveMBR::with_lb_size(u32::try_from(whole / SECTOR - 1).unwrap_or(u32::MAX))
        .overwrite_lba0(&mut file)
        .map_err(|e| table(e.to_string()))?;
    let mut gpt = gpt::GptConfig::new()
        .writable(true)
        .create_from_device(&mut file, Some(disk))
        .map_err(|e| table(e.to_string()))?;
    gpt.update_partitions(partitions).map_err(|e| table(e.to_string()))?;
    gpt.write().map_err(|e| table(e.to_string()))?;

    for (slot, start) in slots.iter().zip(starts) {
        let size = copy_sparse(&slot.content, &mut file, start)
            .map_err(|source| AssembleError::Read { path: slot.content.clone(), source })?;
        if size > slot.size {
            return Err(AssembleError::Format {
                format: "disk",
                reason: format!(
                    "{} needs {size} bytes, and its partition has {}",
                    slot.label, slot.size
                ),
            });
        }
    }
    Ok(whole)
}

/// Copies a file to a place in another, leaving holes where it is zero; returns its length.
fn copy_sparse(from: &Path, to: &mut File, start: u64) -> std::io::Result<u64> {
    let mut from = File::open(from)?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let got = from.read(&mut buffer)?;
        let Some(block) = buffer.get(..got).filter(|block| !block.is_empty()) else {
            return Ok(at);
        };
        if block.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(start + at))?;
            to.write_all(block)?;
        }
        at += u64::try_from(got).unwrap_or_default();
    }
}
