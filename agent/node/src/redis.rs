//! Redis under Sentinel, as the agent deals with it: who the primary is, what this node is, and keeping the group whole.
//!
//! Redis and Sentinel do the failover. The agent asks its own Redis and its own Sentinel at a short interval, and the other
//! members over TLS; from what they answer it decides without I/O what the node is ([`primary`]), what is to be done
//! where no primary is known yet ([`first`]), what a Sentinel should forget ([`tidy`]), and whether another member may be made
//! the primary ([`switchover`]). All of it is one [`Snapshot`], which the checks read as well.

pub(crate) mod check;
mod client;
mod facts;
mod fence;
mod first;
mod follow;
mod primary;
mod switchover;
mod tidy;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ballast_bundle::{Bundle, Member, Redis, RedisSecrets};
use ballast_contract::Timings;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use client::Server;
use facts::{Info, Named, Role};
use primary::Verdict;

use crate::consul::Consul;
use crate::error::Error;
use crate::plan::redis::{Layout, REDIS_PORT, SENTINEL_PORT};
use crate::role::RoleView;

/// The group, as this member knows it from its bundle. Holds secrets, hence no `Debug`.
#[derive(Clone)]
struct Group {
    name: String,
    me: Member,
    members: Vec<Member>,
    timings: Timings,
    secrets: RedisSecrets,
    /// The site's authority, which signed every member's certificate.
    ca_pem: String,
    layout: Layout,
    /// Between two looks at whether a Sentinel should forget somebody, and how long that must have been so.
    tidy_round: Duration,
}

/// Whom this member asks.
struct Servers {
    redis: Server,
    sentinel: Server,
    /// The Sentinel once more, for its events.
    listener: Server,
    peers: Vec<(Member, Server, Server)>,
}

/// Everything that is known of the group at a moment. What could not be asked is an error's text: silence is data here.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// When the questions were put.
    at: Instant,
    /// This node's Redis.
    redis: Result<Info, String>,
    /// This node's Sentinel: the primary it knows, or none.
    sentinel: Result<Option<Named>, String>,
    /// Whether this node's Sentinel could have a failover authorised; an error is its reason.
    quorum: Result<(), String>,
    /// The other members, in the bundle's order.
    peers: Vec<Peer>,
    /// What this node is.
    verdict: Verdict,
    /// What keeps the group from having a primary, while it has none.
    waiting: Option<String>,
    /// How long a replica may go without its primary.
    patience: Duration,
}

/// What another member answered.
#[derive(Debug, Clone)]
struct Peer {
    name: String,
    address: IpAddr,
    asked: Instant,
    redis: Result<Info, String>,
    sentinel: Result<Option<Named>, String>,
}

/// What is read by those who want to know.
pub(crate) struct Watches {
    pub(crate) roles: watch::Receiver<RoleView>,
    pub(crate) snapshots: watch::Receiver<Snapshot>,
}

/// A Sentinel that has forgotten everything has found the others again well within this.
const TIDY_ROUND: Duration = Duration::from_secs(30);
/// How long any of the group's servers may take to answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// Follows what this node is in its group, keeps the group whole, and hands over when an operator asks for it.
///
/// # Errors
/// The site's authority is no certificate.
pub(crate) fn start(
    bundle: &Bundle,
    redis: &Redis,
    secrets: &RedisSecrets,
    consul: SocketAddr,
) -> Result<Watches, Error> {
    let node = &bundle.node;
    let ca = bundle.files().iter().find(|(path, _)| path == "consul/ca.pem");
    let ca_pem = ca.map_or(String::new(), |(_, pem)| String::from_utf8_lossy(pem).into_owned());
    let group = Group {
        name: redis.cluster.clone(),
        me: Member { name: node.node.name.clone(), address: node.network.address.addr() },
        members: redis.members.clone(),
        timings: node.timings,
        secrets: secrets.clone(),
        ca_pem,
        layout: Layout::default(),
        tidy_round: TIDY_ROUND,
    };
    let (watches, tell, _) = start_group(group.clone())?;
    let Watches { roles, snapshots } = &watches;
    let consul = Consul::new(consul, Some(bundle.secrets.agent_token.clone()));
    let (roles, snapshots) = (roles.clone(), snapshots.clone());
    tokio::spawn(switchover::answer(switchover::Desk { group, consul, roles, snapshots, tell }));
    Ok(watches)
}

