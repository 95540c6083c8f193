//! One scenario on a site: clients are let loose, something is done to it, it is mended, and everything is counted.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use ballast_machines::error::chain;
use ballast_machines::poll;

use crate::clients::{Record, Store, Working};
use crate::error::Result;
use crate::fault::{self, Hurt};
use crate::ledger::Findings;
use crate::log::{Log, say};
use crate::report::{self, Outcome, Seen};
use crate::scenario::{Bound, Scenario};
use crate::seed::Chance;
use crate::stand::{Late, Stand};
use crate::whole;

/// Acknowledged writes that make a writer steady.
const STEADY: usize = 25;
/// Within which it must be.
const STEADY_WITHIN: Duration = Duration::from_secs(30);
/// Acknowledged writes that show that a store is written to again.
const AGAIN: usize = 10;
/// Beyond its bound a writer is still waited for: how late it is, is worth knowing.
const LATE: Duration = Duration::from_secs(60);
/// Within which the site must be whole again.
const WHOLE_WITHIN: Duration = Duration::from_secs(240);
/// How long is still written to a site that is whole.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// How often it is tried to read everything back.
const READINGS: u8 = 10;

/// Tries a scenario, this seed's for the so manieth time. What does not hold stands in the outcome.
///
/// # Errors
/// When the user interrupts, or the clients cannot be run.
pub fn run(stand: &mut Stand, scenario: &Scenario, (seed, turn): (u64, u32)) -> Result<Outcome> {
    let load = load();
    let mut chance = Chance::of(seed, &report::title(scenario.name, turn));
    let mut log = Log::start();
    let working = stand.clients.start(log.origin())?;
    let mut broken = Vec::new();
    wait_until_steady(&working, &mut broken)?;
    thread::sleep(chance.moment(Duration::from_secs(1)));

    let fault = log.now();
    let mut hurts = Vec::new();
    if let Err(error) = hurt(stand, scenario, &working, &mut chance, &mut log, &mut hurts) {
        if error.is_interrupt() {
            return Err(error);
        }
        broken.push(chain(&error));
    }
    for hurt in hurts.iter().rev() {
        if let Err(error) = fault::mend(&mut stand.fleet, &stand.clients, hurt, &mut log) {
            broken.push(chain(&error));
        }
    }
    let mended = log.now();
    let whole = match whole::wait(&mut stand.fleet, &stand.clients, WHOLE_WITHIN)? {
        Ok(()) => Some(log.now().saturating_sub(mended)),
        Err(why) => {
            broken.push(format!("the site is not whole after {} s: {why}", WHOLE_WITHIN.as_secs()));
            None
        }
    };
    thread::sleep(AFTERWARDS);
    let end = log.now();
    let stores = judge(stand, scenario, &working.stop(), fault, end, &mut broken)?;
    let mut late: Vec<String> =
        stores.iter().filter_map(|(store, seen)| seen.late(*store)).collect();
    if stand.late == Late::Fail {
        broken.append(&mut late);
    }
    Ok(Outcome {
        name: scenario.name.to_owned(),
        turn,
        tells: scenario.tells.to_owned(),
        load,
        fault,
        whole,
        end,
        events: log.events(),
        stores,
        broken,
        late,
    })
}

