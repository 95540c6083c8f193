//! `ballast-faults`: breaks a whole site on purpose while writers count what it acknowledged, and reports what held.
//!
//! Invariant: nothing outside the run's own namespaces is touched, and nothing is left behind but the report.

mod access;
mod clients;
mod error;
mod fault;
mod ledger;
mod log;
mod report;
mod scenario;
mod seed;
mod soak;
mod stand;
mod timeline;
mod trial;
mod whole;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use ballast_contract::Availability as Preset;
use ballast_machines::cluster::Availability;
use ballast_machines::error::chain;
use ballast_machines::given::Given;
use ballast_machines::helper::{self, Helper};
use ballast_machines::nspawn::NspawnSite;
use ballast_machines::poll;
use clap::{Args, Parser, ValueEnum};

use crate::error::{Error, Result};
use crate::log::say;
use crate::report::Report;
use crate::scenario::{SCENARIOS, Scenario};
use crate::seed::Chance;
use crate::stand::{Late, Plan, Stand};

/// Breaks a whole site on purpose, and counts what it acknowledged and lost
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    helper: Option<Helper>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    #[command(flatten)]
    given: Given,
    /// Print the scenarios and their bounds, and end
    #[arg(long)]
    list: bool,
    /// Try these scenarios alone
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Decides the order of scenarios, the victims and the moments; without it, the clock does
    #[arg(long)]
    seed: Option<u64>,
    /// Try each scenario this often, and tell median and worst
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    /// The site's availability
    #[arg(long, value_enum, default_value_t = Eagerness::Fast)]
    availability: Eagerness,
    /// Over the availability's timings, those that Patroni, Consul and Sentinel come with, and no agreement of peers: what
    /// a site does without Ballast's part, to be compared with
    #[arg(long)]
    stock: bool,
    /// What an acknowledged write to PostgreSQL has survived: synchronous, quorum or asynchronous
    #[arg(long)]
    durability: Option<String>,
    /// Where report.md, report.json and the pictures are written
    #[arg(long, value_name = "DIR", default_value = "faults-report")]
    report: PathBuf,
    /// What it is when a writer waits longer than its bound: a failure, or a line in the report for machines that have
    /// other things to do
    #[arg(long, value_enum, default_value_t = Late::Fail)]
    late: Late,
    /// In place of scenarios: for so long (`90s`, `5m`, `1h`), press CPU, disk, memory and network, and see no failover
    #[arg(long, value_name = "TIME", value_parser = soak::read_time)]
    soak: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Eagerness {
    Fast,
    Normal,
    Wide,
}

impl Eagerness {
    fn layout(self) -> Availability {
        match self {
            Self::Fast => Availability::Fast,
            Self::Normal => Availability::Normal,
            Self::Wide => Availability::Wide,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Normal => "normal",
            Self::Wide => "wide",
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.helper {
        Some(helper) => helper::run(helper).map_err(Error::from),
        None => faults(cli.options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("ballast-faults: {}", chain(&error));
        ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 1 })
    })
}

fn faults(options: Options) -> Result<ExitCode> {
    let chosen = scenario::chosen(&options.only).map_err(Error::Usage)?;
    if options.list {
        print!("{}", list());
        return Ok(ExitCode::SUCCESS);
    }
    poll::catch_interrupts()?;
    if let Some(obstacle) = NspawnSite::obstacle(&options.given.nspawn()) {
        return Err(Error::Lacking(format!("machines cannot run in nspawn: {obstacle}")));
    }
    // Two libraries ask for one; this is the one both were built with. That it is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seed = options.seed.unwrap_or_else(seed_of_the_clock);
    let mut chosen: Vec<_> =
        (1..=options.times).flat_map(|turn| chosen.iter().map(move |s| (*s, turn))).collect();
    Chance::new(seed).shuffle(&mut chosen);
    let plan = Plan {
        given: options.given,
        availability: options.availability.layout(),
        durability: options.durability,
        stock: options.stock,
        late: options.late,
        // Another file system costs time: where none is filled, the host's own is measured.
        small_disks: options.soak.is_none() && chosen.iter().any(|(s, _)| s.fills_a_disk()),
    };
    say(&format!("seed {seed}, load {:.1}", trial::load()));
    let mut stand = Stand::raise(&plan)?;
    let mut report = Report {
        seed,
        availability: options.availability.name().to_owned(),
        stock: options.stock,
        ready: stand.ready,
        memory: BTreeMap::new(),
        host: host(),
        peer_detection: stand.clients.access().postgres.peer_detection,
        scenarios: Vec::new(),
    };
    let nodes: Vec<String> = stand.fleet.nodes().iter().map(|node| node.name.clone()).collect();
    if let Some(time) = options.soak {
        let outcome = soak::run(&mut stand, time)?;
        trial::conclude(&outcome);
        report.scenarios.push(outcome);
        report.save(&options.report, &nodes)?;
    } else {
        let mut left = chosen.into_iter().peekable();
        while let Some((scenario, turn)) = left.next() {
            say(&format!("{}: {}", scenario.name, scenario.tells));
            let outcome = trial::run(&mut stand, scenario, (seed, turn))?;
            trial::conclude(&outcome);
            let whole = outcome.whole.is_some();
            if !(outcome.broken.is_empty() && outcome.late.is_empty()) {
                let journals = stand::journals(&mut stand.fleet, outcome.end);
                report::save_journals(&options.report, &outcome.title(), &journals)?;
            }
            report.scenarios.push(outcome);
            report.memory = stand::memory(&mut stand.fleet);
            // What is known is kept, whatever comes.
            report.save(&options.report, &nodes)?;
            if !whole {
                stand::explain(&mut stand.fleet);
                if left.peek().is_some() {
                    // The next scenario deserves a site that is whole.
                    drop(stand);
                    stand = Stand::raise(&plan)?;
                }
            }
        }
    }
    say(&format!("the report is in {}", options.report.display()));
    println!("{} passed, {} failed", report.passed(), report.failed());
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn seed_of_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed.
    since.as_secs() % 1_000_000
}

fn host() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}, machines as containers", kernel.trim())
}

/// Every scenario with its bounds per preset: PostgreSQL's by agreement of peers, then without; and Redis's.
fn list() -> String {
    let mut text = String::new();
    for Scenario { name, tells, postgres, redis, .. } in SCENARIOS {
        let bounds = |bound: &scenario::Bound, peers: bool| {
            let limits = Preset::ALL.map(|preset| match bound.limit(&preset.timings(), peers) {
                Some(limit) => format!("{:.1}", limit.as_secs_f64()),
                None => "-".to_owned(),
            });
            limits.join(" / ")
        };
        text.push_str(&format!(
            "{name}\n    {tells}\n    no write at most, seconds, fast / normal / wide: PostgreSQL {} ({} without agreement), \
             Redis {}\n",
            bounds(postgres, true),
            bounds(postgres, false),
            bounds(redis, true),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_scenario_and_its_bounds() {
        let list = list();
        assert!(SCENARIOS.iter().all(|scenario| list.contains(scenario.name)));
        assert!(list.contains("PostgreSQL 4.5 / 7.0 / 18.0 (26.0 / 38.0 / 73.0"), "{list}");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
