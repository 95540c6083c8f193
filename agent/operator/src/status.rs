//! `ballast status`: what a site's Consul servers say of every node, as a table or as JSON.

mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ballast_bundle::Member as Address;
use ballast_contract::NODE_CHECK;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::consul::{Check, Client, Instance, Member};
use crate::error::Error;
use crate::https::{self, Silence};
use crate::patroni;
use crate::state::State;

/// The tag of a database's node that takes writes.
const PRIMARY: &str = "primary";

/// A site, as its servers see it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub site: String,
    /// Whether every node is passing, and every cluster has its one primary.
    pub passing: bool,
    /// What is wrong with a cluster as a whole.
    pub problems: Vec<String>,
    /// What an operator set and may have forgotten.
    pub notes: Vec<String>,
    pub nodes: Vec<Row>,
}

/// A node, as its data centre's servers see it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub node: String,
    pub role: String,
    pub datacenter: String,
    pub address: IpAddr,
    pub health: Health,
    /// `primary` or `replica` on a database node, `leader` or `follower` on a Consul server: as the node itself says.
    pub state: Option<String>,
    /// The leader's name: as the node itself says on a Consul server, as its data centre's servers say on others.
    pub leader: Option<String>,
    /// How far a replica is behind its primary.
    pub lag_bytes: Option<u64>,
    /// PostgreSQL's timeline.
    pub timeline: Option<u64>,
    /// How a PostgreSQL replica is counted: `sync`, `quorum` or `async`. None is `potential`: Patroni names no
    /// more of them than writes wait for.
    pub sync: Option<String>,
    /// `ok`, or why the Sentinels could not agree on another master.
    pub sentinel_quorum: Option<String>,
    /// Consul's version on the node.
    pub consul_version: Option<String>,
    /// The image's version.
    pub image_version: Option<String>,
    /// The slot it was started from, `a` or `b`.
    pub slot: Option<String>,
    /// Why the node is not passing.
    pub reasons: Vec<String>,
}

/// Consul's words, and two for nodes that Consul says nothing about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Passing,
    Warning,
    Critical,
    /// Its data centre's servers do not know it.
    Absent,
    /// No server of its data centre answers.
    Unreachable,
}

/// What one server answers when it is asked who leads.
type Leader = Result<Option<SocketAddr>, Silence>;

/// What the servers of one data centre say.
#[derive(Default)]
struct View {
    /// Who leads, by the address of the server that was asked.
    leaders: HashMap<IpAddr, Leader>,
    /// From the first server that has it.
    catalogue: Option<Catalogue>,
    /// The PostgreSQL cluster, as the first of its members that answers knows it.
    patroni: Option<patroni::View>,
}

/// What a server knows of its data centre's nodes.
#[derive(Default)]
struct Catalogue {
    members: Vec<Member>,
    checks: Vec<Check>,
    /// Instances of the databases' services.
    instances: Vec<Instance>,
}

/// Asks a site's servers.
///
/// Silence is a row and no error: an error is a state folder that is not this site's.
pub fn ask(cluster: &Cluster, state: &Path, timeout: Duration) -> Result<Status, Error> {
    let folder = State::open_existing(state)?;
    let Some(site) = folder.load_site(&cluster.site)? else {
        return Err(Error::NoState { path: state.to_owned() });
    };
    let (operator, ca_pem) = folder.load_operator()?;
    let agent = https::agent(&operator, &ca_pem, timeout)
        .map_err(|_| Error::Damaged { path: state.to_owned() })?;
    let client = Client::new(agent.clone(), site.operator.secret_id);
    // All at once: a silent data centre costs one time-out, and not one after another.
    let views = thread::scope(|scope| {
        let asked: Vec<_> = cluster
            .datacenters
            .iter()
            .map(|datacenter| {
                let servers: Vec<_> =
                    cluster.servers(&datacenter.name).map(|n| n.address.addr()).collect();
                let services = services(cluster, &datacenter.name);
                let members = cluster.postgres.iter().flat_map(|p| &p.members);
                let here = |m: &&Address| datacenter.network.contains(&m.address);
                let members: Vec<_> = members.filter(here).cloned().collect();
                let (client, agent) = (&client, &agent);
                (
                    datacenter.name.clone(),
                    scope.spawn(move || View {
                        patroni: patroni::look(agent, &members, timeout).ok(),
                        ..look(client, &servers, &services)
                    }),
                )
            })
            .collect();
        asked.into_iter().map(|(name, view)| (name, view.join().unwrap_or_default())).collect()
    });
    Ok(judge(cluster, &views))
}

