//! One service while the router runs: what is known of its nodes, the duty that asks them, and the ties of its sessions.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ask::Asker;
use super::group::{Answer, At, Group, Listed, Pick, Use};
use super::settings::Service;
use crate::log;

/// A session's tie to its node: it is cut when the other end is gone.
pub(super) type Tie = watch::Receiver<()>;

/// One service's nodes.
pub(super) struct Nodes {
    pub(super) name: String,
    started: Instant,
    state: Mutex<State>,
    /// Told whenever something new is known.
    changed: watch::Sender<()>,
    /// Wakes the duty that asks.
    wanted: Notify,
}

struct State {
    group: Group,
    ties: HashMap<(Use, SocketAddr), watch::Sender<()>>,
    primary: Result<SocketAddr, String>,
    /// Whether a primary is anybody's business.
    follows_primary: bool,
    since: SystemTime,
    changes: u64,
    resets: HashMap<Use, u64>,
}

/// What is shown of a service.
pub(super) struct Seen {
    pub(super) primary: Result<String, String>,
    pub(super) nodes: Vec<(String, SocketAddr, String)>,
    /// When the primary changed last, and how often.
    pub(super) since: SystemTime,
    pub(super) changes: u64,
}

impl Nodes {
    pub(super) fn new(service: &Service, follows_primary: bool) -> Self {
        let state = State {
            group: Group::new(service.rules.clone()),
            ties: HashMap::new(),
            primary: Err("nobody was asked yet".to_owned()),
            follows_primary,
            since: SystemTime::now(),
            changes: 0,
            resets: HashMap::new(),
        };
        Self {
            name: service.name.clone(),
            started: Instant::now(),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            wanted: Notify::new(),
        }
    }

    fn now(&self) -> At {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes something new in, and cuts the sessions that may not stay where they are: before anybody else hears of it.
    fn learn(&self, news: impl FnOnce(&mut Group, At)) {
        let now = self.now();
        let mut state = self.lock();
        let state = &mut *state;
        news(&mut state.group, now);
        let (group, resets) = (&state.group, &mut state.resets);
        let mut cut: Vec<String> = Vec::new();
        state.ties.retain(|(wanted, address), tie| {
            let sessions = tie.receiver_count();
            match group.keeps(now, *wanted, *address) {
                Ok(()) => sessions > 0,
                Err(why) => {
                    if sessions > 0 {
                        let name = group.name(*address);
                        cut.push(format!(
                            "reset {sessions} sessions with {name} ({address}): {why}"
                        ));
                        let count = u64::try_from(sessions).unwrap_or(u64::MAX);
                        *resets.entry(*wanted).or_default() += count;
                    }
                    false
                }
            }
        });
        let primary = group.primary(now);
        if primary.as_ref().ok() != state.primary.as_ref().ok() {
            state.since = SystemTime::now();
            state.changes += 1;
            if state.follows_primary {
                match &primary {
                    Ok(address) => {
                        let name = group.name(*address);
                        log::info(&format!("the primary of {} is {name} ({address})", self.name));
                    }
                    Err(why) => log::warn(&format!("{} has no primary: {why}", self.name)),
                }
            }
        }
        state.primary = primary;
        for line in cut {
            log::warn(&format!("{}: {line}", self.name));
        }
        self.changed.send_replace(());
    }

    /// Takes the list of nodes, or nobody and why.
    pub(super) fn list(&self, listed: Vec<Listed>, unlisted: &str) {
        self.learn(|group, now| group.list(now, listed, unlisted));
        self.wanted.notify_one();
    }

    /// Whether there is a node.
    pub(super) fn is_listed(&self) -> bool {
        self.lock().group.is_listed()
    }

    /// A session could not reach this node.
    pub(super) fn broke(&self, address: SocketAddr) {
        let now = self.now();
        self.lock().group.broke(now, address);
        self.wanted.notify_one();
    }

    /// Chooses a node for a session, and ties the session to it.
    pub(super) fn choose(&self, wanted: Use) -> Result<(SocketAddr, Tie), String> {
        let now = self.now();
        let mut state = self.lock();
        match state.group.pick(now, wanted) {
            Pick::To(address) => {
                let tie = state.ties.entry((wanted, address)).or_default().subscribe();
                Ok((address, tie))
            }
            Pick::Ask(address) => {
                let name = state.group.name(address);
                self.wanted.notify_one();
                Err(format!("{name} was not heard in time"))
            }
            Pick::Wait(why) => Err(why),
        }
    }

    pub(super) fn opened(&self, address: SocketAddr) {
        self.lock().group.opened(address);
    }

    pub(super) fn closed(&self, address: SocketAddr) {
        self.lock().group.closed(address);
    }

    /// Hears of everything new.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn resets(&self, wanted: Use) -> u64 {
        self.lock().resets.get(&wanted).copied().unwrap_or(0)
    }

    pub(super) fn see(&self) -> Seen {
        let now = self.now();
        let state = self.lock();
        let name = |address: SocketAddr| state.group.name(address);
        Seen {
            primary: state.group.primary(now).map(name),
            nodes: state.group.describe(now),
            since: state.since,
            changes: state.changes,
        }
    }

    /// Asks the nodes what they are, each when it is due, for as long as the router runs.
    pub(super) async fn ask(self: std::sync::Arc<Self>, asker: Asker) {
        let asker = std::sync::Arc::new(asker);
        let mut asking: JoinSet<(SocketAddr, Answer)> = JoinSet::new();
        loop {
            let (due, next) = {
                let now = self.now();
                let mut state = self.lock();
                (state.group.ask(now), state.group.next_due())
            };
            for address in due {
                let asker = asker.clone();
                asking.spawn(async move { (address, asker.ask(address).await) });
            }
            let wake = next.map(|at| self.started + at);
            tokio::select! {
                Some(answered) = asking.join_next(), if !asking.is_empty() => {
                    if let Ok((address, answer)) = answered {
                        self.learn(|group, now| group.answered(now, address, answer));
                    }
                }
                () = async { match wake { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
                () = self.wanted.notified() => {
                    let state = self.lock();
                    asker.retain(|address| state.group.knows(address));
                }
            }
        }
    }
}
