//! The duty that follows this node's Redis and Sentinel, and the one that asks each other member.
//!
//! Whoever sleeps through a moment may have been replaced in it: after a pause longer than Sentinel's patience nothing that
//! was known before counts, and the node is not called primary until a majority of Sentinels has been asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ballast_bundle::Member;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::client::{self, Server, or_text, says};
use super::facts::{Info, Named, Role};
use super::fence::Fence;
use super::first::{self, Held, Seen, Step};
use super::primary::{Known, Verdict, judge};
use super::tidy::{self, Counted};
use super::{DEADLINE, Group, Peer, Servers, Snapshot};
use crate::error::chain;
use crate::log;
use crate::plan::redis::{REDIS_PORT, failover_timeout_ms, quorum};
use crate::role::{PRIMARY, REPLICA, RoleView};
use crate::state::{Answer, Health};

/// Between two questions to another member, unless something happens.
const PEER_ROUND: Duration = Duration::from_secs(2);
/// The shortest pause between two questions to another member, whatever happens.
const PEER_PAUSE: Duration = Duration::from_millis(50);
/// A question to this node's Redis has at least this time.
const SHORTEST: Duration = Duration::from_millis(100);
/// How old another member's answer may be.
const FRESH: Duration = Duration::from_secs(5);
/// How long a node must be called primary and hold nothing before it asks for another.
const LOST: Duration = Duration::from_secs(3);
/// Between two questions whether a failover could be authorised.
const QUORUM_ROUND: Duration = Duration::from_secs(2);
/// Between two steps towards a primary.
const STEP_PAUSE: Duration = Duration::from_secs(1);
/// After the connection for events broke.
const EVENTS_PAUSE: Duration = Duration::from_millis(500);

/// What is remembered from one round to the next.
struct Memory {
    /// What was asked before this moment no longer counts.
    since: Instant,
    /// Whether Redis answered the last question, as a primary.
    is_primary: bool,
    /// Whether Redis was a primary when it was last heard.
    was_primary: Option<bool>,
    promoted_at: Option<u64>,
    /// What this node was proven to be last, and when.
    proven: Option<(Verdict, Instant)>,
    quorum: Result<(), String>,
    quorum_asked: Option<Instant>,
    stepped: Option<Instant>,
    waiting: Option<String>,
    lost_since: Option<Instant>,
    /// Whether this node's Sentinel was told whom to watch, and perhaps not how.
    halfway: bool,
    tidied: Instant,
    tidy_next: bool,
}

/// Follows what this node is, publishes it, and does what the agent has to do for the group.
pub(super) async fn follow(
    group: Group,
    servers: Servers,
    (tell, mut news): (mpsc::Sender<()>, mpsc::Receiver<()>),
    publish: watch::Sender<RoleView>,
    snapshots: watch::Sender<Snapshot>,
) {
    let group = Arc::new(group);
    let Servers { mut redis, mut sentinel, listener, peers } = servers;
    let mut wakers: Vec<Arc<Notify>> = Vec::new();
    let mut answers = Vec::new();
    for (member, redis, sentinel) in peers {
        let (answer, answered) = watch::channel(Peer::unasked(&member));
        let asker = PeerAsker { member, group: group.name.clone(), redis, sentinel };
        let waker = Arc::new(Notify::new());
        tokio::spawn(asker.run(answer, waker.clone(), tell.clone()));
        wakers.push(waker);
        answers.push(answered);
    }
    tokio::spawn(listen(listener, wakers.clone(), tell));
    let ask_peers = || wakers.iter().for_each(|waker| waker.notify_one());

    let interval = Duration::from_millis(group.timings.role_interval_ms.into());
    let patience = patience(&group);
    let mut fence = Fence::find(&group);
    let now = Instant::now();
    let mut memory = Memory {
        since: now,
        is_primary: false,
        was_primary: None,
        promoted_at: None,
        proven: None,
        quorum: Err("not asked yet".to_owned()),
        quorum_asked: None,
        stepped: None,
        waiting: None,
        lost_since: None,
        halfway: false,
        tidied: now,
        tidy_next: false,
    };
    let mut woken = now;
    loop {
        let at = Instant::now();
        // This very question may take its deadline, so the time since the last one began would say nothing.
        if at.duration_since(woken) > interval + patience {
            memory.since = at;
            ask_peers();
        }
        let (info, named) =
            tokio::join!(redis.info(memory.bears(&group, at)), sentinel.named(&group.name));
        let silent = info.as_ref().is_err_and(client::Error::is_silence);
        let (info, named) = (or_text(info), or_text(named));
        let is_primary = info.as_ref().is_ok_and(Info::is_primary);
        if is_primary && !memory.is_primary {
            // It was silent, or a replica: what others said meanwhile may be of before another was promoted.
            memory.since = at;
            ask_peers();
        }
        memory.is_primary = is_primary;
        if memory.quorum_asked.is_none_or(|asked| asked.elapsed() > QUORUM_ROUND) {
            memory.quorum = ask_quorum(&mut sentinel, &group.name, &named).await;
            memory.quorum_asked = Some(Instant::now());
        }
        let peers: Vec<Peer> = answers.iter_mut().map(|a| a.borrow_and_update().clone()).collect();
        let mut snapshot = Snapshot {
            at,
            redis: info,
            sentinel: named,
            quorum: memory.quorum.clone(),
            peers,
            verdict: Verdict::Unsure(String::new()),
            waiting: None,
            patience: Duration::from_secs(group.timings.min_replicas_max_lag_secs.into()),
        };
        memory.notice_promotion(&snapshot);
        snapshot.verdict = memory.verdict(&group, &snapshot, silent);
        fence.keep(&group, &snapshot, &mut redis).await;
        if memory.stepped.is_none_or(|at| at.elapsed() > STEP_PAUSE) {
            memory.stepped = Some(Instant::now());
            take_step(&group, &snapshot, &mut memory, (&mut redis, &mut sentinel)).await;
            tidy_up(&group, &snapshot, &mut memory, &mut sentinel).await;
        }
        snapshot.waiting = memory.waiting.clone();
        publish_role(&group, &snapshot, &publish);
        snapshots.send_replace(snapshot);

        woken = Instant::now();
        // Woken before its time where something happened; the channel never closes.
        let _ = timeout(interval, news.recv()).await;
    }
}

