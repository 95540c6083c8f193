//! PostgreSQL under Patroni, as the agent deals with it: what the node is in its cluster, by Patroni's own word.

mod accounts;
pub(crate) mod backup;
mod follow;
mod keep;
mod making;
mod patroni;
pub(crate) mod probe;
pub(crate) mod release;
pub(crate) mod restore;
mod room;
mod sql;
mod standby;
mod wake;

use std::net::SocketAddr;
use std::time::Duration;

use ballast_bundle::{Bundle, Postgres, PostgresSecrets};
use ballast_contract::Durability;
use tokio::sync::watch;

use crate::consul::Consul;
use crate::error::Error;
use crate::http::Tls;
use crate::plan::postgres::dynamic;
use crate::role::RoleView;
use crate::root::Root;
use patroni::Patroni;
use sql::Sql;
pub(crate) use standby::Guard;

/// Where PostgreSQL takes connections.
pub(crate) const PORT: u16 = 5432;
/// Where Patroni's interface listens.
pub(crate) const PATRONI_PORT: u16 = 8008;

/// What PostgreSQL's duties know.
pub(crate) struct Watches {
    /// What the node is in its cluster.
    pub(crate) roles: watch::Receiver<RoleView>,
    /// On a primary, what is known of the cluster's backups; none where there are no backups.
    pub(crate) backups: Option<watch::Receiver<Option<backup::State>>>,
    /// What keeps a standby named, where writes wait for one: to be set going once it is known who is silent.
    pub(crate) guard: Option<Guard>,
}

/// Starts PostgreSQL's duties: following what this node is in its cluster, and keeping the cluster what the bundle says.
///
/// # Errors
/// The bundle's certificates are none.
pub(crate) fn start(
    bundle: &Bundle,
    postgres: &Postgres,
    secrets: &PostgresSecrets,
    root: &Root,
    consul: SocketAddr,
) -> Result<Watches, Error> {
    let node = &bundle.node;
    let address = node.network.address.addr();
    let patroni = Patroni::new(address, Tls::new(bundle)?, &secrets.api);
    let follower = follow::Follower {
        node: node.node.name.clone(),
        cluster: postgres.cluster.clone(),
        patroni: patroni.clone(),
        interval: Duration::from_millis(node.timings.role_interval_ms.into()),
        patience: Duration::from_secs(node.timings.retry_timeout_secs.into()),
    };
    let wanted = keep::Wanted {
        postgres: postgres.clone(),
        secrets: secrets.clone(),
        dynamic: dynamic(&node.timings, postgres),
    };
    let unknown = RoleView::unknown(&postgres.cluster, PORT, "Patroni has not been asked yet");
    let (publish, roles) = watch::channel(unknown);
    let (leader, leaders) = watch::channel(None);
    let own = Consul::new(consul, Some(bundle.secrets.agent_token.clone()));
    tokio::spawn(room::keep_room(
        root.clone(),
        node.node.name.clone(),
        patroni.clone(),
        own.clone(),
        roles.clone(),
    ));
    let backups = backup::start(&node.node.name, postgres, own, roles.clone());
    let consul = Consul::new(consul, Some(secrets.patroni_token.clone()));
    tokio::spawn(making::follow_making(consul.clone(), postgres.cluster.clone()));
    tokio::spawn(follow::follow_leader(consul.clone(), postgres.cluster.clone(), leader));
    tokio::spawn(wake::wake_patroni(
        patroni.clone(),
        node.node.name.clone(),
        node.timings.ttl_secs,
        leaders.clone(),
    ));
    let guard = (postgres.durability != Durability::Asynchronous).then(|| Guard {
        node: node.node.name.clone(),
        members: postgres.members.iter().map(|member| member.name.clone()).collect(),
        cluster: postgres.cluster.clone(),
        patroni: patroni.clone(),
        consul,
        sql: Sql::new(root),
        interval: Duration::from_millis(node.timings.role_interval_ms.into()),
        ttl_secs: node.timings.ttl_secs,
    });
    let (lag, lags) = watch::channel(None);
    tokio::spawn(follow::follow_lag(root.clone(), roles.clone(), lag));
    tokio::spawn(follow::follow_role(follower, leaders, lags, publish));
    tokio::spawn(keep::keep(patroni, Sql::new(root), wanted, roles.clone()));
    Ok(Watches { roles, backups, guard })
}

/// Whether Patroni's dynamic configuration has it let things be.
pub(crate) fn is_paused(configuration: &[u8]) -> bool {
    let value = serde_json::from_slice::<serde_json::Value>(configuration).unwrap_or_default();
    value.get("pause").and_then(serde_json::Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_left_alone_when_its_configuration_says_so_and_only_then() {
        assert!(is_paused(br#"{"ttl":20,"pause":true}"#));
        for other in [r#"{"ttl":20}"#, r#"{"pause":false}"#, "", "{"] {
            assert!(!is_paused(other.as_bytes()), "{other}");
        }
    }
}
