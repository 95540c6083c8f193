//! How clients get in: the stores' members, accounts and authority, as the site's own bundles say them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use ballast_bundle::{Member, NodeConfig, Secrets};
use ballast_contract::Timings;

use crate::error::{Error, Result};

/// A node of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// PostgreSQL, as its application knows it.
#[derive(Clone)]
pub struct Postgres {
    /// The cluster.
    pub cluster: String,
    /// Its members.
    pub members: Vec<Node>,
    /// The application's database.
    pub database: String,
    /// The application's account.
    pub owner: String,
    /// Its password.
    pub password: String,
    /// Whether a silent primary is given up by its peers' agreement.
    pub peer_detection: bool,
    /// Whether an acknowledged write has survived the loss of one machine.
    pub synchronous: bool,
}

/// Redis, as its application knows it, and its Sentinels.
#[derive(Clone)]
pub struct Redis {
    /// The cluster.
    pub cluster: String,
    /// Its members.
    pub members: Vec<Node>,
    /// The password of the account `app`.
    pub password: String,
    /// The password of the account `ballast`, which may ask a Sentinel for its quorum.
    pub monitor: String,
}

/// All that clients need.
#[derive(Clone)]
pub struct Access {
    /// The site's authority, PEM.
    pub authority: Vec<u8>,
    /// Addresses of Consul's servers.
    pub servers: Vec<IpAddr>,
    /// Consul's DNS domain.
    pub domain: String,
    /// The site's timings.
    pub timings: Timings,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// Redis.
    pub redis: Redis,
}

impl Access {
    /// What the bundles of a member of each store say.
    ///
    /// # Errors
    /// When they say nothing of a store.
    pub fn load(postgres: &Path, redis: &Path) -> Result<Self> {
        let mut files = entries(postgres)?;
        let (node, secrets) = read(&files, postgres)?;
        let lacking = |what: &str, path: &Path| {
            Error::Lacking(format!("the bundle {} says nothing of {what}", path.display()))
        };
        let settings = node.postgres.ok_or_else(|| lacking("PostgreSQL", postgres))?;
        let passwords = secrets.postgres.ok_or_else(|| lacking("PostgreSQL", postgres))?;
        let (other, secrets) = read(&entries(redis)?, redis)?;
        let group = other.redis.ok_or_else(|| lacking("Redis", redis))?;
        let keys = secrets.redis.ok_or_else(|| lacking("Redis", redis))?;
        Ok(Self {
            authority: files
                .remove("consul/ca.pem")
                .ok_or_else(|| lacking("the site's authority", postgres))?,
            servers: node.consul.servers,
            domain: node.consul.domain,
            timings: node.timings,
            postgres: Postgres {
                cluster: settings.cluster,
                members: nodes(&settings.members),
                database: settings.database,
                owner: settings.owner,
                password: passwords.owner,
                peer_detection: settings.peer_detection,
                synchronous: settings.durability != ballast_contract::Durability::Asynchronous,
            },
            redis: Redis {
                cluster: group.cluster,
                members: nodes(&group.members),
                password: keys.app,
                monitor: keys.monitor,
            },
        })
    }
}

fn nodes(members: &[Member]) -> Vec<Node> {
    members.iter().map(|m| Node { name: m.name.clone(), address: m.address }).collect()
}

fn read(files: &BTreeMap<String, Vec<u8>>, path: &Path) -> Result<(NodeConfig, Secrets)> {
    let file = |name: &str| {
        files
            .get(name)
            .ok_or_else(|| Error::Lacking(format!("the bundle {} has no {name}", path.display())))
    };
    let named = |name: &str| format!("{name} of {}", path.display());
    let node = NodeConfig::read(file("node.toml")?).map_err(Error::document(named("node.toml")))?;
    let secrets = serde_json::from_slice(file("secrets.json")?)
        .map_err(Error::document(named("secrets.json")))?;
    Ok((node, secrets))
}

/// A bundle's files. It was made a moment ago by this run: no signature is asked for.
fn entries(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let reading = || Error::file("reading", path);
    let mut archive = tar::Archive::new(File::open(path).map_err(Error::file("opening", path))?);
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(reading())? {
        let mut entry = entry.map_err(reading())?;
        let name = entry.path().map_err(reading())?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(reading())?;
        files.insert(name, bytes);
    }
    Ok(files)
}
