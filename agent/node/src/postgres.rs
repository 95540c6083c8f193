//! PostgreSQL under Patroni, as the agent deals with it: what the node is in its cluster, by Patroni's own word.

mod follow;
mod patroni;

use std::net::SocketAddr;

use ballast_bundle::{Bundle, Postgres};
use tokio::sync::watch;

use crate::consul::Consul;
use crate::error::Error;
use crate::http::Tls;
use crate::role::RoleView;
use patroni::Patroni;

/// Where PostgreSQL takes connections.
pub(crate) const PORT: u16 = 5432;
/// Where Patroni's interface listens.
pub(crate) const PATRONI_PORT: u16 = 8008;

/// Follows what this node is in its cluster.
///
/// # Errors
/// The bundle's certificates are none.
pub(crate) fn start(
    bundle: &Bundle,
    postgres: &Postgres,
    consul: SocketAddr,
) -> Result<watch::Receiver<RoleView>, Error> {
    let node = &bundle.node;
    let token = bundle.secrets.postgres.as_ref().map(|s| s.patroni_token.clone());
    let follower = follow::Follower {
        node: node.node.name.clone(),
        cluster: postgres.cluster.clone(),
        patroni: Patroni::new(node.network.address.addr(), Tls::new(bundle)?),
        interval: std::time::Duration::from_millis(node.timings.role_interval_ms.into()),
        patience: std::time::Duration::from_secs(node.timings.retry_timeout_secs.into()),
    };
    let unknown = RoleView::unknown(&postgres.cluster, PORT, "Patroni has not been asked yet");
    let (publish, roles) = watch::channel(unknown);
    let (leader, leaders) = watch::channel(None);
    let consul = Consul::new(consul, token);
    tokio::spawn(follow::follow_leader(consul, postgres.cluster.clone(), leader));
    tokio::spawn(follow::follow_role(follower, leaders, publish));
    Ok(roles)
}
