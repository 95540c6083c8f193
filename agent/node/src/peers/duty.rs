//! The duty of one observer of one cluster: it looks, listens to Consul, and does what the decision hands out.
//!
//! One task decides; whatever takes time is a task of its own that reports back, so that nothing keeps the looks from
//! being sent on time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ballast_bundle::{Member, Observed};
use http_body_util::Full;
use hyper::Request;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};

use super::agreement::{Ballot, Vote};
use super::suspicion::Moment;
use super::watch::{Action, Leader, Rules, Watch};
use super::{PeerView, fence, ping};
use crate::consul::{Consul, Entry, Index, Keys};
use crate::error::chain;
use crate::http::{self, Tls};
use crate::log;
use crate::postgres::{PATRONI_PORT, is_paused};

/// How long Consul holds a question while the answer stays the same, and how long it may be late.
const WAIT: Duration = Duration::from_secs(300);
const LATE: Duration = Duration::from_secs(5);
/// The same while a primary is silent: the Consul server that holds the question may have gone with it, or wait for a
/// leader that has, and nobody says so for ten seconds and more.
const URGENT_WAIT: Duration = Duration::from_millis(400);
const URGENT_LATE: Duration = Duration::from_millis(400);
/// The pause after a question to Consul that failed, and the one that keeps a question which is always answered at once
/// from being asked without end.
const RETRY: Duration = Duration::from_millis(500);
const BREATH: Duration = Duration::from_millis(5);
/// Where a Consul server listens for the others.
const CONSUL_SERVER: u16 = 8300;
/// Between two questions to the Patroni of a member that is suspect already: each leaves it a connection to end later.
const PATRONI_AGAIN: Duration = Duration::from_secs(2);
/// Looks whose answers are still waited for.
const LOOKS: u64 = 256;

/// What an observer works with.
#[derive(Clone)]
pub(super) struct Observer {
    pub(super) rules: Rules,
    pub(super) observed: Observed,
    pub(super) consul: Consul,
    pub(super) tls: Tls,
}

/// Something that came to be.
enum Event {
    PatroniAnswered(String),
    PatroniSilent(String),
    Reached(String),
    Leader(Option<Leader>),
    Paused(bool),
    Votes(Vec<Vote>),
    NoVotes,
    Done(Action, bool),
}

