//! What one observer does about one cluster: whom it votes against, when it fences, when it gives a primary up. A pure
//! decision: time is an argument, and everything to be done is handed out as an [`Action`].
//!
//! The order is what keeps acknowledged writes: a majority of all observers agrees first; then every living member
//! refuses to talk to the suspect, so that it can't acknowledge anything any more; only then is it given up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agreement::{Ballot, Vote, Votes, is_majority};
use super::suspicion::{Moment, Patience, Suspicion};

/// For how long a fence stands by itself, should the agent that set it be gone; renewed at half of it.
pub(crate) const FENCE_BOUND: Duration = Duration::from_secs(60);

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// This node's name.
    pub(crate) this: String,
    /// The cluster's members, this node among them on a member.
    pub(crate) members: Vec<String>,
    /// All observers, this node among them.
    pub(crate) observers: Vec<String>,
    /// The other Consul servers, by address.
    pub(crate) servers: Vec<String>,
    pub(crate) patience: Patience,
    /// How long a vote counts after its last change.
    pub(crate) window: Duration,
    /// How long a fence stays at least once another member leads: until every Patroni follows that one.
    pub(crate) hold: Duration,
}

/// Who holds the cluster's leader key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) member: String,
    /// When it took the key: the place of the key's last change in Consul's history (`ModifyIndex`).
    pub(crate) term: u64,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask a member's Patroni whether it lives.
    AskPatroni(String),
    /// See which Consul servers can be reached.
    AskServers,
    /// Write this node's vote.
    Vote { suspect: String, ballot: Ballot },
    /// Take this node's vote back.
    Withdraw { suspect: String },
    /// Refuse to talk to a member's PostgreSQL and Patroni; on members alone.
    Fence(String),
    /// Talk to it again.
    Lift(String),
    /// Take the leader key from the primary, provided that it holds it in this term and that these members' votes, by the
    /// index of their last change, stand as they were read.
    GiveUp { leader: Leader, fenced: Vec<(String, u64)> },
}

/// This node's vote, as it was last written.
#[derive(Debug)]
struct Mine {
    suspect: String,
    term: u64,
    fenced: bool,
    written: Moment,
}

/// One observer's view of one cluster.
#[derive(Debug)]
pub(crate) struct Watch {
    rules: Rules,
    /// The other members.
    members: BTreeMap<String, Suspicion>,
    /// When each of the other servers was last reached.
    servers: BTreeMap<String, Option<Moment>>,
    /// Not before this moment are they to be asked again.
    ask_servers_after: Moment,
    leader: Option<Leader>,
    /// Whether the operator has the cluster left alone.
    paused: bool,
    votes: Votes,
    mine: Option<Mine>,
    sequence: u64,
    /// Since when there has been agreement, and on whom.
    agreed: Option<(Leader, Moment)>,
    /// When each fence was set and when it was last renewed.
    fences: BTreeMap<String, (Moment, Moment)>,
    /// What is being done, and what failed may not be tried again before this moment.
    busy: Busy,
}

#[derive(Debug, Default)]
struct Busy {
    voting: bool,
    fencing: bool,
    giving_up: bool,
    vote_after: Moment,
    fence_after: Moment,
    give_up_after: Moment,
}

impl Watch {
    pub(crate) fn new(rules: Rules) -> Self {
        let others = rules.members.iter().filter(|name| **name != rules.this);
        Self {
            members: others.map(|name| (name.clone(), Suspicion::default())).collect(),
            servers: rules.servers.iter().map(|address| (address.clone(), None)).collect(),
            ask_servers_after: Moment::ZERO,
            leader: None,
            paused: false,
            votes: Votes::default(),
            mine: None,
            sequence: 0,
            agreed: None,
            fences: BTreeMap::new(),
            busy: Busy::default(),
            rules,
        }
    }

    /// A member's agent was looked at.
    pub(crate) fn looked(&mut self, member: &str, now: Moment) {
        if let Some(of) = self.members.get_mut(member) {
            of.looked(now);
        }
    }

    /// A member's agent or its Patroni answered.
    pub(crate) fn heard(&mut self, member: &str, now: Moment) {
        if let Some(of) = self.members.get_mut(member) {
            of.heard(now);
        }
    }

    /// A Consul server could be reached.
    pub(crate) fn reached(&mut self, server: &str, now: Moment) {
        if let Some(heard) = self.servers.get_mut(server) {
            *heard = Some(now);
        }
    }

    /// Consul said who leads.
    pub(crate) fn led_by(&mut self, leader: Option<Leader>) {
        let given_up = self.agreed.take_if(|(on, _)| Some(&*on) != leader.as_ref());
        if let Some(of) = given_up.and_then(|(on, _)| self.members.get_mut(&on.member)) {
            of.given_up();
        }
        self.leader = leader;
    }

    /// Consul said whether the operator has the cluster left alone: then nobody is given up.
    pub(crate) fn paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether this node would give the primary up: then what Consul says is needed at once.
    pub(crate) fn is_urgent(&self, now: Moment) -> bool {
        self.against(now).is_some()
    }

