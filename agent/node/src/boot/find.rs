//! Where a node's bundle may be, in the order in which the places are asked.

use std::fs;
use std::path::{Path, PathBuf};

use ballast_contract::paths;
use nix::mount::{MsFlags, mount, umount};

use crate::error::{Error, chain};
use crate::log;
use crate::root::{self, Root};
use crate::spawn;

/// A bundle's bytes, not yet verified, and where they were found.
pub(crate) struct Found {
    /// For people: `the credential ballast.bundle`.
    pub(crate) origin: String,
    pub(crate) bytes: Vec<u8>,
}

/// Where the volume is mounted while it is read.
const VOLUME_MOUNT: &str = "/run/ballast/volume";

/// The directory of this unit's credentials (systemd.exec(5)).
pub(crate) fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// The bundle that came as a systemd credential.
pub(crate) fn in_credential(credentials: Option<&Path>) -> Result<Option<Found>, Error> {
    let Some(directory) = credentials else { return Ok(None) };
    let bytes = root::load(&directory.join(paths::BUNDLE_CREDENTIAL))?;
    let origin = format!("the credential {}", paths::BUNDLE_CREDENTIAL);
    Ok(bytes.map(|bytes| Found { origin, bytes }))
}

/// The bundle on the volume that bears the label.
pub(crate) fn on_volume(root: &Root) -> Result<Option<Found>, Error> {
    let origin = format!("the volume labelled {}", paths::BUNDLE_VOLUME);
    let device = root.at(&format!("/dev/disk/by-label/{}", paths::BUNDLE_VOLUME));
    if !device.exists() {
        return Ok(None);
    }
    if device.is_dir() {
        // A test's volume: a directory where the node has a device.
        let bytes = root::load(&device.join(paths::BUNDLE_FILE))?;
        return Ok(bytes.map(|bytes| Found { origin, bytes }));
    }
    let target = root.at(VOLUME_MOUNT);
    root::make_directory(&target)?;
    mount_read_only(&device, &target)?;
    let bytes = root::load(&target.join(paths::BUNDLE_FILE));
    umount(&target).map_err(|e| Error::Mount { path: target.clone(), source: e.into() })?;
    fs::remove_dir(&target).map_err(Error::io("removing", &target))?;
    Ok(bytes?.map(|bytes| Found { origin, bytes }))
}

/// Mounts a volume of whatever kind it is: those that the usual tools make.
fn mount_read_only(device: &Path, target: &Path) -> Result<(), Error> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mut last = None;
    for kind in ["vfat", "ext4", "iso9660"] {
        match mount(Some(device), target, Some(kind), flags, None::<&str>) {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let source = last.map_or_else(|| std::io::Error::other("no kind was tried"), Into::into);
    Err(Error::Mount { path: device.to_owned(), source })
}

/// Waits until the kernel's devices have their names, so that an absent volume is absent and not late.
pub(crate) fn settle(root: &Root) {
    // A container has no device manager, and no devices to wait for.
    if !root.is_live() || !Path::new("/run/udev/control").exists() {
        return;
    }
    if let Err(error) = spawn::run(&["udevadm", "settle", "--timeout=30"]) {
        // A device that never comes to rest is no reason to have no identity.
        log::warn(&format!("going on before every device is there: {}", chain(&error)));
    }
}
