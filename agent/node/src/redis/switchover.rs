//! A planned change of the primary: a pure decision on a [`Snapshot`], Redis's own handing over, and the Sentinels' consent.
//!
//! Redis hands over without losing a write (`FAILOVER`): the primary pauses writes, waits until the chosen replica has all of
//! them, follows it, and only that makes the replica a primary. Its Sentinels know nothing of it, and would take it for a
//! lost primary half a minute later. So the chosen node's own Sentinel is made to see in it the best of all replicas
//! beforehand (`replica-priority`), and is asked for a failover in the moment after: it finds a primary already where it
//! wants one, and tells the others.
//!
//! Asked for through Consul, below `ballast/redis/<group>/`: `request`, which the operator writes, and `answer`, which the
//! primary's agent writes. A request that was there before this node looked is not done: whoever asked may have gone.

use std::time::Duration;

use ballast_bundle::Member;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::client::{self, Server};
use super::facts::{Info, Role};
use super::primary::Verdict;
use super::{DEADLINE, Group, Peer, Snapshot};
use crate::consul::{Consul, Index};
use crate::error::chain;
use crate::log;
use crate::plan::redis::REDIS_PORT;
use crate::role::{PRIMARY, RoleView};

/// How far behind the chosen replica may be, bytes: what the primary keeps for one that was away (`repl-backlog-size`).
const MAX_LAG_BYTES: u64 = 16 << 20;
/// How long ago the primary may have heard it last: a replica speaks once a second.
const MAX_SILENCE_SECS: u64 = 2;
/// How long writes may wait for the replica to have all of them.
const CATCHING_UP: Duration = Duration::from_secs(2);
/// How long the replica may then take to become the primary: less than it takes this node's own agent to find that the group
/// has none, and to ask for a failover (`LOST`).
const PROMOTION: Duration = Duration::from_secs(2);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(10);
/// How long the chosen node's Sentinel may take to see that it is the best, and then to call it the primary.
const NOTICE: Duration = Duration::from_secs(10);
/// How often a Sentinel asks its replicas what they are: as a rule, and while this is waited for, milliseconds.
const INFO_PERIOD_MS: &str = "10000";
const SHORT_INFO_PERIOD_MS: &str = "100";
/// `replica-priority`: lower is better, and 0 is never promoted.
const BEST: &str = "1";
const USUAL: &str = "100";
/// How long Consul holds the question whether something is asked for.
const REQUEST_WAIT: Duration = Duration::from_secs(300);
/// How long a write to Consul may take.
const WRITE: Duration = Duration::from_secs(10);

/// What an operator asks for: the value of the key `request`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Request {
    id: String,
    /// Who shall be the primary; none for the best.
    to: Option<String>,
    /// Whether to do it, and not only to say what would happen.
    go: bool,
}

/// What becomes of it: the value of the key `answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Reply {
    id: String,
    /// The primary that says so.
    node: String,
    #[serde(flatten)]
    said: Said,
}

/// What is said of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
enum Said {
    /// It is so already.
    Nothing { says: String },
    /// This will happen, or has happened.
    Plan { to: String, says: Vec<String> },
    /// It would cost what is promised.
    Refused { reason: String, hint: String },
    /// It was begun, and did not succeed.
    Failed { reason: String },
}

/// What a switchover comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is so already.
    Nothing(String),
    /// This one becomes the primary, by way of which this happens.
    HandOver { to: Member, says: Vec<String> },
}

/// Why it is not done, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) hint: &'static str,
}

fn refuse(reason: String, hint: &'static str) -> Refusal {
    Refusal { reason, hint }
}

const SEE_STATUS: &str = "`ballast status` shows what its members say";

