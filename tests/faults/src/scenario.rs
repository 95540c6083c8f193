//! The scenarios: what is done to whom, how long clients may then wait for a write, and nothing else. A table to read.
//!
//! In every one of them also holds: no acknowledged write is lost, no two nodes acknowledge at one time, and the site is
//! whole again at the end.

use std::time::Duration;

use ballast_contract::Timings;

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The node that acknowledges PostgreSQL's writes.
    Primary,
    /// One of PostgreSQL's other nodes.
    Replica,
    /// The node that PostgreSQL's acknowledged writes are on as well, and that would take the primary's place.
    Standby,
    /// The node that acknowledges Redis's writes.
    Master,
    /// One of Redis's other nodes.
    RedisReplica,
    /// The leader of Consul's servers.
    ConsulLeader,
    /// Two of Consul's three servers, the leader among them.
    ConsulMajority,
    /// All nodes.
    Everyone,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its power is cut, and comes back.
    Kill,
    /// Its processes stand still (SIGSTOP), and go on.
    Freeze,
    /// It is rebooted in order.
    Reboot,
    /// It is switched off in order, and on.
    PowerOff,
    /// It is cut from all other nodes, both ways; clients reach it.
    Divide,
    /// It hears nothing of Consul's gossip and is not heard.
    Mute,
    /// A unit of it gets a signal, the main process alone or all of it.
    Signal(&'static str, Whom, Signal),
    /// The main process of a unit of it stands still for as long as the step lasts, and goes on.
    Stumble(&'static str),
    /// A unit of it is stopped in order, and started.
    Stop(&'static str),
    /// A unit of it is restarted in order.
    Restart(&'static str),
    /// Its PostgreSQL server process is killed, and nothing else.
    KillServer,
    /// Nobody gets an answer to a DNS question.
    Nameless,
    /// Its memory for data is filled to the limit.
    Fill,
    /// Its disk, which is small, is filled to the last byte.
    FillDisk,
    /// Its disk is lost: power is cut, and it comes back with an empty one.
    Replace,
    /// An operator makes another node the primary.
    SwitchOver,
    /// Power is cut, its disk is lost, and it is the first of its kind to come back; the others were off as well.
    ReplaceFirst,
}

/// Which of a unit's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The main one alone.
    Main,
    /// All.
    All,
}

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Freeze,
}

/// One thing that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// To whom.
    pub victim: Victim,
    /// What.
    pub fault: Fault,
    /// How long it stays so at least, before it is mended. Writers are waited for in any case.
    pub lasts: Duration,
}

/// How long a store's writer may wait at most, whatever else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// As if nothing had happened.
    Undisturbed,
    /// A host is silent and must be missed, and another be promoted.
    PrimaryLost,
    /// The same, while Consul elects a leader too, which starts the life of every session anew.
    PrimaryAndLeaderLost,
    /// A primary says that it goes, and another is promoted.
    PrimaryLeaves,
    /// The same, with nothing to be stopped but PostgreSQL, and who follows known beforehand.
    PrimaryHandsOver,
    /// A synchronous standby is silent and must be missed, and another be named.
    StandbyLost,
    /// A primary can write no more, notices it, and another is promoted.
    PrimaryFull,
    /// PostgreSQL is gone and Patroni is not.
    ServerCrashed,
    /// Patroni is gone and PostgreSQL with it, and both come back.
    PatroniGone,
    /// A master is silent and must be missed by the Sentinels, and another be promoted.
    MasterLost,
    /// A master says that it goes, or is missed.
    MasterLeaves,
    /// A master hands over while it is well, and clients find the other.
    MasterHandsOver,
    /// None: writes are refused or lost from sight as long as it lasts.
    None,
}

