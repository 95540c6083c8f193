//! The database of a node, where its bundle names one: starts the duties that keep it and follow its role.
//!
//! To add a kind of database, start its duties here; what it is at a moment is a [`RoleView`] for all kinds.

use std::net::SocketAddr;

use ballast_bundle::Bundle;
use tokio::sync::watch;

use crate::error::Error;
use crate::postgres;
use crate::redis;
use crate::role::RoleView;
use crate::root::Root;

/// What is known of the node's database, for those who want to know.
#[derive(Default)]
pub(crate) struct Database {
    /// What the node is in its cluster.
    pub(crate) roles: Option<watch::Receiver<RoleView>>,
    /// What the checks of a Redis node are answered from.
    pub(crate) redis: Option<watch::Receiver<redis::Snapshot>>,
    /// What is known of a PostgreSQL cluster's backups, where it is backed up.
    pub(crate) backups: Option<watch::Receiver<Option<postgres::backup::State>>>,
    /// What keeps a PostgreSQL primary's standby named; it waits for who is silent.
    pub(crate) guard: Option<postgres::Guard>,
}

/// Starts the duties of the node's database, if it has one, and follows its role.
///
/// # Errors
/// The bundle's certificates are none.
pub(crate) fn start(bundle: &Bundle, root: &Root, consul: SocketAddr) -> Result<Database, Error> {
    if let (Some(postgres), Some(secrets)) = (&bundle.node.postgres, &bundle.secrets.postgres) {
        let postgres::Watches { roles, backups, guard } =
            postgres::start(bundle, postgres, secrets, root, consul)?;
        return Ok(Database { roles: Some(roles), backups, guard, ..Database::default() });
    }
    if let (Some(redis), Some(secrets)) = (&bundle.node.redis, &bundle.secrets.redis) {
        let redis::Watches { roles, snapshots } = redis::start(bundle, redis, secrets, consul)?;
        return Ok(Database { roles: Some(roles), redis: Some(snapshots), ..Database::default() });
    }
    Ok(Database::default())
}
