//! The soak: CPU, disk and memory under pressure and packets lost, for a long time; and no failover.

use std::time::{Duration, Instant};

use ballast_machines::poll;

use crate::clients::Store;
use crate::error::{Error, Result};
use crate::ledger::Findings;
use crate::log::{Log, say};
use crate::report::{Outcome, Seen};
use crate::stand::Stand;
use crate::timeline::State;
use crate::trial;
use crate::whole;

/// Percent of packets that are lost between any two nodes.
const LOSS: u8 = 5;
const SCRIPT: Duration = Duration::from_secs(30);
const WHOLE_WITHIN: Duration = Duration::from_secs(120);

/// What presses a machine, as a unit in it: bounded, and at an end with the soak.
const CPU: &str = "while :; do :; done";
const DISK: &str =
    "while :; do dd if=/dev/zero of=/var/ballast-soak bs=1M count=64 conv=fsync 2> /dev/null; done";
/// `tail` keeps a line until it ends, which is 256 MiB later; then all of it once more.
const MEMORY: &str = "while :; do head -c 256M /dev/zero | tail -n 1 > /dev/null; done";

/// Reads a time as people write it.
///
/// # Errors
/// Why it is none, as a sentence.
pub fn read_time(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 90s, 5m or 1h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|all| *all > 0).map(Duration::from_secs).ok_or_else(wrong)
}

/// Presses a site for this time.
///
/// # Errors
/// When the user interrupts, or a machine will not have it done.
pub fn run(stand: &mut Stand, time: Duration) -> Result<Outcome> {
    let load = trial::load();
    let mut log = Log::start();
    let working = stand.clients.start(log.origin())?;
    let mut broken = Vec::new();
    trial::wait_until_steady(&working, &mut broken)?;
    let primaries: Vec<(Store, String)> =
        Store::ALL.into_iter().filter_map(|store| Some((store, working.primary(store)?))).collect();
    let fault = log.now();
    press(stand, &primaries, time, &mut log)?;
    let start = Instant::now();
    let mut told = Instant::now();
    while start.elapsed() < time {
        poll::check_interrupt()?;
        poll::nap(Duration::from_millis(500));
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            say(&format!("  {} s, load {:.1}", start.elapsed().as_secs(), trial::load()));
        }
    }
    release(stand, &mut log)?;
    let mended = log.now();
    let whole = match whole::wait(&mut stand.fleet, &stand.clients, WHOLE_WITHIN)? {
        Ok(()) => Some(log.now().saturating_sub(mended)),
        Err(why) => {
            broken.push(format!("the site is not whole: {why}"));
            None
        }
    };
    let end = log.now();
    let mut stores = std::collections::BTreeMap::new();
    for (store, record) in working.stop() {
        let ids: Vec<u64> = record.ledger.writes().iter().map(|write| write.id).collect();
        let findings = match trial::read_back(stand, store, &ids)? {
            Ok(found) => record.ledger.compare(&found),
            Err(why) => {
                broken.push(format!("{} cannot be read back: {why}", store.name()));
                Findings::default()
            }
        };
        let seen = Seen::new(&record, findings, fault, end, None);
        broken.extend(seen.broken(store, stand.may_lose(store)));
        broken.extend(record.ledger.two_primaries());
        broken.extend(record.ledger.failover().map(|said| format!("{}: {said}", store.name())));
        stores.insert(store, seen);
    }
    Ok(Outcome {
        name: "soak".to_owned(),
        turn: 1,
        tells: format!(
            "CPU, disk and memory are pressed and {LOSS} % of packets lost for {} s, and nothing fails over",
            time.as_secs()
        ),
        load,
        fault,
        whole,
        end,
        events: log.events(),
        stores,
        broken,
        late: Vec::new(),
    })
}

/// The primaries bear all of it, and every link loses packets.
fn press(
    stand: &mut Stand,
    primaries: &[(Store, String)],
    time: Duration,
    log: &mut Log,
) -> Result<()> {
    let limit = time.as_secs() + 60;
    for (_, node) in primaries {
        for (name, what) in [("cpu", CPU), ("disk", DISK), ("memory", MEMORY)] {
            let script = format!(
                "systemd-run --quiet --collect --unit=ballast-soak-{name} --property=RuntimeMaxSec={limit} \
                 /bin/sh -c '{what}'"
            );
            let ran = stand.fleet.machine(node)?.run(&script, SCRIPT)?;
            if ran.status != 0 {
                return Err(Error::Lacking(format!("{node} cannot be pressed: {}", ran.text)));
            }
        }
        log.note(node, State::Hurt, "CPU, disk and memory are pressed");
    }
    lose(stand, LOSS)?;
    say(&format!("  {LOSS} % of packets are lost between any two nodes"));
    Ok(())
}

fn release(stand: &mut Stand, log: &mut Log) -> Result<()> {
    lose(stand, 0)?;
    let nodes: Vec<String> = stand.fleet.nodes().iter().map(|node| node.name.clone()).collect();
    for node in nodes {
        let script = "systemctl stop 'ballast-soak-*' && rm -f /var/ballast-soak";
        stand.fleet.machine(&node)?.run(script, SCRIPT)?;
        log.note(&node, State::Well, "released");
    }
    Ok(())
}

fn lose(stand: &Stand, percent: u8) -> Result<()> {
    let nodes = stand.fleet.nodes();
    for (place, one) in nodes.iter().enumerate() {
        for other in nodes.iter().skip(place + 1) {
            stand.fleet.site().lose(&one.name, &other.name, percent)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_not_nothing() {
        assert_eq!(read_time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(read_time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(read_time("1h"), Ok(Duration::from_secs(3_600)));
        for wrong in ["", "5", "m", "0s", "5mm m", "-1s", "9999999999999999999h", "5ä"] {
            assert!(read_time(wrong).is_err(), "{wrong}");
        }
    }
}
