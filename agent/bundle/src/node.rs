//! `node.toml` and `secrets.json`: who the node is, and what only it may know.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `node.toml`: everything about a node that is no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// 1.
    pub version: u32,
    /// Who the node is.
    pub node: Identity,
    /// How it is reached.
    pub network: Network,
    /// Its Consul agent.
    pub consul: ConsulSettings,
    /// Settings of a role of the image author's own, handed to its units as `/run/ballast/settings.json`.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub settings: toml::Table,
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The site's name.
    pub site: String,
    /// The node's name, its host name too.
    pub name: String,
    /// The role; must be the image's.
    pub role: String,
    /// The Consul data centre.
    pub datacenter: String,
}

/// How a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Address and prefix length, `10.0.0.11/24`.
    pub address: IpNet,
    /// Default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Name servers for what is not Consul's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// The interface, by name pattern as in systemd.network(5) or by MAC address; without it, the first Ethernet one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The site's networks: what the firewall means by `site`.
    pub site: Vec<IpNet>,
}

/// A node's Consul agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulSettings {
    /// Addresses of the data centre's servers, this node's own included on a server.
    pub servers: Vec<IpAddr>,
    /// Consul's `raft_multiplier`, from the availability preset.
    pub raft_multiplier: u8,
    /// Addresses of the other data centres' servers, for the WAN pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wan_servers: Vec<IpAddr>,
    /// The data centre that holds the ACLs, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_datacenter: Option<String>,
}

/// `secrets.json`: what only this node may know. Never printed, hence no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// Consul's gossip key: 32 bytes in base64.
    pub gossip_key: String,
    /// The node's own Consul token: registers this node and its service, reads what DNS needs.
    pub agent_token: String,
}
