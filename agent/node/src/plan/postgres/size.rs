//! PostgreSQL's sizes, from the machine's memory and disk: what the operator doesn't set follows the machine.

use std::path::Path;

use sysinfo::{MemoryRefreshKind, System};

const MIB: u64 = 1024 * 1024;

/// What a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Memory, or what the container may have of it.
    pub(crate) memory_bytes: u64,
    /// The file system of the data.
    pub(crate) disk_bytes: u64,
}

impl Machine {
    /// Asks the kernel.
    pub(crate) fn look(data: &Path) -> Self {
        let mut system = System::new();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let total = system.total_memory();
        let limit = system.cgroup_limits().map(|l| l.total_memory).filter(|l| *l > 0);
        // The nearest directory that is there already.
        let disk = data.ancestors().find_map(|p| nix::sys::statvfs::statvfs(p).ok());
        Self {
            memory_bytes: limit.map_or(total, |l| l.min(total)),
            disk_bytes: disk.map_or(0, |d| d.blocks().saturating_mul(d.fragment_size())),
        }
    }

    /// How much log is kept for someone who doesn't take it, a replica or a backup's repository, MiB: beyond this it would
    /// fill the primary's disk.
    pub(super) fn log_kept_mib(&self) -> u64 {
        (self.disk_bytes / MIB / 4).clamp(256, 64 * 1024)
    }

    /// PostgreSQL's parameters for this machine.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let memory = self.memory_bytes / MIB;
        let disk = self.disk_bytes / MIB;
        let mib = |size: u64, least: u64, most: u64| format!("{}MB", size.clamp(least, most));
        vec![
            ("shared_buffers", mib(memory / 4, 64, 64 * 1024)),
            ("effective_cache_size", mib(memory * 7 / 10, 128, 1024 * 1024)),
            ("maintenance_work_mem", mib(memory / 20, 32, 1024)),
            // Each of 200 connections may take several of them.
            ("work_mem", mib(memory / 1000, 4, 128)),
            ("max_wal_size", mib(disk / 10, 128, 8 * 1024)),
            ("min_wal_size", mib(disk / 40, 80, 1024)),
            // A replica that is gone must not fill the primary's disk: beyond this it is made anew.
            ("max_slot_wal_keep_size", format!("{}MB", self.log_kept_mib())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(machine: Machine, name: &str) -> String {
        let found = machine.parameters().into_iter().find(|(n, _)| *n == name);
        found.unwrap().1
    }

    #[test]
    fn sizes_follow_the_machine_and_stay_within_reason() {
        let machine = |gib: u64, disk: u64| Machine {
            memory_bytes: gib * 1024 * MIB,
            disk_bytes: disk * 1024 * MIB,
        };
        assert_eq!(value(machine(16, 100), "shared_buffers"), "4096MB");
        assert_eq!(value(machine(16, 100), "max_slot_wal_keep_size"), "25600MB");
        assert_eq!(value(machine(1024, 100), "shared_buffers"), "65536MB");
        let unknown = Machine { memory_bytes: 0, disk_bytes: 0 };
        assert_eq!(value(unknown, "shared_buffers"), "64MB");
    }

    #[test]
    fn wal_and_slots_together_leave_room_for_data() {
        for gib in [1, 4, 100, 10_000_u64] {
            let machine = Machine { memory_bytes: 0, disk_bytes: gib * 1024 * MIB };
            let size = |name| value(machine, name).trim_end_matches("MB").parse::<u64>().unwrap();
            assert!(size("max_wal_size") + size("max_slot_wal_keep_size") < gib * 1024 / 2);
        }
    }
}
