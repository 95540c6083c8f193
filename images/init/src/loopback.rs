//! Attaches a file of the initrd as a block device: how a netboot image carries its root.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::ioctl::{Opcode, Updater, ioctl};

use crate::error::InitError;

/// Numbers of `include/uapi/linux/loop.h`.
const CONFIGURE: Opcode = 0x4c0a;
const READ_ONLY: u32 = 1;

/// `struct loop_config`: fd, block size, `struct loop_info64`, reserved.
type Config = [u8; 304];

/// Attaches `file` read-only as the loop device of this number.
///
/// # Errors
/// The kernel refusing.
pub fn attach(file: &Path, number: u8) -> Result<PathBuf, InitError> {
    let failed = |e: io::Error| InitError::Loop(file.to_owned(), e);
    // The kernel's module comes with eight of them.
    let device = PathBuf::from(format!("/dev/loop{number}"));
    let node = File::open(&device).map_err(failed)?;
    let backing = File::open(file).map_err(failed)?;
    let mut config: Config = [0; 304];
    let mut put = |at: usize, value: u32| {
        if let Some(place) = config.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
    };
    put(0, u32::try_from(backing.as_raw_fd()).unwrap_or_default());
    put(4, 4096);
    // lo_flags: after five 64-bit fields and three 32-bit ones of loop_info64.
    put(8 + 52, READ_ONLY);
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config` of 304 bytes, which `config` is; the kernel keeps its own
    // reference to the backing file.
    unsafe { ioctl(&node, Updater::<CONFIGURE, Config>::new(&mut config)) }
        .map_err(|e| failed(e.into()))?;
    Ok(device)
}