    /// Consul said which votes there are.
    pub(crate) fn voted(&mut self, votes: Vec<Vote>, now: Moment) {
        self.votes.read(votes, now);
    }

    /// Consul could not be asked which votes there are.
    pub(crate) fn lost_votes(&mut self) {
        self.votes.lost();
    }

    /// This machine was found to refuse to talk to a member: an agent before this one said so.
    pub(crate) fn found_fence(&mut self, member: &str, now: Moment) {
        self.fences.insert(member.to_owned(), (now, now));
    }

    /// An action has ended, well or not; what failed is tried again after an interval.
    pub(crate) fn done(&mut self, action: &Action, well: bool, now: Moment) {
        let again = now + self.rules.patience.interval;
        let busy = &mut self.busy;
        match action {
            Action::AskPatroni(_) | Action::AskServers => {}
            Action::Vote { suspect, ballot } => {
                busy.voting = false;
                if well {
                    self.mine = Some(Mine {
                        suspect: suspect.clone(),
                        term: ballot.term,
                        fenced: ballot.fenced,
                        written: now,
                    });
                } else {
                    busy.vote_after = again;
                }
            }
            Action::Withdraw { suspect } => {
                busy.voting = false;
                if well {
                    self.mine.take_if(|mine| mine.suspect == *suspect);
                    self.votes.withdraw(suspect, &self.rules.this);
                } else {
                    busy.vote_after = again;
                }
            }
            Action::Fence(member) => {
                busy.fencing = false;
                if well {
                    let fence = self.fences.entry(member.clone()).or_insert((now, now));
                    fence.1 = now;
                } else {
                    busy.fence_after = again;
                }
            }
            Action::Lift(member) => {
                busy.fencing = false;
                if well {
                    self.fences.remove(member);
                } else {
                    busy.fence_after = again;
                }
            }
            Action::GiveUp { .. } => {
                busy.giving_up = false;
                busy.give_up_after = again;
            }
        }
    }

    /// The other members, and whether each is suspect.
    pub(crate) fn suspects(&self, now: Moment) -> impl Iterator<Item = (&str, bool)> {
        let patience = self.rules.patience;
        self.members.iter().map(move |(name, of)| (name.as_str(), of.is_suspect(patience, now)))
    }

    /// What is to be done at this moment. Everything handed out is begun, and reported by [`Self::done`].
    pub(crate) fn due(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.ask_more(&mut actions, now);
        let against = self.against(now);
        self.agree(against.as_ref(), now);
        self.vote(&mut actions, against, now);
        self.fence(&mut actions, now);
        self.give_up(&mut actions, now);
        actions
    }

    /// Where there is a doubt, the second question, and whether it is this node that is cut off.
    fn ask_more(&mut self, actions: &mut Vec<Action>, now: Moment) {
        let mut doubts = false;
        for (name, of) in &mut self.members {
            if of.is_doubtful() {
                doubts = true;
                of.asked_patroni(now);
                actions.push(Action::AskPatroni(name.clone()));
            }
        }
        if doubts && now >= self.ask_servers_after {
            self.ask_servers_after = now + self.rules.patience.interval;
            actions.push(Action::AskServers);
        }
    }

    /// The primary that this node would give up now; none while the operator has the cluster left alone. A node that can't
    /// reach a majority of the observers, itself counted, suspects everyone: then it is the one that is cut off, and has no
    /// opinion.
    fn against(&self, now: Moment) -> Option<Leader> {
        let leader = self.leader.as_ref().filter(|_| !self.paused)?;
        let of = self.members.get(&leader.member)?;
        let since = of.silent_since()?;
        let others = self.members.iter().filter(|(name, _)| **name != leader.member);
        let members = others.filter(|(_, of)| of.heard_since(since)).count();
        let reached = |heard: &&Option<Moment>| heard.is_some_and(|heard| heard >= since);
        let servers = self.servers.values().filter(reached).count();
        let is_connected = is_majority(1 + members + servers, self.rules.observers.len());
        (of.is_to_be_given_up(self.rules.patience, now) && is_connected).then(|| leader.clone())
    }

    /// Whether a majority of all observers, this one among them, is against the leader by now.
    fn agree(&mut self, against: Option<&Leader>, now: Moment) {
        let agrees = against.filter(|leader| {
            let voters = self.voters(leader, now);
            voters.contains(&self.rules.this.as_str())
                && is_majority(voters.len(), self.rules.observers.len())
        });
        self.agreed = match (agrees, self.agreed.take()) {
            (Some(leader), Some((before, since))) if *leader == before => Some((before, since)),
            (Some(leader), _) => Some((leader.clone(), now)),
            (None, _) => None,
        };
    }

    /// The observers whose votes count against a leader, in the order of their names.
    fn voters<'a>(&'a self, leader: &'a Leader, now: Moment) -> Vec<&'a str> {
        self.votes
            .counting(&leader.member, leader.term, self.rules.window, now)
            .map(|vote| vote.observer.as_str())
            .filter(|name| self.rules.observers.iter().any(|known| known == name))
            .collect()
    }