/// Hears the Sentinel's events, for ever.
async fn listen(sentinel: Server, wakers: Vec<Arc<Notify>>, tell: mpsc::Sender<()>) {
    loop {
        let (event, mut events) = mpsc::channel(1);
        let hearing = sentinel.events(event);
        tokio::pin!(hearing);
        loop {
            tokio::select! {
                // Why it broke is told by the questions, which go to the same place.
                _ = &mut hearing => break,
                Some(()) = events.recv() => {
                    wakers.iter().for_each(|waker| waker.notify_one());
                    let _ = tell.try_send(());
                }
            }
        }
        sleep(EVENTS_PAUSE).await;
    }
}

/// Asks one other member again and again.
struct PeerAsker {
    member: Member,
    group: String,
    redis: Server,
    sentinel: Server,
}

impl PeerAsker {
    async fn run(mut self, answer: watch::Sender<Peer>, now: Arc<Notify>, tell: mpsc::Sender<()>) {
        let mut was_asked_for = false;
        loop {
            let asked = Instant::now();
            let (redis, sentinel) =
                tokio::join!(self.redis.info(DEADLINE), self.sentinel.named(&self.group));
            let (redis, sentinel) = (or_text(redis), or_text(sentinel));
            let before = answer.send_replace(Peer {
                name: self.member.name.clone(),
                address: self.member.address,
                asked,
                redis,
                sentinel,
            });
            // An answer that was asked for is news even if it says the same.
            if was_asked_for || before.sentinel != answer.borrow().sentinel {
                let _ = tell.try_send(());
            }
            sleep(PEER_PAUSE).await;
            was_asked_for = timeout(PEER_ROUND, now.notified()).await.is_ok();
        }
    }
}

async fn ask_quorum(
    sentinel: &mut Server,
    group: &str,
    named: &Result<Option<Named>, String>,
) -> Result<(), String> {
    if !matches!(named, Ok(Some(_))) {
        return Err("no primary is known".to_owned());
    }
    match sentinel.ask::<String>(&["SENTINEL", "CKQUORUM", group]).await {
        Ok(_) => Ok(()),
        Err(client::Error::Ask { source, .. }) if says(&source, "NOQUORUM") => {
            Err(source.detail().unwrap_or("the quorum cannot be reached").to_owned())
        }
        Err(error) => Err(chain(&error)),
    }
}

/// How long a Sentinel bears silence.
fn patience(group: &Group) -> Duration {
    Duration::from_millis(group.timings.sentinel_down_after_ms.into())
}