impl Bound {
    /// The bound, where there is one.
    pub fn limit(self, timings: &Timings, peer_detection: bool) -> Option<Duration> {
        let secs = |secs: u16| u64::from(secs) * 1_000;
        let expiry = secs(timings.ttl_secs) + secs(timings.loop_wait_secs) + PROMOTION_MS;
        let lost = if peer_detection {
            u64::from(timings.peer_detection_ms()) + PROMOTION_MS
        } else {
            expiry
        };
        let election = 2_000 * u64::from(timings.raft_multiplier);
        let missed = u64::from(timings.sentinel_down_after_ms)
            + 2 * u64::from(timings.sentinel_ask_period_ms)
            + SENTINEL_MS;
        let milliseconds = match self {
            Self::None => return None,
            Self::Undisturbed => NOISE_MS,
            Self::PrimaryLost => lost,
            Self::PrimaryAndLeaderLost if peer_detection => lost + election,
            Self::PrimaryAndLeaderLost => expiry + secs(timings.ttl_secs),
            Self::PrimaryHandsOver => u64::from(timings.role_interval_ms) + SWITCH_MS,
            Self::StandbyLost if peer_detection => lost,
            Self::StandbyLost => SENDER_MS + 2 * secs(timings.loop_wait_secs),
            Self::PrimaryLeaves => HANDOVER_MS + secs(timings.loop_wait_secs),
            Self::PrimaryFull => FULL_MS + HANDOVER_MS + secs(timings.loop_wait_secs),
            Self::ServerCrashed => {
                secs(timings.primary_start_timeout_secs)
                    + 2 * secs(timings.loop_wait_secs)
                    + PROMOTION_MS
            }
            Self::PatroniGone => {
                secs(timings.primary_start_timeout_secs)
                    + secs(timings.loop_wait_secs)
                    + RESTART_MS
                    + PROMOTION_MS
            }
            Self::MasterLost => missed,
            Self::MasterHandsOver => SWITCHOVER_MS,
            Self::MasterLeaves => missed + HANDOVER_MS,
        };
        Some(Duration::from_millis(milliseconds))
    }
}

/// Patroni's own time-out for members that do not answer (2 s, not to be set), promotion, and the clients' way there.
const PROMOTION_MS: u64 = 3_000;
/// The Sentinels' vote and the promotion, and the clients' way there.
const SENTINEL_MS: u64 = 1_500;
/// What is acknowledged has reached the other node already, which then must be asked what it is, and be named.
const SWITCHOVER_MS: u64 = 2_000;
/// An orderly stop: what is not on disk is written, replicas get the rest.
const HANDOVER_MS: u64 = 5_000;
/// A switchover: Patroni waits a second between stopping PostgreSQL and releasing its key, and each node that is not to be
/// the primary two more before it follows the new one (4.0, neither to be set); until one does, nothing is acknowledged.
const SWITCH_MS: u64 = 4_500;
/// After which PostgreSQL itself misses a replica (`wal_sender_timeout`).
const SENDER_MS: u64 = 60_000;
/// The agent looks at the disk, and asks Patroni and Consul who takes over.
const FULL_MS: u64 = 3_000;
/// systemd starts Patroni again, and that PostgreSQL.
const RESTART_MS: u64 = 8_000;
/// What a writer may wait on a machine that has other things to do.
const NOISE_MS: u64 = 2_000;

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub tells: &'static str,
    /// What is done, one after another, each upon the last.
    pub steps: &'static [Step],
    /// How long PostgreSQL's writer may wait.
    pub postgres: Bound,
    /// How long Redis's writer may wait.
    pub redis: Bound,
}

impl Scenario {
    /// Whether a disk is filled, which must be small for it.
    pub fn fills_a_disk(&self) -> bool {
        self.steps.iter().any(|step| step.fault == Fault::FillDisk)
    }
}

const fn step(victim: Victim, fault: Fault, lasts_secs: u64) -> Step {
    Step { victim, fault, lasts: Duration::from_secs(lasts_secs) }
}

/// A scenario of PostgreSQL alone.
const fn postgres(
    name: &'static str,
    tells: &'static str,
    steps: &'static [Step],
    bound: Bound,
) -> Scenario {
    Scenario { name, tells, steps, postgres: bound, redis: Bound::Undisturbed }
}

/// A scenario of Redis alone.
const fn redis(
    name: &'static str,
    tells: &'static str,
    steps: &'static [Step],
    bound: Bound,
) -> Scenario {
    Scenario { name, tells, steps, postgres: Bound::Undisturbed, redis: bound }
}

const CONSUL: &str = "consul.service";
const PATRONI: &str = "patroni.service";
const SENTINEL: &str = "redis-sentinel.service";

