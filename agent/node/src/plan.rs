//! The plan: everything this boot writes for other programs, as a value; and making it true.
//!
//! Planning is pure. Applying a plan twice leaves the same bytes.

mod consul;
mod firewall;
mod network;
pub(crate) mod postgres;
pub(crate) mod redis;

use ballast_bundle::{Acl, NodeConfig, Secrets};
use ballast_contract::{Spec, paths};

pub(crate) use firewall::{GIVEN_UP, SHUT_PORTS, TABLE, closed};
pub(crate) use network::Link;

use crate::error::Error;
use crate::root::{self, Root};

/// One file to be written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Absolute path.
    pub(crate) path: String,
    /// Content.
    pub(crate) bytes: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Whose it is.
    pub(crate) owner: Owner,
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Root.
    Root,
    /// The account of this name, from the spec or Debian's own.
    Account(&'static str),
}

/// The account that Consul's agent runs as.
pub(crate) const CONSUL: Owner = Owner::Account("consul");

impl File {
    fn public(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), bytes: text.into_bytes(), mode: 0o644, owner: Owner::Root }
    }

    fn secret_of(owner: Owner, path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.to_owned(), bytes, mode: 0o600, owner }
    }
}

/// Everything this boot writes for other programs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The node's name, as the kernel shall know it.
    pub(crate) host_name: String,
    /// Files, in the order in which they are written.
    pub(crate) files: Vec<File>,
}

/// What a plan is made from: the image's spec and the accepted bundle.
pub(crate) struct Inputs<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) node: &'a NodeConfig,
    pub(crate) secrets: &'a Secrets,
    pub(crate) acl: Option<&'a Acl>,
    /// `consul/ca.pem`, `consul/cert.pem`, `consul/key.pem`.
    pub(crate) certificates: [Vec<u8>; 3],
    /// Consul's id of this node, a UUID.
    pub(crate) consul_id: String,
    /// The link the address belongs on.
    pub(crate) link: Link,
    /// What a database may take of the machine.
    pub(crate) machine: postgres::Machine,
    /// What Redis and Sentinel left on the state partition.
    pub(crate) redis: redis::Kept,
}

/// The directory of Consul's certificates: beside its configuration, of which it reads every file.
pub(crate) const CONSUL_TLS: &str = "/run/ballast/consul-tls";
/// Settings of a role of the image author's own.
pub(crate) const SETTINGS: &str = "/run/ballast/settings.json";
/// Names every node knows: the image's `/etc/hosts` links here.
pub(crate) const HOSTS: &str = "/run/ballast/hosts";

/// The file that is written last: where it stands, this boot has taken a bundle. consul.service starts on it.
pub(crate) const LAST_FILE: &str = "/run/ballast/consul/agent.json";

/// Plans what a node needs to become itself.
pub(crate) fn plan(inputs: Inputs<'_>) -> Result<Plan, Error> {
    let Inputs { spec, node, secrets, acl, certificates, consul_id, link, machine, redis } = inputs;
    let mut files = vec![
        network::link_file(node, &link),
        network::hosts_file(Some(node)),
        network::resolved_file(node),
        firewall::ruleset_file(&spec.role, &node.network, node.postgres.is_some()),
    ];
    if !node.settings.is_empty() {
        let text = serde_json::to_string_pretty(&node.settings)
            .map_err(|source| Error::Json { path: SETTINGS.into(), source })?;
        files.push(File::public(SETTINGS, text + "\n"));
    }
    if let (Some(settings), Some(secrets)) = (&node.redis, &secrets.redis) {
        let layout = &redis::Layout::default();
        let memory_bytes = machine.memory_bytes;
        let wanted = redis::Wanted { node, redis: settings, secrets, memory_bytes, layout };
        files.extend(redis::files(&wanted, &redis, &certificates));
    }
    if let (Some(settings), Some(secrets)) = (&node.postgres, &secrets.postgres) {
        let own = certificates.each_ref().map(Vec::as_slice);
        files.extend(postgres::files(node, settings, secrets, own, &machine)?);
    }
    for (name, bytes) in ["ca.pem", "cert.pem", "key.pem"].into_iter().zip(certificates) {
        files.push(File::secret_of(CONSUL, &format!("{CONSUL_TLS}/{name}"), bytes));
    }
    // Last, see LAST_FILE.
    files.push(consul::agent_file(&consul_id, node, secrets, acl)?);
    Ok(Plan { host_name: node.node.name.clone(), files })
}

impl Plan {
    /// Makes the plan true below a root.
    ///
    /// # Errors
    /// What could not be written.
    pub(crate) fn apply(&self, root: &Root, spec: &Spec) -> Result<(), Error> {
        for file in &self.files {
            let owner = match file.owner {
                Owner::Account(name) if root.is_live() => Some(account_ids(root, spec, name)?),
                // Below another root nobody can be given anything.
                _ => None,
            };
            root::save(&root.at(&file.path), &file.bytes, file.mode, owner)?;
        }
        if root.is_live() {
            nix::unistd::sethostname(&self.host_name).map_err(|error| Error::HostName {
                name: self.host_name.clone(),
                source: error.into(),
            })?;
        }
        Ok(())
    }
}

/// Writes one file of root's, unless it is there already as it shall be.
pub(crate) fn apply_file(root: &Root, file: &File) -> Result<(), Error> {
    root::save(&root.at(&file.path), &file.bytes, file.mode, None)
}

/// An account's user and group ids, from the spec or, below the root, from Debian's accounts.
fn account_ids(root: &Root, spec: &Spec, account: &str) -> Result<(u32, u32), Error> {
    let group = |name: &str| spec.image.groups.iter().find(|g| g.name == name).map(|g| g.gid);
    let declared = spec.image.users.iter().find(|u| u.name == account);
    if let Some((uid, gid)) = declared.and_then(|u| Some((u.uid, group(&u.group)?))) {
        return Ok((uid, gid));
    }
    let passwd = root.load("/etc/passwd")?.unwrap_or_default();
    String::from_utf8_lossy(&passwd)
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let ids = |f: Option<&str>| f.and_then(|id| id.parse().ok());
            (fields.next() == Some(account))
                .then(|| Some((ids(fields.nth(1))?, ids(fields.next())?)))?
        })
        .ok_or_else(|| Error::NoUser { name: account.to_owned() })
}

/// What stands there before anything is known: a firewall that opens nothing, and no name but this machine's own.
pub(crate) fn closed_plan() -> [File; 2] {
    [File::public(paths::FIREWALL, closed()), network::hosts_file(None)]
}
