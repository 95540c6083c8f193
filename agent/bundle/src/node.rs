//! `node.toml` and `secrets.json`: who the node is, and what only it may know.

use std::fmt::Display;
use std::net::IpAddr;

use ballast_contract::Timings;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::database::{
    Member, Observed, Postgres, PostgresSecrets, Redis, RedisSecrets, is_password,
};
use crate::document::{is_host, is_label};
use crate::{Error, VERSION, read_toml};

pub(crate) const NODE: &str = "node.toml";
pub(crate) const SECRETS: &str = "secrets.json";

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
    /// What the site's availability comes to, with what the operator set by hand.
    pub timings: Timings,
    /// The PostgreSQL cluster it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// The Redis master's group it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// PostgreSQL clusters whose members this node watches: on their members and on Consul's servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
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
    /// Time servers (NTP), by address or name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<String>,
    /// The interface, by name pattern as in systemd.network(5) or by MAC address; without it, the first Ethernet one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The site's networks: what the firewall means by `site`.
    pub site: Vec<IpNet>,
    /// The networks beyond those that clients come from: what the firewall means by `clients`, the site's included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<IpNet>,
}

/// A node's Consul agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulSettings {
    /// Addresses of the data centre's servers, this node's own included on a server.
    pub servers: Vec<IpAddr>,
    /// Addresses of the other data centres' servers, for the WAN pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wan_servers: Vec<IpAddr>,
    /// The data centre that holds the ACLs, when the site has several: named in all of them, its own nodes included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_datacenter: Option<String>,
    /// Consul's DNS domain.
    #[serde(default = "default_domain", skip_serializing_if = "is_default_domain")]
    pub domain: String,
}

fn default_domain() -> String {
    "consul".to_owned()
}

fn is_default_domain(domain: &str) -> bool {
    domain == "consul"
}

/// `secrets.json`: what only this node may know. Never printed, hence no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// Consul's gossip key: 32 bytes in base64.
    pub gossip_key: String,
    /// The node's own Consul token (`acl.tokens.agent`, and the agent's own requests): a UUID. Registers this node and
    /// its role's services; reads the catalog and its own Consul agent.
    pub agent_token: String,
    /// The token that stands in for requests without one (`acl.tokens.default`), DNS among them: a UUID. Reads nodes
    /// and services, and nothing else, so that loopback is no way around the ACLs.
    pub dns_token: String,
    /// Copies the ACLs from the primary data centre (`acl.tokens.replication`): on servers of the other ones alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_token: Option<String>,
    /// On members of a PostgreSQL cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSecrets>,
    /// On members of a Redis group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSecrets>,
}

impl NodeConfig {
    /// Reads and checks `node.toml`.
    ///
    /// # Errors
    /// What is wrong with it, with its line where the document's form is at fault.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let config: Self = read_toml(NODE, bytes)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what types cannot: what is written into other programs' configuration can hold nothing but what it says.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Content { file: NODE, reason });
        if self.version != VERSION {
            return Err(Error::Version { found: self.version.into() });
        }
        let Identity { site, name, role, datacenter } = &self.node;
        for (key, label) in
            [("site", site), ("name", name), ("role", role), ("datacenter", datacenter)]
        {
            if !is_label(label) {
                return refuse(format!(
                    "node.{key} {label:?} is not a host name's label (RFC 1123)"
                ));
            }
        }
        let Network { address, gateway, dns: _, ntp, interface, site: _, clients: _ } =
            &self.network;
        if let Some(gateway) = gateway {
            if !address.contains(gateway) {
                return refuse(format!("network.gateway {gateway} is outside {}", address.trunc()));
            }
        }
        if let Some(server) = ntp.iter().find(|server| !is_host(server)) {
            return refuse(format!(
                "network.ntp {server:?} is neither an address nor a host's name"
            ));
        }
        if let Some(name) = interface {
            if !is_interface(name) {
                return refuse(format!(
                    "network.interface {name:?} is not an interface's name or MAC address"
                ));
            }
        }
        let ConsulSettings { servers, primary_datacenter, domain, .. } = &self.consul;
        if servers.is_empty() {
            return refuse("consul.servers is empty".to_owned());
        }
        if let Err(refused) = self.timings.validate() {
            return refuse(refused.to_string());
        }
        let member = |members: &[Member]| {
            members.iter().any(|m| m.name == *name && m.address == address.addr())
        };
        if let Some(postgres) = &self.postgres {
            postgres.validate().map_err(|reason| Error::Content { file: NODE, reason })?;
            if !member(&postgres.members) {
                return refuse(format!(
                    "postgres.members does not hold {name:?} at {}",
                    address.addr()
                ));
            }
        }
        if let Some(redis) = &self.redis {
            redis.validate().map_err(|reason| Error::Content { file: NODE, reason })?;
            if !member(&redis.members) {
                return refuse(format!(
                    "redis.members does not hold {name:?} at {}",
                    address.addr()
                ));
            }
        }
        if let Some(name) = primary_datacenter.as_deref().filter(|name| !is_label(name)) {
            return refuse(format!(
                "consul.primary_datacenter {name:?} is not a host name's label"
            ));
        }
        if !domain.split('.').all(is_label) {
            return refuse(format!("consul.domain {domain:?} is not a domain name"));
        }
        Ok(())
    }

    /// The name the node has in Consul's DNS, which its certificate bears.
    pub fn dns_name(&self) -> String {
        format!("{}.node.{}.{}", self.node.name, self.node.datacenter, self.consul.domain)
    }
}

