//! What a bundle says about the node's databases: the clusters it is a member of, their settings and their passwords.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ballast_contract::Durability;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::calendar::refuse_event;
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
    /// What it is made from where it is not there yet, instead of from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// Another cluster's data as it was at a time, from the repository of [`Postgres::backup`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Whose data: the name of the cluster that was backed up.
    pub cluster: String,
    /// When, as PostgreSQL's `recovery_target_time` takes it: `2026-01-31 12:00:00+00`.
    pub to: String,
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
            if let Some(reason) = refuse_name(name) {
                return Err(format!("postgres.{key} {reason}"));
            }
        }
        for (name, value) in &self.parameters {
            if let Some(reason) = refuse_parameter(name, value) {
                return Err(format!("postgres.parameters: {reason}"));
            }
        }
        if let Some(reason) = self.backup.as_ref().and_then(Backup::refuse) {
            return Err(format!("postgres.backup: {reason}"));
        }
        if let Some(reason) = self.restore.as_ref().and_then(|r| r.refuse(self)) {
            return Err(format!("postgres.restore: {reason}"));
        }
        if self.peer_detection && self.durability == Durability::Asynchronous {
            return Err("postgres.peer_detection asks for a synchronous durability: an acknowledged write could be lost".to_owned());
        }
        Ok(())
    }
}

impl Backup {
    /// Why this is not what a backup can be made by, if it is not.
    pub fn refuse(&self) -> Option<String> {
        let (path, names) = match &self.repository {
            Repository::Path { path } => (path, Vec::new()),
            Repository::S3 { endpoint, bucket, region, path } => {
                (path, vec![("endpoint", endpoint), ("bucket", bucket), ("region", region)])
            }
        };
        // Each is one value of pgbackrest.conf or of a unit, where a line's end would begin another.
        let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !path.starts_with('/') || !plain(path) {
            return Some(format!("path {path:?} is not an absolute path"));
        }
        if let Some((key, text)) = names.into_iter().find(|(_, text)| !plain(text)) {
            return Some(format!("{key} {text:?} is not one line of text"));
        }
        for (key, text) in [("full", &self.full), ("incremental", &self.incremental)] {
            if let Some(reason) = refuse_event(text) {
                return Some(format!("{key} {text:?} is not a calendar event: {reason}"));
            }
        }
        (self.keep_full == 0).then(|| "keep_full 0 would keep nothing".to_owned())
    }
}

impl Restore {
    /// Why a cluster cannot be made by this, if it cannot.
    pub fn refuse(&self, postgres: &Postgres) -> Option<String> {
        let Self { cluster, to } = self;
        if !is_label(cluster) {
            return Some(format!("cluster {cluster:?} is not a host name's label (RFC 1123)"));
        }
        // Two that write their logs to one place would make both worthless.
        if *cluster == postgres.cluster {
            return Some(format!(
                "the cluster made from {cluster:?} must not be called {cluster:?} as well"
            ));
        }
        let plain = |b: u8| b.is_ascii_digit() || b" -:.+".contains(&b);
        if to.is_empty() || !to.bytes().all(plain) {
            return Some(format!("to {to:?} is not a time like 2026-01-31 12:00:00+00"));
        }
        let without = postgres.backup.is_none();
        without.then(|| "there is no repository without postgres.backup".to_owned())
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

/// What the role itself sets, because durability, failover, TLS or backups rest on it; `ssl` and `recovery_` begin more.
const OWN_PARAMETERS: [&str; 21] = [
    "archive_command",
    "archive_library",
    "archive_mode",
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "fsync",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "ident_file",
    "listen_addresses",
    "password_encryption",
    "port",
    "restore_command",
    "synchronous_commit",
    "synchronous_standby_names",
    "unix_socket_directories",
    "wal_level",
    "wal_log_hints",
];

/// Why a parameter of PostgreSQL may not be set to this by an operator, if it may not.
pub fn refuse_parameter(name: &str, value: &str) -> Option<String> {
    // An extension's parameter has the extension's name in front.
    if !name.split('.').all(is_identifier) || name.split('.').count() > 2 {
        return Some(format!("{name:?} is not a parameter's name"));
    }
    if value.chars().any(char::is_control) {
        return Some(format!("the value of {name} is not one line of text"));
    }
    let own = OWN_PARAMETERS.contains(&name)
        || ["ssl", "recovery_", "primary_"].iter().any(|prefix| name.starts_with(prefix));
    own.then(|| format!("{name} is set by the role itself"))
}

/// Names of databases and accounts that are there already, or the role's own.
const OWN_NAMES: [&str; 8] = [
    "ballast",
    "postgres",
    "public",
    "replication",
    "replicator",
    "rewinder",
    "template0",
    "template1",
];

/// Why the application's database or account may not have this name, if it may not.
pub fn refuse_name(name: &str) -> Option<String> {
    if !is_identifier(name) {
        return Some(format!("{name:?} is not an SQL identifier that needs no quoting"));
    }
    let own = OWN_NAMES.contains(&name) || name.starts_with("pg_");
    own.then(|| format!("{name:?} is PostgreSQL's or the role's own"))
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