/// The services of a data centre's databases.
fn services(cluster: &Cluster, datacenter: &str) -> Vec<String> {
    let here = cluster.nodes.iter().filter(|n| n.is_database() && n.datacenter == datacenter);
    let mut services: Vec<_> = here.flat_map(|n| n.services.clone()).collect();
    services.sort();
    services.dedup();
    services
}

/// Asks the servers of one data centre.
fn look(client: &Client, servers: &[IpAddr], services: &[String]) -> View {
    let leaders: HashMap<IpAddr, Leader> = thread::scope(|scope| {
        let asked: Vec<_> = servers
            .iter()
            .map(|server| (*server, scope.spawn(|| client.leader(*server))))
            .collect();
        let silence = || Err("was not asked".to_owned());
        asked
            .into_iter()
            .map(|(s, answer)| (s, answer.join().unwrap_or_else(|_| silence())))
            .collect()
    });
    // A server with a leader knows better than one that lost it.
    let mut answering: Vec<_> = servers
        .iter()
        .filter_map(|s| Some((*s, leaders.get(s)?.as_ref().ok()?.is_some())))
        .collect();
    answering.sort_by_key(|(_, led)| !led);
    let catalogue = answering.iter().find_map(|(server, _)| {
        let (members, checks) = (client.members(*server).ok()?, client.checks(*server).ok()?);
        let instances = services.iter().map(|service| client.instances(*server, service));
        let instances = instances.collect::<Result<Vec<_>, _>>().ok()?.concat();
        Some(Catalogue { members, checks, instances })
    });
    View { leaders, catalogue, patroni: None }
}

/// Turns answers into rows.
fn judge(cluster: &Cluster, views: &HashMap<String, View>) -> Status {
    let empty = View::default();
    let name_of = |leader: &SocketAddr| {
        let node = cluster.nodes.iter().find(|n| n.address.addr() == leader.ip());
        node.map_or_else(|| leader.ip().to_string(), |n| n.name.clone())
    };
    let nodes: Vec<Row> = cluster
        .nodes
        .iter()
        .map(|node| {
            let view = views.get(&node.datacenter).unwrap_or(&empty);
            let address = node.address.addr();
            let own = view.leaders.get(&address);
            let led = view.leaders.values().find_map(|l| l.as_ref().ok()?.as_ref());
            let leader = match own {
                Some(own) => own.as_ref().ok().and_then(Option::as_ref),
                None => led,
            };
            let catalogue = view.catalogue.as_ref();
            let (mut health, mut reasons) = health(&node.name, catalogue);
            match own {
                Some(Err(silence)) => {
                    health = health.max(Health::Critical);
                    reasons.push(silence.clone());
                }
                _ if led.is_none() && health != Health::Unreachable => {
                    health = health.max(Health::Critical);
                    reasons.push("no leader".to_owned());
                }
                _ => {}
            }
            let leader = leader.map(name_of);
            let state = match (node.is_server(), &leader) {
                (true, Some(name)) if *name == node.name => Some("leader".to_owned()),
                (true, leader) => leader.as_ref().map(|_| "follower".to_owned()),
                (false, _) => catalogue.and_then(|c| c.state(&node.name)),
            };
            let meta = |key: &str| catalogue?.meta(&node.name, key);
            let member = view.patroni.as_ref().and_then(|p| p.member(&node.name));
            let number = |key: &str| meta(key).and_then(|text| text.parse().ok());
            let (image_version, slot) = catalogue.map(|c| c.image(&node.name)).unwrap_or_default();
            Row {
                node: node.name.clone(),
                role: node.role.clone(),
                datacenter: node.datacenter.clone(),
                address,
                health,
                state,
                leader,
                lag_bytes: number("lag_bytes").or(member.and_then(|m| m.lag)),
                timeline: number("timeline").or(member.and_then(|m| m.timeline)),
                sync: meta("sync"),
                sentinel_quorum: meta("sentinel_quorum"),
                consul_version: catalogue.and_then(|c| c.consul_version(&node.name)),
                image_version,
                slot,
                reasons,
            }
        })
        .collect();
    let problems = problems(cluster, views);
    let passing = problems.is_empty() && nodes.iter().all(|row| row.health == Health::Passing);
    let paused = views.values().any(|v| v.patroni.as_ref().is_some_and(|p| p.pause));
    let notes = cluster.postgres.iter().filter(|_| paused).map(|postgres| {
        format!("{} is in maintenance: no other primary is chosen by itself", postgres.cluster)
    });
    Status { site: cluster.site.clone(), passing, problems, notes: notes.collect(), nodes }
}