impl Memory {
    /// Notices that Redis turned from a replica into a primary.
    fn notice_promotion(&mut self, snapshot: &Snapshot) {
        let Ok(info) = &snapshot.redis else { return };
        let is_primary = info.is_primary();
        if !is_primary {
            self.promoted_at = None;
        } else if self.was_primary == Some(false) {
            self.promoted_at = Some(snapshot.newest().map_or(0, |named| named.epoch));
        }
        self.was_primary = Some(is_primary);
    }

    /// How long this node's Redis may be silent from now on: a Redis that stands still is no primary any more before the
    /// Sentinels have made another.
    fn bears(&self, group: &Group, now: Instant) -> Duration {
        let proven = self.proven.as_ref().map(|(_, at)| now.duration_since(*at));
        let left = proven.and_then(|past| patience(group).checked_sub(past));
        left.map_or(DEADLINE, |left| left.max(SHORTEST))
    }

    /// What was proven last, while a Sentinel would bear the silence too, and as long as none knows better.
    fn still(&self, group: &Group, snapshot: &Snapshot) -> Option<Verdict> {
        let patience = patience(group);
        let (verdict, at) = self.proven.as_ref()?;
        let called = snapshot.newest()?.address == group.me.address;
        let holds = called == (*verdict == Verdict::Primary);
        (holds && at.elapsed() < patience).then(|| verdict.clone())
    }

    fn verdict(&mut self, group: &Group, snapshot: &Snapshot, silent: bool) -> Verdict {
        let info = match &snapshot.redis {
            Ok(info) => info,
            Err(why) => {
                let still = self.still(group, snapshot).filter(|_| silent);
                return still.unwrap_or_else(|| Verdict::Unsure(why.clone()));
            }
        };
        // Only a promotion that is seen to happen needn't wait for all: the host that died would be asked in vain.
        let asked = snapshot.peers.iter().all(|peer| peer.asked >= self.since);
        if info.is_primary() && self.promoted_at.is_none() && !asked {
            let why = "asking the other members whether it still is the primary";
            return self.still(group, snapshot).unwrap_or_else(|| Verdict::Unsure(why.to_owned()));
        }
        let fresh = |peer: &&Peer| peer.asked >= self.since && peer.asked.elapsed() < FRESH;
        let peers = snapshot.peers.iter().filter(fresh).map(|peer| &peer.sentinel);
        let sentinels: Vec<Option<&Named>> = std::iter::once(&snapshot.sentinel)
            .chain(peers)
            .filter_map(|word| word.as_ref().ok().map(Option::as_ref))
            .collect();
        let verdict = judge(&Known {
            me: group.me.address,
            members: group.members.len(),
            redis: info,
            sentinels,
            promoted_at: self.promoted_at,
            patience_secs: snapshot.patience.as_secs(),
        });
        let published = snapshot.newest().is_some_and(|n| n.address == group.me.address);
        if verdict == Verdict::Primary && published {
            // From here on an older epoch is no promotion that is about to be published.
            self.promoted_at = None;
        }
        let known = matches!(verdict, Verdict::Primary | Verdict::Replica);
        self.proven = known.then(|| (verdict.clone(), Instant::now()));
        verdict
    }
}

fn publish_role(group: &Group, snapshot: &Snapshot, publish: &watch::Sender<RoleView>) {
    let mut meta = BTreeMap::new();
    let quorum = match &snapshot.quorum {
        Ok(()) => "ok".to_owned(),
        Err(why) => why.chars().take(200).collect(),
    };
    meta.insert("sentinel_quorum".to_owned(), quorum);
    if let Some(lag) = snapshot.lag_bytes() {
        meta.insert("lag_bytes".to_owned(), lag.to_string());
    }
    let (tags, answer) = match (&snapshot.verdict, &snapshot.waiting) {
        (Verdict::Primary, _) => (
            vec![PRIMARY.to_owned()],
            Answer::passing("Redis is the primary, and the Sentinels agree"),
        ),
        (Verdict::Replica, _) => (vec![REPLICA.to_owned()], Answer::passing("Redis is a replica")),
        (Verdict::Stale(named), _) => {
            let named = group.name_of(*named);
            (
                vec![],
                Answer::critical(format!(
                    "Redis calls itself primary, and the Sentinels call {named} so"
                )),
            )
        }
        (Verdict::Unsure(_), Some(why)) | (Verdict::Unsure(why), None) => {
            (vec![], Answer::critical(why))
        }
    };
    let view = RoleView { service: group.name.clone(), port: REDIS_PORT, tags, meta, answer };
    publish.send_if_modified(|before| {
        if before.tags != view.tags || before.answer.health != view.answer.health {
            let role = view.tags.first().map_or("without a role", String::as_str);
            let line =
                format!("in group {} this node is {role}: {}", view.service, view.answer.output);
            match view.answer.health {
                Health::Passing => log::info(&line),
                _ => log::warn(&line),
            }
        }
        let changed = *before != view;
        *before = view;
        changed
    });
}

