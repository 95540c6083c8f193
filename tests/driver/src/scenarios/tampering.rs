//! A root of which one bit is not what was built: the machine must not run it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{ensure, wait_for_console, wanted};
use crate::cluster::CONSUL_SERVER;
use crate::error::{Error, Result};
use crate::machine::Wanted;
use crate::trial::{Group, Trial};

/// The group. That an unchanged root boots, every other group shows.
pub const GROUP: Group = Group {
    name: "tampering",
    promises: &["a_flipped_bit_in_the_root_refuses_to_boot"],
    containers: false,
    run: try_flipped_bit,
};

fn try_flipped_bit(trial: &mut Trial) -> Result<()> {
    let disk = trial.dir().join("flipped.raw");
    copy_sparse(&trial.given().images()?.of(CONSUL_SERVER)?.disk()?, &disk)?;
    // EROFS does not use the first KiB of its partition: without verification nobody would notice.
    flip_bit(&disk, root_partition(&disk)? + 512)?;
    let mut machine = trial.machine(Wanted { disk: Some(disk), ..wanted("flipped", 1) })?;
    machine.power_on()?;
    wait_for_console(machine.as_mut(), "data block 0 is corrupted")?;
    let console = machine.console().text();
    ensure(!console.contains("Welcome to"), || "systemd of the changed root was started".into())?;
    trial.holds("a_flipped_bit_in_the_root_refuses_to_boot")
}

fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(Error::file("opening", from))?;
    let mut copy = File::create(to).map_err(Error::file("making", to))?;
    let mut block = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = source.read(&mut block).map_err(Error::file("reading", from))?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            copy.seek(SeekFrom::Start(length)).map_err(Error::file("writing", to))?;
            copy.write_all(bytes).map_err(Error::file("writing", to))?;
        }
        length += u64::try_from(count).unwrap_or(0);
    }
    copy.set_len(length).map_err(Error::file("writing", to))
}

/// Where the root's data partition begins: UEFI specification, section 5.3, and the type of x86-64 roots of the
/// Discoverable Partitions Specification.
fn root_partition(disk: &Path) -> Result<u64> {
    const SECTOR: u64 = 512;
    const TYPE: [u8; 16] = [
        0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7,
        0x09,
    ];
    let mut file = File::open(disk).map_err(Error::file("opening", disk))?;
    file.seek(SeekFrom::Start(2 * SECTOR)).map_err(Error::file("reading", disk))?;
    let mut entries = [0; 128 * 128];
    file.read_exact(&mut entries).map_err(Error::file("reading", disk))?;
    let root = entries.chunks(128).find(|entry| entry.starts_with(&TYPE));
    let first = root.and_then(|entry| entry.get(32..40)?.try_into().ok()).map(u64::from_le_bytes);
    first
        .map(|sector| sector * SECTOR)
        .ok_or_else(|| Error::Broken(format!("{} has no root partition", disk.display())))
}

fn flip_bit(disk: &Path, offset: u64) -> Result<()> {
    let changing = || Error::file("changing", disk);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(disk).map_err(changing())?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).map_err(changing())?;
    file.read_exact(&mut byte).map_err(changing())?;
    file.seek(SeekFrom::Start(offset)).map_err(changing())?;
    file.write_all(&byte.map(|byte| byte ^ 1)).map_err(changing())
}
