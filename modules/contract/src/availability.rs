//! Availability: one setting from which every timing that decides a failover follows. This is the one table.
//!
//! [`Timings::validate`] holds the inequalities between them, so that a value set by hand can't break what another relies
//! on: the operator's command asks it before anything is made, and the agent once more at boot.

use serde::{Deserialize, Serialize};

use crate::Refused;

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

/// What an acknowledged write to PostgreSQL has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// It is on the disks of the primary and of one named replica: losing any one machine loses nothing. The default.
    #[default]
    Synchronous,
    /// It is on the disks of the primary and of any one replica of several: the same, and less often waiting for a slow one.
    Quorum,
    /// It is on the primary's disk alone: a failover may lose the last moments.
    Asynchronous,
}

/// The timings of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Consul's `raft_multiplier`, 1 to 10: a leader that is silent for about this many seconds is replaced.
    pub raft_multiplier: u8,
    /// Consul's `dns_config.max_stale`: the age beyond which a server without a leader no longer names a primary, seconds.
    pub dns_max_stale_secs: u16,
    /// Patroni's `ttl`: how long a silent primary keeps its leader key, seconds.
    pub ttl_secs: u16,
    /// Patroni's `loop_wait`: between two of its rounds, seconds.
    pub loop_wait_secs: u16,
    /// Patroni's `retry_timeout`: how long it bears a Consul that does not answer, seconds.
    pub retry_timeout_secs: u16,
    /// Patroni's `primary_start_timeout`: how long a crashed primary may take to come back before another is chosen, seconds.
    pub primary_start_timeout_secs: u16,
    /// Patroni's `watchdog.safety_margin`: how long before the leader key can expire the watchdog resets a machine that
    /// has stopped renewing it, seconds.
    pub watchdog_margin_secs: u16,
    /// Between two looks of a node at a peer, milliseconds.
    pub peer_interval_ms: u16,
    /// Looks in a row that must fail before an observer calls a peer suspect.
    pub peer_misses: u8,
    /// How far apart the observers of a majority may have called a peer suspect for it to be given up, milliseconds.
    pub peer_window_ms: u16,
    /// Sentinel's `down-after-milliseconds`.
    pub sentinel_down_after_ms: u32,
    /// Sentinel's `failover-timeout`, milliseconds: of the group's first member; the others' are longer. A vote that nobody
    /// won is held again after twice this time.
    pub sentinel_failover_timeout_ms: u32,
    /// How often a Sentinel asks the others whether a master is down (its debugging parameter `ASK-PERIOD`), milliseconds.
    pub sentinel_ask_period_ms: u16,
    /// Redis's `min-replicas-max-lag`: a master whose replicas have been silent for longer takes no writes, seconds.
    pub min_replicas_max_lag_secs: u16,
    /// How often a database role asks its own node what it is, milliseconds.
    pub role_interval_ms: u16,
}

impl Availability {
    /// All of them, the most eager first.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Normal, Self::Wide];

    /// The table.
    pub const fn timings(self) -> Timings {
        match self {
            Self::Fast => Timings {
                raft_multiplier: 1,
                dns_max_stale_secs: 2,
                ttl_secs: 20,
                loop_wait_secs: 3,
                retry_timeout_secs: 5,
                primary_start_timeout_secs: 0,
                watchdog_margin_secs: 5,
                peer_interval_ms: 100,
                peer_misses: 5,
                peer_window_ms: 1_000,
                sentinel_down_after_ms: 500,
                sentinel_failover_timeout_ms: 2_000,
                sentinel_ask_period_ms: 100,
                min_replicas_max_lag_secs: 5,
                role_interval_ms: 250,
            },
            Self::Normal => Timings {
                raft_multiplier: 2,
                dns_max_stale_secs: 5,
                ttl_secs: 30,
                loop_wait_secs: 5,
                retry_timeout_secs: 10,
                primary_start_timeout_secs: 15,
                watchdog_margin_secs: 5,
                peer_interval_ms: 250,
                peer_misses: 8,
                peer_window_ms: 2_000,
                sentinel_down_after_ms: 2_000,
                sentinel_failover_timeout_ms: 10_000,
                sentinel_ask_period_ms: 500,
                min_replicas_max_lag_secs: 10,
                role_interval_ms: 500,
            },
            Self::Wide => Timings {
                raft_multiplier: 5,
                dns_max_stale_secs: 10,
                ttl_secs: 60,
                loop_wait_secs: 10,
                retry_timeout_secs: 20,
                primary_start_timeout_secs: 60,
                watchdog_margin_secs: 10,
                peer_interval_ms: 1_000,
                peer_misses: 10,
                peer_window_ms: 5_000,
                sentinel_down_after_ms: 10_000,
                sentinel_failover_timeout_ms: 45_000,
                sentinel_ask_period_ms: 1_000,
                min_replicas_max_lag_secs: 20,
                role_interval_ms: 1_000,
            },
        }
    }
}

