//! The ledger: what a store told its writers of every write, held against what is found in it at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

/// What a writer was told of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It is kept: it must be there at the end.
    Acknowledged,
    /// It is not kept: it must not be there.
    Refused,
    /// Nothing, or nothing that binds: it may be there.
    Unknown,
}

/// One write. Times are counted from the scenario's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Unique in the whole run.
    pub id: u64,
    /// The node that was asked.
    pub node: String,
    /// Whether the writer looks for the primary by its name, as applications do; the others each hold on to one node.
    pub by_name: bool,
    /// The node's term, which grows with each change of primary, where the store tells it: PostgreSQL's timeline.
    pub term: Option<u32>,
    /// When it was sent.
    pub began: Duration,
    /// When the answer was there, or was no longer waited for.
    pub ended: Duration,
    /// The answer.
    pub told: Told,
}

/// All writes to one store in one scenario.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    writes: Vec<Write>,
}

/// What is wrong with a store when it is read back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Acknowledged, and not there.
    pub lost: Vec<u64>,
    /// There more than once.
    pub doubled: Vec<u64>,
    /// Refused, and there all the same.
    pub refused_and_kept: Vec<u64>,
}

impl Ledger {
    /// Enters a write.
    pub fn record(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// All writes, in the order in which their answers came.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// How many were told so.
    pub fn count(&self, told: Told) -> usize {
        self.writes.iter().filter(|write| write.told == told).count()
    }

    /// The acknowledged ones.
    pub fn acknowledged(&self) -> impl DoubleEndedIterator<Item = &Write> {
        self.writes.iter().filter(|write| write.told == Told::Acknowledged)
    }

    /// When writers that look for the primary by its name were answered well, in order.
    pub fn answered(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> =
            self.acknowledged().filter(|write| write.by_name).map(|write| write.ended).collect();
        times.sort();
        times
    }

    /// Holds the ledger against what the store has: each id, and how often.
    pub fn compare(&self, found: &BTreeMap<u64, u32>) -> Findings {
        let times = |write: &Write| found.get(&write.id).copied().unwrap_or(0);
        let mut findings = Findings::default();
        for write in &self.writes {
            match (write.told, times(write)) {
                (Told::Acknowledged, 0) => findings.lost.push(write.id),
                (Told::Refused, 1..) => findings.refused_and_kept.push(write.id),
                (_, 2..) => findings.doubled.push(write.id),
                _ => {}
            }
        }
        findings
    }

    /// Two nodes that both acknowledged at one time, as a sentence.
    ///
    /// With terms: a write of an older term that began after one of a newer term was acknowledged, or one term on two
    /// nodes. Without: a node that acknowledges again after another one did, which no single loss brings about.
    pub fn two_primaries(&self) -> Option<String> {
        self.two_of_terms().or_else(|| self.two_without_terms())
    }

    /// A change of the node that acknowledges, as a sentence.
    pub fn failover(&self) -> Option<String> {
        let mut acknowledged = self.acknowledged();
        let first = acknowledged.next()?;
        let other = acknowledged.find(|write| {
            write.node != first.node || write.term.is_some_and(|t| Some(t) != first.term)
        })?;
        Some(format!(
            "{} took the place of {} at {:.2} s",
            other.node,
            first.node,
            other.ended.as_secs_f64()
        ))
    }

    fn two_of_terms(&self) -> Option<String> {
        let mut terms: BTreeMap<u32, (&str, Duration)> = BTreeMap::new();
        for write in self.acknowledged() {
            let Some(term) = write.term else { continue };
            let (node, first) = terms.entry(term).or_insert((&write.node, write.ended));
            *first = write.ended.min(*first);
            if *node != write.node {
                return Some(format!(
                    "{node} and {} both acknowledged on timeline {term}",
                    write.node
                ));
            }
        }
        self.acknowledged().find_map(|write| {
            let term = write.term?;
            let (newer, (node, first)) =
                terms.range(term + 1..).find(|(_, (_, first))| *first < write.began)?;
            Some(format!(
                "{} acknowledged write {} on timeline {term} at {:.3} s, after {node} had on timeline {newer} at {:.3} s",
                write.node,
                write.id,
                write.ended.as_secs_f64(),
                first.as_secs_f64(),
            ))
        })
    }

    fn two_without_terms(&self) -> Option<String> {
        let mut writes: Vec<&Write> =
            self.acknowledged().filter(|write| write.term.is_none()).collect();
        writes.sort_by_key(|write| write.ended);
        let mut before: BTreeSet<&str> = BTreeSet::new();
        let mut last: Option<&Write> = None;
        for write in writes {
            if let Some(last) = last.filter(|last| last.node != write.node) {
                // One that was sent before the other node's answer may have been taken before it, too.
                if before.contains(write.node.as_str()) && write.began > last.ended {
                    return Some(format!(
                        "{} acknowledged write {} at {:.3} s, after {} had taken its place",
                        write.node,
                        write.id,
                        write.ended.as_secs_f64(),
                        last.node,
                    ));
                }
            }
            before.insert(&write.node);
            last = Some(write);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(id: u64, node: &str, term: Option<u32>, began_ms: u64, told: Told) -> Write {
        let began = Duration::from_millis(began_ms);
        let ended = began + Duration::from_millis(5);
        Write { id, node: node.into(), by_name: true, term, began, ended, told }
    }

    fn ledger(writes: &[Write]) -> Ledger {
        Ledger { writes: writes.to_vec() }
    }

    #[test]
    fn an_acknowledged_write_that_is_not_there_is_lost() {
        let told = [Told::Acknowledged, Told::Acknowledged, Told::Unknown, Told::Unknown];
        let writes: Vec<Write> =
            (1..).zip(told).map(|(id, told)| write(id, "a", Some(1), id * 10, told)).collect();
        let found = BTreeMap::from([(1, 1), (3, 1)]);
        let findings = ledger(&writes).compare(&found);
        assert_eq!(findings, Findings { lost: vec![2], ..Findings::default() });
    }

    #[test]
    fn a_refused_write_that_is_there_and_one_that_is_there_twice_are_found() {
        let writes = [
            write(1, "a", Some(1), 0, Told::Refused),
            write(2, "a", Some(1), 10, Told::Acknowledged),
            write(3, "a", Some(1), 20, Told::Refused),
        ];
        let findings = ledger(&writes).compare(&BTreeMap::from([(1, 1), (2, 2)]));
        assert_eq!(findings.refused_and_kept, [1]);
        assert_eq!(findings.doubled, [2]);
        assert!(findings.lost.is_empty());
    }

    #[test]
    fn a_write_of_an_older_timeline_begun_after_one_of_a_newer_is_a_second_primary() {
        let ack = Told::Acknowledged;
        let failover = [
            write(1, "a", Some(1), 0, ack),
            write(2, "b", Some(2), 100, ack),
            write(3, "a", Some(3), 200, ack),
        ];
        assert_eq!(ledger(&failover).two_primaries(), None);
        let mut late = failover.to_vec();
        late.push(write(4, "a", Some(1), 104, ack));
        // Sent before the newer one was acknowledged.
        assert_eq!(ledger(&late).two_primaries(), None);
        late.push(write(5, "a", Some(1), 106, ack));
        let sentence = ledger(&late).two_primaries().unwrap();
        assert!(sentence.starts_with("a acknowledged write 5 on timeline 1"), "{sentence}");
    }

    #[test]
    fn one_timeline_on_two_nodes_is_a_second_primary() {
        let ack = Told::Acknowledged;
        let both = [write(1, "a", Some(4), 0, ack), write(2, "b", Some(4), 100, ack)];
        assert!(ledger(&both).two_primaries().unwrap().contains("timeline 4"));
        let refused = [write(1, "a", Some(4), 0, ack), write(2, "b", Some(4), 100, Told::Refused)];
        assert_eq!(ledger(&refused).two_primaries(), None);
    }

    #[test]
    fn a_failover_is_another_node_or_another_timeline() {
        let ack = Told::Acknowledged;
        let calm = [write(1, "a", Some(1), 0, ack), write(2, "a", Some(1), 100, ack)];
        assert_eq!(ledger(&calm).failover(), None);
        for other in [write(3, "b", None, 200, ack), write(3, "a", Some(2), 200, ack)] {
            let mut writes = calm.to_vec();
            writes.push(other);
            assert!(ledger(&writes).failover().is_some());
        }
    }

    #[test]
    fn without_terms_a_node_that_comes_back_is_a_second_master() {
        let ack = Told::Acknowledged;
        let switched = [write(1, "a", None, 0, ack), write(2, "b", None, 100, ack)];
        assert_eq!(ledger(&switched).two_primaries(), None);
        let mut back = switched.to_vec();
        back.push(write(3, "a", None, 200, Told::Unknown));
        assert_eq!(ledger(&back).two_primaries(), None);
        back.push(write(4, "a", None, 300, ack));
        assert!(ledger(&back).two_primaries().unwrap().contains("after b had taken its place"));
    }
}
