//! Writes the EFI system partition: FAT32 with systemd-boot and the UKI, through `mkfs.vfat` and mtools.

use std::path::Path;

use crate::args;
use crate::error::AssembleError;
use crate::tool;
use crate::write::save;

/// One file of the partition: where it goes, and what it holds.
pub type EspFile<'a> = (&'a str, &'a [u8]);

/// Writes a partition of `size` bytes to `to`; `scratch` holds the files on their way.
///
/// # Errors
/// The tools failing, for one when the files do not fit.
pub fn save_esp(
    files: &[EspFile<'_>],
    size: u64,
    volume_id: u32,
    epoch: u64,
    scratch: &Path,
    to: &Path,
) -> Result<(), AssembleError> {
    let write = |source| AssembleError::Write { path: to.to_owned(), source };
    std::fs::File::create(to).and_then(|file| file.set_len(size)).map_err(write)?;
    tool::run(
        "mkfs.vfat",
        &args!["--invariant", "-F32", "-s1", "-nESP", format!("-i{volume_id:08x}"), to,],
        epoch,
        |_| Ok(()),
    )?;
    let mut dirs: Vec<&str> = Vec::new();
    for (path, _) in files {
        for (at, _) in path.match_indices('/') {
            if let Some(dir) = path.get(..at).filter(|dir| !dirs.contains(dir)) {
                dirs.push(dir);
            }
        }
    }
    let mut mmd = args!["-i", to].to_vec();
    mmd.extend(dirs.iter().map(|dir| format!("::/{dir}").into()));
    tool::run("mmd", &mmd, epoch, |_| Ok(()))?;
    for (path, content) in files {
        let from = scratch.join("esp-file");
        save(&from, content)?;
        // mtools keeps a file's own time only with -m; without it the time is SOURCE_DATE_EPOCH's.
        tool::run("mcopy", &args!["-i", to, &from, format!("::/{path}")], epoch, |_| Ok(()))?;
        let _ = std::fs::remove_file(&from);
    }
    Ok(())
}