use Bound::{
    MasterHandsOver, MasterLeaves, MasterLost, PatroniGone, PrimaryAndLeaderLost, PrimaryFull,
    PrimaryHandsOver, PrimaryLeaves, PrimaryLost, ServerCrashed, StandbyLost, Undisturbed,
};
use Fault::{
    Divide, Fill, FillDisk, Freeze, Kill, KillServer, Mute, Nameless, PowerOff, Reboot, Replace,
    ReplaceFirst, Restart, Stop, Stumble, SwitchOver,
};
use Victim::{
    ConsulLeader, ConsulMajority, Everyone, Master, Primary, RedisReplica, Replica, Standby,
};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    postgres(
        "primary-killed",
        "the power of PostgreSQL's primary is cut",
        &[step(Primary, Kill, 5)],
        PrimaryLost,
    ),
    postgres(
        "primary-frozen",
        "the processes of PostgreSQL's primary stand still, and go on when another has taken its place",
        &[step(Primary, Freeze, 15)],
        PrimaryLost,
    ),
    postgres(
        "primary-rebooted",
        "PostgreSQL's primary is rebooted in order",
        &[step(Primary, Reboot, 0)],
        PrimaryLeaves,
    ),
    postgres(
        "primary-powered-off",
        "PostgreSQL's primary is switched off in order",
        &[step(Primary, PowerOff, 10)],
        PrimaryLeaves,
    ),
    postgres(
        "planned-switchover",
        "an operator makes another node PostgreSQL's primary",
        &[step(Primary, SwitchOver, 3)],
        PrimaryHandsOver,
    ),
    postgres(
        "standby-killed",
        "the power of PostgreSQL's synchronous standby is cut",
        &[step(Standby, Kill, 5)],
        StandbyLost,
    ),
    postgres(
        "standby-frozen",
        "the processes of PostgreSQL's synchronous standby stand still, and go on",
        &[step(Standby, Freeze, 15)],
        StandbyLost,
    ),
    postgres(
        "postgres-killed",
        "PostgreSQL's server process on the primary is killed, and Patroni lives",
        &[step(Primary, KillServer, 5)],
        ServerCrashed,
    ),
    postgres(
        "patroni-killed",
        "Patroni on the primary is killed, and nothing else",
        &[step(Primary, Fault::Signal(PATRONI, Whom::Main, Signal::Kill), 5)],
        PatroniGone,
    ),
    postgres(
        "patroni-frozen",
        "Patroni on the primary stands still, and PostgreSQL goes on",
        &[step(Primary, Fault::Signal(PATRONI, Whom::Main, Signal::Freeze), 40)],
        PrimaryLost,
    ),
    postgres(
        "consul-agent-stopped",
        "the Consul agent on the primary is stopped for ten seconds",
        &[step(Primary, Stop(CONSUL), 10)],
        Undisturbed,
    ),
    postgres(
        "consul-agent-restarted",
        "the Consul agent on the primary is restarted",
        &[step(Primary, Restart(CONSUL), 5)],
        Undisturbed,
    ),
    postgres(
        "consul-agent-killed",
        "the Consul agent on the primary is killed",
        &[step(Primary, Fault::Signal(CONSUL, Whom::All, Signal::Kill), 5)],
        Undisturbed,
    ),
    postgres(
        "gossip-lost",
        "the primary is not heard in Consul's gossip for ten seconds",
        &[step(Primary, Mute, 10)],
        Undisturbed,
    ),
    postgres(
        "consul-leader-killed",
        "the leader of Consul's servers is killed",
        &[step(ConsulLeader, Kill, 5)],
        Undisturbed,
    ),
    postgres(
        "consul-leader-then-primary-killed",
        "the leader of Consul's servers is killed, and then PostgreSQL's primary",
        &[step(ConsulLeader, Kill, 0), step(Primary, Kill, 5)],
        PrimaryAndLeaderLost,
    ),
    postgres(
        "primary-then-consul-leader-killed",
        "PostgreSQL's primary is killed, and at once the leader of Consul's servers",
        &[step(Primary, Kill, 0), step(ConsulLeader, Kill, 5)],
        PrimaryAndLeaderLost,
    ),
    postgres(
        "consul-quorum-lost",
        "two of Consul's three servers are off, and every PostgreSQL node is well",
        &[step(ConsulMajority, Kill, 45)],
        Undisturbed,
    ),
    postgres(
        "primary-cut-off",
        "PostgreSQL's primary is cut from all other nodes, with a client on its side",
        &[step(Primary, Divide, 40)],
        PrimaryLost,
    ),
    postgres(
        "disk-full",
        "the disk of PostgreSQL's primary is full, and has room again a minute later",
        &[step(Primary, FillDisk, 60)],
        PrimaryFull,
    ),
    postgres(
        "replica-replaced",
        "a replica of PostgreSQL comes back with an empty disk",
        &[step(Replica, Replace, 5)],
        Undisturbed,
    ),
    postgres(
        "primary-wiped-and-first",
        "all PostgreSQL nodes are off, and the primary comes back first, with an empty disk",
        &[step(Primary, ReplaceFirst, 20)],
        Bound::None,
    ),
    redis(
        "master-killed",
        "the power of Redis's master is cut",
        &[step(Master, Kill, 5)],
        MasterLost,
    ),
    redis(
        "master-frozen",
        "the processes of Redis's master stand still, and go on when another has taken its place",
        &[step(Master, Freeze, 15)],
        MasterLost,
    ),
    redis(
        "master-cut-off",
        "Redis's master is cut from all other nodes, with a client on its side",
        &[step(Master, Divide, 20)],
        MasterLost,
    ),
    redis(
        "master-rebooted",
        "Redis's master is rebooted in order",
        &[step(Master, Reboot, 0)],
        MasterLeaves,
    ),
    redis(
        "master-switchover",
        "an operator makes another node Redis's master",
        &[step(Master, SwitchOver, 5)],
        MasterHandsOver,
    ),
    redis(
        "sentinel-jumps",
        "a Sentinel stands still for five seconds, which to it is a jump of its clock (a container's own clock is the host's)",
        &[step(RedisReplica, Stumble(SENTINEL), 5)],
        Undisturbed,
    ),
    redis(
        "nameless-and-master-killed",
        "nobody answers DNS, and Redis's master is killed",
        &[step(Everyone, Nameless, 0), step(Master, Kill, 5)],
        MasterLost,
    ),
    redis(
        "memory-full",
        "Redis is filled to its limit: writes are refused, and nothing else happens",
        &[step(Master, Fill, 5)],
        Bound::None,
    ),
    redis(
        "redis-replaced",
        "a replica of Redis comes back with an empty disk",
        &[step(RedisReplica, Replace, 5)],
        Undisturbed,
    ),
    Scenario {
        name: "everyone-killed",
        tells: "the power of all nodes is cut at once, and comes back at once",
        steps: &[step(Everyone, Kill, 2)],
        postgres: Bound::None,
        redis: Bound::None,
    },
];

