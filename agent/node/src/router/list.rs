//! Who the nodes of a service are: as Consul has them, followed with blocking queries from one server after the other, or as
//! the configuration lists them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use super::group::Listed;
use super::nodes::Nodes;
use crate::consul::{Consul, Index, Instance};
use crate::error::chain;
use crate::log;
use crate::role::PRIMARY;
use crate::state::Health;

/// How long Consul holds a question while the answer stays the same: as long may pass until a server that froze is left.
const WAIT: Duration = Duration::from_secs(10);
/// The least between two questions: Consul wakes one early when anything near changes.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two rounds of servers of which none answers.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at what a host's name stands for, and how long one may take.
const RESOLVE: Duration = Duration::from_secs(10);
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Follows a service in Consul. While no server answers, what was known stays.
pub(super) async fn follow_consul(
    nodes: Arc<Nodes>,
    servers: Vec<Consul>,
    service: String,
    tag: Option<String>,
) {
    let mut index = Index::default();
    let mut known = false;
    let mut failed = 0_usize;
    let mut said = String::new();
    let mut turn = 0_usize;
    loop {
        let Some(consul) = servers.get(turn % servers.len().max(1)) else { return };
        match consul.instances(&service, tag.as_deref(), index, WAIT).await {
            Ok((instances, next)) => {
                if !said.is_empty() {
                    log::info(&format!("Consul at {} answers about {service}", consul.address()));
                    said.clear();
                }
                (failed, known, index) = (0, true, next);
                let listed: Vec<Listed> = instances.iter().filter_map(read_instance).collect();
                nodes.list(listed, &format!("Consul shows this token no instance of {service:?}"));
                sleep(PAUSE).await;
            }
            Err(error) => {
                let why = chain(&error);
                if !known {
                    nodes.list(Vec::new(), &format!("{}: {why}", consul.address()));
                }
                if said != why {
                    log::warn(&format!(
                        "Consul at {} says nothing of {service}: {why}",
                        consul.address()
                    ));
                    said = why;
                }
                // Another server may have another history.
                index = Index::default();
                turn = turn.wrapping_add(1);
                failed += 1;
                if failed % servers.len() == 0 {
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// An instance, if its address is one: names are not looked up in the middle of a failover.
fn read_instance(instance: &Instance) -> Option<Listed> {
    let address: IpAddr = instance.address.parse().ok()?;
    Some(Listed {
        address: SocketAddr::new(address, instance.port),
        name: instance.node.clone(),
        tagged: instance.tags.iter().any(|tag| tag == PRIMARY),
        health: instance.health,
        lag_bytes: instance.meta.get("lag_bytes").and_then(|lag| lag.parse().ok()),
    })
}

/// Follows what the names in the configuration stand for; addresses stand for themselves.
pub(super) async fn follow_names(nodes: Arc<Nodes>, names: Vec<String>) {
    loop {
        let mut listed: Vec<Listed> = Vec::new();
        let mut faults = Vec::new();
        for name in &names {
            match timeout(RESOLVE_DEADLINE, lookup_host(name.as_str())).await {
                Ok(Ok(found)) => {
                    let new = found.filter(|a| !listed.iter().any(|l| l.address == *a));
                    let new: Vec<Listed> = new.map(|address| one(name, address)).collect();
                    listed.extend(new);
                }
                Ok(Err(error)) => faults.push(format!("looking up {name}: {error}")),
                Err(_) => faults.push(format!("looking up {name}: no answer")),
            }
        }
        // What a name stood for is better than nothing.
        if !listed.is_empty() || !nodes.is_listed() {
            nodes.list(listed, &faults.join("; "));
        }
        if names.iter().all(|name| name.parse::<SocketAddr>().is_ok()) {
            return;
        }
        sleep(RESOLVE).await;
    }
}

fn one(name: &str, address: SocketAddr) -> Listed {
    Listed {
        address,
        name: name.to_owned(),
        tagged: false,
        health: Health::Passing,
        lag_bytes: None,
    }
}
