//! A simulated site: three members and three Consul servers, their links, and a Consul that commits and wakes.
//!
//! It judges every giving-up by what only it knows: a majority of the observers must have heard nothing of the primary
//! for as long as patience lasts, and every member that could still acknowledge the primary's writes must have fenced it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use ballast_contract::Availability;

use super::super::*;
use super::{MAJORITY, NODES};

const NAMES: [&str; NODES] = ["p1", "p2", "p3", "c1", "c2", "c3"];
const MEMBERS: std::ops::Range<usize> = 0..3;

/// Numbers from a seed (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit.max(1)
    }

    pub(super) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(u64::try_from(limit).unwrap())).unwrap()
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub(super) struct Node {
    pub(super) dead: bool,
    pub(super) frozen: bool,
    /// The longest that its answers take, milliseconds.
    pub(super) slowness: u64,
    paused_until: u64,
    watch: Watch,
    /// Whom its packet filter rejects.
    fenced: BTreeSet<usize>,
    /// Moments at which it heard each member.
    heard: [Vec<u64>; 3],
    /// Questions to Patroni under way, by member: only one at a time.
    asking: BTreeSet<usize>,
    /// The agent's life: what an earlier one began is nobody's.
    life: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick {
        looks: bool,
    },
    Heard(usize),
    PatroniHeard(usize),
    PatroniSilent(usize),
    Reached(usize),
    /// Consul's answer to the question that is held: the votes and the leader.
    Woken,
    Commit(usize),
}

/// When, in which order, on which node, in which of its agent's lives, and what.
type Due = (u64, u64, usize, u32, Event);

/// A primary that was given up.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) at: u64,
    pub(super) member: usize,
    #[allow(dead_code, reason = "for who reads a failure")]
    by: usize,
}

pub(super) struct Site {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) loss_percent: u64,
    pub(super) consul_down: bool,
    /// Whether Consul hears nodes that are cut off from others: an asymmetry.
    pub(super) consul_hears_all: bool,
    /// Whether the operator has the cluster left alone.
    pub(super) is_paused: bool,
    pub(super) given_up: Vec<Given>,
    cut: BTreeSet<(usize, usize)>,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    /// What was begun, and when.
    actions: Vec<(Action, u64)>,
    // Consul's state.
    index: u64,
    votes: BTreeMap<(String, String), (Ballot, u64)>,
    leader: Option<Leader>,
    elect_at: Option<u64>,
}

pub(super) fn rules_of(node: usize) -> Rules {
    let timings = Availability::Fast.timings();
    let names = |range: std::ops::Range<usize>| -> Vec<String> {
        NAMES[range].iter().map(|n| (*n).to_owned()).collect()
    };
    Rules {
        this: NAMES[node].into(),
        members: names(MEMBERS),
        observers: names(0..NODES),
        servers: names(3..NODES).into_iter().filter(|n| n != NAMES[node]).collect(),
        patience: Patience {
            interval: Duration::from_millis(timings.peer_interval_ms.into()),
            misses: timings.peer_misses,
        },
        window: Duration::from_millis(timings.peer_window_ms.into()),
        hold: Duration::from_secs(u64::from(2 * timings.loop_wait_secs)),
    }
}

fn number(name: &str) -> usize {
    NAMES.iter().position(|n| *n == name).unwrap()
}

impl Site {
    pub(super) fn new(seed: u64) -> Self {
        let node = |number| Node {
            dead: false,
            frozen: false,
            slowness: 5,
            paused_until: 0,
            watch: Watch::new(rules_of(number)),
            fenced: BTreeSet::new(),
            heard: [vec![], vec![], vec![]],
            asking: BTreeSet::new(),
            life: 0,
        };
        let mut site = Self {
            seed,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: 0,
            nodes: (0..NODES).map(node).collect(),
            loss_percent: 0,
            consul_down: false,
            consul_hears_all: false,
            is_paused: false,
            given_up: Vec::new(),
            cut: BTreeSet::new(),
            queue: BinaryHeap::new(),
            order: 0,
            actions: Vec::new(),
            index: 1,
            votes: BTreeMap::new(),
            leader: Some(Leader { member: "p1".into(), term: 1 }),
            elect_at: None,
        };
        for node in 0..NODES {
            let phase = site.random.below(site.interval_ms());
            site.later(phase, node, Event::Tick { looks: true });
            site.later(phase, node, Event::Woken);
        }
        site
    }