/// The scenarios of these names, in the table's order; all of them where none is named.
///
/// # Errors
/// A name that is none, with those that are.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if let Some(name) = names.iter().find(|name| SCENARIOS.iter().all(|s| s.name != *name)) {
        return Err(format!("no scenario is named {name:?}: --list shows them"));
    }
    let wanted = |s: &&Scenario| names.is_empty() || names.iter().any(|name| name == s.name);
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ballast_contract::Availability;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_does_something() {
        let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(SCENARIOS.iter().all(|scenario| !scenario.steps.is_empty()));
    }

    #[test]
    fn a_name_that_is_none_is_refused_before_anything_is_broken() {
        assert!(chosen(&["master-killed".into(), "mastr-frozen".into()]).is_err());
        let found = chosen(&["master-frozen".into(), "master-killed".into()]).unwrap();
        let names: Vec<&str> = found.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, ["master-killed", "master-frozen"]);
        assert_eq!(chosen(&[]).unwrap().len(), SCENARIOS.len());
    }

    #[test]
    fn wider_presets_have_wider_bounds_and_agreement_is_sooner_than_expiry() {
        let limits = |bound: Bound, peers| {
            Availability::ALL.map(|a| bound.limit(&a.timings(), peers).unwrap())
        };
        for bound in [
            PrimaryLost,
            PrimaryAndLeaderLost,
            PrimaryHandsOver,
            StandbyLost,
            ServerCrashed,
            PatroniGone,
            MasterLost,
        ] {
            assert!(limits(bound, true).is_sorted(), "{bound:?}");
            let pairs = limits(bound, true).into_iter().zip(limits(bound, false));
            assert!(pairs.into_iter().all(|(agreed, expired)| agreed <= expired), "{bound:?}");
        }
        assert_eq!(Bound::None.limit(&Availability::Fast.timings(), true), None);
    }
}
