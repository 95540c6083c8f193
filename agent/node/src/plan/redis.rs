//! Redis and Sentinel: their configuration, accounts and certificates.
//!
//! Both programs write their configuration themselves when the primary changes, so it stands on the state partition. Each
//! boot writes it anew from the bundle, and takes over from what it finds only what the programs alone can know: whom Redis
//! follows, whom Sentinel watches, and Sentinel's epochs. The members of the group are declared and never discovered: a
//! Sentinel's id follows from its node's name, so that a node with an empty disk comes back as itself, and the others need
//! forget nobody.
//!
//! A node without data never starts as a primary, for an empty primary would empty its replicas: its Redis follows another
//! member, whoever that is, until the running agent has learnt who the primary is. Until it has followed that one to the
//! end, its `replica-priority` is 0, so that no Sentinel promotes it; 0 is also how others see that it holds nothing.

use std::fmt::Write;
use std::net::IpAddr;

use ballast_bundle::{Member, NodeConfig, Redis, RedisSecrets};
use ballast_contract::Timings;
use sha2::{Digest, Sha256};

use super::{File, Owner};
use crate::error::Error;
use crate::root::Root;

/// Where Redis listens, with TLS alone.
pub(crate) const REDIS_PORT: u16 = 6379;
/// Where Sentinel listens, with TLS alone.
pub(crate) const SENTINEL_PORT: u16 = 26379;
/// How many of the members' Sentinels must agree: more than half.
pub(crate) const fn quorum(members: usize) -> usize {
    members / 2 + 1
}

/// The `failover-timeout` of a member's Sentinel, milliseconds: longer by half for each member before it. Two Sentinels that
/// miss a primary at the same moment may both vote for themselves, and each tries again after twice its own: were these the
/// same, the two could meet again.
pub(crate) fn failover_timeout_ms(timings: &Timings, members: &[Member], member: &str) -> u32 {
    let base = timings.sentinel_failover_timeout_ms;
    let place = members.iter().position(|other| other.name == member).unwrap_or(members.len());
    let halves = u32::try_from(place).unwrap_or(u32::MAX);
    base.saturating_add((base / 2).saturating_mul(halves))
}

/// The account that Redis and Sentinel run as.
const REDIS: Owner = Owner::Account("redis");

const USERS_HEAD: &str = "user default off resetpass resetkeys resetchannels -@all\n";

/// Where the two programs find what is theirs, and how they are reached.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Redis's `bind`.
    pub(crate) bind: String,
    /// Certificates and accounts, for this boot.
    pub(crate) run: String,
    /// Configuration and data, for ever.
    pub(crate) home: String,
    /// The socket on which the agent asks its own Redis.
    pub(crate) redis_socket: String,
    /// The socket on which the agent asks its own Sentinel.
    pub(crate) sentinel_socket: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            // All addresses, so that neither program waits for the network; the firewall says who may connect.
            bind: "* -::*".to_owned(),
            run: "/run/ballast/redis".to_owned(),
            home: "/var/lib/redis".to_owned(),
            redis_socket: "/run/redis/redis.sock".to_owned(),
            sentinel_socket: "/run/redis-sentinel/sentinel.sock".to_owned(),
        }
    }
}

/// What stands on the state partition before this boot writes.
#[derive(Default)]
pub(crate) struct Kept {
    /// `redis.conf`.
    redis: Option<String>,
    /// `sentinel.conf`.
    sentinel: Option<String>,
    /// Whether there is anything that Redis could load.
    data: bool,
}

/// What a bundle and this machine say of the node's Redis and Sentinel.
pub(crate) struct Wanted<'a> {
    pub(crate) node: &'a NodeConfig,
    pub(crate) redis: &'a Redis,
    pub(crate) secrets: &'a RedisSecrets,
    pub(crate) memory_bytes: u64,
    pub(crate) layout: &'a Layout,
}

