//! The database of a node, where its bundle names one: starts the duties that keep it and follow its role.
//!
//! To add a kind of database, start its duties here; what it is at a moment is a [`RoleView`] for all kinds.

use std::net::SocketAddr;

use ballast_bundle::Bundle;
use tokio::sync::watch;

use crate::error::Error;
use crate::postgres;
use crate::role::RoleView;
use crate::root::Root;

/// Starts the duties of the node's database, if it has one, and follows its role.
///
/// # Errors
/// The bundle's certificates are none.
pub(crate) fn start(
    bundle: &Bundle,
    root: &Root,
    consul: SocketAddr,
) -> Result<Option<watch::Receiver<RoleView>>, Error> {
    if let (Some(postgres), Some(secrets)) = (&bundle.node.postgres, &bundle.secrets.postgres) {
        return postgres::start(bundle, postgres, secrets, root, consul).map(Some);
    }
    Ok(None)
}