/// What a switchover comes to, seen from the primary.
pub(super) fn plan(
    group: &str,
    me: &str,
    snapshot: &Snapshot,
    to: Option<&str>,
) -> Result<Plan, Refusal> {
    let own = match (&snapshot.redis, &snapshot.verdict) {
        (Ok(info), Verdict::Primary) => info,
        _ => return Err(refuse(format!("{me} is not the primary of {group}"), SEE_STATUS)),
    };
    if to == Some(me) {
        return Ok(Plan::Nothing(format!("{me} is the primary of {group} already")));
    }
    if let Err(why) = &snapshot.quorum {
        let reason = format!("the Sentinels of {group} could not agree on another primary: {why}");
        return Err(refuse(reason, SEE_STATUS));
    }
    let sentinels = snapshot.peers.iter().map(|peer| &peer.sentinel);
    let mut named = std::iter::once(&snapshot.sentinel).chain(sentinels).flatten().flatten();
    if named.any(|named| named.failover.is_some()) {
        let reason = format!("a failover of {group} is in progress");
        return Err(refuse(reason, "wait until `ballast status` shows a primary"));
    }
    let unfit = |peer: &Peer| unfit(own, snapshot, peer);
    let chosen = match to {
        Some(name) => {
            let Some(peer) = snapshot.peers.iter().find(|peer| peer.name == name) else {
                return Err(refuse(format!("{name} is not a member of {group}"), SEE_STATUS));
            };
            if let Some(reason) = unfit(peer) {
                return Err(refuse(reason, "name another, or none for the best"));
            }
            peer
        }
        None => {
            let fit = snapshot.peers.iter().filter(|peer| unfit(peer).is_none());
            let Some(best) = fit.min_by_key(|peer| (lag(own, peer), &peer.name)) else {
                let reasons: Vec<String> = snapshot.peers.iter().filter_map(unfit).collect();
                let reason =
                    format!("no member of {group} can be the primary: {}", reasons.join("; "));
                return Err(refuse(reason, "wait until one follows, as `ballast status` shows"));
            };
            best
        }
    };
    let name = &chosen.name;
    Ok(Plan::HandOver {
        to: Member { name: name.clone(), address: chosen.address },
        says: vec![
            format!("{name} becomes the primary of {group} instead of {me}"),
            format!("it is {} bytes behind, and writes wait until it has all", lag(own, chosen)),
            format!("sessions with {me} are cut"),
        ],
    })
}

/// How far a replica is behind, as the primary last heard; all of it where it never did.
fn lag(own: &Info, peer: &Peer) -> u64 {
    let Role::Primary { replicas } = &own.role else { return own.offset };
    let follower = replicas.iter().find(|r| r.address == peer.address.to_string());
    follower.map_or(own.offset, |follower| own.offset.saturating_sub(follower.offset))
}

/// Why a member cannot be the primary without a loss, if it cannot.
fn unfit(own: &Info, snapshot: &Snapshot, peer: &Peer) -> Option<String> {
    let name = &peer.name;
    let theirs = match &peer.redis {
        Ok(info) => info,
        Err(why) => return Some(format!("{name} does not answer: {why}")),
    };
    match &theirs.role {
        Role::Primary { .. } => return Some(format!("{name} is no replica")),
        Role::Replica { cut: Some(_), of, .. } => {
            return Some(format!("{name} does not hear {of}, which it follows"));
        }
        Role::Replica { whole: false, .. } => {
            return Some(format!("{name} does not yet hold what the others hold"));
        }
        Role::Replica { .. } => {}
    }
    let Role::Primary { replicas } = &own.role else {
        return Some(format!("{name} is not followed"));
    };
    match replicas.iter().find(|r| r.address == peer.address.to_string()) {
        None => return Some(format!("{name} does not follow this primary")),
        Some(r) if r.state != "online" => {
            return Some(format!("{name} is still receiving everything"));
        }
        Some(r) if r.lag_secs > MAX_SILENCE_SECS => {
            return Some(format!("{name} was last heard {} s ago", r.lag_secs));
        }
        Some(_) => {}
    }
    let lag = lag(own, peer);
    if lag > MAX_LAG_BYTES {
        return Some(format!("{name} is {lag} bytes behind"));
    }
    if !theirs.append_only.enabled || !theirs.append_only.written {
        return Some(format!("{name} cannot write its append-only log"));
    }
    match &peer.sentinel {
        Err(why) => Some(format!("the Sentinel of {name} does not answer: {why}")),
        Ok(named) => {
            let agrees = named.as_ref().map(|n| n.address) == snapshot.newest().map(|n| n.address);
            (!agrees).then(|| format!("the Sentinel of {name} knows another primary, or none"))
        }
    }
}