    fn vote(&mut self, actions: &mut Vec<Action>, against: Option<Leader>, now: Moment) {
        if self.busy.voting || now < self.busy.vote_after {
            return;
        }
        let keeps = against.as_ref().map(|leader| leader.member.as_str());
        // One of this node's that stands against somebody else, from before or from an agent before this one.
        let mut stale = self.votes.of(&self.rules.this).filter(|suspect| Some(*suspect) != keeps);
        let mine = self.mine.as_ref().map(|mine| mine.suspect.as_str());
        if let Some(suspect) = mine.filter(|of| Some(*of) != keeps).or_else(|| stale.next()) {
            actions.push(Action::Withdraw { suspect: suspect.to_owned() });
            self.busy.voting = true;
            return;
        }
        let Some(leader) = against else { return };
        let fenced = self.fences.contains_key(&leader.member);
        let stands = self.mine.as_ref().is_some_and(|mine| {
            mine.term == leader.term
                && mine.fenced == fenced
                && now.saturating_sub(mine.written) < self.rules.window / 2
        });
        if !stands {
            self.sequence += 1;
            let ballot = Ballot { term: leader.term, fenced, sequence: self.sequence };
            actions.push(Action::Vote { suspect: leader.member, ballot });
            self.busy.voting = true;
        }
    }

    /// Sets, renews and lifts this machine's fences.
    fn fence(&mut self, actions: &mut Vec<Action>, now: Moment) {
        if self.busy.fencing || now < self.busy.fence_after {
            return;
        }
        let agreed = self.agreed.as_ref().map(|(leader, _)| leader.member.as_str());
        let is_member = self.rules.members.contains(&self.rules.this);
        let new = agreed.filter(|member| is_member && !self.fences.contains_key(*member));
        let action = new.map(|member| Action::Fence(member.to_owned())).or_else(|| {
            self.fences.iter().find_map(|(member, (set, renewed))| {
                if !self.keeps_fence(member, *set, now) {
                    return (!self.vouches(member)).then(|| Action::Lift(member.clone()));
                }
                let is_due = now.saturating_sub(*renewed) >= FENCE_BOUND / 2;
                is_due.then(|| Action::Fence(member.clone()))
            })
        });
        if let Some(action) = action {
            actions.push(action);
            self.busy.fencing = true;
        }
    }

    /// Whether a vote of this node may stand that says the member is fenced: that one goes first, also when it was written
    /// by an agent before this one.
    fn vouches(&self, member: &str) -> bool {
        let mine = self.mine.as_ref().is_some_and(|mine| mine.suspect == member);
        mine || !self.votes.is_known() || self.votes.of(&self.rules.this).any(|of| of == member)
    }

    /// Whether a member stays fenced: the leader while it is agreed upon; another one until it is well again and every
    /// Patroni had time to follow the new leader.
    fn keeps_fence(&self, member: &str, set: Moment, now: Moment) -> bool {
        let Some(of) = self.members.get(member) else { return false };
        match &self.leader {
            Some(leader) if leader.member == member => {
                let agreed = self.agreed.as_ref().is_some_and(|(on, _)| on.member == member);
                let silent = of.is_to_be_given_up(self.rules.patience, now);
                agreed || (silent && !self.paused)
            }
            Some(_) => {
                let held = now.saturating_sub(set) >= self.rules.hold;
                !(held && of.is_well(self.rules.patience, now))
            }
            None => true,
        }
    }

    /// Gives the primary up when the time has come and it's this node's turn.
    fn give_up(&mut self, actions: &mut Vec<Action>, now: Moment) {
        let Some((leader, since)) = &self.agreed else { return };
        if self.busy.giving_up || now < self.busy.give_up_after {
            return;
        }
        // A living member that hasn't fenced the suspect may still be acknowledging its writes: that one has a veto.
        let mut fenced = Vec::new();
        let window = self.rules.window;
        for member in self.rules.members.iter().filter(|name| **name != leader.member) {
            let mut votes = self.votes.counting(&leader.member, leader.term, window, now);
            let vote = votes.find(|vote| vote.observer == *member && vote.ballot.fenced);
            let is_silent = || {
                self.members.get(member).is_some_and(|of| of.is_suspect(self.rules.patience, now))
            };
            match vote {
                Some(vote) => fenced.push((member.clone(), vote.index)),
                None if is_silent() => {}
                None => return,
            }
        }
        // In the order of names, so that one of them acts; should it fail, the next one is only an interval behind.
        let rank = self.voters(leader, now).iter().position(|name| *name == self.rules.this);
        let turn = rank.and_then(|rank| u32::try_from(rank).ok());
        let is_turn = turn.is_some_and(|turn| *since + self.rules.patience.interval * turn <= now);
        if is_turn {
            actions.push(Action::GiveUp { leader: leader.clone(), fenced });
            self.busy.giving_up = true;
        }
    }
}

#[cfg(test)]
mod tests;
