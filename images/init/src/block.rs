//! Finds partitions by what the kernel says about them in `/sys/class/block/*/uevent`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often we look; a look is a few reads from memory.
const PAUSE: Duration = Duration::from_millis(10);

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `/dev/vda2`.
    pub device: PathBuf,
    /// The disk's name: `vda`.
    pub disk: String,
    /// Lower case, with hyphens.
    pub uuid: String,
    /// The label in the partition table.
    pub label: String,
}

/// Waits until `found` finds what it looks for among the partitions.
pub fn wait<T>(limit: Duration, found: impl Fn(&[Partition]) -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(it) = found(&list()) {
            return Some(it);
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// All partitions there are now, sorted by device.
pub fn list() -> Vec<Partition> {
    let Ok(entries) = std::fs::read_dir("/sys/class/block") else { return Vec::new() };
    let mut found: Vec<Partition> = entries.flatten().filter_map(|e| read(&e.path())).collect();
    found.sort_by(|a, b| a.device.cmp(&b.device));
    found
}

fn read(dir: &Path) -> Option<Partition> {
    let text = std::fs::read_to_string(dir.join("uevent")).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    if field("DEVTYPE")? != "partition" {
        return None;
    }
    // A partition's directory stands in its disk's.
    let real = std::fs::canonicalize(dir).ok()?;
    Some(Partition {
        device: Path::new("/dev").join(field("DEVNAME")?),
        disk: real.parent()?.file_name()?.to_str()?.to_owned(),
        uuid: field("PARTUUID")?.to_ascii_lowercase(),
        label: field("PARTNAME").unwrap_or_default(),
    })
}
