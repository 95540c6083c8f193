//! What a bundle says about the node's databases: the clusters it is a member of, their settings and their passwords.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ballast_contract::Durability;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::document::is_label;

/// A node of a database cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// Where it is reached.
    pub address: IpAddr,
}

/// A PostgreSQL cluster under Patroni, as each of its members knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Patroni's `scope` and the Consul service: clients find `primary.<cluster>.service.<domain>`.
    pub cluster: String,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// All of its members, this node included.
    pub members: Vec<Member>,
    /// The application's database, created once.
    pub database: String,
    /// The application's account, which owns the database.
    pub owner: String,
    /// Where clients may come from, for `pg_hba`.
    pub clients: Vec<IpNet>,
    /// PostgreSQL's parameters that the operator set, over what the agent derives from the machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Whether the members and the Consul servers give up a silent primary by agreement, sooner than its `ttl`. Only where
    /// no acknowledged write can be lost by it: not with [`Durability::Asynchronous`].
    pub peer_detection: bool,
    /// Where and when it is backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

/// Backups by pgBackRest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Where they are kept.
    pub repository: Repository,
    /// When a full backup is made: a calendar event of systemd.time(7).
    pub full: String,
    /// When an incremental backup is made.
    pub incremental: String,
    /// How many full backups are kept, with the WAL since the oldest.
    pub keep_full: u8,
}

/// Where backups are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Repository {
    /// A directory that every member sees: a mounted network file system.
    Path {
        /// Absolute.
        path: String,
    },
    /// A bucket of a store that speaks S3.
    S3 {
        /// Host name, and port where it is not 443.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// The region.
        region: String,
        /// The prefix within the bucket, absolute.
        path: String,
    },
}

/// Redis under Sentinel, as each of its members knows it. The Consul service is `redis`, with the tags `primary` and `replica`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// The name by which Sentinel knows the master, and the Consul service.
    pub cluster: String,
    /// All of its members, this node included; each runs a Sentinel. The first is the first master.
    pub members: Vec<Member>,
    /// Redis's `maxmemory`, bytes; without it, half of the machine's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<u64>,
}

/// A PostgreSQL cluster whose members a node watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The cluster.
    pub cluster: String,
    /// Its members.
    pub members: Vec<Member>,
    /// The names of all nodes that observe it; more than half of them must agree.
    pub observers: Vec<String>,
}

/// A PostgreSQL cluster's passwords, and its members' token for Consul. Never printed, hence no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSecrets {
    /// Of the account `postgres`.
    pub superuser: String,
    /// Of the account `replicator`.
    pub replication: String,
    /// Of the account `rewinder`.
    pub rewind: String,
    /// Of the application's account.
    pub owner: String,
    /// Of the account `ballast`, which the agent's checks use.
    pub monitor: String,
    /// Of Patroni's own interface, for requests that change something.
    pub api: String,
    /// Patroni's Consul token, a UUID: its session, its keys, and nothing else.
    pub patroni_token: String,
    /// The S3 store's access key and secret, where backups go to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_store: Option<[String; 2]>,
}

/// A Redis group's passwords. Never printed, hence no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSecrets {
    /// Of the account `app`: everything but administration.
    pub app: String,
    /// Of the account `replica`, which replicas follow the master with.
    pub replication: String,
    /// Of the account `sentinel`, in Redis and among the Sentinels.
    pub sentinel: String,
    /// Of the account `ballast`, which the agent's checks use.
    pub monitor: String,
}

impl Postgres {
    pub(crate) fn validate(&self) -> Result<(), String> {
        members("postgres", &self.cluster, &self.members)?;
        for (key, name) in [("database", &self.database), ("owner", &self.owner)] {
            if !is_identifier(name) {
                return Err(format!("postgres.{key} {name:?} is not a plain SQL identifier"));
            }
        }
        for (name, value) in &self.parameters {
            if !is_identifier(name) || value.chars().any(char::is_control) {
                return Err(format!(
                    "postgres.parameters: {name:?} is not a parameter and its value"
                ));
            }
        }
        if self.peer_detection && self.durability == Durability::Asynchronous {
            return Err("postgres.peer_detection asks for a synchronous durability: an acknowledged write could be lost".to_owned());
        }
        Ok(())
    }
}

impl Redis {
    pub(crate) fn validate(&self) -> Result<(), String> {
        members("redis", &self.cluster, &self.members)
    }
}

fn members(kind: &str, cluster: &str, members: &[Member]) -> Result<(), String> {
    if !is_label(cluster) {
        return Err(format!("{kind}.cluster {cluster:?} is not a host name's label (RFC 1123)"));
    }
    match members.iter().find(|m| !is_label(&m.name)) {
        None => Ok(()),
        Some(m) => Err(format!("{kind}.members: {:?} is not a host name's label", m.name)),
    }
}

impl PostgresSecrets {
    pub(crate) fn passwords(&self) -> impl Iterator<Item = (&'static str, &String)> {
        [
            ("postgres.superuser", &self.superuser),
            ("postgres.replication", &self.replication),
            ("postgres.rewind", &self.rewind),
            ("postgres.owner", &self.owner),
            ("postgres.monitor", &self.monitor),
            ("postgres.api", &self.api),
        ]
        .into_iter()
    }
}

impl RedisSecrets {
    pub(crate) fn passwords(&self) -> impl Iterator<Item = (&'static str, &String)> {
        [
            ("redis.app", &self.app),
            ("redis.replication", &self.replication),
            ("redis.sentinel", &self.sentinel),
            ("redis.monitor", &self.monitor),
        ]
        .into_iter()
    }
}

/// An SQL identifier that needs no quoting: a lower-case letter, then letters, digits and underscores, 63 at most.
pub fn is_identifier(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(plain)
}

/// A password that any configuration format takes as it is: 20 to 128 letters and digits.
pub fn is_password(text: &str) -> bool {
    (20..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}