/// Makes another node the primary, and returns once the Sentinels call it so.
///
/// # Errors
/// What kept it from being done, as a sentence. Unless it says otherwise nothing has changed.
pub(super) async fn hand_over(
    group: &Group,
    to: &Member,
    tell: &mpsc::Sender<()>,
) -> Result<(), String> {
    let Member { name, address } = to;
    let text = |error: client::Error| chain(&error);
    let (mut own, mut theirs, mut sentinel) =
        servers(group, to).map_err(|error| error.to_string())?;
    log::info(&format!("handing over to {name}: an operator asks for it"));
    theirs.ask::<()>(&["CONFIG", "SET", "replica-priority", BEST]).await.map_err(text)?;
    let handed = match be_preferred(&group.name, to, &mut sentinel).await {
        Ok(()) => fail_over(to, &mut own, tell).await,
        Err(why) => Err(why),
    };
    let noticed = match &handed {
        Ok(()) => {
            // They would hear at their next write that it is no primary any more, and read from it until then.
            if let Err(error) = own.ask::<u64>(&["CLIENT", "KILL", "USER", "app"]).await {
                log::warn(&chain(&error));
            }
            be_called_primary(&group.name, to, &mut sentinel, tell).await
        }
        Err(_) => Ok(()),
    };
    // The Sentinel that made it the primary cut its sessions.
    let usual = theirs.ask_surely::<()>(&["CONFIG", "SET", "replica-priority", USUAL]).await;
    let usual = match usual {
        Ok(()) => theirs.ask::<()>(&["CONFIG", "REWRITE"]).await,
        Err(error) => Err(error),
    };
    if let Err(error) = usual {
        log::warn(&format!("{name} stays the preferred replica until it boots: {}", chain(&error)));
    }
    handed?;
    noticed.map_err(|why| {
        format!("{name} ({address}) is the primary, and the Sentinels do not say so yet: {why}")
    })
}

fn servers(group: &Group, to: &Member) -> Result<(Server, Server, Server), ::redis::RedisError> {
    let password = &group.secrets.monitor;
    let place = (to.address, REDIS_PORT);
    let own = Server::local("this node's Redis", &group.layout.redis_socket, password, DEADLINE)?;
    let theirs = format!("Redis of {}", to.name);
    let theirs = Server::remote(&theirs, place, &group.ca_pem, password, DEADLINE)?;
    Ok((own, theirs, group.sentinel_of(&to.name, to.address)?))
}

/// Waits until a node's Sentinel sees in it the best of all replicas.
async fn be_preferred(group: &str, to: &Member, sentinel: &mut Server) -> Result<(), String> {
    let text = |error: client::Error| chain(&error);
    let period = |period| ["SENTINEL", "DEBUG", "INFO-PERIOD", period];
    sentinel.ask::<()>(&period(SHORT_INFO_PERIOD_MS)).await.map_err(text)?;
    let start = Instant::now();
    let seen = loop {
        match sentinel.priority(group, to.address).await {
            Ok(Some(priority)) if priority == BEST => break Ok(()),
            answer if start.elapsed() > NOTICE => {
                let why = match answer {
                    Ok(Some(_)) => "it does not see that it is preferred".to_owned(),
                    Ok(None) => "it does not know it as a replica".to_owned(),
                    Err(error) => chain(&error),
                };
                break Err(format!("the Sentinel of {} cannot promote it: {why}", to.name));
            }
            _ => sleep(LOOK).await,
        }
    };
    // Before anything changes: it is also how soon a primary that turned into a replica counts as lost.
    sentinel.ask::<()>(&period(INFO_PERIOD_MS)).await.map_err(text)?;
    seen
}

/// Has this node's Redis hand over, and waits until it follows the other.
pub(super) async fn fail_over(
    to: &Member,
    own: &mut Server,
    tell: &mpsc::Sender<()>,
) -> Result<(), String> {
    let Member { name, address } = to;
    let (address, port) = (address.to_string(), REDIS_PORT.to_string());
    let limit = CATCHING_UP.as_millis().to_string();
    own.ask::<()>(&["FAILOVER", "TO", &address, &port, "TIMEOUT", &limit])
        .await
        .map_err(|error| chain(&error))?;
    let start = Instant::now();
    // Since when this node is no primary any more, and the other not known to be one.
    let mut between = None;
    loop {
        let said = own.failover().await;
        // What this node is now is asked at once.
        let _ = tell.try_send(());
        match said {
            Ok((false, false)) => return Ok(()),
            Ok((true, false)) => {
                return Err(format!(
                    "{name} did not have all writes within {} s, or would not be primary: nothing has changed",
                    CATCHING_UP.as_secs()
                ));
            }
            Ok((true, true)) if start.elapsed() < 2 * CATCHING_UP => sleep(LOOK).await,
            _ if between.get_or_insert_with(Instant::now).elapsed() < PROMOTION => {
                sleep(LOOK).await;
            }
            said => {
                // It has told nobody that it is a primary: this node takes writes again.
                let aborted = own.ask::<()>(&["FAILOVER", "ABORT"]).await;
                let why = said.err().or(aborted.err()).map(|error| format!(": {}", chain(&error)));
                let why = why.unwrap_or_default();
                return Err(format!("{name} did not become the primary, given up{why}"));
            }
        }
    }
}

