//! Which slot the machine was started from: told by the disk's partitions below the verified root (`modules/base.nix`).

use std::fs;

use crate::root::Root;

/// The mounts of this process (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Number of the partition that holds the root of each slot; its hash tree is in the next one.
const SLOTS: [(u32, char); 2] = [(2, 'a'), (4, 'b')];

/// The slot's letter; none where the root is not on a disk: over the network, or in a container.
pub(crate) fn load_slot(root: &Root) -> Option<char> {
    let mounts = fs::read_to_string(root.at(MOUNTS)).ok()?;
    let device = root_device(&mounts)?;
    let below = fs::read_dir(root.at(&format!("/sys/dev/block/{device}/slaves"))).ok()?;
    let numbers: Vec<u32> = below
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.ok()?.path().join("partition")).ok()?;
            text.trim().parse().ok()
        })
        .collect();
    let (_, letter) = SLOTS.iter().find(|(data, _)| {
        numbers.len() == 2 && numbers.contains(data) && numbers.contains(&(data + 1))
    })?;
    Some(*letter)
}

/// The device of what is mounted at `/`, as `major:minor`; the last mount there hides those before.
fn root_device(mounts: &str) -> Option<&str> {
    let at_root = |line: &&str| line.split(' ').nth(4) == Some("/");
    mounts.lines().rfind(at_root)?.split(' ').nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose root is on the device-mapper above these partitions.
    fn slot(partitions: &[u32]) -> Option<char> {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir_all(root.at("/proc/self")).unwrap();
        let mounts = "1 1 0:2 / / rw - rootfs none rw\n\
                      21 1 253:0 / / ro,relatime - erofs /dev/dm-0 ro\n\
                      22 21 0:21 / /proc rw - proc proc rw\n";
        fs::write(root.at(MOUNTS), mounts).unwrap();
        for number in partitions {
            let below = root.at(&format!("/sys/dev/block/253:0/slaves/vda{number}"));
            fs::create_dir_all(&below).unwrap();
            fs::write(below.join("partition"), format!("{number}\n")).unwrap();
        }
        load_slot(&root)
    }

    #[test]
    fn the_partitions_below_the_root_tell_the_slot() {
        assert_eq!(slot(&[2, 3]), Some('a'));
        assert_eq!(slot(&[5, 4]), Some('b'));
    }

    #[test]
    fn a_root_that_is_on_no_slot_has_none() {
        for partitions in [[].as_slice(), &[3, 4], &[2], &[2, 3, 4]] {
            assert_eq!(slot(partitions), None, "{partitions:?}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(load_slot(&Root::new(empty.path())), None);
    }
}
