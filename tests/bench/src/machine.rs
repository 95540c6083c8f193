//! The machine the numbers were made on: without it they say nothing.

use std::fs;

use serde::Serialize;

/// Where and when.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The day, UTC.
    pub date: String,
    /// The processor's own name.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// The host's kernel release.
    pub kernel: String,
    /// How QEMU runs instructions here, and the reason.
    pub accelerator: String,
    /// What else the machine was doing when the run began: the load average over a minute.
    pub load: String,
}

impl Machine {
    /// Looks around.
    pub fn look(accelerator: String) -> Self {
        // What /proc does not say is left empty: the header is for readers, nothing is decided from it.
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            date: time::OffsetDateTime::now_utc().date().to_string(),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory(&read("/proc/meminfo")).unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            accelerator,
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned(),
        }
    }

    /// One paragraph for the table's head.
    pub fn describe(&self) -> String {
        let gib = self.memory_bytes >> 30;
        format!(
            "{}, {} cores ({}), {gib} GiB, Linux {}, load {} at the start; machines: {}",
            self.date, self.cores, self.processor, self.kernel, self.load, self.accelerator
        )
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find(|line| line.starts_with(name))?.split_once(':')?.1;
    Some(value.trim().to_owned())
}

fn memory(meminfo: &str) -> Option<u64> {
    let kib = field(meminfo, "MemTotal")?;
    kib.strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(memory("MemTotal:       24610284 kB\nMemFree: 1 kB\n"), Some(25_200_930_816));
        assert_eq!(memory("MemFree: 1 kB\n"), None);
    }
}