/// Has a node's Sentinel lead a failover to it, which has happened, and waits until it calls it the primary.
async fn be_called_primary(
    group: &str,
    to: &Member,
    sentinel: &mut Server,
    tell: &mpsc::Sender<()>,
) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let asked = sentinel.ask::<()>(&["SENTINEL", "FAILOVER", group]).await;
        let named = sentinel.named(group).await;
        let _ = tell.try_send(());
        let leads =
            matches!(&named, Ok(Some(n)) if n.failover.is_some() || n.address == to.address);
        match (asked, named) {
            _ if leads => break,
            (asked, named) if start.elapsed() > NOTICE => {
                let why = asked.err().or(named.err());
                return Err(why.map_or("no failover began".to_owned(), |error| chain(&error)));
            }
            _ => sleep(LOOK).await,
        }
    }
    while start.elapsed() < NOTICE {
        if matches!(sentinel.named(group).await, Ok(Some(n)) if n.address == to.address) {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err("its failover does not end".to_owned())
}

/// Whom the duty asks and tells.
pub(super) struct Desk {
    pub(super) group: Group,
    pub(super) consul: Consul,
    pub(super) roles: watch::Receiver<RoleView>,
    pub(super) snapshots: watch::Receiver<Snapshot>,
    pub(super) tell: mpsc::Sender<()>,
}

impl Desk {
    fn key(&self, name: &str) -> String {
        format!("ballast/redis/{}/{name}", self.group.name)
    }

    async fn until_primary(&mut self) -> Option<()> {
        let is_primary = |role: &RoleView| role.tags.iter().any(|tag| tag == PRIMARY);
        self.roles.wait_for(is_primary).await.ok().map(|_| ())
    }

    async fn request(&self, index: Index) -> Option<(Option<Request>, Index)> {
        let asked = self.consul.key(&self.key("request"), index, REQUEST_WAIT).await;
        let (value, next) = asked.ok()?;
        Some((value.and_then(|text| serde_json::from_str(&text).ok()), next))
    }

    async fn answer(&self, request: &Request) {
        let me = &self.group.me.name;
        // The channel is not held over the work.
        let planned = plan(&self.group.name, me, &self.snapshots.borrow(), request.to.as_deref());
        let said = match planned {
            Ok(Plan::Nothing(says)) => Said::Nothing { says },
            Err(Refusal { reason, hint }) => Said::Refused { reason, hint: hint.to_owned() },
            Ok(Plan::HandOver { to, says }) if !request.go => Said::Plan { to: to.name, says },
            Ok(Plan::HandOver { to, says }) => {
                match hand_over(&self.group, &to, &self.tell).await {
                    Ok(()) => Said::Plan { to: to.name, says },
                    Err(reason) => {
                        log::warn(&format!("handing over to {}: {reason}", to.name));
                        Said::Failed { reason }
                    }
                }
            }
        };
        let reply = Reply { id: request.id.clone(), node: me.clone(), said };
        let text = serde_json::to_vec(&reply).unwrap_or_default();
        if let Err(error) = self.consul.put_key(&self.key("answer"), text, WRITE).await {
            log::warn(&format!("the operator could not be answered: {}", chain(&error)));
        }
    }
}

/// Does what operators ask for, while this node is primary: one thing after the other.
pub(super) async fn answer(mut desk: Desk) {
    // What was asked before this node looked, or while it could not, is nobody's wish any more.
    let mut known: Option<(Option<Request>, Index)> = None;
    loop {
        if desk.until_primary().await.is_none() {
            return;
        }
        let index = known.as_ref().map(|(_, index)| *index).unwrap_or_default();
        let Some((request, next)) = desk.request(index).await else {
            known = None;
            sleep(Duration::from_secs(2)).await;
            continue;
        };
        if let (Some((before, _)), Some(asked)) = (&known, &request) {
            if before.as_ref() != Some(asked) {
                desk.answer(asked).await;
            }
        }
        known = Some((request, next));
        // Consul wakes a question early when anything near changes; never spin on it.
        sleep(Duration::from_millis(100)).await;
    }
}
