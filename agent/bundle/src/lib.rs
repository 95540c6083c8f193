//! The bundle: one node's identity, settings, certificates and secrets, as one signed tar archive.
//!
//! The operator's command [packs](pack()) it, the agent [verifies](verify()) and [unpacks](unpack()) it; both read and write
//! it here alone. The archive is an uncompressed POSIX.1-1988 `ustar` of regular files, in this order:
//!
//! | path | holds |
//! | --- | --- |
//! | `manifest.json` | [`Manifest`]: for whom it is, by whom, and every other file with size, digest and mode |
//! | `manifest.sig` | the site key's Ed25519 signature (RFC 8032) over the bytes of `manifest.json`: 64 bytes |
//! | `node.toml` | [`NodeConfig`]: everything about the node that is no secret |
//! | `secrets.json` | [`Secrets`]: what only this node may know |
//! | `acl.json` | [`Acl`]: on servers of the data centre that holds the ACLs, and nowhere else |
//! | `consul/ca.pem`, `consul/cert.pem`, `consul/key.pem` | the site's authority, the node's certificate and its key |
//!
//! Invariant: a bundle is exactly the bytes that [`pack()`] would write for its content. The reader writes what it read
//! once more and compares, so no byte of the archive is free to change: not a time stamp, not the padding.

mod acl;
mod archive;
mod calendar;
mod certificates;
mod database;
mod document;
mod error;
mod manifest;
mod node;
mod pack;
mod site_key;
#[cfg(test)]
mod tests;
mod unpack;
mod verify;

pub use acl::{Acl, AclPolicy, AclToken};
pub use calendar::refuse_event;
pub use database::{
    Backup, Member, Observed, Postgres, PostgresSecrets, Redis, RedisSecrets, Repository, Restore,
    is_identifier, is_password, refuse_name, refuse_parameter,
};
pub use document::{DocumentError, is_host, is_label, line_of, read_toml};
pub use error::Error;
pub use manifest::{Manifest, ManifestFile};
pub use node::{ConsulSettings, Identity, Network, NodeConfig, Secrets, is_interface};
pub use pack::{Contents, pack, seal};
pub use site_key::SiteKey;
pub use unpack::{load_generation, unpack};
pub use verify::{Bundle, Expectation, Trust, verify};

/// The version of the format this crate reads and writes, of `manifest.json` and of `node.toml` alike.
pub const VERSION: u32 = 1;

/// The largest bundle that is read: what a systemd credential or a small volume is good for, with room to grow.
pub const MAX_BYTES: usize = 8 << 20;
