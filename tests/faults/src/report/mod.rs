//! The report: what each scenario did to a site, how long clients waited, and what did not hold.

mod markdown;
mod picture;
#[cfg(test)]
mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::clients::{Record, Store};
use crate::error::{Error, Result};
use crate::ledger::{Findings, Told};
use crate::timeline::{Event, Gap, longest_gap, maybe_milliseconds, milliseconds, runs};

/// Acknowledgements within this time of each other are drawn as one.
const DRAWN_TOGETHER: Duration = Duration::from_millis(150);

/// All that a run found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// With which the same run can be had again.
    pub seed: u64,
    /// The site's availability.
    pub availability: String,
    /// Whether in place of its timings those stood that the programs come with.
    pub stock: bool,
    /// From switching all nodes on to a whole site.
    #[serde(rename = "ready_ms", serialize_with = "milliseconds")]
    pub ready: Duration,
    /// What the agent of a node holds in memory after all, KiB resident, by role: the largest of its nodes.
    #[serde(rename = "agent_kib")]
    pub memory: BTreeMap<String, u64>,
    /// The machine that ran it.
    pub host: String,
    /// Whether silent primaries are given up by their peers' agreement.
    pub peer_detection: bool,
    /// One after another, in the order in which they ran.
    pub scenarios: Vec<Outcome>,
}

/// What one scenario found out. Times are counted from its beginning.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// The so manieth time that it is tried, from 1.
    pub turn: u32,
    /// What happens in it.
    pub tells: String,
    /// The machine's load when it began: the average of a minute.
    pub load: f64,
    /// When the first thing was done.
    #[serde(rename = "fault_ms", serialize_with = "milliseconds")]
    pub fault: Duration,
    /// How long after the last mending the site was whole; none if it never was.
    #[serde(rename = "whole_ms", serialize_with = "maybe_milliseconds")]
    pub whole: Option<Duration>,
    /// When it ended.
    #[serde(rename = "end_ms", serialize_with = "milliseconds")]
    pub end: Duration,
    /// What was done.
    pub events: Vec<Event>,
    /// What clients saw.
    pub stores: BTreeMap<Store, Seen>,
    /// What does not hold; nothing where all does.
    pub broken: Vec<String>,
    /// Who waited longer than its bound, where that is told and not judged.
    pub late: Vec<String>,
}

/// What clients saw of one store.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// How many writes were acknowledged,
    pub acknowledged: usize,
    /// refused,
    pub refused: usize,
    /// and neither.
    pub unknown: usize,
    /// How many reads found what was acknowledged.
    pub reads: usize,
    /// Reads of acknowledged writes that a node which called itself primary did not have.
    pub stale_reads: usize,
    /// Sessions that the writer found by the primary's name,
    pub by_name: u64,
    /// and by asking the members, because no name server answered.
    pub by_asking: u64,
    /// The longest time in which the writer that goes by the name was not served, from the first fault on.
    pub gap: Gap,
    /// How long that may be.
    #[serde(rename = "bound_ms", serialize_with = "maybe_milliseconds")]
    pub bound: Option<Duration>,
    /// What was wrong when all was read back.
    pub findings: Findings,
    /// Who acknowledged, and when: for the picture.
    #[serde(skip)]
    pub served: Vec<(String, Gap)>,
    /// When the writer that goes by the name was served: for the picture.
    #[serde(skip)]
    pub writer: Vec<Gap>,
}

impl Seen {
    /// From what the clients wrote down.
    pub fn new(
        record: &Record,
        findings: Findings,
        fault: Duration,
        end: Duration,
        bound: Option<Duration>,
    ) -> Self {
        let ledger = &record.ledger;
        let answered = ledger.answered();
        let mut nodes: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for write in ledger.acknowledged() {
            nodes.entry(&write.node).or_default().push(write.ended);
        }
        let mut served = Vec::new();
        for (node, mut times) in nodes {
            times.sort();
            let runs = runs(&times, DRAWN_TOGETHER);
            served.extend(runs.into_iter().map(|run| (node.to_owned(), run)));
        }
        Self {
            acknowledged: ledger.count(Told::Acknowledged),
            refused: ledger.count(Told::Refused),
            unknown: ledger.count(Told::Unknown),
            reads: record.reads.answered.len(),
            stale_reads: record.reads.missing.len(),
            by_name: record.by_name,
            by_asking: record.by_asking,
            gap: longest_gap(&answered, fault, end),
            bound,
            findings,
            served,
            writer: runs(&answered, DRAWN_TOGETHER),
        }
    }

    /// What does not hold of it; where durability is asynchronous, writes may be lost.
    pub fn broken(&self, store: Store, may_lose: bool) -> Vec<String> {
        let name = store.name();
        let mut broken = Vec::new();
        if self.acknowledged == 0 {
            broken.push(format!("{name} acknowledged nothing at all"));
        }
        let Findings { lost, doubled, refused_and_kept } = &self.findings;
        for (ids, what) in [
            (lost, "acknowledged writes are lost"),
            (doubled, "writes are there more than once"),
            (refused_and_kept, "refused writes are there"),
        ] {
            let Some(first) = ids.first() else { continue };
            if !(may_lose && std::ptr::eq(ids, lost)) {
                broken.push(format!("{name}: {} {what}, {first} the first", ids.len()));
            }
        }
        broken
    }

