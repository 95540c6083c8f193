//! `/v1/health`: what the catalogue holds, followed with blocking queries.

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

impl Consul {
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
