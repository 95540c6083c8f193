//! `acl.json`, in the bundles of Consul servers alone: the data centre's policies and tokens, to be made true.
//!
//! The identifiers are chosen when the bundle is made, so that three servers that start together ask for the same
//! thing and a crash half-way loses nothing.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::node::{read_secret, refuse_tokens};

pub(crate) const ACL: &str = "acl.json";

/// The data centre's access control, wholly.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    /// Consul's management token (`acl.tokens.master` of Consul 1.8): a UUID.
    pub management_token: String,
    /// Policies, by name.
    pub policies: Vec<AclPolicy>,
    /// Tokens, by accessor.
    pub tokens: Vec<AclToken>,
    /// Accessors of tokens that are void: of nodes that left the site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<String>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclPolicy {
    /// Name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Rules in HCL, as Consul's ACL rule language says.
    pub rules: String,
}

/// One token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclToken {
    /// Public identifier, a UUID.
    pub accessor_id: String,
    /// The secret, a UUID.
    pub secret_id: String,
    /// Whose it is.
    pub description: String,
    /// Policies by name.
    pub policies: Vec<String>,
}

impl Acl {
    /// Reads and checks `acl.json`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let acl: Self = read_secret(ACL, bytes)?;
        let refuse = |reason: String| Err(Error::Content { file: ACL, reason });
        refuse_tokens(ACL, "management_token", [&acl.management_token])?;
        refuse_tokens(ACL, "a revoked token's accessor", &acl.revoked)?;
        for token in &acl.tokens {
            if acl.revoked.contains(&token.accessor_id) {
                return refuse(format!("the token of {} is revoked as well", token.description));
            }
            let of = format!("a token's identifier ({})", token.description);
            refuse_tokens(ACL, of, [&token.accessor_id, &token.secret_id])?;
            let unknown = |name: &&String| !acl.policies.iter().any(|p| p.name == **name);
            if let Some(name) = token.policies.iter().find(unknown) {
                return refuse(format!("{} has the unknown policy {name:?}", token.description));
            }
        }
        Ok(acl)
    }
}
