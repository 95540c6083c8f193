//! Gives the machine its id before systemd asks for it: machines from one image must differ, and stay themselves.
//!
//! In this order: the id an earlier boot left on the state partition, the firmware's (SMBIOS product UUID), a random
//! one. A line of the image's tmpfiles.d copies whatever it is to the state partition once that exists.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::block;
use crate::error::InitError;
use crate::root::{ROOT, STATE_LABEL};

const MACHINE_ID: &str = "/run/machine-id";
/// Below `/var`, which is the state partition's root.
const KEPT: &str = "lib/ballast/machine-id";

/// Writes `/run/machine-id` and binds it over the root's empty `/etc/machine-id`.
///
/// # Errors
/// The root having no such file, or the kernel giving no random bytes.
pub fn bind_machine_id(disk: Option<&str>) -> Result<(), InitError> {
    let id = match kept(disk).or_else(firmware) {
        Some(id) => id,
        None => random()?,
    };
    let write = |e| InitError::Write(MACHINE_ID.into(), e);
    std::fs::write(MACHINE_ID, format!("{id}\n")).map_err(write)?;
    std::fs::set_permissions(MACHINE_ID, PermissionsExt::from_mode(0o444)).map_err(write)?;
    let target = format!("{ROOT}/etc/machine-id");
    mount_bind(MACHINE_ID, &target)
        .and_then(|()| mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c""))
        .map_err(|e| InitError::Mount {
            what: MACHINE_ID.to_owned(),
            place: "/etc/machine-id",
            source: e.into(),
        })
}

/// What an earlier boot left behind. A state partition that does not exist yet or does not mount is systemd's affair, not ours.
fn kept(disk: Option<&str>) -> Option<String> {
    let partitions = block::list();
    let state = partitions
        .iter()
        .find(|p| p.label == STATE_LABEL && disk.is_none_or(|disk| p.disk == disk))?;
    let place = "/state";
    std::fs::create_dir_all(place).ok()?;
    mount(
        &state.device,
        place,
        "ext4",
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
        c"",
    )
    .ok()?;
    let text = std::fs::read_to_string(Path::new(place).join(KEPT));
    let _ = unmount(place, UnmountFlags::empty());
    valid(&text.ok()?)
}

fn firmware() -> Option<String> {
    let text = std::fs::read_to_string("/sys/class/dmi/id/product_uuid").ok()?;
    valid(&text.replace('-', ""))
}

fn random() -> Result<String, InitError> {
    let path = "/dev/urandom";
    let mut bytes = [0_u8; 16];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| InitError::Read(path.into(), e))?;
    // A UUID of version 4, as systemd makes its own.
    if let Some(byte) = bytes.get_mut(6) {
        *byte = *byte & 0x0f | 0x40;
    }
    if let Some(byte) = bytes.get_mut(8) {
        *byte = *byte & 0x3f | 0x80;
    }
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// 32 hexadecimal digits that are not the placeholders firmware is shipped with.
fn valid(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let first = id.chars().next()?;
    let placeholder = id.chars().all(|c| c == first) || id == "03000200040005000006000700080009";
    (hex && !placeholder).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_of_the_firmware_is_no_identity() {
        assert_eq!(valid("00000000000000000000000000000000"), None);
        assert_eq!(valid("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"), None);
        assert_eq!(valid("03000200040005000006000700080009"), None);
        assert_eq!(valid("not an id"), None);
        assert!(valid("4C4C4544003957108052B4C04F384833\n").is_some());
    }

    #[test]
    fn two_random_identities_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
