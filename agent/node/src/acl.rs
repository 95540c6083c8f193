//! Making the data centre's ACLs what the bundle says they are.
//!
//! Only the Raft leader does it, so that there is one writer at a time. Safety does not hang on that: a policy's name and
//! a token's identifiers, chosen when the bundle was made, are unique in Consul, so of several writers at once exactly
//! one creates each, and the others find it there. Only tokens that the bundle calls revoked are removed: what it does
//! not name may be an operator's.

use std::collections::BTreeMap;

use ballast_bundle::{Acl, AclPolicy, AclToken};

use crate::consul::{Consul, Error};

/// What Consul holds, of what the bundle names.
#[derive(Default)]
struct Held {
    /// Policies by name, with their id.
    policies: BTreeMap<String, (String, AclPolicy)>,
    /// Tokens by accessor: description, and names of policies in order.
    tokens: BTreeMap<String, (String, Vec<String>)>,
}

/// One thing to change. Policies come before the tokens that name them.
enum Change<'a> {
    Policy { id: Option<String>, policy: &'a AclPolicy },
    Token { exists: bool, token: &'a AclToken },
    Revoke(&'a str),
}

/// Makes Consul's ACLs what the bundle says, and returns how much had to be changed.
///
/// # Errors
/// Consul's answer that was no success; another try starts from what is then there.
pub(crate) async fn reconcile(consul: &Consul, wanted: &Acl) -> Result<usize, Error> {
    let held = load(consul, wanted).await?;
    let changes = changes(wanted, &held);
    for change in &changes {
        match change {
            Change::Policy { id, policy } => consul.put_policy(id.as_deref(), policy).await?,
            Change::Token { exists, token } => consul.put_token(*exists, token).await?,
            Change::Revoke(accessor) => consul.delete_token(accessor).await?,
        }
    }
    Ok(changes.len())
}

async fn load(consul: &Consul, wanted: &Acl) -> Result<Held, Error> {
    let mut held = Held::default();
    for stub in consul.policies().await? {
        if wanted.policies.iter().any(|p| p.name == stub.name) {
            let policy = consul.policy(&stub.id).await?;
            held.policies.insert(stub.name, (stub.id, policy));
        }
    }
    for stub in consul.tokens().await? {
        let policies = stub.policies.unwrap_or_default().into_iter().map(|p| p.name);
        held.tokens.insert(stub.accessor_id, (stub.description, sorted(policies)));
    }
    Ok(held)
}

fn changes<'a>(wanted: &'a Acl, held: &Held) -> Vec<Change<'a>> {
    let policies =
        wanted.policies.iter().filter_map(|policy| match held.policies.get(&policy.name) {
            Some((_, found)) if found == policy => None,
            Some((id, _)) => Some(Change::Policy { id: Some(id.clone()), policy }),
            None => Some(Change::Policy { id: None, policy }),
        });
    let tokens = wanted.tokens.iter().filter_map(|token| {
        let found = held.tokens.get(&token.accessor_id);
        let same = found.is_some_and(|(description, policies)| {
            *description == token.description && *policies == sorted(token.policies.iter().cloned())
        });
        (!same).then_some(Change::Token { exists: found.is_some(), token })
    });
    let revoked = wanted.revoked.iter().filter(|accessor| held.tokens.contains_key(*accessor));
    policies.chain(tokens).chain(revoked.map(|a| Change::Revoke(a))).collect()
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
