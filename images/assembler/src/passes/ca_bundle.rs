//! Pass: writes `/etc/ssl/certs/ca-certificates.crt` from every authority that ca-certificates brings.
//!
//! Stands for: `update-ca-certificates`. Programs that look certificates up by hashed name find none: those in our
//! images read the bundle.

use super::Context;
use crate::error::AssembleError;
use crate::tree::{Node, Tree};

const AUTHORITIES: &str = "usr/share/ca-certificates";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Writes the bundle, in the order of the files' names.
pub fn pass(tree: &mut Tree, _: &Context<'_>) -> Result<(), AssembleError> {
    let mut bundle = Vec::new();
    for (path, node) in tree.below(AUTHORITIES) {
        let Some(bytes) = node.bytes().filter(|_| path.ends_with(".crt")) else { continue };
        if !bytes.starts_with(b"-----BEGIN CERTIFICATE-----") {
            return Err(AssembleError::pass(
                "CA bundle",
                format!("/{path} is no certificate in PEM form"),
            ));
        }
        bundle.extend_from_slice(bytes);
        if !bytes.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    if bundle.is_empty() { Ok(()) } else { tree.put(BUNDLE, Node::file(0o644, bundle)) }
}
