//! Finds the root, mounts it, and makes it `/`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chdir, chroot};

use crate::block;
use crate::command_line::Boot;
use crate::error::InitError;
use crate::loopback;

/// Where the root is mounted until it becomes `/`.
pub const ROOT: &str = "/root";
/// The state partition's label: the image's `repart.d` makes it so.
pub const STATE_LABEL: &str = "state";
/// Names the disk that holds the root, for the units that divide it.
const ROOT_DISK: &str = "/run/ballast/root-disk";
/// A netboot image's own root and hash tree.
const CARRIED_ROOT: &str = "/image/root.erofs";
const CARRIED_HASH: &str = "/image/root.verity";
/// The image's unit that mounts the state partition, and where systemd looks for what must be mounted.
const STATE_UNIT: &str = "/usr/lib/systemd/system/var.mount";
const STATE_REQUIRED: &str = "/run/systemd/system/local-fs.target.requires";
/// How long a root from the network waits for a disk that may not exist.
const STATE_LIMIT: Duration = Duration::from_secs(2);
/// Disks on a busy controller take their time; a missing one costs only the way to the refusal.
const DISK_LIMIT: Duration = Duration::from_secs(30);

/// The two devices that make up a root.
#[derive(Debug)]
pub struct Image {
    pub data: PathBuf,
    pub hash: PathBuf,
    /// The disk's name, unless the initrd carried the root.
    pub whole_disk: Option<String>,
}

/// Mounts what the kernel shows of itself.
///
/// # Errors
/// The first mount that fails.
pub fn mount_kernel_filesystems() -> Result<(), InitError> {
    let strict = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let table = [
        ("proc", "/proc", strict, c""),
        ("sysfs", "/sys", strict, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::STRICTATIME, c"mode=755"),
        (
            "tmpfs",
            "/run",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::STRICTATIME,
            c"mode=755,size=20%",
        ),
    ];
    for (kind, place, flags, options) in table {
        fs::create_dir_all(place).map_err(|e| InitError::Write(place.into(), e))?;
        mount(kind, place, kind, flags, options).map_err(|e| InitError::Mount {
            what: kind.to_owned(),
            place,
            source: e.into(),
        })?;
    }
    Ok(())
}

/// Finds data and hash tree: carried in the initrd, or on the partitions the root hash names.
///
/// # Errors
/// No disk showing both in time.
pub fn find_image(boot: &Boot) -> Result<Image, InitError> {
    if Path::new(CARRIED_ROOT).exists() {
        return Ok(Image {
            data: loopback::attach(Path::new(CARRIED_ROOT), 0)?,
            hash: loopback::attach(Path::new(CARRIED_HASH), 1)?,
            whole_disk: None,
        });
    }
    let (data, hash) = (boot.data_partition(), boot.hash_partition());
    let found = block::wait(DISK_LIMIT, |partitions| {
        let by_uuid = |uuid: &str| partitions.iter().find(|p| p.uuid == uuid);
        Some((by_uuid(&data)?.clone(), by_uuid(&hash)?.clone()))
    });
    match found {
        Some((data, hash)) => {
            Ok(Image { data: data.device, hash: hash.device, whole_disk: Some(data.disk) })
        }
        None => {
            let there = block::list();
            let missing = if there.iter().any(|p| p.uuid == data) { &hash } else { &data };
            Err(InitError::NoRoot {
                missing: format!("partition {missing}"),
                secs: DISK_LIMIT.as_secs(),
            })
        }
    }
}

/// Mounts the verified device.
///
/// # Errors
/// The device holding no file system, which a changed first block looks like too.
pub fn mount_root(device: &Path) -> Result<(), InitError> {
    fs::create_dir_all(ROOT).map_err(|e| InitError::Write(ROOT.into(), e))?;
    mount(device, ROOT, "erofs", MountFlags::RDONLY, c"").map_err(|e| InitError::Refused(e.into()))
}

/// Has systemd mount the state partition where there is, or will be, one; else `/var` lives in memory.
///
/// # Errors
/// What can't be mounted or written.
pub fn settle_state(image: &Image) -> Result<(), InitError> {
    if let Some(disk) = &image.whole_disk {
        // First boot makes the partition.
        write(ROOT_DISK, &format!("{disk}\n"))?;
        return require_state();
    }
    let state = |partitions: &[block::Partition]| {
        partitions.iter().any(|p| p.label == STATE_LABEL).then_some(())
    };
    if block::wait(STATE_LIMIT, state).is_some() {
        return require_state();
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", format!("{ROOT}/var"), "tmpfs", flags, c"mode=755")
        .map_err(|e| InitError::Mount { what: "tmpfs".to_owned(), place: "/var", source: e.into() })
}

fn require_state() -> Result<(), InitError> {
    let failed = |e| InitError::Write(STATE_REQUIRED.into(), e);
    fs::create_dir_all(STATE_REQUIRED).map_err(failed)?;
    symlink(STATE_UNIT, format!("{STATE_REQUIRED}/var.mount")).map_err(failed)
}

fn write(path: &str, text: &str) -> Result<(), InitError> {
    let failed = |e| InitError::Write(path.into(), e);
    if let Some(dir) = Path::new(path).parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

/// Makes the root `/`, and gives the initrd's memory back.
///
/// # Errors
/// A mount that does not move.
pub fn switch() -> Result<(), InitError> {
    for place in ["/dev", "/proc", "/sys", "/run"] {
        mount_move(place, format!("{ROOT}{place}")).map_err(|e| InitError::Mount {
            what: place.to_owned(),
            place: ROOT,
            source: e.into(),
        })?;
    }
    // A loop device keeps its file's memory by itself.
    for part in ["/modules", "/image", "/init"] {
        let _ = fs::remove_dir_all(part);
        let _ = fs::remove_file(part);
    }
    let step = |e: rustix::io::Errno| InitError::Switch(e.into());
    chdir(ROOT).map_err(step)?;
    mount_move(".", "/").map_err(step)?;
    chroot(".").map_err(step)?;
    chdir("/").map_err(step)
}