/// Waits until both writers are served.
///
/// # Errors
/// When the user interrupts.
pub fn wait_until_steady(working: &Working, broken: &mut Vec<String>) -> Result<()> {
    for store in Store::ALL {
        loop {
            poll::check_interrupt()?;
            let (count, complaint) = working.progress(store, Duration::ZERO);
            if count >= STEADY {
                break;
            }
            if working.now() > STEADY_WITHIN {
                broken.push(format!(
                    "{} was not written to before anything was done: {complaint}",
                    store.name()
                ));
                break;
            }
            poll::nap(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Does all steps, and stays until writers are served again.
fn hurt(
    stand: &mut Stand,
    scenario: &Scenario,
    working: &Working,
    chance: &mut Chance,
    log: &mut Log,
    hurts: &mut Vec<Hurt>,
) -> Result<()> {
    // Who they are, is asked while they can still say so.
    let mut all = Vec::new();
    for step in scenario.steps {
        all.push(fault::victims(&mut stand.fleet, &stand.clients, working, step.victim, chance)?);
    }
    let mut since = log.now();
    for (number, (step, victims)) in scenario.steps.iter().zip(all).enumerate() {
        since = log.now();
        hurts.extend(fault::apply(&mut stand.fleet, &stand.clients, step, victims, log)?);
        if number + 1 < scenario.steps.len() {
            let rest = step.lasts.saturating_sub(log.now().saturating_sub(since));
            poll::nap(rest);
        }
    }
    let lasts = scenario.steps.last().map(|step| step.lasts).unwrap_or_default();
    loop {
        poll::check_interrupt()?;
        let passed = log.now().saturating_sub(since);
        let waiting = Store::ALL.into_iter().any(|store| {
            let limit = stand.limit(bound(scenario, store));
            let written = working.progress(store, since).0 >= AGAIN;
            limit.is_some_and(|limit| !written && passed < limit + LATE)
        });
        if passed >= lasts && !waiting {
            return Ok(());
        }
        poll::nap(Duration::from_millis(50));
    }
}

fn bound(scenario: &Scenario, store: Store) -> Bound {
    match store {
        Store::Postgres => scenario.postgres,
        Store::Redis => scenario.redis,
    }
}

/// Reads everything back and holds it against what was acknowledged.
fn judge(
    stand: &Stand,
    scenario: &Scenario,
    records: &BTreeMap<Store, Record>,
    fault: Duration,
    end: Duration,
    broken: &mut Vec<String>,
) -> Result<BTreeMap<Store, Seen>> {
    let mut stores = BTreeMap::new();
    for (store, record) in records {
        let ids: Vec<u64> = record.ledger.writes().iter().map(|write| write.id).collect();
        let findings = match read_back(stand, *store, &ids)? {
            Ok(found) => record.ledger.compare(&found),
            Err(why) => {
                broken.push(format!("{} cannot be read back: {why}", store.name()));
                Findings::default()
            }
        };
        let limit = stand.limit(bound(scenario, *store));
        let seen = Seen::new(record, findings, fault, end, limit);
        broken.extend(seen.broken(*store, stand.may_lose(*store)));
        broken.extend(record.ledger.two_primaries());
        stores.insert(*store, seen);
    }
    Ok(stores)
}

/// Reads back what is there of these writes.
///
/// # Errors
/// When the clients cannot be run, or the user interrupts.
pub fn read_back(
    stand: &Stand,
    store: Store,
    ids: &[u64],
) -> Result<std::result::Result<BTreeMap<u64, u32>, String>> {
    let mut last = String::new();
    for _ in 0..READINGS {
        poll::check_interrupt()?;
        match stand.clients.read_back(store, ids)? {
            Ok(found) => return Ok(Ok(found)),
            Err(why) => last = why,
        }
        poll::nap(Duration::from_secs(1));
    }
    Ok(Err(last))
}

/// The machine's load, as an average of the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// One line for whoever watches.
pub fn conclude(outcome: &Outcome) {
    let verdict = if outcome.broken.is_empty() { "ok" } else { "FAILED" };
    let gaps: Vec<String> = outcome
        .stores
        .iter()
        .map(|(store, seen)| format!("{} {:.2} s", store.name(), seen.gap.length().as_secs_f64()))
        .collect();
    println!(
        "test {} ... {verdict}  ({}; load {:.1})",
        outcome.title(),
        gaps.join(", "),
        outcome.load
    );
    for reason in &outcome.broken {
        say(&format!("  {reason}"));
    }
    for reason in &outcome.late {
        say(&format!("  late: {reason}"));
    }
}