    pub(super) fn interval_ms(&self) -> u64 {
        u64::from(Availability::Fast.timings().peer_interval_ms)
    }

    pub(super) fn limit_ms(&self) -> u64 {
        self.interval_ms() * u64::from(Availability::Fast.timings().peer_misses)
    }

    pub(super) fn detection_ms(&self) -> u64 {
        Availability::Fast.timings().peer_detection_ms().into()
    }

    fn window_ms(&self) -> u64 {
        Availability::Fast.timings().peer_window_ms.into()
    }

    pub(super) fn hold_ms(&self) -> u64 {
        u64::try_from(rules_of(0).hold.as_millis()).unwrap()
    }

    pub(super) fn fences(&self) -> usize {
        self.nodes.iter().filter(|n| !n.dead).map(|n| n.fenced.len()).sum()
    }

    /// Whether a node calls another one suspect.
    pub(super) fn suspects(&self, node: usize, other: usize) -> bool {
        let mut all = self.nodes[node].watch.suspects(self.moment());
        all.any(|(name, suspect)| suspect && name == NAMES[other])
    }

    pub(super) fn votes(&self) -> usize {
        self.votes.len()
    }

    pub(super) fn has_leader(&self) -> bool {
        self.leader.is_some()
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
    }

    /// The operator has the cluster left alone, or no longer; Consul tells everyone.
    pub(super) fn pause_all(&mut self, paused: bool) {
        self.is_paused = paused;
        self.wake_all();
    }

    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    /// Nothing runs on a node for a while, and then all that waited for it.
    pub(super) fn pause(&mut self, node: usize, millis: u64) {
        let of = &mut self.nodes[node];
        of.paused_until = of.paused_until.max(self.now + millis);
    }

    /// The node's agent starts anew. Its fences stand: they are the kernel's.
    pub(super) fn restart(&mut self, node: usize) {
        let now = self.moment();
        let of = &mut self.nodes[node];
        of.life += 1;
        of.watch = Watch::new(rules_of(node));
        for member in &of.fenced {
            of.watch.found_fence(NAMES[*member], now);
        }
        of.asking.clear();
        self.later(300, node, Event::Tick { looks: true });
        self.later(300, node, Event::Woken);
    }

    pub(super) fn calm(&mut self) {
        self.mend();
        self.consul_down = false;
        self.loss_percent = 0;
        for node in &mut self.nodes {
            node.frozen = false;
            node.slowness = 5;
        }
    }

    fn later(&mut self, millis: u64, node: usize, event: Event) {
        self.order += 1;
        let life = self.nodes[node].life;
        self.queue.push(Reverse((self.now + millis, self.order, node, life, event)));
    }

