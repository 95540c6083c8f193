//! `cluster.toml`: the site as its operator writes it, read once into types that cannot hold a wrong value.

mod databases;
mod read;
#[cfg(test)]
mod tests;
mod timings;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ballast_bundle::{Member, Postgres, Redis};
use ballast_contract::Timings;
use ipnet::IpNet;

pub use ballast_contract::roles::{CONSUL_SERVER, POSTGRES, REDIS};

pub use self::read::read_cluster;
use crate::error::Error;

/// The largest cluster.toml that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A site.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub site: String,
    pub domain: String,
    /// What the availability comes to, with what was set by hand.
    pub timings: Timings,
    /// At least one; the first holds the access rules.
    pub datacenters: Vec<Datacenter>,
    pub nodes: Vec<Node>,
    /// Networks beyond the data centres' that clients come from.
    pub clients: Vec<IpNet>,
    /// The PostgreSQL cluster, when there are nodes of it.
    pub postgres: Option<Postgres>,
    /// The file with the access key of the store that backups go to, where they go to one.
    pub backup_credentials: Option<PathBuf>,
    /// The Redis group, when there are nodes of it.
    pub redis: Option<Redis>,
}

/// A Consul data centre.
#[derive(Debug, Clone, PartialEq)]
pub struct Datacenter {
    pub name: String,
    pub network: IpNet,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
    /// Time servers, by address or name.
    pub ntp: Vec<String>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub name: String,
    pub role: String,
    /// The Consul services it may register.
    pub services: Vec<String>,
    pub datacenter: String,
    /// Address and its network's prefix length.
    pub address: IpNet,
    pub interface: Option<String>,
    pub settings: toml::Table,
}

impl Cluster {
    /// The Consul servers of a data centre.
    pub fn servers<'a>(&'a self, datacenter: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |n| n.is_server() && n.datacenter == datacenter)
    }

    /// The nodes that watch the PostgreSQL cluster's members: these themselves, and the Consul servers of their data
    /// centre. None when nobody is to.
    pub fn observers(&self) -> Vec<&Node> {
        let Some(postgres) = self.postgres.as_ref().filter(|p| p.peer_detection) else {
            return Vec::new();
        };
        let is_member = |node: &Node| postgres.members.iter().any(|m| m.name == node.name);
        let datacenter = self.nodes.iter().find(|n| is_member(n)).map(|n| &n.datacenter);
        let observes = |node: &&Node| {
            is_member(node) || (node.is_server() && Some(&node.datacenter) == datacenter)
        };
        self.nodes.iter().filter(observes).collect()
    }

    /// The data centre that holds the access rules.
    pub fn primary(&self) -> &str {
        self.datacenters.first().map_or("", |d| &d.name)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {one}s"),
        };
        let nodes = count(self.nodes.len(), "node");
        let datacenters = count(self.datacenters.len(), "data centre");
        write!(f, "site {:?}, {nodes} in {datacenters}", self.site)
    }
}

impl Node {
    /// Whether it is a Consul server.
    pub fn is_server(&self) -> bool {
        self.role == CONSUL_SERVER
    }

    /// Whether clients ask Consul which of its role's nodes is the primary.
    pub fn is_database(&self) -> bool {
        self.role == POSTGRES || self.role == REDIS
    }

    /// The node as a member of a database's cluster.
    fn member(&self) -> Member {
        Member { name: self.name.clone(), address: self.address.addr() }
    }
}

/// Loads a cluster file, of which no more than the limit is read.
pub fn load_cluster(path: &Path) -> Result<Cluster, Error> {
    let unreadable = |source| Error::LoadCluster { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| f.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    let mut cluster = read_cluster(&path.display().to_string(), &bytes)?;
    // A path in the file is from where the file is.
    let directory = path.parent().unwrap_or(Path::new(""));
    cluster.backup_credentials = cluster.backup_credentials.map(|file| directory.join(file));
    Ok(cluster)
}