/// An interface's name or pattern as in systemd.network(5), or a MAC address.
pub fn is_interface(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-*?".contains(&b);
    (1..=17).contains(&name.len()) && name.bytes().all(plain)
}

impl Secrets {
    /// Reads and checks `secrets.json`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let secrets: Self = read_secret(SECRETS, bytes)?;
        let Self { gossip_key, agent_token, dns_token, replication_token, postgres, redis } =
            &secrets;
        if !is_gossip_key(gossip_key) {
            let reason = "gossip_key is not 32 bytes in base64".to_owned();
            return Err(Error::Content { file: SECRETS, reason });
        }
        refuse_tokens(SECRETS, "agent_token", [agent_token])?;
        refuse_tokens(SECRETS, "dns_token", [dns_token])?;
        refuse_tokens(SECRETS, "replication_token", replication_token)?;
        refuse_tokens(
            SECRETS,
            "postgres.patroni_token",
            postgres.iter().map(|p| &p.patroni_token),
        )?;
        let mut store = postgres.iter().flat_map(|p| &p.backup_store).flatten();
        if store.any(|text| text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic())) {
            let reason = "postgres.backup_store is not an access key and its secret".to_owned();
            return Err(Error::Content { file: SECRETS, reason });
        }
        let passwords = postgres.iter().flat_map(PostgresSecrets::passwords);
        let passwords = passwords.chain(redis.iter().flat_map(RedisSecrets::passwords));
        for (key, password) in passwords {
            if !is_password(password) {
                let reason = format!("{key} is not a password of 20 to 128 letters and digits");
                return Err(Error::Content { file: SECRETS, reason });
            }
        }
        Ok(secrets)
    }
}

/// Reads JSON that holds secrets; its error names the place and never what stands there.
pub(crate) fn read_secret<T: serde::de::DeserializeOwned>(
    file: &'static str,
    bytes: &[u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Secret {
        file,
        line: e.line(),
        column: e.column(),
    })
}

/// Refuses tokens that are not UUIDs, by their key and without their value.
pub(crate) fn refuse_tokens<'a>(
    file: &'static str,
    key: impl Display,
    tokens: impl IntoIterator<Item = &'a String>,
) -> Result<(), Error> {
    if tokens.into_iter().all(|token| is_uuid(token)) {
        return Ok(());
    }
    Err(Error::Content { file, reason: format!("{key} is not a UUID in lower case") })
}

fn is_uuid(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || hex(b))
}

/// Whether this is 32 bytes in base64 (RFC 4648): 43 digits, the last of which holds four bits, and one pad.
fn is_gossip_key(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let digits = text.strip_suffix('=').unwrap_or_default();
    digits.len() == 43
        && digits.bytes().all(digit)
        && digits.ends_with(|c| "AEIMQUYcgkosw048".contains(c))
}
