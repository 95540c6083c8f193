//! Checks: one question about health each. The answers are Consul's words: passing, warning, critical.

use serde::{Deserialize, Serialize};

/// The id in Consul of the check that speaks for a node as a whole: its agent registers it, and without it a node is not
/// known to be passing.
pub const NODE_CHECK: &str = "ballast";

/// The service in Consul that the checks of a node with a database hang on, for they are not the database's: a disk that
/// is nearly full must not take the one primary out of DNS. The database's own service has one check, of its role.
pub const NODE_SERVICE: &str = "ballast";

/// One question about the node's health, asked again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Unique in the image; becomes the check's name in Consul and in metrics.
    pub name: String,
    /// Whether a boot counts as good only once this check is passing. Gates ask local questions only.
    #[serde(default)]
    pub gate: bool,
    /// Seconds from the end of one probe to the start of the next.
    pub interval_secs: u64,
    /// Seconds after which a probe without an answer is critical.
    pub timeout_secs: u64,
    /// The question.
    pub kind: CheckKind,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum CheckKind {
    /// Is this systemd unit active?
    Unit {
        /// Full unit name, `consul.service`.
        unit: String,
    },
    /// Does a GET of this `http://` URL on a loopback address answer 2xx?
    Http {
        /// The URL.
        url: String,
    },
    /// Does this address accept a TCP connection?
    Tcp {
        /// `host:port`, an IP address and a port.
        address: String,
    },
    /// What does this command exit with? 0 passing, 1 warning, anything else critical, as Consul's script checks.
    Command {
        /// Program (absolute path) and arguments.
        argv: Vec<String>,
    },
    /// How full is the file system that holds this path?
    Disk {
        /// An absolute path.
        path: String,
        /// Used percent from which the answer is warning.
        warning_percent: u8,
        /// Used percent from which the answer is critical.
        critical_percent: u8,
    },
    /// How much memory is in use?
    Memory {
        /// Used percent from which the answer is warning.
        warning_percent: u8,
        /// Used percent from which the answer is critical.
        critical_percent: u8,
    },
    /// Does the local Consul agent answer? A local question: true without any other node.
    ConsulAgent {},
    /// Is this node's Redis what the Sentinels say it is, a primary or a replica of theirs?
    RedisRole {},
    /// Do the replicas hear their primary, and how far behind are they?
    RedisReplication {},
    /// Could the Sentinels agree on a failover, and do they know the members and nobody else?
    RedisSentinel {},
    /// Does this node's Redis answer, and is its append-only log written?
    RedisPersistence {},
    /// How much of `maxmemory` does this node's Redis use? At the limit it refuses writes.
    RedisMemory {
        /// Used percent from which the answer is warning.
        warning_percent: u8,
        /// Used percent from which the answer is critical.
        critical_percent: u8,
    },
    /// On a primary: does the backups' repository answer, and when was the last backup made?
    PostgresBackup {
        /// Hours since the last backup from which the answer is warning.
        age_warning_hours: u64,
    },
    /// Does the local Consul agent know a leader? Not a local question: never a gate.
    ConsulLeader {},
    /// Is this machine's clock kept by network time? A container's is its host's affair.
    Clock {},
    /// Is what the node's database is, primary or replica, proven by asking it? Not a local question: the members agree.
    DatabaseRole {},
    /// Can PostgreSQL's data be this image's at all: of its major version, and owned by its account?
    PostgresData {},
    /// Does a replica follow its primary, and do all replicas follow a primary? Not a local question.
    PostgresReplication {
        /// Bytes that a replica may be behind until the answer is warning.
        lag_warning_bytes: u64,
    },
    /// Does a write to the primary reach a synchronous replica, where it must? Not a local question.
    PostgresSynchronous {},
    /// Is the write-ahead log archived, where there is a backup? Not a local question: the store is elsewhere.
    PostgresArchiver {},
    /// Do all of PostgreSQL's parameters hold, or does one wait for a restart?
    PostgresSettings {},
}

impl CheckKind {
    /// Whether the answer depends on this machine alone, so that the check may gate a boot.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unit { .. }
            | Self::Http { .. }
            | Self::Tcp { .. }
            | Self::Command { .. }
            | Self::Disk { .. }
            | Self::Memory { .. }
            | Self::ConsulAgent {}
            | Self::RedisPersistence {}
            | Self::RedisMemory { .. }
            | Self::PostgresData {} => true,
            Self::ConsulLeader {}
            | Self::Clock {}
            | Self::RedisRole {}
            | Self::RedisReplication {}
            | Self::RedisSentinel {}
            | Self::DatabaseRole {}
            | Self::PostgresReplication { .. }
            | Self::PostgresSynchronous {}
            | Self::PostgresArchiver {}
            | Self::PostgresBackup { .. }
            // PostgreSQL starts only once Patroni knows its place among the others.
            | Self::PostgresSettings {} => false,
        }
    }
}
