//! From what a machine's console showed, and when, to the phases of its boot.
//!
//! Invariant: the same lines end the same phases on every image, ours or stock: firmware, kernel, systemd and Consul
//! print them. Only the last one is ours, and it makes our boots longer: a stock node says nothing about its role.

/// A phase of a boot, and the line that ends it.
pub type Ending = (Phase, &'static str);

/// A phase of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Power-on to the boot loader.
    Firmware,
    /// Boot loader, with reading kernel and initrd.
    Loader,
    /// Kernel, until it starts the initrd's first program.
    Kernel,
    /// Finding and mounting the root.
    Initrd,
    /// systemd, until it starts Consul.
    Systemd,
    /// Consul, until its catalogue answers and has the node's own health as `passing`.
    Consul,
    /// The agent, until the role's checks are all `passing`.
    Role,
}

/// The phases of every boot, in order.
pub const EVERY: [Ending; 6] = [
    // OVMF, as it starts the boot loader.
    (Phase::Firmware, "BdsDxe: starting Boot"),
    // Kernel and initrd are loaded, and the kernel has decompressed itself.
    (Phase::Loader, "] Linux version "),
    (Phase::Kernel, "] Run /init as init process"),
    // The systemd of the root, not of an initrd: neither image has one there.
    (Phase::Initrd, " running in system mode ("),
    (Phase::Systemd, "Started consul.service"),
    // The node leads its site of one. A new one is `passing` in its catalogue some hundredths of a second later; one that
    // comes back finds itself there, and then no line is written that says so.
    (Phase::Consul, "cluster leadership acquired"),
];

/// What the agent adds to ours.
pub const ROLE: Ending = (Phase::Role, " and is passing");

impl Phase {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Loader => "loader",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Systemd => "systemd",
            Self::Consul => "Consul",
            Self::Role => "role",
        }
    }
}

/// Seconds each phase took, and all of them together.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// In their order.
    pub phases: Vec<(Phase, f64)>,
    /// From power-on.
    pub total: f64,
}

impl Timeline {
    /// Seconds of one phase.
    pub fn of(&self, phase: Phase) -> Option<f64> {
        self.phases.iter().find(|(this, _)| *this == phase).map(|(_, took)| *took)
    }
}

/// Makes the timeline from when each phase's last line was seen, in seconds since power-on. A line that comes before the
/// preceding phase has ended makes its own phase take no time.
///
/// # Errors
/// The first phase whose line was not seen.
pub fn timeline(endings: &[Ending], seen: impl Fn(&str) -> Option<f64>) -> Result<Timeline, Phase> {
    let mut phases = Vec::new();
    let mut total = 0.0_f64;
    for (phase, line) in endings {
        let at = seen(line).ok_or(*phase)?.max(total);
        phases.push((*phase, at - total));
        total = at;
    }
    Ok(Timeline { phases, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: [f64; 6] = [2.0, 3.5, 7.0, 11.0, 25.5, 36.5];

    fn seen(line: &str) -> Option<f64> {
        EVERY.iter().position(|(_, ending)| *ending == line).map(|i| AT[i])
    }

    #[test]
    fn phases_add_up_to_the_whole() {
        let timeline = timeline(&EVERY, seen).unwrap();
        assert_eq!(timeline.total, 36.5);
        assert_eq!(timeline.of(Phase::Systemd), Some(14.5));
        assert_eq!(timeline.phases.iter().map(|(_, took)| took).sum::<f64>(), 36.5);
    }

    #[test]
    fn a_boot_that_stops_names_the_phase_it_stopped_in() {
        let stopped = |line: &str| seen(line).filter(|at| *at < 7.5);
        assert_eq!(timeline(&EVERY, stopped), Err(Phase::Initrd));
    }

    #[test]
    fn an_early_line_makes_no_phase_negative() {
        let early = |line: &str| if line == ROLE.1 { Some(30.0) } else { seen(line) };
        let endings: Vec<Ending> = EVERY.into_iter().chain([ROLE]).collect();
        let timeline = timeline(&endings, early).unwrap();
        assert_eq!((timeline.total, timeline.of(Phase::Role)), (36.5, Some(0.0)));
    }
}
