//! Availability: one setting from which every timing that decides a failover follows. This is the one table.

use serde::{Deserialize, Serialize};

/// How eagerly a site answers to a silent machine: sooner failovers against fewer false ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Machines of one room, on a network and disks that never hold their breath.
    Fast,
    /// Machines of one region: the default.
    #[default]
    Normal,
    /// Machines far apart, or so loaded that a pause of seconds is no failure.
    Wide,
}

/// The timings of one availability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Consul's `raft_multiplier`, 1 to 10: a leader that is silent for about this many seconds is replaced.
    pub raft_multiplier: u8,
}

impl Availability {
    /// All of them, the most eager first.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Normal, Self::Wide];

    /// The table.
    pub const fn timings(self) -> Timings {
        match self {
            Self::Fast => Timings { raft_multiplier: 1 },
            Self::Normal => Timings { raft_multiplier: 2 },
            Self::Wide => Timings { raft_multiplier: 5 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_is_never_more_eager() {
        let multipliers = Availability::ALL.map(|a| a.timings().raft_multiplier);
        assert!(multipliers.is_sorted());
        assert!(multipliers.iter().all(|m| (1..=10).contains(m)));
    }
}