/// What is wrong with a database as a whole, as the servers of its data centre know it.
fn problems(cluster: &Cluster, views: &HashMap<String, View>) -> Vec<String> {
    let mut problems = Vec::new();
    for datacenter in &cluster.datacenters {
        let catalogue = views.get(&datacenter.name).and_then(|view| view.catalogue.as_ref());
        let Some(catalogue) = catalogue else { continue };
        for service in services(cluster, &datacenter.name) {
            let of_service = cluster.nodes.iter().filter(|n| n.services.contains(&service));
            let primaries: Vec<_> = of_service
                .filter(|n| catalogue.state(&n.name).as_deref() == Some(PRIMARY))
                .filter(|n| catalogue.answers_for(&n.name, &service))
                .map(|n| n.name.as_str())
                .collect();
            match primaries.as_slice() {
                [_] => {}
                [] => problems.push(format!("{service} has no primary")),
                several => problems.push(format!(
                    "{service} has {} primaries: {}",
                    several.len(),
                    several.join(", ")
                )),
            }
        }
    }
    problems
}

impl Catalogue {
    fn instance(&self, node: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.node == node)
    }

    /// What a database node is, by its own word.
    fn state(&self, node: &str) -> Option<String> {
        let tags = &self.instance(node)?.tags;
        let known = [PRIMARY, "replica"];
        known.into_iter().find(|tag| tags.iter().any(|t| t == tag)).map(str::to_owned)
    }

    fn meta(&self, node: &str, key: &str) -> Option<String> {
        self.instance(node)?.meta.get(key).filter(|text| !text.is_empty()).cloned()
    }

    /// Whether Consul leads clients of a service to a node: none of the checks that count for it is critical.
    fn answers_for(&self, node: &str, service: &str) -> bool {
        let counts = |c: &&Check| c.node == node && (c.service.is_empty() || c.service == service);
        self.checks.iter().filter(counts).all(|check| check.status != "critical")
    }

    /// The image's version and slot, as the check of the node as a whole says them last.
    fn image(&self, node: &str) -> (Option<String>, Option<String>) {
        let check = self.checks.iter().find(|c| c.node == node && c.id == NODE_CHECK);
        let started = check.and_then(|c| Some(c.output.trim_end().rsplit_once('(')?.1));
        let said = |word: &str| {
            let mut facts = started?.trim_end_matches(')').split(", ");
            let text = facts.find_map(|fact| fact.strip_prefix(word)?.strip_prefix(' '))?;
            (text != "-").then(|| text.to_owned())
        };
        (said("image"), said("slot"))
    }

    /// Consul's version on a node.
    fn consul_version(&self, node: &str) -> Option<String> {
        let build = &self.members.iter().find(|m| m.name == node)?.tags.build;
        build.split(':').next().filter(|v| !v.is_empty()).map(str::to_owned)
    }
}

/// The worst of a node's checks, and those that are not passing.
fn health(node: &str, catalogue: Option<&Catalogue>) -> (Health, Vec<String>) {
    let Some(catalogue) = catalogue else { return (Health::Unreachable, Vec::new()) };
    let checks: Vec<_> = catalogue.checks.iter().filter(|c| c.node == node).collect();
    if checks.is_empty() {
        return (Health::Absent, vec!["never registered with Consul".to_owned()]);
    }
    let of = |check: &Check| match check.status.as_str() {
        "passing" => Health::Passing,
        "warning" => Health::Warning,
        _ => Health::Critical,
    };
    let mut reasons: Vec<_> = checks
        .iter()
        .filter(|c| of(c) != Health::Passing)
        .map(|c| format!("{}: {}", c.name, c.status))
        .collect();
    let mut worst = checks.iter().map(|c| of(c)).max().unwrap_or(Health::Absent);
    // Consul's own check, by gossip, says that the machine is there, and nothing about its role.
    if checks.iter().all(|c| c.id != NODE_CHECK) {
        worst = worst.max(Health::Warning);
        reasons.push("its agent has not reported yet".to_owned());
    }
    (worst, reasons)
}
