//! `cluster.toml`: the site as its operator writes it, read once into types that cannot hold a wrong value.

mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use ballast_contract::Availability;
use ipnet::IpNet;

pub use self::read::read_cluster;
use crate::error::Error;

/// The role whose nodes hold the catalogue.
pub const CONSUL_SERVER: &str = "consul-server";

/// The largest cluster.toml that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A site.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub site: String,
    pub domain: String,
    pub availability: Availability,
    /// At least one; the first holds the access rules.
    pub datacenters: Vec<Datacenter>,
    pub nodes: Vec<Node>,
}

/// A Consul data centre.
#[derive(Debug, Clone, PartialEq)]
pub struct Datacenter {
    pub name: String,
    pub network: IpNet,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
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
}

/// Loads a cluster file, of which no more than the limit is read.
pub fn load_cluster(path: &Path) -> Result<Cluster, Error> {
    let unreadable = |source| Error::LoadCluster { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| f.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    Ok(read_cluster(&path.display().to_string(), &bytes)?)
}
