//! Puts dm-verity between the root and us, by device-mapper's ioctls (kernel documentation, "dm-verity").

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::error::InitError;
use crate::superblock;

const CONTROL: &str = "/dev/mapper/control";
/// The name systemd's own tools give a verified root: they then find it set up.
const NAME: &str = "root";

/// `struct dm_ioctl` with room for one target and its parameters behind it.
type Request = [u8; 1024];
const HEADER: usize = 312;
const TARGET: usize = 40;

const fn command(number: u8) -> Opcode {
    opcode::read_write::<[u8; HEADER]>(0xfd, number)
}
const CREATE: Opcode = command(3);
const RESUME: Opcode = command(6);
const LOAD: Opcode = command(9);
const READ_ONLY: u32 = 1;

/// Sets up the verified device and returns it.
///
/// # Errors
/// A hash device without a superblock, or the kernel refusing a step.
pub fn open_verity(data: &Path, hash: &Path, root_hash: &str) -> Result<PathBuf, InitError> {
    let superblock = superblock::load(hash)?;
    let sectors = superblock.data_blocks.saturating_mul(8);
    // A changed block panics the kernel, which names the block on the console: no process ever sees it.
    let parameters = format!(
        "1 {} {} 4096 4096 {} 1 sha256 {root_hash} {} 1 panic_on_corruption",
        data.display(),
        hash.display(),
        superblock.data_blocks,
        superblock.salt,
    );
    let control = File::open(CONTROL).map_err(|e| InitError::Read(CONTROL.into(), e))?;
    let step = |step| move |source| InitError::Verity { step, source };
    let created = call::<CREATE>(&control, request(READ_ONLY, None)).map_err(step("create"))?;
    let target = request(READ_ONLY, Some((sectors, "verity", &parameters)));
    call::<LOAD>(&control, target).map_err(step("load the table"))?;
    call::<RESUME>(&control, request(READ_ONLY, None)).map_err(step("start"))?;
    // The kernel answers with the device number, of which the minor's low byte names the node here.
    let minor = created.get(40).copied().unwrap_or_default();
    Ok(PathBuf::from(format!("/dev/dm-{minor}")))
}

fn request(flags: u32, target: Option<(u64, &str, &str)>) -> Request {
    let mut bytes = [0; 1024];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    // version, data_size, data_start, target_count, flags, name
    put(0, &4_u32.to_ne_bytes());
    put(12, &1024_u32.to_ne_bytes());
    put(16, &312_u32.to_ne_bytes());
    put(20, &u32::from(target.is_some()).to_ne_bytes());
    put(28, &flags.to_ne_bytes());
    put(48, NAME.as_bytes());
    if let Some((sectors, kind, parameters)) = target {
        // struct dm_target_spec: sector_start, length, status, next, target_type; then the parameters' text.
        put(HEADER + 8, &sectors.to_ne_bytes());
        put(HEADER + 24, kind.as_bytes());
        put(HEADER + TARGET, parameters.as_bytes());
    }
    bytes
}

fn call<const COMMAND: Opcode>(control: &File, mut request: Request) -> io::Result<Request> {
    // SAFETY: the kernel reads and writes `data_size` bytes from the start of the request, which says 1024, its own
    // size; all its fields are plain numbers and text.
    unsafe { ioctl(control, Updater::<COMMAND, Request>::new(&mut request)) }?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_kernels() {
        assert_eq!(CREATE, 0xc138_fd03);
        assert_eq!(LOAD, 0xc138_fd09);
        assert_eq!(RESUME, 0xc138_fd06);
    }

    #[test]
    fn the_longest_table_fits_its_request() {
        // Two device names of 255, a salt of 256 bytes and a root hash would not; ours are 32 bytes and /dev names.
        let parameters = format!(
            "1 /dev/{} /dev/{} 4096 4096 {} 1 sha256 {} {} 1 panic_on_corruption",
            "n".repeat(32),
            "n".repeat(32),
            u64::MAX,
            "a".repeat(64),
            "b".repeat(64)
        );
        assert!(HEADER + TARGET + parameters.len() < 1024);
    }
}
