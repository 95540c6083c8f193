//! Consul's HTTP API as its servers offer it to the operator: over TLS, both sides with certificates of the site.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::https::{self, Silence};

/// The port of the HTTPS API on every Consul server.
const PORT: u16 = 8501;
/// The longest answer that is read: the checks of some ten thousand nodes.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// A client for every server of a site.
pub struct Client {
    agent: Agent,
    token: String,
}

/// A member of the LAN gossip pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    pub name: String,
    #[serde(default)]
    pub tags: Tags,
}

/// What a member says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tags {
    /// Consul's version, a colon, and the revision it was built from.
    #[serde(default)]
    pub build: String,
}

/// A check as the catalogue has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    pub node: String,
    #[serde(rename = "CheckID")]
    pub id: String,
    pub name: String,
    pub status: String,
    /// The service it is of; empty for one of the node.
    #[serde(rename = "ServiceID", default)]
    pub service: String,
    /// What was answered. That of a node as a whole ends in what was started: `(image 0.1.0, slot a)`.
    #[serde(default)]
    pub output: String,
}

/// A node's instance of a service.
#[derive(Debug, Clone, Deserialize)]
pub struct Instance {
    #[serde(rename = "Node")]
    pub node: String,
    #[serde(rename = "ServiceTags", default)]
    pub tags: Vec<String>,
    #[serde(rename = "ServiceMeta", default)]
    pub meta: BTreeMap<String, String>,
}

impl Client {
    /// A client that asks by this agent, with a token.
    pub fn new(agent: Agent, token: String) -> Self {
        Self { agent, token }
    }

    /// The address of the leader, as a server knows it.
    pub fn leader(&self, server: IpAddr) -> Result<Option<SocketAddr>, Silence> {
        let leader: String = self.get(server, "status/leader")?;
        Ok(leader.parse().ok())
    }

    /// The members of a server's data centre.
    pub fn members(&self, server: IpAddr) -> Result<Vec<Member>, Silence> {
        self.get(server, "agent/members")
    }

    /// Every check of a server's data centre; from a server without a leader, as it last knew them.
    pub fn checks(&self, server: IpAddr) -> Result<Vec<Check>, Silence> {
        self.get(server, "health/state/any?stale")
    }

    /// Every node's instance of a service in a server's data centre.
    pub fn instances(&self, server: IpAddr, service: &str) -> Result<Vec<Instance>, Silence> {
        self.get(server, &format!("catalog/service/{service}?stale"))
    }

    /// A key's value; none where there is no such key.
    pub fn key(&self, server: IpAddr, key: &str) -> Result<Option<Vec<u8>>, Silence> {
        let url = format!("https://{}/v1/kv/{key}?raw", SocketAddr::new(server, PORT));
        let answer = self.agent.get(&url).header("X-Consul-Token", &self.token).call();
        let mut answer = match answer {
            Err(ureq::Error::StatusCode(404)) => return Ok(None),
            answer => answer.map_err(|error| reason(&error))?,
        };
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        body.map(Some).map_err(|error| reason(&error))
    }

    /// Writes a key.
    pub fn put_key(&self, server: IpAddr, key: &str, value: &[u8]) -> Result<(), Silence> {
        let url = format!("https://{}/v1/kv/{key}", SocketAddr::new(server, PORT));
        let answer = self.agent.put(&url).header("X-Consul-Token", &self.token).send(value);
        answer.map(|_| ()).map_err(|error| reason(&error))
    }

    fn get<T: DeserializeOwned>(&self, server: IpAddr, path: &str) -> Result<T, Silence> {
        let url = format!("https://{}/v1/{path}", SocketAddr::new(server, PORT));
        let answer = self.agent.get(&url).header("X-Consul-Token", &self.token).call();
        let mut answer = answer.map_err(|error| reason(&error))?;
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| reason(&error))?;
        serde_json::from_slice(&body).map_err(|_| format!("{path} was not answered as Consul does"))
    }
}

fn reason(error: &ureq::Error) -> Silence {
    match error {
        ureq::Error::StatusCode(403) => "the operator's token is refused".to_owned(),
        other => https::reason(other),
    }
}