impl Kept {
    /// Reads what stands there.
    pub(crate) fn load(root: &Root, layout: &Layout) -> Result<Self, Error> {
        let text = |name: &str| {
            let bytes = root.load(&format!("{}/{name}", layout.home))?;
            Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
        };
        let data = ["appendonlydir", "dump.rdb"]
            .iter()
            .any(|name| root.at(&format!("{}/data/{name}", layout.home)).exists());
        Ok(Self { redis: text("redis.conf")?, sentinel: text("sentinel.conf")?, data })
    }

    /// Whom Redis followed when it last said so; none where it followed nobody, or where that can't be told.
    fn followed(&self) -> Option<(IpAddr, u16)> {
        let words = words(self.redis.as_deref(), &["replicaof"])?;
        endpoint(&words)
    }

    /// Whether this node's Redis holds what its group held, if not the last of it.
    fn whole(&self) -> bool {
        let text = self.redis.as_deref();
        let empty = words(text, &["replica-priority", "0"]).is_some();
        self.data && words(text, &["tls-port"]).is_some() && !empty
    }

    /// Whether this node's Redis was a primary with data when it last said so.
    fn led(&self) -> bool {
        self.whole() && words(self.redis.as_deref(), &["replicaof"]).is_none()
    }

    /// What Sentinel knew of the primary of this name; none where it never had one.
    fn watched(&self, cluster: &str) -> Option<Watched> {
        let text = self.sentinel.as_deref();
        let (address, port) = endpoint(&words(text, &["sentinel", "monitor", cluster])?)?;
        let epoch = |place: &[&str]| {
            words(text, place).and_then(|words| words.first()?.parse().ok()).unwrap_or(0)
        };
        Some(Watched {
            address,
            port,
            config_epoch: epoch(&["sentinel", "config-epoch", cluster]),
            leader_epoch: epoch(&["sentinel", "leader-epoch", cluster]),
            current_epoch: epoch(&["sentinel", "current-epoch"]),
        })
    }
}

/// What Sentinel alone knows.
struct Watched {
    address: IpAddr,
    port: u16,
    config_epoch: u64,
    leader_epoch: u64,
    current_epoch: u64,
}

/// The words behind the first line that begins with these; Redis may put a value in double quotes.
fn words<'a>(text: Option<&'a str>, begin: &[&str]) -> Option<Vec<&'a str>> {
    text?.lines().find_map(|line| {
        let mut words = line.split_whitespace().map(|word| word.trim_matches('"'));
        begin.iter().all(|b| words.next() == Some(b)).then(|| words.collect())
    })
}

fn endpoint(words: &[&str]) -> Option<(IpAddr, u16)> {
    match words {
        [address, port, ..] => Some((address.parse().ok()?, port.parse().ok()?)),
        _ => None,
    }
}

/// The id of a member's Sentinel: it stays when the node's disk does not.
fn sentinel_id(node: &NodeConfig, cluster: &str, member: &str) -> String {
    let place = format!("{}/{cluster}/{member}", node.node.site);
    let mut id = hex::encode(Sha256::digest(place));
    id.truncate(40);
    id
}

/// Everything that Redis and Sentinel read.
pub(crate) fn files(wanted: &Wanted<'_>, kept: &Kept, certificates: &[Vec<u8>; 3]) -> Vec<File> {
    let Layout { run, home, .. } = wanted.layout;
    let mut files: Vec<File> = ["ca.pem", "cert.pem", "key.pem"]
        .into_iter()
        .zip(certificates)
        .map(|(name, bytes)| File::secret_of(REDIS, &format!("{run}/{name}"), bytes.clone()))
        .collect();
    for (path, text) in [
        (format!("{run}/users.acl"), users(wanted.secrets, Applications::Admitted)),
        (format!("{run}/sentinel.acl"), sentinel_users(wanted.secrets)),
        (format!("{home}/redis.conf"), redis_conf(wanted, kept)),
        (format!("{home}/sentinel.conf"), sentinel_conf(wanted, kept)),
    ] {
        files.push(File::secret_of(REDIS, &path, text.into_bytes()));
    }
    files
}

/// Whether applications are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applications {
    Admitted,
    Refused,
}

