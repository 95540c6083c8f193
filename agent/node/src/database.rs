//! The database of a node, where its bundle names one: starts the duties that keep it and follow its role.
//!
//! To add a kind of database, start its duties here; what it is at a moment is a [`RoleView`] for all kinds.

use std::net::SocketAddr;

use ballast_bundle::Bundle;
use tokio::sync::watch;

use crate::error::Error;
use crate::postgres;
use crate::role::RoleView;

/// Follows the role of the node's database, if it has one.
///
/// # Errors
/// The bundle's certificates are none.
pub(crate) fn start(
    bundle: &Bundle,
    consul: SocketAddr,
) -> Result<Option<watch::Receiver<RoleView>>, Error> {
    match &bundle.node.postgres {
        Some(postgres) => postgres::start(bundle, postgres, consul).map(Some),
        None => Ok(None),
    }
}