    /// How far beyond its bound the longest gap is, if it is.
    pub fn late(&self, store: Store) -> Option<String> {
        let length = self.gap.length();
        let bound = self.bound.filter(|bound| length > *bound)?;
        Some(format!(
            "{} took no write for {:.2} s, and {:.2} s are the bound",
            store.name(),
            length.as_secs_f64(),
            bound.as_secs_f64()
        ))
    }
}

/// A scenario's name, and which time it is from the second on.
pub fn title(name: &str, turn: u32) -> String {
    if turn > 1 { format!("{name}-{turn}") } else { name.to_owned() }
}

impl Outcome {
    /// What to call it where its name alone is not enough.
    pub fn title(&self) -> String {
        title(&self.name, self.turn)
    }
}

/// The longest gaps of one scenario, tried several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// How many there are.
    pub count: usize,
    /// The one in the middle; of an even number, the longer of the two.
    pub median: Duration,
    /// The longest.
    pub worst: Duration,
}

impl Gaps {
    fn new(mut lengths: Vec<Duration>) -> Option<Self> {
        lengths.sort();
        let median = *lengths.get(lengths.len() / 2)?;
        Some(Self { count: lengths.len(), median, worst: *lengths.last()? })
    }
}

impl Report {
    /// Each scenario's gaps over all times that it was tried, by name and store.
    pub fn gaps(&self) -> BTreeMap<(&str, Store), Gaps> {
        let mut lengths: BTreeMap<(&str, Store), Vec<Duration>> = BTreeMap::new();
        for outcome in &self.scenarios {
            for (store, seen) in &outcome.stores {
                lengths.entry((&outcome.name, *store)).or_default().push(seen.gap.length());
            }
        }
        lengths.into_iter().filter_map(|(key, all)| Some((key, Gaps::new(all)?))).collect()
    }

    /// How many scenarios hold.
    pub fn passed(&self) -> usize {
        self.scenarios.iter().filter(|outcome| outcome.broken.is_empty()).count()
    }

    /// How many do not.
    pub fn failed(&self) -> usize {
        self.scenarios.len() - self.passed()
    }

    /// Writes `report.md`, `report.json` and one picture per scenario into a directory.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path, nodes: &[String]) -> Result<()> {
        fs::create_dir_all(dir).map_err(Error::file("making", dir))?;
        let save = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(Error::file("writing", &path))
        };
        save("report.md", markdown::write_report(self))?;
        let mut json = serde_json::to_string_pretty(self).map_err(Error::document("the report"))?;
        json.push('\n');
        save("report.json", json)?;
        for outcome in &self.scenarios {
            save(&format!("{}.svg", outcome.title()), picture::write_picture(outcome, nodes))?;
        }
        Ok(())
    }
}

/// Writes what the machines said in a scenario that does not hold beside the report.
///
/// # Errors
/// When the file cannot be written.
pub fn save_journals(dir: &Path, scenario: &str, journals: &str) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::file("making", dir))?;
    let path = dir.join(format!("{scenario}.journal"));
    fs::write(&path, journals).map_err(Error::file("writing", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_beyond_its_bound_is_late_and_a_lost_write_breaks_a_scenario() {
        let good = sample::outcome(2_000, Vec::new());
        assert_eq!((good.broken.len(), good.late.len()), (0, 0));
        let late = sample::outcome(1_000, Vec::new()).late;
        assert_eq!(late, ["PostgreSQL took no write for 1.40 s, and 1.00 s are the bound"]);
        let lost = sample::outcome(2_000, vec![9, 10]).broken;
        assert_eq!(lost, ["PostgreSQL: 2 acknowledged writes are lost, 9 the first"]);
        let seen = sample::outcome(2_000, vec![9, 10]).stores;
        assert_eq!(seen[&Store::Postgres].broken(Store::Postgres, true), Vec::<String>::new());
    }

    #[test]
    fn the_median_of_gaps_is_one_of_them_and_no_gap_is_worse_than_the_worst() {
        let ms = |all: &[u64]| Gaps::new(all.iter().map(|n| Duration::from_millis(*n)).collect());
        assert_eq!(ms(&[]), None);
        let three = ms(&[900, 70_000, 1_200]).unwrap();
        assert_eq!((three.median.as_millis(), three.worst.as_millis()), (1_200, 70_000));
        assert_eq!(ms(&[1, 2, 3, 4]).unwrap().median.as_millis(), 3);
    }

    #[test]
    fn a_store_that_never_acknowledged_is_broken_even_without_a_bound() {
        let nothing = Seen::new(
            &Record::default(),
            Findings::default(),
            Duration::ZERO,
            Duration::from_secs(1),
            None,
        );
        assert_eq!(nothing.broken(Store::Redis, false), ["Redis acknowledged nothing at all"]);
    }

    #[test]
    fn a_report_is_saved_with_a_picture_of_each_scenario() {
        let dir = tempfile::tempdir().unwrap();
        let report = sample::report(sample::outcome(2_000, Vec::new()));
        report.save(dir.path(), &["postgres-1".into(), "postgres-2".into()]).unwrap();
        let load = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&load("report.json")).unwrap();
        let gap = &json["scenarios"][0]["stores"]["postgres"]["gap"];
        assert_eq!(gap["from_ms"], 1_000);
        assert_eq!(gap["until_ms"], 2_400);
        assert!(load("report.md").contains("primary-killed.svg"));
        assert!(load("primary-killed.svg").contains("</svg>"));
    }
}