    pub(super) fn run_for(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(Reverse((at, ..))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, order, node, life, event))) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.elect();
            let of = &self.nodes[node];
            if of.dead || of.life != life {
                continue;
            }
            if of.frozen || of.paused_until > self.now {
                // It is still there when the node goes on, in its order.
                let until = if of.frozen { self.now + 50 } else { of.paused_until };
                self.queue.push(Reverse((until, order, node, life, event)));
                continue;
            }
            self.happen(node, event);
        }
        self.now = end;
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        a == b || !self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn lives(&self, node: usize) -> bool {
        !self.nodes[node].dead && !self.nodes[node].frozen
    }

    /// Whether a node's requests to Consul are committed: it reaches a server that has a majority of them.
    fn has_consul(&self, node: usize) -> bool {
        let servers = || (3..NODES).filter(|s| self.lives(*s));
        let leads = |s: usize| servers().filter(|other| self.is_linked(s, *other)).count() >= 2;
        !self.consul_down
            && servers().any(|s| leads(s) && (self.consul_hears_all || self.is_linked(node, s)))
    }

    fn moment(&self) -> Moment {
        Duration::from_millis(self.now)
    }

    fn is_lost(&mut self) -> bool {
        let loss = self.loss_percent;
        self.random.below(100) < loss
    }

    /// What a lost segment costs a TCP connection.
    fn retransmissions(&mut self) -> u64 {
        let mut cost = 0;
        while self.is_lost() && cost < 3_000 {
            cost = cost * 2 + 200;
        }
        cost
    }

    fn happen(&mut self, node: usize, event: Event) {
        let now = self.moment();
        match event {
            Event::Tick { looks } => {
                if looks {
                    self.look(node);
                }
                let half = self.interval_ms() / 2;
                self.later(half, node, Event::Tick { looks: !looks });
            }
            Event::Heard(member) | Event::PatroniHeard(member) => {
                if matches!(event, Event::PatroniHeard(_)) {
                    self.nodes[node].asking.remove(&member);
                }
                let of = &mut self.nodes[node];
                of.heard[member].push(self.now);
                of.watch.heard(NAMES[member], now);
            }
            Event::PatroniSilent(member) => {
                self.nodes[node].asking.remove(&member);
            }
            Event::Reached(server) => self.nodes[node].watch.reached(NAMES[server], now),
            Event::Woken => self.wake(node),
            Event::Commit(action) => self.commit(node, action),
        }
        for action in self.nodes[node].watch.due(now) {
            self.begin(node, action);
        }
    }

    fn look(&mut self, node: usize) {
        let now = self.moment();
        for member in MEMBERS.filter(|m| *m != node) {
            self.nodes[node].watch.looked(NAMES[member], now);
            let arrives = self.is_linked(node, member) && !self.nodes[member].dead;
            // A frozen machine's answer never comes, as far as this look goes.
            if !arrives || self.nodes[member].frozen || self.is_lost() || self.is_lost() {
                continue;
            }
            let slowness = self.nodes[member].slowness;
            let stall = self.nodes[member].paused_until.saturating_sub(self.now);
            let delay = stall + self.random.below(slowness.saturating_sub(stall)) + 1;
            self.later(delay, node, Event::Heard(member));
        }
    }

    fn begin(&mut self, node: usize, action: Action) {
        let delay = match &action {
            Action::AskPatroni(name) => {
                let member = number(name);
                if !self.nodes[node].asking.insert(member) {
                    return;
                }
                let answers = self.is_linked(node, member) && self.lives(member);
                let stall = self.nodes[member].paused_until.saturating_sub(self.now);
                let slowness = 10 + 2 * self.nodes[member].slowness;
                let delay = 5 + stall + self.random.below(slowness) + self.retransmissions();
                let patience = self.limit_ms();
                if answers && delay < patience {
                    self.later(delay, node, Event::PatroniHeard(member));
                } else {
                    self.later(patience, node, Event::PatroniSilent(member));
                }
                return;
            }
            Action::AskServers => {
                for server in (3..NODES).filter(|s| *s != node) {
                    if self.is_linked(node, server) && !self.nodes[server].dead {
                        let delay = 2 + self.retransmissions();
                        self.later(delay, node, Event::Reached(server));
                    }
                }
                return;
            }
            Action::Fence(_) | Action::Lift(_) => 5 + self.random.below(30),
            _ => 3 + self.random.below(15) + self.retransmissions(),
        };
        self.actions.push((action, self.now));
        let action = self.actions.len() - 1;
        self.later(delay, node, Event::Commit(action));
    }

    fn commit(&mut self, node: usize, action: usize) {
        let (action, begun) = self.actions[action].clone();
        let by = NAMES[node].to_owned();
        let mut well = self.has_consul(node);
        match &action {
            Action::Vote { suspect, ballot } if well => {
                self.index += 1;
                self.votes.insert((suspect.clone(), by), (ballot.clone(), self.index));
                self.wake_all();
            }
            Action::Withdraw { suspect } if well => {
                self.index += 1;
                self.votes.remove(&(suspect.clone(), by));
                self.wake_all();
            }
            Action::Fence(name) => {
                well = !self.random.one_in(20);
                if well {
                    self.nodes[node].fenced.insert(number(name));
                }
            }
            Action::Lift(name) => {
                well = true;
                self.nodes[node].fenced.remove(&number(name));
            }
            Action::GiveUp { leader, fenced } if well => {
                let stands = |(observer, index): &(String, u64)| {
                    let key = (leader.member.clone(), observer.clone());
                    self.votes.get(&key).is_some_and(|(_, at)| at == index)
                };
                well = self.leader.as_ref() == Some(leader) && fenced.iter().all(stands);
                if well {
                    self.give_up(node, number(&leader.member), begun);
                }
            }
            _ => {}
        }
        let now = self.moment();
        self.nodes[node].watch.done(&action, well, now);
    }

    fn give_up(&mut self, by: usize, member: usize, decided: u64) {
        let (now, seed) = (self.now, self.seed);
        let span = self.limit_ms() + self.window_ms() + 300;
        let from = now.saturating_sub(span);
        let was_silent = |node: &usize| {
            let mut heard = self.nodes[*node].heard[member].clone();
            heard.retain(|at| *at >= from);
            heard.insert(0, from);
            heard.push(now);
            heard.windows(2).any(|pair| pair[1] - pair[0] + 1 >= self.limit_ms())
        };
        let silent = (0..NODES).filter(|n| *n != member).filter(was_silent).count();
        assert!(
            silent >= MAJORITY,
            "seed {seed}, {now} ms: {} was given up by {} and only {silent} had not heard it",
            NAMES[member],
            NAMES[by]
        );
        for other in MEMBERS.filter(|m| *m != member) {
            let of = &self.nodes[other];
            let is_away = of.dead || of.frozen || of.paused_until > now;
            // One that was silent when the actor decided may have come back since.
            let mut heard =
                self.nodes[by].heard[other].iter().rev().skip_while(|at| **at > decided);
            let was_away = heard.next().is_some_and(|at| decided - at >= self.limit_ms());
            assert!(
                is_away || was_away || of.fenced.contains(&member),
                "seed {seed}, {now} ms: {} still talks to {}, which {} gave up",
                NAMES[other],
                NAMES[member],
                NAMES[by]
            );
        }
        self.given_up.push(Given { at: now, member, by });
        self.leader = None;
        let race = 50 + self.random.below(200);
        self.elect_at = Some(now + race);
        self.wake_all();
    }

    /// A living member with Consul takes the leader key once it is free.
    fn elect(&mut self) {
        if self.leader.is_some() || self.elect_at.is_none_or(|at| at > self.now) {
            return;
        }
        let able = |m: &usize| self.lives(*m) && self.has_consul(*m);
        if let Some(member) = MEMBERS.rev().find(able) {
            self.index += 1;
            self.leader = Some(Leader { member: NAMES[member].into(), term: self.index });
            self.elect_at = None;
            self.wake_all();
        }
    }

    fn wake_all(&mut self) {
        for node in 0..NODES {
            let delay = 1 + self.random.below(8) + self.retransmissions();
            self.later(delay, node, Event::Woken);
        }
    }

    fn wake(&mut self, node: usize) {
        let now = self.moment();
        if !self.has_consul(node) {
            self.nodes[node].watch.lost_votes();
            self.later(500, node, Event::Woken);
            return;
        }
        let votes = self.votes.iter().map(|((suspect, observer), (ballot, index))| Vote {
            suspect: suspect.clone(),
            observer: observer.clone(),
            ballot: ballot.clone(),
            index: *index,
        });
        let votes = votes.collect();
        let leader = self.leader.clone();
        let paused = self.is_paused;
        let watch = &mut self.nodes[node].watch;
        watch.paused(paused);
        watch.led_by(leader);
        watch.voted(votes, now);
    }
}