/// Does what is to be done where the Sentinels can't do it themselves.
async fn take_step(
    group: &Group,
    snapshot: &Snapshot,
    memory: &mut Memory,
    (redis, sentinel): (&mut Server, &mut Server),
) {
    let step = first::step(&group.me.name, &members(group, snapshot));
    if step != Step::FailOver {
        memory.lost_since = None;
    }
    let mut waiting = None;
    let begins = matches!(step, Step::Adopt(_) | Step::Found);
    memory.halfway |= begins;
    let settles = begins || step == Step::Nothing;
    let done = match step {
        Step::Nothing if memory.halfway => settle_watch(group, sentinel).await,
        Step::Nothing => finish_joining(snapshot, redis).await,
        Step::Wait(why) => {
            waiting = Some(why);
            Ok(())
        }
        Step::Adopt(primary) => {
            log::info(&format!("the group's primary is {}: following it", group.name_of(primary)));
            adopt(group, primary, snapshot, redis, sentinel).await
        }
        Step::Found => {
            log::info(
                "no member knows a primary or holds data: making this node the first primary",
            );
            found(group, redis, sentinel).await
        }
        Step::FailOver => {
            let why = "the Sentinels call this node the primary, and it follows another or lost its disk: asking them for a node that holds the data";
            waiting = Some(why.to_owned());
            let since = *memory.lost_since.get_or_insert_with(Instant::now);
            if since.elapsed() < LOST {
                Ok(())
            } else {
                memory.lost_since = None;
                fail_over(group, snapshot).await
            }
        }
    };
    match done {
        Ok(()) if settles => memory.halfway = false,
        Ok(()) => {}
        Err(error) => waiting = Some(chain(&error)),
    }
    if waiting != memory.waiting {
        if let Some(why) = &waiting {
            log::warn(why);
        }
    }
    memory.waiting = waiting;
}

fn members(group: &Group, snapshot: &Snapshot) -> Vec<Seen> {
    let held = |redis: &Result<Info, String>| {
        redis.as_ref().ok().map(|info| match info {
            info if info.is_primary() => Held::Primary,
            info if info.holds() => Held::Data,
            _ => Held::Nothing,
        })
    };
    let seen = |member: &Member| {
        let peer = snapshot.peers.iter().find(|p| p.name == member.name);
        let (redis, sentinel) = match peer {
            Some(peer) if peer.asked.elapsed() < FRESH => {
                (held(&peer.redis), peer.sentinel.clone().ok())
            }
            Some(_) => (None, None),
            None => (held(&snapshot.redis), snapshot.sentinel.clone().ok()),
        };
        Seen { name: member.name.clone(), address: member.address, sentinel, redis }
    };
    group.members.iter().map(seen).collect()
}

/// Lets this node be promoted once it holds what the primary holds.
async fn finish_joining(snapshot: &Snapshot, redis: &mut Server) -> Result<(), client::Error> {
    let Ok(Info { role: Role::Replica { of, cut: None, whole: false }, .. }) = &snapshot.redis
    else {
        return Ok(());
    };
    if snapshot.newest().is_none_or(|named| named.address.to_string() != *of) {
        return Ok(());
    }
    log::info(&format!("this node holds what {of} holds: it may be promoted from now on"));
    may_be_promoted(redis).await
}

async fn may_be_promoted(redis: &mut Server) -> Result<(), client::Error> {
    redis.ask::<()>(&["CONFIG", "SET", "replica-priority", "100"]).await?;
    redis.ask(&["CONFIG", "REWRITE"]).await
}

/// Has this node's Sentinel watch the primary, and its Redis follow it.
async fn adopt(
    group: &Group,
    primary: std::net::IpAddr,
    snapshot: &Snapshot,
    redis: &mut Server,
    sentinel: &mut Server,
) -> Result<(), client::Error> {
    let address = primary.to_string();
    let follows = match &snapshot.redis {
        Ok(Info { role: Role::Replica { of, .. }, .. }) => *of == address,
        _ => false,
    };
    if primary != group.me.address && !follows {
        redis.ask::<()>(&["REPLICAOF", &address, &REDIS_PORT.to_string()]).await?;
        redis.ask::<()>(&["CONFIG", "REWRITE"]).await?;
    }
    watch_primary(group, &address, sentinel).await
}

