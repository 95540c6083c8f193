//! `/v1/health`: what the catalogue holds, followed with blocking queries.

use std::collections::BTreeMap;
use std::time::Duration;

use ballast_contract::NODE_CHECK;
use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;

use super::{Consul, Error, escape};
use crate::state::Health;

/// A place in Consul's history (`X-Consul-Index`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Index(pub(super) u64);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    #[serde(rename = "CheckID")]
    check_id: String,
    status: Health,
}

/// One instance of a service, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) node: String,
    /// The service's own address, or its node's.
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: BTreeMap<String, String>,
    /// The worst of its checks and its node's.
    pub(crate) health: Health,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: NodeEntry,
    service: ServiceEntry,
    checks: Vec<HealthCheck>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeEntry {
    node: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceEntry {
    address: String,
    port: u16,
    /// Null where there are none.
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
}

impl Consul {
    /// All instances of a service, whatever their health, once they differ from what they were at `index` or `wait` has
    /// passed. The answer is the leader's: a server that was left behind does not answer.
    pub(crate) async fn instances(
        &self,
        service: &str,
        tag: Option<&str>,
        index: Index,
        wait: Duration,
    ) -> Result<(Vec<Instance>, Index), Error> {
        let tag = tag.map_or(String::new(), |tag| format!("tag={}&", escape(tag)));
        let (service, wait_ms) = (escape(service), wait.as_millis());
        let path = format!("/v1/health/service/{service}?{tag}index={}&wait={wait_ms}ms", index.0);
        // Consul adds up to a sixteenth of the wait, so that not all wake at once; beyond that it is hanging.
        let deadline = wait + wait / 16 + Duration::from_secs(2);
        let reply = self.ask(Method::GET, &path, Bytes::new(), deadline).await?;
        let next = if reply.index < index.0 { Index(0) } else { Index(reply.index) };
        let entries: Vec<Entry> = reply.json()?;
        let instances = entries.into_iter().map(|Entry { node, service, checks }| Instance {
            node: node.node,
            address: if service.address.is_empty() { node.address } else { service.address },
            port: service.port,
            tags: service.tags.unwrap_or_default(),
            meta: service.meta.unwrap_or_default(),
            health: checks.iter().map(|c| c.status).max().unwrap_or(Health::Passing),
        });
        Ok((instances.collect(), next))
    }

    /// One check of a node as the catalogue has it; none where there is no such check.
    pub(crate) async fn node_check(&self, node: &str, id: &str) -> Result<Option<Health>, Error> {
        let path = format!("/v1/health/node/{}", escape(node));
        let reply = self.ask(Method::GET, &path, Bytes::new(), super::DEADLINE).await?;
        let checks: Vec<HealthCheck> = reply.json()?;
        Ok(checks.iter().find(|check| check.check_id == id).map(|check| check.status))
    }

    /// A node's health as the catalogue has it, the worst of its checks, once it differs from what it was at `index` or
    /// `wait` has passed; none where the node has not registered its own word on it.
    pub(crate) async fn node_health(
        &self,
        node: &str,
        index: Index,
        wait: Duration,
    ) -> Result<(Option<Health>, Index), Error> {
        let path =
            format!("/v1/health/node/{}?index={}&wait={}s", escape(node), index.0, wait.as_secs());
        // Consul adds up to a sixteenth of the wait, so that not all wake at once.
        let deadline = wait + wait / 16 + super::DEADLINE;
        let reply = self.ask(Method::GET, &path, Bytes::new(), deadline).await?;
        let checks: Vec<HealthCheck> = reply.json()?;
        // An index that goes backwards means that history began anew: so does the reader.
        let next = if reply.index < index.0 { Index(0) } else { Index(reply.index) };
        let registered = checks.iter().any(|c| c.check_id == NODE_CHECK);
        let worst = checks.iter().map(|c| c.status).max();
        Ok((worst.filter(|_| registered), next))
    }
}