/// What follows what this node is: what it knows, whom to tell that there is reason to ask at once, and the duty itself.
type Started = (Watches, mpsc::Sender<()>, JoinHandle<()>);

fn start_group(group: Group) -> Result<Started, Error> {
    // Taken by whoever is first; another would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let unknown = RoleView::unknown(&group.name, REDIS_PORT, "Redis has not been asked yet");
    let (publish, roles) = watch::channel(unknown);
    let (snapshot, snapshots) = watch::channel(Snapshot::empty(&group));
    let servers =
        group.servers().map_err(|source| Error::RedisClient { source: Box::new(source) })?;
    let (tell, news) = mpsc::channel(1);
    let telling = (tell.clone(), news);
    let following = tokio::spawn(follow::follow(group, servers, telling, publish, snapshot));
    Ok((Watches { roles, snapshots }, tell, following))
}

impl Group {
    fn servers(&self) -> Result<Servers, ::redis::RedisError> {
        let password = &self.secrets.monitor;
        let Layout { redis_socket, sentinel_socket, .. } = &self.layout;
        let sentinel =
            || Server::local("this node's Sentinel", sentinel_socket, password, DEADLINE);
        // Sentinel does not keep it over a restart, nor write it down.
        let ask_period = self.timings.sentinel_ask_period_ms.to_string();
        let period = ["SENTINEL", "DEBUG", "ASK-PERIOD", &ask_period];
        let peers = self.others().map(|member| {
            let Member { name, address } = member;
            let redis = format!("Redis of {name}");
            let redis =
                Server::remote(&redis, (*address, REDIS_PORT), &self.ca_pem, password, DEADLINE)?;
            let sentinel = self.sentinel_of(name, *address)?;
            Ok::<_, ::redis::RedisError>((member.clone(), redis, sentinel))
        });
        Ok(Servers {
            redis: Server::local("this node's Redis", redis_socket, password, DEADLINE)?,
            sentinel: sentinel()?.greeted_with(&period),
            listener: sentinel()?,
            peers: peers.collect::<Result<_, _>>()?,
        })
    }

    fn sentinel_of(&self, name: &str, address: IpAddr) -> Result<Server, ::redis::RedisError> {
        let name = format!("Sentinel of {name}");
        let place = (address, SENTINEL_PORT);
        Server::remote(&name, place, &self.ca_pem, &self.secrets.monitor, DEADLINE)
    }

    fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.name != self.me.name)
    }

    fn name_of(&self, address: IpAddr) -> String {
        let member = self.members.iter().find(|m| m.address == address);
        member.map_or_else(|| address.to_string(), |m| m.name.clone())
    }
}

impl Peer {
    fn unasked(member: &Member) -> Self {
        let unasked = || "not asked yet".to_owned();
        Self {
            name: member.name.clone(),
            address: member.address,
            asked: Instant::now(),
            redis: Err(unasked()),
            sentinel: Err(unasked()),
        }
    }
}

impl Snapshot {
    fn empty(group: &Group) -> Self {
        let unasked = || "not asked yet".to_owned();
        Self {
            at: Instant::now(),
            redis: Err(unasked()),
            sentinel: Err(unasked()),
            quorum: Err(unasked()),
            peers: group.others().map(Peer::unasked).collect(),
            verdict: Verdict::Unsure(unasked()),
            waiting: None,
            patience: Duration::from_secs(group.timings.min_replicas_max_lag_secs.into()),
        }
    }

    /// The newest word on who the primary is, of all the Sentinels that answered.
    fn newest(&self) -> Option<&Named> {
        let peers = self.peers.iter().map(|peer| &peer.sentinel);
        let words = std::iter::once(&self.sentinel).chain(peers);
        primary::newest(words.map(|word| word.as_ref().ok()?.as_ref()))
    }

    /// How far this node's Redis is behind its primary; none where it follows nobody, or the primary is silent.
    fn lag_bytes(&self) -> Option<u64> {
        let info = self.redis.as_ref().ok()?;
        let Role::Replica { of, .. } = &info.role else { return None };
        let primary = self.peers.iter().find(|peer| peer.address.to_string() == *of)?;
        // Asked up to two seconds apart: a replica that is ahead of an old answer is not behind.
        Some(primary.redis.as_ref().ok()?.offset.saturating_sub(info.offset))
    }
}

#[cfg(test)]
mod tests;
