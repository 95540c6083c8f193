//! The stand: a whole site of containers, and the clients beside it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ballast_machines::backend::Runs;
use ballast_machines::cluster::{Availability, CONSUL_SERVER, Layout, POSTGRES, REDIS};
use ballast_machines::error::chain;
use ballast_machines::fleet::Fleet;
use ballast_machines::given::Given;
use ballast_machines::machine::Machine;
use ballast_machines::programs::tail;

use crate::access::Access;
use crate::clients::{Clients, Store};
use crate::error::{Error, Result};
use crate::log::say;
use crate::scenario::Bound;
use crate::whole;

/// Nodes of each role: three bear the loss of one.
const EACH: u8 = 3;
/// Within which a site that is switched on must be whole.
const RISING: Duration = Duration::from_secs(300);
/// Small databases: nine machines share one.
const TABLES: &str =
    "[postgres.parameters]\nshared_buffers = \"32MB\"\n\n[redis]\nmax_memory = \"96MB\"\n\n";

/// What the programs come with: Patroni's `ttl`, `loop_wait`, `retry_timeout` and `primary_start_timeout`, Consul's
/// `raft_multiplier`, Sentinel's `down-after-milliseconds` and `failover-timeout`. Redis's `min-replicas-max-lag` (10 s, and unused
/// unless asked for) is what it must be beside them.
const STOCK: &str = "[timings]\nttl_secs = 30\nloop_wait_secs = 10\nretry_timeout_secs = 10\n\
                     primary_start_timeout_secs = 300\nraft_multiplier = 5\nsentinel_down_after_ms = 30000\n\
                     sentinel_failover_timeout_ms = 180000\nsentinel_ask_period_ms = 1000\n\
                     min_replicas_max_lag_secs = 30\n\n";

/// A site under test.
pub struct Stand {
    /// The clients, which go before the network does.
    pub clients: Clients,
    /// The machines.
    pub fleet: Fleet,
    /// What a missed bound is.
    pub late: Late,
    /// From switching the machines on to a whole site.
    pub ready: Duration,
}

/// What it is when a writer waits longer than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Late {
    /// A failure of the scenario.
    Fail,
    /// A line in the report: on a machine that has other things to do, times are no promise.
    Tell,
}

/// What a site is raised from.
pub struct Plan {
    /// Images and programs.
    pub given: Given,
    /// How long silence is borne.
    pub availability: Availability,
    /// What an acknowledged write has survived, if not what it is by default.
    pub durability: Option<String>,
    /// Whether Patroni, Consul and Sentinel have the timings they come with, and peers do not agree on anything.
    pub stock: bool,
    /// What a missed bound is.
    pub late: Late,
    /// Whether a disk of a PostgreSQL node shall be small enough to be filled.
    pub small_disks: bool,
}

/// A disk that PostgreSQL and its log fit on, and little else.
const SMALL_DISK_BYTES: u64 = 1 << 30;

impl Stand {
    /// Makes a site, switches it on and waits until it is whole.
    ///
    /// # Errors
    /// What is not whole, when the time is over.
    pub fn raise(plan: &Plan) -> Result<Self> {
        say(
            "a site of three Consul servers, three PostgreSQL and three Redis nodes is switched on",
        );
        let durability = plan.durability.as_ref();
        let durability = durability.map(|word| format!("durability = \"{word}\"\n"));
        let (timings, peers) =
            if plan.stock { (STOCK, "peer_detection = false\n") } else { ("", "") };
        let layout = Layout {
            tables: format!(
                "{timings}[postgres]\n{peers}{}\n{TABLES}",
                durability.unwrap_or_default()
            ),
            disks: plan.small_disks.then(|| (POSTGRES.to_owned(), SMALL_DISK_BYTES)),
            ..Layout::new(&[(CONSUL_SERVER, EACH), (POSTGRES, EACH), (REDIS, EACH)])
                .with(plan.availability)
        };
        let mut fleet = Fleet::make(&plan.given, Runs::Nspawn, &layout)?;
        let bundle = |node: &str| fleet.cluster().bundle(node);
        let access = Access::load(&bundle("postgres-1"), &bundle("redis-1"))?;
        let clients = Clients::new(fleet.network()?, access);
        let start = Instant::now();
        fleet.power_on()?;
        if let Err(why) = whole::rise(&mut fleet, &clients, RISING)? {
            explain(&mut fleet);
            return Err(Error::Lacking(format!(
                "the site is not whole {} s after it was switched on: {why}",
                RISING.as_secs()
            )));
        }
        let ready = start.elapsed();
        say(&format!("the site is whole after {:.1} s", ready.as_secs_f64()));
        Ok(Self { clients, fleet, late: plan.late, ready })
    }

    /// Whether an acknowledged write may be lost with its node.
    pub fn may_lose(&self, store: Store) -> bool {
        store == Store::Postgres && !self.clients.access().postgres.synchronous
    }

    /// A bound, with this site's timings.
    pub fn limit(&self, bound: Bound) -> Option<Duration> {
        let access = self.clients.access();
        bound.limit(&access.timings, access.postgres.peer_detection)
    }
}

/// What each machine itself says is wrong.
pub fn explain(fleet: &mut Fleet) {
    const SCRIPT: &str = "systemctl --failed --no-legend --plain; ballast-agent status; \
                          journalctl --no-pager --lines 15 -u ballast-boot -u ballast; \
                          journalctl --no-pager --lines 25 -u patroni -u redis -u redis-sentinel";
    for (name, said) in ask_all(fleet, SCRIPT) {
        say(&format!("{name} says:\n{said}\n"));
    }
}

/// What the machines wrote into their journals since this long ago.
pub fn journals(fleet: &mut Fleet, since: Duration) -> String {
    let script = format!(
        "journalctl --no-pager --output=short-precise --since=-{}s -u ballast -u consul -u patroni -u redis \
         -u redis-sentinel",
        since.as_secs() + 1
    );
    let all = ask_all(fleet, &script).into_iter();
    all.map(|(name, said)| format!("== {name}\n{said}\n")).collect()
}

/// What the agent of a node holds in memory, KiB resident, by role: the largest of those that answer.
pub fn memory(fleet: &mut Fleet) -> BTreeMap<String, u64> {
    const SCRIPT: &str = "while read -r key value _; do [ \"$key\" != VmRSS: ] || echo \"$value\"; done \
                          </proc/$(systemctl show --property MainPID --value ballast.service)/status";
    let roles: BTreeMap<String, String> =
        fleet.nodes().iter().map(|node| (node.name.clone(), node.role.clone())).collect();
    let mut largest = BTreeMap::new();
    for (name, said) in ask_all(fleet, SCRIPT) {
        let Some((role, kib)) = roles.get(&name).zip(said.trim().parse::<u64>().ok()) else {
            continue;
        };
        let held = largest.entry(role.clone()).or_insert(kib);
        *held = kib.max(*held);
    }
    largest
}

fn ask_all(fleet: &mut Fleet, script: &str) -> Vec<(String, String)> {
    let machines = fleet.machines().iter_mut();
    let ask = |machine: &mut Box<dyn Machine>| {
        let said = match machine.run(script, Duration::from_secs(30)) {
            Ok(ran) => ran.text,
            Err(error) => format!("{}\n{}", chain(&error), tail(&machine.console().text(), 20)),
        };
        (machine.name().to_owned(), said)
    };
    machines.map(ask).collect()
}
