//! Votes against a primary, and whether they are enough. A pure decision: time is an argument.
//!
//! A vote is one key in Consul, bound to the term in which the primary holds its leader key. It counts while it keeps
//! changing: the voter writes it anew again and again, and who counts goes by its own clock, from the moment it saw the
//! last change. So a voter that died takes its vote along, and no two clocks are ever compared.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::suspicion::Moment;

/// A vote, as it stands in Consul.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    /// The term of the leader that the vote is against: when it took the key, in Consul's history.
    pub(crate) term: u64,
    /// Whether the voter's machine refuses to talk to the suspect's PostgreSQL and Patroni by now.
    pub(crate) fenced: bool,
    /// Counts up with every writing, so that Consul sees a change.
    pub(crate) sequence: u64,
}

/// A vote as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) suspect: String,
    pub(crate) observer: String,
    pub(crate) ballot: Ballot,
    /// The place of its last change in Consul's history (`ModifyIndex`).
    pub(crate) index: u64,
}

/// All votes of a cluster, and when each was last seen to change.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    /// By suspect and observer; without a moment where it is not known how old the vote is.
    known: BTreeMap<(String, String), (Vote, Option<Moment>)>,
    /// Whether the votes have been followed without a gap since the last reading.
    unbroken: bool,
}

impl Votes {
    /// Takes in a reading of all votes.
    pub(crate) fn read(&mut self, votes: Vec<Vote>, now: Moment) {
        let mut next = BTreeMap::new();
        for vote in votes {
            let key = (vote.suspect.clone(), vote.observer.clone());
            let seen = match self.known.get(&key) {
                Some((before, seen)) if before.index == vote.index => *seen,
                // What changed while nobody looked may be of any age: it counts from its next change on.
                _ => self.unbroken.then_some(now),
            };
            next.insert(key, (vote, seen));
        }
        self.known = next;
        self.unbroken = true;
    }

    /// A vote was taken back, which the next reading will show.
    pub(crate) fn withdraw(&mut self, suspect: &str, observer: &str) {
        self.known.remove(&(suspect.to_owned(), observer.to_owned()));
    }

    /// Reading failed: changes may have gone by unseen.
    pub(crate) fn lost(&mut self) {
        self.unbroken = false;
    }

    /// Whether the votes are known as they are now, as far as Consul can be asked.
    pub(crate) fn is_known(&self) -> bool {
        self.unbroken
    }

    /// The votes that count against a leader in this term, by observer.
    pub(crate) fn counting<'a>(
        &'a self,
        suspect: &'a str,
        term: u64,
        window: Duration,
        now: Moment,
    ) -> impl Iterator<Item = &'a Vote> {
        self.known
            .values()
            .filter(move |(vote, seen)| {
                vote.suspect == suspect
                    && vote.observer != suspect
                    && vote.ballot.term == term
                    && seen.is_some_and(|seen| now.saturating_sub(seen) <= window)
            })
            .map(|(vote, _)| vote)
    }

    /// The suspects that an observer's votes stand against, whether or not they count.
    pub(crate) fn of<'a>(&'a self, observer: &'a str) -> impl Iterator<Item = &'a str> {
        self.known.keys().filter(move |(_, by)| by == observer).map(|(suspect, _)| suspect.as_str())
    }
}

/// Whether this many of all observers are more than half, the suspect's own voice being none.
pub(crate) fn is_majority(count: usize, observers: usize) -> bool {
    count > observers / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(1_000);

    fn vote(observer: &str, term: u64, index: u64) -> Vote {
        let ballot = Ballot { term, fenced: false, sequence: index };
        Vote { suspect: "p1".into(), observer: observer.into(), ballot, index }
    }

    fn at(millis: u64) -> Moment {
        Duration::from_millis(millis)
    }

    fn count(votes: &Votes, term: u64, now: Moment) -> usize {
        votes.counting("p1", term, WINDOW, now).count()
    }

    #[test]
    fn a_vote_counts_for_one_window_after_its_last_change() {
        let mut votes = Votes::default();
        votes.read(vec![], at(0));
        votes.read(vec![vote("c1", 2, 5)], at(100));
        votes.read(vec![vote("c1", 2, 5)], at(900));
        assert_eq!(count(&votes, 2, at(1_100)), 1);
        assert_eq!(count(&votes, 2, at(1_101)), 0);
        votes.read(vec![vote("c1", 2, 6)], at(1_200));
        assert_eq!(count(&votes, 2, at(1_300)), 1);
    }

    #[test]
    fn a_vote_found_at_the_start_or_after_a_gap_counts_only_once_it_changes() {
        let mut votes = Votes::default();
        votes.read(vec![vote("c1", 2, 5)], at(0));
        assert_eq!(count(&votes, 2, at(1)), 0);
        votes.read(vec![vote("c1", 2, 6)], at(2));
        assert_eq!(count(&votes, 2, at(3)), 1);
        votes.lost();
        votes.read(vec![vote("c1", 2, 7)], at(4));
        assert_eq!(count(&votes, 2, at(5)), 0);
    }

    #[test]
    fn neither_a_withdrawn_vote_nor_one_against_an_older_term_nor_the_suspects_own_counts() {
        let mut votes = Votes::default();
        votes.read(vec![], at(0));
        votes.read(vec![vote("c1", 1, 5), vote("c2", 2, 6), vote("p1", 2, 7)], at(1));
        assert_eq!(count(&votes, 2, at(2)), 1);
        votes.read(vec![vote("c1", 1, 5)], at(3));
        assert_eq!(count(&votes, 2, at(4)), 0);
    }

    #[test]
    fn half_is_no_majority() {
        assert!(!is_majority(3, 6) && is_majority(4, 6) && is_majority(3, 5) && !is_majority(2, 5));
    }
}