/// The accounts of Redis, each with what it needs and no more.
pub(crate) fn users(secrets: &RedisSecrets, applications: Applications) -> String {
    let RedisSecrets { app, replication, sentinel, monitor } = secrets;
    let admitted = match applications {
        Applications::Admitted => "on",
        Applications::Refused => "off",
    };
    format!(
        "{USERS_HEAD}\
         user app {admitted} >{app} ~* &* +@all -@admin -@dangerous +info +keys +role +sort +sort_ro\n\
         user replica on >{replication} +ping +psync +replconf\n\
         user sentinel on >{sentinel} &__sentinel__:hello +client|kill +client|setname +config|rewrite +exec +info \
         +multi +ping +publish +replicaof +role +script|kill +slaveof +subscribe\n\
         user ballast on >{monitor} +acl|load +client|kill +client|setinfo +client|setname +config|rewrite +config|set +failover \
         +hello +info +ping +replicaof +role\n"
    )
}

/// The accounts of Sentinel; `app` may ask it who the primary is.
fn sentinel_users(secrets: &RedisSecrets) -> String {
    let RedisSecrets { app, replication: _, sentinel, monitor } = secrets;
    let ask = "+client|setinfo +client|setname +hello +info +ping +psubscribe +punsubscribe +role \
               +sentinel|get-master-addr-by-name +sentinel|master +sentinel|masters +sentinel|replicas \
               +sentinel|sentinels +sentinel|slaves +subscribe +unsubscribe";
    format!(
        "{USERS_HEAD}\
         user app on >{app} &* {ask}\n\
         user sentinel on >{sentinel} &__sentinel__:hello +client|setname +hello +ping +publish \
         +sentinel|is-master-down-by-addr\n\
         user ballast on >{monitor} &* {ask} +sentinel|ckquorum +sentinel|debug +sentinel|failover +sentinel|monitor \
         +sentinel|myid +sentinel|remove +sentinel|reset +sentinel|set\n"
    )
}

/// The part that both programs take in the same words.
fn network(text: &mut String, layout: &Layout, port: u16, socket: &str) {
    let Layout { bind, run, .. } = layout;
    for line in [
        format!("bind {bind}"),
        "port 0".to_owned(),
        format!("tls-port {port}"),
        format!("tls-ca-cert-file {run}/ca.pem"),
        format!("tls-cert-file {run}/cert.pem"),
        format!("tls-key-file {run}/key.pem"),
        "tls-protocols \"TLSv1.2 TLSv1.3\"".to_owned(),
        "tls-replication yes".to_owned(),
        // Clients prove themselves with a password; a certificate of the site is not asked of them.
        "tls-auth-clients optional".to_owned(),
        // No account is open to strangers, which is all that this mode looks at.
        "protected-mode no".to_owned(),
        // The agent's own way in: root alone may open it.
        format!("unixsocket {socket}"),
        "unixsocketperm 700".to_owned(),
    ] {
        push(text, &line);
    }
}

/// Redis's configuration (`redis.conf` of Redis 8).
fn redis_conf(wanted: &Wanted<'_>, kept: &Kept) -> String {
    let Wanted { node, redis, secrets, memory_bytes, layout } = wanted;
    let address = node.network.address.addr();
    let memory = redis.max_memory_bytes.unwrap_or(memory_bytes / 2);
    let mut text = String::from(
        "# Written by ballast-agent at each boot; of what Redis writes here, whom it follows stays.\n",
    );
    network(&mut text, layout, REDIS_PORT, &layout.redis_socket);
    for line in [
        format!("aclfile {}/users.acl", layout.run),
        "masteruser replica".to_owned(),
        format!("masterauth {}", secrets.replication),
        format!("replica-announce-ip {address}"),
        format!("replica-announce-port {REDIS_PORT}"),
        // A replica that comes back is served at once: there are few, and they seldom come together.
        "repl-diskless-sync-delay 0".to_owned(),
        // A replica that was away for a moment gets what it missed, and not everything.
        "repl-backlog-size 16mb".to_owned(),
        // A master that no replica hears takes no writes: it may be cut off from those who have chosen another.
        format!("min-replicas-to-write {}", usize::from(redis.members.len() > 1)),
        format!("min-replicas-max-lag {}", node.timings.min_replicas_max_lag_secs),
        format!("dir {}/data", layout.home),
        "appendonly yes".to_owned(),
        "appendfsync everysec".to_owned(),
        // A log whose end a power cut has torn is loaded up to there; Redis says how much was left out.
        "aof-load-truncated yes".to_owned(),
        // The log holds everything, snapshots beside it would cost the same writes again.
        "save \"\"".to_owned(),
        format!("maxmemory {memory}"),
        // What was stored stays: a full Redis refuses writes and throws nothing away.
        "maxmemory-policy noeviction".to_owned(),
        "tcp-keepalive 60".to_owned(),
    ] {
        push(&mut text, &line);
    }
    if let Some((address, port)) = follows(wanted, kept) {
        push(&mut text, &format!("replicaof {address} {port}"));
        if !kept.whole() {
            push(&mut text, "replica-priority 0");
        }
    }
    text
}

