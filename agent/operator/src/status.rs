//! `ballast status`: what a site's Consul servers say of every node, as a table or as JSON.

mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ballast_contract::NODE_CHECK;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::consul::{Check, Client, Member, Silence};
use crate::error::Error;
use crate::state::State;

/// A site, as its servers see it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub site: String,
    /// Whether every node is passing.
    pub passing: bool,
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
    /// The leader's name: as the node itself says on a Consul server, as its data centre's servers say on others.
    pub leader: Option<String>,
    /// Consul's version on the node.
    pub version: Option<String>,
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
    /// Members and checks, from the first server that has them.
    catalogue: Option<(Vec<Member>, Vec<Check>)>,
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
    let client = Client::new(&operator, &ca_pem, site.operator.secret_id, timeout)
        .map_err(|_| Error::Damaged { path: state.to_owned() })?;
    // All at once: a silent data centre costs one time-out, and not one after another.
    let views = thread::scope(|scope| {
        let asked: Vec<_> = cluster
            .datacenters
            .iter()
            .map(|datacenter| {
                let servers: Vec<_> =
                    cluster.servers(&datacenter.name).map(|n| n.address.addr()).collect();
                let client = &client;
                (datacenter.name.clone(), scope.spawn(move || look(client, &servers)))
            })
            .collect();
        asked.into_iter().map(|(name, view)| (name, view.join().unwrap_or_default())).collect()
    });
    Ok(judge(cluster, &views))
}

/// Asks the servers of one data centre.
fn look(client: &Client, servers: &[IpAddr]) -> View {
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
        Some((client.members(*server).ok()?, client.checks(*server).ok()?))
    });
    View { leaders, catalogue }
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
            let (mut health, mut reasons) = health(&node.name, view.catalogue.as_ref());
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
            Row {
                node: node.name.clone(),
                role: node.role.clone(),
                datacenter: node.datacenter.clone(),
                address,
                health,
                leader: leader.map(name_of),
                version: version(&node.name, view.catalogue.as_ref()),
                reasons,
            }
        })
        .collect();
    let passing = nodes.iter().all(|row| row.health == Health::Passing);
    Status { site: cluster.site.clone(), passing, nodes }
}

/// The worst of a node's checks, and those that are not passing.
fn health(node: &str, catalogue: Option<&(Vec<Member>, Vec<Check>)>) -> (Health, Vec<String>) {
    let Some((_, checks)) = catalogue else { return (Health::Unreachable, Vec::new()) };
    let checks: Vec<_> = checks.iter().filter(|c| c.node == node).collect();
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

/// Consul's version on a node.
fn version(node: &str, catalogue: Option<&(Vec<Member>, Vec<Check>)>) -> Option<String> {
    let (members, _) = catalogue?;
    let build = &members.iter().find(|m| m.name == node)?.tags.build;
    build.split(':').next().filter(|v| !v.is_empty()).map(str::to_owned)
}