/// Makes this node the first primary of its group.
async fn found(
    group: &Group,
    redis: &mut Server,
    sentinel: &mut Server,
) -> Result<(), client::Error> {
    redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await?;
    may_be_promoted(redis).await?;
    watch_primary(group, &group.me.address.to_string(), sentinel).await
}

async fn watch_primary(
    group: &Group,
    address: &str,
    sentinel: &mut Server,
) -> Result<(), client::Error> {
    let quorum = quorum(group.members.len()).to_string();
    let port = REDIS_PORT.to_string();
    sentinel.ask::<()>(&["SENTINEL", "MONITOR", &group.name, address, &port, &quorum]).await?;
    settle_watch(group, sentinel).await
}

/// Tells this node's Sentinel how to watch the primary. One that was told whom, and not this, reaches nobody.
async fn settle_watch(group: &Group, sentinel: &mut Server) -> Result<(), client::Error> {
    let Group { name, timings, secrets, members, .. } = group;
    let down_after = timings.sentinel_down_after_ms.to_string();
    let failover = failover_timeout_ms(timings, members, &group.me.name).to_string();
    for (option, value) in [
        ("auth-user", "sentinel"),
        ("auth-pass", &secrets.sentinel),
        ("down-after-milliseconds", &down_after),
        ("failover-timeout", &failover),
        ("parallel-syncs", "1"),
    ] {
        sentinel.ask::<()>(&["SENTINEL", "SET", name, option, value]).await?;
    }
    Ok(())
}

/// Asks another member's Sentinel for a failover: this node's own has never heard of the replicas.
async fn fail_over(group: &Group, snapshot: &Snapshot) -> Result<(), client::Error> {
    let knows =
        |peer: &&Peer| matches!(&peer.sentinel, Ok(Some(n)) if n.address == group.me.address);
    let Some(peer) = snapshot.peers.iter().find(knows) else { return Ok(()) };
    let Ok(mut sentinel) = group.sentinel_of(&peer.name, peer.address) else { return Ok(()) };
    log::warn(&format!("asking {}'s Sentinel for a failover", peer.name));
    sentinel.ask::<()>(&["SENTINEL", "FAILOVER", &group.name]).await
}

/// Has this node's Sentinel forget those that left, when it is its turn.
async fn tidy_up(group: &Group, snapshot: &Snapshot, memory: &mut Memory, sentinel: &mut Server) {
    if memory.tidied.elapsed() < group.tidy_round {
        return;
    }
    memory.tidied = Instant::now();
    let members = members(group, snapshot);
    let counted: Vec<Counted<'_>> = members
        .iter()
        .map(|m| Counted { name: &m.name, named: m.sentinel.as_ref().and_then(Option::as_ref) })
        .collect();
    let mine = tidy::next(&counted) == Some(group.me.name.as_str());
    // Twice in a row: what has just left may still be on its way out, and what has just come on its way in.
    if mine && memory.tidy_next {
        if let Err(error) = forget_the_gone(group, sentinel).await {
            log::warn(&chain(&error));
        }
    }
    memory.tidy_next = mine && !memory.tidy_next;
}

/// Has this node's Sentinel forget everybody and find those again that are there, unless a stranger is.
async fn forget_the_gone(group: &Group, sentinel: &mut Server) -> Result<(), client::Error> {
    let mut known = sentinel.listed("REPLICAS", &group.name).await?;
    known.extend(sentinel.listed("SENTINELS", &group.name).await?);
    let member = |ip: &str| group.members.iter().any(|m| m.address.to_string() == ip);
    let strangers = known.iter().filter(|(ip, _)| !member(ip));
    let there: Vec<&str> = strangers.filter(|(_, down)| !down).map(|(ip, _)| ip.as_str()).collect();
    if !there.is_empty() {
        let list = there.join(", ");
        log::warn(&format!("{list} is no member of the group, and follows it: switch it off"));
        return Ok(());
    }
    log::info(
        "this node's Sentinel knows more than the members, all of them gone: having it forget them",
    );
    sentinel.ask(&["SENTINEL", "RESET", &group.name]).await
}