/// Whom Redis follows when it starts.
fn follows(wanted: &Wanted<'_>, kept: &Kept) -> Option<(IpAddr, u16)> {
    if kept.led() {
        return None;
    }
    let followed = kept.followed().filter(|_| kept.data);
    followed.or_else(|| others(wanted).next().map(|other| (other.address, REDIS_PORT)))
}

fn others<'a>(wanted: &'a Wanted<'_>) -> impl Iterator<Item = &'a Member> {
    wanted.redis.members.iter().filter(|member| member.name != wanted.node.node.name)
}

/// Sentinel's configuration. One that has never had a primary watches none, which is its word that it knows none.
fn sentinel_conf(wanted: &Wanted<'_>, kept: &Kept) -> String {
    let Wanted { node, redis, secrets, layout, .. } = wanted;
    let (name, timings) = (&redis.cluster, &node.timings);
    let id = |member: &str| sentinel_id(node, name, member);
    let mut text = String::from(
        "# Written by ballast-agent at each boot; of what Sentinel writes here, the primary and the epochs stay.\n",
    );
    network(&mut text, layout, SENTINEL_PORT, &layout.sentinel_socket);
    for line in [
        format!("dir {}", layout.home),
        format!("aclfile {}/sentinel.acl", layout.run),
        // Addresses and never names: a slow name server would stop a Sentinel.
        "sentinel resolve-hostnames no".to_owned(),
        "sentinel announce-hostnames no".to_owned(),
        format!("sentinel announce-ip {}", node.network.address.addr()),
        format!("sentinel announce-port {SENTINEL_PORT}"),
        "sentinel sentinel-user sentinel".to_owned(),
        format!("sentinel sentinel-pass {}", secrets.sentinel),
        "sentinel deny-scripts-reconfig yes".to_owned(),
        format!("sentinel myid {}", id(&node.node.name)),
    ] {
        push(&mut text, &line);
    }
    let Some(watched) = kept.watched(name) else { return text };
    let failover_timeout = failover_timeout_ms(timings, &redis.members, &node.node.name);
    let Watched { address, port, config_epoch, leader_epoch, current_epoch } = watched;
    for line in [
        format!("sentinel current-epoch {current_epoch}"),
        format!("sentinel monitor {name} {address} {port} {}", quorum(redis.members.len())),
        format!("sentinel auth-user {name} sentinel"),
        format!("sentinel auth-pass {name} {}", secrets.sentinel),
        format!("sentinel down-after-milliseconds {name} {}", timings.sentinel_down_after_ms),
        format!("sentinel failover-timeout {name} {failover_timeout}"),
        format!("sentinel parallel-syncs {name} 1"),
        format!("sentinel config-epoch {name} {config_epoch}"),
        format!("sentinel leader-epoch {name} {leader_epoch}"),
    ] {
        push(&mut text, &line);
    }
    for member in redis.members.iter().filter(|m| m.address != address) {
        push(&mut text, &format!("sentinel known-replica {name} {} {REDIS_PORT}", member.address));
    }
    for other in others(wanted) {
        let Member { name: other, address } = other;
        push(
            &mut text,
            &format!("sentinel known-sentinel {name} {address} {SENTINEL_PORT} {}", id(other)),
        );
    }
    text
}

fn push(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests;
