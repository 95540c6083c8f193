//! Finds partitions by what the kernel and their disk's table say about them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::gpt;

const CLASS: &str = "/sys/class/block";
/// How often we look; a look is a few reads.
const PAUSE: Duration = Duration::from_millis(20);

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
    let Ok(entries) = std::fs::read_dir(CLASS) else { return Vec::new() };
    let mut tables = HashMap::new();
    let mut found: Vec<Partition> =
        entries.flatten().filter_map(|entry| read(&entry.path(), &mut tables)).collect();
    found.sort_by(|a, b| a.device.cmp(&b.device));
    found
}

fn read(dir: &Path, tables: &mut HashMap<String, Vec<Option<String>>>) -> Option<Partition> {
    let text = std::fs::read_to_string(dir.join("uevent")).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    if field("DEVTYPE")? != "partition" {
        return None;
    }
    // A partition's directory stands in its disk's.
    let real = std::fs::canonicalize(dir).ok()?;
    let disk = real.parent()?.file_name()?.to_str()?.to_owned();
    let table = tables.entry(disk.clone()).or_insert_with(|| load_table(&disk));
    let position = field("PARTN")?.parse::<usize>().ok()?.checked_sub(1)?;
    Some(Partition {
        device: Path::new("/dev").join(field("DEVNAME")?),
        uuid: table.get(position)?.clone()?,
        label: field("PARTNAME").unwrap_or_default(),
        disk,
    })
}

fn load_table(disk: &str) -> Vec<Option<String>> {
    let size = std::fs::read_to_string(format!("{CLASS}/{disk}/queue/logical_block_size"));
    let size = size.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(512);
    gpt::load(&Path::new("/dev").join(disk), size)
}
