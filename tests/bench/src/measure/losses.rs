//! What a loss costs: the fault suite's own clients, each loss several times, beside the programs' own timings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::bench::{Bench, given, load, progress};
use crate::error::{Error, Result};
use crate::options::Preset;
use crate::row::{Aim, Measured, Side};
use crate::samples::{Samples, Unit};

/// A loss: the scenario of the fault suite, the store that it is about, and how soon it should be written to again with
/// the most eager preset, in the middle of several tries, seconds.
struct Loss {
    scenario: &'static str,
    tells: &'static str,
    store: &'static str,
    aim: f64,
}

const LOSSES: [Loss; 4] = [
    Loss {
        scenario: "primary-killed",
        tells: "PostgreSQL's primary loses power",
        store: "postgres",
        aim: 2.0,
    },
    Loss {
        scenario: "primary-frozen",
        tells: "PostgreSQL's primary stands still",
        store: "postgres",
        aim: 2.0,
    },
    Loss {
        scenario: "master-killed",
        tells: "Redis's master loses power",
        store: "redis",
        aim: 1.0,
    },
    Loss {
        scenario: "master-frozen",
        tells: "Redis's master stands still",
        store: "redis",
        aim: 1.0,
    },
];

/// What the fault suite writes; what is not read here is left out.
#[derive(Deserialize)]
struct Report {
    ready_ms: u64,
    agent_kib: BTreeMap<String, u64>,
    scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    name: String,
    stores: BTreeMap<String, Store>,
    broken: Vec<String>,
}

#[derive(Deserialize)]
struct Store {
    gap: Gap,
}

#[derive(Deserialize)]
struct Gap {
    from_ms: u64,
    until_ms: u64,
}

/// Rows: a site's start, each loss per preset beside the programs' own timings, and the agents' memory by role.
pub fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let faults = given(&bench.options.faults, "the fault suite", "--faults")?;
    let suite = Suite { faults, dir: bench.dir("losses")?, times: bench.options.losses };
    let stock = suite.run("stock", &["--stock"])?;
    let mut rows = Vec::new();
    for preset in &bench.options.presets {
        let word = preset.word();
        let ours = suite.run(&word, &["--availability", &word])?;
        rows.extend(rows_of(*preset, &ours, &stock));
    }
    Ok(rows)
}

/// How the fault suite is run.
struct Suite<'a> {
    faults: &'a Path,
    dir: PathBuf,
    times: u32,
}

impl Suite<'_> {
    fn run(&self, name: &str, arguments: &[&str]) -> Result<Report> {
        progress(&format!("losses, {name}: {} times each", self.times));
        let dir = self.dir.join(name);
        let names = LOSSES.map(|loss| loss.scenario).join(",");
        let mut command = Command::new(self.faults);
        // The same victims and moments for all; how long it took is judged here and not there.
        command.args(["--late", "tell", "--seed", "1", "--only", &names]).args(arguments);
        command.arg("--times").arg(self.times.to_string()).arg("--report").arg(&dir);
        // What it says is progress, and this program's output is the table.
        let said = std::io::stderr();
        let status = command.stdin(Stdio::null()).stdout(said).status();
        let start = |source| Error::Start { program: "ballast-faults".into(), source };
        let status = status.map_err(start)?;
        ballast_machines::poll::check_interrupt()?;
        let report = dir.join("report.json");
        if !report.exists() {
            return Err(Error::Lacking(format!(
                "the fault suite ended with {status} and without a report"
            )));
        }
        load(&report)
    }
}

fn rows_of(preset: Preset, ours: &Report, stock: &Report) -> Vec<Measured> {
    let word = preset.word();
    let ready = |report: &Report| Side::Seen(Samples::one(seconds(report.ready_ms)));
    let start = format!("nine containers switched on, to a whole site, `{word}`");
    let mut rows = vec![Measured::ours(start, Unit::Seconds, ready(ours)).beside(ready(stock))];
    for loss in &LOSSES {
        let name = format!("no write, {}, `{word}`", loss.tells);
        let mut row = Measured::ours(name, Unit::Seconds, gaps(ours, loss))
            .beside(gaps(stock, loss))
            .because("nine nodes, their clients and the clock share this machine's cores");
        if preset == Preset::Fast {
            row = row.aiming(Aim::AtMost(loss.aim));
        }
        rows.push(row);
    }
    for (role, kib) in &ours.agent_kib {
        let name = format!("agent after all of it, resident, {role}, `{word}`");
        rows.push(Measured::ours(name, Unit::Bytes, Side::Seen(Samples::bytes(kib * 1_024))));
    }
    rows
}

/// How long the writer that goes by the name was not served, each time; a scenario that did not hold has no time.
fn gaps(report: &Report, loss: &Loss) -> Side {
    let tries = || report.scenarios.iter().filter(|scenario| scenario.name == loss.scenario);
    if let Some(broken) = tries().find_map(|scenario| scenario.broken.first()) {
        return Side::Failed(format!("{} did not hold: {broken}", loss.scenario));
    }
    let lengths = tries().filter_map(|scenario| {
        let gap = &scenario.stores.get(loss.store)?.gap;
        Some(seconds(gap.until_ms.saturating_sub(gap.from_ms)))
    });
    Samples::new(lengths.collect()).into()
}

fn seconds(milliseconds: u64) -> f64 {
    std::time::Duration::from_millis(milliseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::row;

    fn report(gap_ms: u64, broken: &str) -> Report {
        let text = format!(
            r#"{{"ready_ms": 16000, "agent_kib": {{"redis": 5000}}, "seed": 1, "scenarios": [
                {{"name": "primary-killed", "turn": 1, "broken": [{broken}],
                  "stores": {{"postgres": {{"reads": 1, "gap": {{"from_ms": 1000, "until_ms": {}}}}}}}}}]}}"#,
            1_000 + gap_ms
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_gap_stands_beside_the_stock_one_and_is_aimed_at_with_the_eager_preset_alone() {
        let rows = rows_of(Preset::Fast, &report(1_500, ""), &report(31_000, ""));
        let lost = row(rows[1].clone());
        assert_eq!(lost.name, "no write, PostgreSQL's primary loses power, `fast`");
        assert!((lost.ours.unwrap().median - 1.5).abs() < 1e-9);
        assert!((lost.stock.unwrap().median - 31.0).abs() < 1e-9);
        assert_eq!(lost.aims[0].met, Some(true));
        assert_eq!(row(rows[5].clone()).ours.unwrap().samples, [5_120_000.0]);
        let wide = rows_of(Preset::Wide, &report(1_500, ""), &report(31_000, ""));
        assert!(wide.iter().all(|row| row.aims.is_empty()));
    }

    #[test]
    fn a_scenario_that_did_not_hold_has_no_time() {
        let rows = rows_of(Preset::Fast, &report(100, "\"2 writes are lost\""), &report(1, ""));
        assert!(!rows[1].is_whole());
        assert_eq!(
            row(rows[1].clone()).why,
            "ours not measured: primary-killed did not hold: 2 writes are lost"
        );
    }
}