impl Timings {
    /// How long the observers need to give up a silent peer at most, milliseconds.
    pub fn peer_detection_ms(&self) -> u32 {
        u32::from(self.peer_interval_ms) * u32::from(self.peer_misses)
            + u32::from(self.peer_window_ms)
    }

    /// Checks each value's range and the inequalities between them.
    ///
    /// # Errors
    /// The first rule broken, with the values and the limit.
    pub fn validate(&self) -> Result<(), Refused> {
        let Self { ttl_secs: ttl, loop_wait_secs: wait, retry_timeout_secs: retry, .. } = *self;
        let rules = [
            (
                "raft_multiplier",
                (1..=10).contains(&self.raft_multiplier),
                format!("{} is not within 1 to 10", self.raft_multiplier),
            ),
            (
                "dns_max_stale_secs",
                (1..=60).contains(&self.dns_max_stale_secs),
                format!(
                    "{} s is not within 1 to 60: the minority's side would go on naming the old primary",
                    self.dns_max_stale_secs
                ),
            ),
            (
                "ttl_secs",
                (20..=600).contains(&ttl),
                format!(
                    "{ttl} s is not within 20 to 600: Patroni raises what is less, and Consul refuses it"
                ),
            ),
            (
                "loop_wait_secs",
                wait >= 1 && retry >= 3,
                format!(
                    "loop_wait {wait} s must be 1 or more, and retry_timeout {retry} s 3 or more"
                ),
            ),
            (
                "ttl_secs",
                u32::from(wait) + 2 * u32::from(retry) <= u32::from(ttl),
                format!(
                    "loop_wait {wait} s + 2 x retry_timeout {retry} s is more than {ttl} s: a primary would lose its key while it still waits for Consul"
                ),
            ),
            (
                "watchdog_margin_secs",
                self.watchdog_margin_secs >= 1
                    && u32::from(wait) + u32::from(retry) + u32::from(self.watchdog_margin_secs)
                        <= u32::from(ttl),
                format!(
                    "{} s must be 1 or more, and with loop_wait {wait} s and retry_timeout {retry} s no more than ttl {ttl} s: the watchdog would reset a machine that only waits for Consul",
                    self.watchdog_margin_secs
                ),
            ),
            (
                "raft_multiplier",
                2 * u32::from(self.raft_multiplier) <= u32::from(retry),
                format!(
                    "2 x {} s, a Consul election, is more than retry_timeout {retry} s: each election would cost the primary",
                    self.raft_multiplier
                ),
            ),
            (
                "peer_interval_ms",
                self.peer_interval_ms >= 50 && self.peer_misses >= 3,
                format!(
                    "{} ms must be 50 or more, and peer_misses {} 3 or more: one lost packet would give a peer up",
                    self.peer_interval_ms, self.peer_misses
                ),
            ),
            (
                "peer_window_ms",
                self.peer_window_ms >= self.peer_interval_ms
                    && self.peer_detection_ms() < 1_000 * u32::from(ttl),
                format!(
                    "{} ms must be peer_interval {} ms or more, and peer_interval x peer_misses + peer_window {} ms less than ttl {ttl} s: the key would expire first",
                    self.peer_window_ms,
                    self.peer_interval_ms,
                    self.peer_detection_ms()
                ),
            ),
            (
                "sentinel_down_after_ms",
                self.sentinel_down_after_ms >= 200
                    && u32::from(self.sentinel_ask_period_ms) <= self.sentinel_down_after_ms
                    && self.sentinel_ask_period_ms >= 50,
                format!(
                    "{} ms must be 200 or more, and sentinel_ask_period {} ms between 50 and it",
                    self.sentinel_down_after_ms, self.sentinel_ask_period_ms
                ),
            ),
            (
                "sentinel_failover_timeout_ms",
                self.sentinel_failover_timeout_ms >= 3 * self.sentinel_down_after_ms,
                format!(
                    "{} ms is less than 3 x sentinel_down_after {} ms: a failover would be given up before it can end",
                    self.sentinel_failover_timeout_ms, self.sentinel_down_after_ms
                ),
            ),
            (
                "min_replicas_max_lag_secs",
                self.min_replicas_max_lag_secs >= 2
                    && 1_000 * u32::from(self.min_replicas_max_lag_secs)
                        >= self.sentinel_down_after_ms,
                format!(
                    "{} s must be 2 or more (replicas report once a second), and no less than sentinel_down_after {} ms",
                    self.min_replicas_max_lag_secs, self.sentinel_down_after_ms
                ),
            ),
            (
                "role_interval_ms",
                (100..=1_000).contains(&self.role_interval_ms),
                format!(
                    "{} ms is not within 100 to 1000: a new primary would be found late",
                    self.role_interval_ms
                ),
            ),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((place, _, reason)) => Err(Refused::new(format!("timings.{place}"), reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_is_never_more_eager() {
        let all = Availability::ALL.map(Availability::timings);
        assert!(all.map(|t| t.raft_multiplier).is_sorted());
        assert!(all.map(|t| t.ttl_secs).is_sorted());
        assert!(all.map(|t| t.peer_detection_ms()).is_sorted());
        assert!(all.map(|t| t.sentinel_down_after_ms).is_sorted());
    }

    #[test]
    fn the_table_keeps_its_own_rules() {
        for availability in Availability::ALL {
            assert_eq!(availability.timings().validate(), Ok(()), "{availability:?}");
        }
    }

    #[test]
    fn each_inequality_refuses_what_breaks_it() {
        let normal = Availability::Normal.timings();
        let broken = [
            ("raft_multiplier", Timings { raft_multiplier: 0, ..normal }),
            ("raft_multiplier", Timings { raft_multiplier: 6, ..normal }),
            ("dns_max_stale_secs", Timings { dns_max_stale_secs: 3_600, ..normal }),
            ("ttl_secs", Timings { ttl_secs: 19, ..normal }),
            ("ttl_secs", Timings { ttl_secs: 24, ..normal }),
            ("loop_wait_secs", Timings { loop_wait_secs: 0, ..normal }),
            ("watchdog_margin_secs", Timings { watchdog_margin_secs: 0, ..normal }),
            ("watchdog_margin_secs", Timings { watchdog_margin_secs: 16, ..normal }),
            ("peer_interval_ms", Timings { peer_interval_ms: 10, ..normal }),
            ("peer_interval_ms", Timings { peer_misses: 1, ..normal }),
            ("peer_window_ms", Timings { peer_window_ms: 30_000, ..normal }),
            ("sentinel_down_after_ms", Timings { sentinel_down_after_ms: 100, ..normal }),
            ("sentinel_down_after_ms", Timings { sentinel_ask_period_ms: 3_000, ..normal }),
            (
                "sentinel_failover_timeout_ms",
                Timings { sentinel_failover_timeout_ms: 5_000, ..normal },
            ),
            ("min_replicas_max_lag_secs", Timings { min_replicas_max_lag_secs: 1, ..normal }),
            ("role_interval_ms", Timings { role_interval_ms: 5_000, ..normal }),
        ];
        for (key, timings) in broken {
            let refused = timings.validate().unwrap_err();
            assert_eq!(refused.place, format!("timings.{key}"), "{}", refused.reason);
        }
    }
}