/// Observes until the agent ends.
pub(super) async fn observe(observer: Observer, views: watch::Sender<Vec<PeerView>>) {
    let began = Instant::now();
    let now = || began.elapsed();
    let members = others(&observer);
    let any: IpAddr = match members.first().map(|m| m.address) {
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = loop {
        match UdpSocket::bind(SocketAddr::new(any, 0)).await {
            Ok(socket) => break socket,
            Err(error) => {
                log::warn(&format!("no socket to look at peers with: {error}"));
                sleep(Duration::from_secs(5)).await;
            }
        }
    };

    let mut state = State::new(&observer, members);
    if state.is_member {
        state.adopt_fences(now()).await;
    }
    let (report, mut reports) = mpsc::channel(64);
    let (urgent, urgency) = watch::channel(false);
    tokio::spawn(follow_leader(observer.clone(), urgency.clone(), report.clone()));
    tokio::spawn(follow_votes(observer.clone(), urgency.clone(), report.clone()));
    tokio::spawn(follow_pause(observer.clone(), urgency, report.clone()));

    // Twice in an interval is decided and once is looked: then a silence is noticed half an interval after its time at
    // most. A tick that was missed is not made up for, because looks sent at once tell no more than one.
    let mut ticks = tokio::time::interval(observer.rules.patience.interval / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = [0; 64];
    let mut looks = false;
    loop {
        tokio::select! {
            // What has arrived counts before time does.
            biased;
            Ok((length, from)) = socket.recv_from(&mut buffer) => {
                state.take_answer(from.ip(), buffer.get(..length).unwrap_or_default(), now());
            }
            Some(event) = reports.recv() => state.take(event, now()),
            _ = ticks.tick() => {
                looks = !looks;
                if looks {
                    state.look(&socket, now());
                }
            }
        }
        for action in state.watch.due(now()) {
            state.begin(action, &observer, &report);
        }
        let is_urgent = state.watch.is_urgent(now());
        urgent.send_if_modified(|was| std::mem::replace(was, is_urgent) != is_urgent);
        state.publish(&views, now());
    }
}

fn others(observer: &Observer) -> Vec<Member> {
    let members = observer.observed.members.iter();
    members.filter(|member| member.name != observer.rules.this).cloned().collect()
}

struct State {
    watch: Watch,
    cluster: String,
    is_member: bool,
    /// The other members.
    members: Vec<Member>,
    /// The number of the first look there was and of the next; the difference is how many there were.
    numbers: (u64, u64),
    asking_patroni: BTreeSet<String>,
    suspects: BTreeSet<String>,
    fenced: BTreeSet<String>,
    given_up: BTreeMap<String, u64>,
    voted: Option<(String, u64)>,
    failed: Option<String>,
    paused: bool,
}

impl State {
    fn new(observer: &Observer, members: Vec<Member>) -> Self {
        // Not to be guessed: an answer proves that its question arrived.
        let first = RandomState::new().hash_one(0_u8);
        Self {
            watch: Watch::new(observer.rules.clone()),
            cluster: observer.observed.cluster.clone(),
            is_member: observer.rules.members.contains(&observer.rules.this),
            members,
            numbers: (first, first),
            asking_patroni: BTreeSet::new(),
            suspects: BTreeSet::new(),
            fenced: BTreeSet::new(),
            given_up: BTreeMap::new(),
            voted: None,
            failed: None,
            paused: false,
        }
    }

    /// Fences that an agent before this one set stand until they are lifted in their turn.
    async fn adopt_fences(&mut self, now: Moment) {
        let addresses: Vec<IpAddr> = self.members.iter().map(|member| member.address).collect();
        match fence::found(&addresses).await {
            Ok(found) => {
                let stand = |member: &&Member| found.contains(&member.address);
                for member in self.members.iter().filter(stand) {
                    self.watch.found_fence(&member.name, now);
                    self.fenced.insert(member.name.clone());
                }
            }
            // Without its packet filter this node never says that it has fenced anybody, and so vetoes.
            Err(error) => log::warn(&format!(
                "peers cannot be fenced, so that this node gives none of them up: {}",
                chain(&error)
            )),
        }
    }

    /// Looks at every other member.
    fn look(&mut self, socket: &UdpSocket, now: Moment) {
        for member in &self.members {
            let number = self.numbers.1;
            self.numbers.1 = number.wrapping_add(1);
            self.watch.looked(&member.name, now);
            // Sending fails when there is no way there, which is silence as well.
            let address = SocketAddr::new(member.address, ping::PORT);
            let _ = socket.try_send_to(&ping::question(number), address);
        }
    }

    /// A sign of life, if it answers a look that was sent to where it came from.
    fn take_answer(&mut self, from: IpAddr, datagram: &[u8], now: Moment) {
        let Some(number) = ping::read_answer(datagram) else { return };
        let (first, next) = self.numbers;
        let (order, sent) = (number.wrapping_sub(first), next.wrapping_sub(first));
        let awaited = order < sent && sent - order <= LOOKS;
        let turn = u64::try_from(self.members.len()).ok().and_then(|all| order.checked_rem(all));
        let asked = turn.and_then(|turn| self.members.get(usize::try_from(turn).ok()?));
        if let Some(member) = asked.filter(|m| awaited && m.address == from.to_canonical()) {
            self.watch.heard(&member.name, now);
        }
    }

    fn take(&mut self, event: Event, now: Moment) {
        match event {
            Event::PatroniAnswered(member) => {
                self.asking_patroni.remove(&member);
                self.watch.heard(&member, now);
            }
            Event::PatroniSilent(member) => {
                self.asking_patroni.remove(&member);
            }
            Event::Reached(server) => self.watch.reached(&server, now),
            Event::Leader(leader) => self.watch.led_by(leader),
            Event::Paused(paused) => {
                if paused != self.paused {
                    let peers = if paused {
                        "their peers give none up"
                    } else {
                        "their peers may give one up again"
                    };
                    log::info(&format!(
                        "Patroni's pause in {} is {paused}: of its primaries, {peers}",
                        self.cluster
                    ));
                }
                self.paused = paused;
                self.watch.paused(paused);
            }
            Event::Votes(votes) => self.watch.voted(votes, now),
            Event::NoVotes => self.watch.lost_votes(),
            Event::Done(action, well) => {
                self.say(&action, well);
                self.watch.done(&action, well, now);
            }
        }
    }

    /// What was done, for the journal: once per change, not once per writing.
    fn say(&mut self, action: &Action, well: bool) {
        let cluster = &self.cluster;
        match action {
            Action::Vote { suspect, ballot } if well => {
                let vote = (suspect.clone(), ballot.term);
                if self.voted.as_ref() != Some(&vote) {
                    log::warn(&format!("voting to give up {suspect}, the primary of {cluster}"));
                }
                self.voted = Some(vote);
            }
            Action::Withdraw { suspect } if well => {
                log::info(&format!("no longer voting to give up {suspect} of {cluster}"));
                self.voted = None;
            }
            Action::Fence(member) if well && self.fenced.insert(member.clone()) => {
                log::warn(&format!(
                    "a majority gives up {member} of {cluster}: this node's database no longer talks to it"
                ));
            }
            Action::Lift(member) if well => {
                self.fenced.remove(member);
                log::info(&format!("this node's database may talk to {member} of {cluster} again"));
            }
            Action::GiveUp { leader, .. } if well => {
                let member = &leader.member;
                *self.given_up.entry(member.clone()).or_default() += 1;
                log::warn(&format!(
                    "took the leader key of {cluster} from {member}, which a majority of the observers gave up"
                ));
            }
            Action::GiveUp { leader, .. } => log::warn(&format!(
                "the leader key of {cluster} was not taken from {}: Consul did not agree",
                leader.member
            )),
            _ => {}
        }
        let failed = (!well).then(|| format!("{action:?}"));
        if let (Some(failed), true) = (&failed, failed != self.failed) {
            log::warn(&format!("peers of {cluster}: not done: {failed}"));
        }
        self.failed = failed;
    }

    /// Begins an action; its end is reported.
    fn begin(&mut self, action: Action, observer: &Observer, report: &mpsc::Sender<Event>) {
        match &action {
            Action::AskPatroni(name) => {
                let member = self.members.iter().find(|member| member.name == *name);
                if let Some(member) = member.filter(|_| self.asking_patroni.insert(name.clone())) {
                    let is_suspect = self.suspects.contains(name);
                    let interval = observer.rules.patience.interval;
                    // One that refuses is asked again, and not without end.
                    let pause = if is_suspect { PATRONI_AGAIN } else { interval / 2 };
                    let (observer, report) = (observer.clone(), report.clone());
                    tokio::spawn(ask_patroni(observer, member.clone(), pause, report));
                }
            }
            Action::AskServers => {
                let deadline = observer.rules.patience.interval;
                for server in &observer.rules.servers {
                    tokio::spawn(reach(server.clone(), deadline, report.clone()));
                }
            }
            Action::Fence(name) | Action::Lift(name) => {
                let address = self.members.iter().find(|m| m.name == *name).map(|m| m.address);
                tokio::spawn(set_fence(address, action, report.clone()));
            }
            _ => {
                tokio::spawn(tell_consul(observer.clone(), action, report.clone()));
            }
        }
    }

    fn publish(&mut self, views: &watch::Sender<Vec<PeerView>>, now: Moment) {
        let suspects: BTreeSet<String> = self
            .watch
            .suspects(now)
            .filter(|(_, suspect)| *suspect)
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in suspects.difference(&self.suspects) {
            log::warn(&format!("{name} of {} gives no sign of life", self.cluster));
        }
        for name in self.suspects.difference(&suspects) {
            log::info(&format!("{name} of {} gives signs of life again", self.cluster));
        }
        self.suspects = suspects;
        let seen = self.members.iter().map(|member| PeerView {
            cluster: self.cluster.clone(),
            member: member.name.clone(),
            suspect: self.suspects.contains(&member.name),
            fenced: self.fenced.contains(&member.name),
            given_up: self.given_up.get(&member.name).copied().unwrap_or_default(),
        });
        let seen: Vec<PeerView> = seen.collect();
        views.send_if_modified(|view| {
            let changed = *view != seen;
            *view = seen;
            changed
        });
    }
}

/// Asks a member's Patroni whether it lives. Any answer is a sign of life, also one that says it is not well.
/// Who gets none pauses before it is asked again.
async fn ask_patroni(
    observer: Observer,
    member: Member,
    pause: Duration,
    report: mpsc::Sender<Event>,
) {
    let deadline = observer.rules.patience.limit();
    let address = SocketAddr::new(member.address, PATRONI_PORT);
    let asked = match Request::get("/liveness").body(Full::default()) {
        Ok(request) => {
            let exchange = http::send_tls(address, member.address, &observer.tls, request);
            timeout(deadline, exchange).await.is_ok_and(|answer| answer.is_ok())
        }
        Err(_) => false,
    };
    let event = if asked {
        Event::PatroniAnswered(member.name)
    } else {
        sleep(pause).await;
        Event::PatroniSilent(member.name)
    };
    let _ = report.send(event).await;
}

/// Sees whether a Consul server's machine can be reached: one that refuses was.
async fn reach(server: String, deadline: Duration, report: mpsc::Sender<Event>) {
    let Ok(address) = server.parse::<IpAddr>() else { return };
    let connecting = TcpStream::connect(SocketAddr::new(address, CONSUL_SERVER));
    let reached = match timeout(deadline, connecting).await {
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) => true,
        Err(_) => false,
    };
    if reached {
        let _ = report.send(Event::Reached(server)).await;
    }
}

async fn set_fence(address: Option<IpAddr>, action: Action, report: mpsc::Sender<Event>) {
    let result = match (address, &action) {
        (Some(address), Action::Fence(_)) => fence::set(address).await,
        (Some(address), _) => fence::lift(address).await,
        (None, _) => Ok(()),
    };
    if let Err(error) = &result {
        log::warn(&chain(error));
    }
    let _ = report.send(Event::Done(action, result.is_ok())).await;
}

/// Votes, withdraws, or takes the leader key.
async fn tell_consul(observer: Observer, action: Action, report: mpsc::Sender<Event>) {
    let Observer { rules, observed, consul, .. } = &observer;
    // An answer that comes later than a vote counts is none.
    let deadline = rules.window;
    let result = match &action {
        Action::Vote { suspect, ballot } => {
            let key = vote_key(&observed.cluster, suspect, &rules.this);
            let value = serde_json::to_vec(ballot).unwrap_or_default();
            consul.put_key(&key, value, deadline).await.map(|()| true)
        }
        Action::Withdraw { suspect } => {
            let key = vote_key(&observed.cluster, suspect, &rules.this);
            consul.delete_key(&key, deadline).await.map(|()| true)
        }
        Action::GiveUp { leader, fenced } => {
            let votes: Vec<(String, u64)> = fenced
                .iter()
                .map(|(by, index)| (vote_key(&observed.cluster, &leader.member, by), *index))
                .collect();
            let key = leader_key(&observed.cluster);
            consul.take_key((&key, leader.term), &votes, deadline).await
        }
        _ => Ok(false),
    };
    if let Err(error) = &result {
        log::warn(&format!("peers of {}: {}", observed.cluster, chain(error)));
    }
    let well = result.unwrap_or(false);
    let _ = report.send(Event::Done(action, well)).await;
}

/// Patroni's leader key.
fn leader_key(cluster: &str) -> String {
    format!("service/{cluster}/leader")
}

fn votes_prefix(cluster: &str) -> String {
    format!("ballast/peers/{cluster}/")
}

fn vote_key(cluster: &str, suspect: &str, observer: &str) -> String {
    format!("{}{suspect}/{observer}", votes_prefix(cluster))
}

fn read_vote(cluster: &str, entry: &Entry) -> Option<Vote> {
    let rest = entry.key.strip_prefix(&votes_prefix(cluster))?;
    let (suspect, observer) = rest.split_once('/')?;
    let ballot: Ballot = serde_json::from_slice(&entry.value).ok()?;
    Some(Vote {
        suspect: suspect.to_owned(),
        observer: observer.to_owned(),
        ballot,
        index: entry.index,
    })
}

fn read_leader(entry: &Entry) -> Leader {
    Leader { member: String::from_utf8_lossy(&entry.value).into_owned(), term: entry.index }
}

async fn follow_leader(
    observer: Observer,
    mut urgency: watch::Receiver<bool>,
    report: mpsc::Sender<Event>,
) {
    let key = leader_key(&observer.observed.cluster);
    let mut index = Index::default();
    loop {
        // Who led leads, as far as anybody here can know; without Consul nothing comes of it.
        let answer = ask(&observer.consul, Keys::One(&key), &mut index, &mut urgency).await;
        if let Some(entries) = answer {
            let leader = entries.first().map(read_leader);
            if report.send(Event::Leader(leader)).await.is_err() {
                return;
            }
        }
    }
}

async fn follow_votes(
    observer: Observer,
    mut urgency: watch::Receiver<bool>,
    report: mpsc::Sender<Event>,
) {
    let cluster = &observer.observed.cluster;
    let prefix = votes_prefix(cluster);
    let mut index = Index::default();
    loop {
        let answer = ask(&observer.consul, Keys::Below(&prefix), &mut index, &mut urgency).await;
        let event = answer.map_or(Event::NoVotes, |entries| {
            Event::Votes(entries.iter().filter_map(|e| read_vote(cluster, e)).collect())
        });
        if report.send(event).await.is_err() {
            return;
        }
    }
}

/// Follows whether Patroni is told to let things be: its dynamic configuration says so.
async fn follow_pause(
    observer: Observer,
    mut urgency: watch::Receiver<bool>,
    report: mpsc::Sender<Event>,
) {
    let key = format!("service/{}/config", observer.observed.cluster);
    let mut index = Index::default();
    loop {
        let answer = ask(&observer.consul, Keys::One(&key), &mut index, &mut urgency).await;
        if let Some(entries) = answer {
            let paused = entries.first().is_some_and(|entry| is_paused(&entry.value));
            if report.send(Event::Paused(paused)).await.is_err() {
                return;
            }
        }
    }
}

/// Keys once they differ from what they were at `index`, or none where Consul could not be asked. A question that is held
/// when the time comes to hurry is asked anew.
async fn ask(
    consul: &Consul,
    keys: Keys<'_>,
    index: &mut Index,
    urgency: &mut watch::Receiver<bool>,
) -> Option<Vec<Entry>> {
    loop {
        let is_urgent = *urgency.borrow_and_update();
        let (wait, late, pause) = if is_urgent {
            (URGENT_WAIT, URGENT_LATE, URGENT_LATE / 4)
        } else {
            (WAIT, LATE, RETRY)
        };
        let asking = consul.entries(keys, *index, wait, late);
        let answer = tokio::select! {
            answer = asking => answer,
            Ok(_) = urgency.wait_for(|urgent| *urgent), if !is_urgent => continue,
        };
        return match answer {
            Ok((entries, next)) => {
                *index = next;
                sleep(BREATH).await;
                Some(entries)
            }
            Err(_) => {
                *index = Index::default();
                let hurry = urgency.wait_for(|urgent| *urgent && !is_urgent);
                let _ = timeout(pause, hurry).await;
                None
            }
        };
    }
}

#[cfg(test)]
mod tests;
