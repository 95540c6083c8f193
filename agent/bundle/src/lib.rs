//! The bundle: one node's identity, settings, certificates and secrets, as one signed tar archive.
//!
//! The operator's command packs it, the agent verifies and unpacks it; both read and write it here alone.

mod acl;
mod node;

pub use acl::{Acl, AclPolicy, AclToken};
pub use node::{ConsulSettings, Identity, Network, NodeConfig, Secrets};
