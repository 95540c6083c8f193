//! Writes what travels: a disk compressed, and a disk for hypervisors.

use std::io::Write;
use std::path::Path;

use crate::args;
use crate::error::AssembleError;
use crate::tool;

/// Compresses bytes on all cores. The result depends on the level alone, not on the number of cores.
///
/// # Errors
/// The compressor's own.
pub fn zstd(bytes: &[u8], level: i32) -> Result<Vec<u8>, AssembleError> {
    let mut packed = Vec::new();
    compress(&mut &*bytes, &mut packed, level)
        .map_err(|e| AssembleError::Format { format: "compressed part", reason: e.to_string() })?;
    Ok(packed)
}

/// Compresses a file to another.
///
/// # Errors
/// Either file failing.
pub fn save_zstd(from: &Path, to: &Path, level: i32) -> Result<(), AssembleError> {
    let write = |source| AssembleError::Write { path: to.to_owned(), source };
    let mut input = std::fs::File::open(from)
        .map_err(|source| AssembleError::Read { path: from.to_owned(), source })?;
    let mut output = std::fs::File::create(to).map_err(write)?;
    compress(&mut input, &mut output, level).map_err(write)
}

fn compress(from: &mut dyn std::io::Read, to: &mut dyn Write, level: i32) -> std::io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(to, level)?;
    // One worker already cuts the input into jobs; more of them only run at once.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
    encoder.include_checksum(true)?;
    std::io::copy(from, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

/// Converts a raw disk to qcow2, compressed.
///
/// # Errors
/// `qemu-img` failing.
pub fn save_qcow2(from: &Path, to: &Path, epoch: u64) -> Result<(), AssembleError> {
    tool::run(
        "qemu-img",
        &args![
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-c",
            "-o",
            "compression_type=zstd",
            "-m",
            "1",
            from,
            to
        ],
        epoch,
        |_| Ok(()),
    )?;
    Ok(())
}
