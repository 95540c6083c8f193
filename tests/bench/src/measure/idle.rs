//! Memory and processor time of the agent on a node that is `passing` and otherwise left alone.
//!
//! In a container where that is possible: there its instructions take what they take, and are not translated.

use std::time::{Duration, Instant};

use ballast_machines::cluster::CONSUL_SERVER;
use ballast_machines::machine::{Bundle, Machine, Site, Wanted};
use ballast_machines::nspawn::NspawnSite;
use ballast_machines::poll;
use ballast_machines::programs::tail;
use ballast_machines::qemu::{Accel, QemuSite};

use crate::bench::{Bench, progress};
use crate::error::{Error, Result};
use crate::node_bundle;
use crate::row::{Aim, Measured};
use crate::samples::{Samples, Unit};

const RESIDENT_BYTES: f64 = 8e6;
const PERCENT: f64 = 0.1;
const PASSING_LIMIT: Duration = Duration::from_secs(300);
/// After `passing` the agent still looks at the catalogue and the access rules for the first time.
const SETTLING: Duration = Duration::from_secs(30);
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// One look: the unit's processor time so far in nanoseconds, its children's included, and what the agent maps.
const LOOK: &str = "\
systemctl show -P CPUUsageNSec ballast.service
cat /proc/$(systemctl show -P MainPID ballast.service)/smaps_rollup";

/// Rows: resident memory, private memory, processor time.
pub fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let dir = bench.dir("idle")?;
    let bundle = node_bundle::save(bench.options.given.ballast(), &dir)?;
    let (site, place) = site(bench, &dir)?;
    let mut machine = site.machine(Wanted {
        bundle: Bundle::Credential(bundle),
        ..Wanted::new(node_bundle::NODE, 1, CONSUL_SERVER)
    })?;
    machine.power_on()?;
    wait_until_passing(machine.as_mut())?;
    progress(&format!(
        "the node is passing, {place}; watching it for {} min",
        bench.options.idle_minutes
    ));
    wait(machine.as_mut(), SETTLING)?;
    let looks = watch(machine.as_mut(), bench.options.idle_minutes)?;
    machine.kill()?;
    Ok(rows(&looks, &place))
}

fn site(bench: &Bench, dir: &std::path::Path) -> Result<(Box<dyn Site>, String)> {
    let given = &bench.options.given;
    let nspawn = given.nspawn();
    let Some(obstacle) = NspawnSite::obstacle(&nspawn) else {
        let site = NspawnSite::new(nspawn, given.images()?, dir)?;
        return Ok((Box::new(site), "in a container".into()));
    };
    let (accel, _) = bench.accel()?;
    let place = match accel {
        Accel::Kvm => "in QEMU with KVM",
        Accel::Tcg => "in QEMU, where each instruction is translated and takes many times its own",
    };
    let site = QemuSite::new(given.hardware(accel)?, dir);
    Ok((Box::new(site), format!("{place} (no container: {obstacle})")))
}

/// Asks the agent itself, which asks Consul.
fn wait_until_passing(machine: &mut dyn Machine) -> Result<()> {
    let start = Instant::now();
    let script = "journalctl -b -o cat -u ballast.service";
    loop {
        let said = machine.run(script, PASSING_LIMIT)?.text;
        if said.contains(crate::phases::ROLE.1) {
            return Ok(());
        }
        if start.elapsed() > PASSING_LIMIT {
            let what = "the node to be passing".to_owned();
            return Err(Error::Deadline { what, limit: PASSING_LIMIT, seen: tail(&said, 4) });
        }
        wait(machine, Duration::from_secs(1))?;
    }
}

/// Leaves the machine alone, but not when it has ended.
fn wait(machine: &mut dyn Machine, time: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        poll::check_interrupt()?;
        if !machine.is_on() {
            let seen = tail(&machine.console().text(), 4);
            return Err(Error::Deadline {
                what: "an idle machine to stay on".into(),
                limit: time,
                seen,
            });
        }
        poll::nap(Duration::from_millis(200).min(time));
    }
    Ok(())
}

/// One look at the agent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    at: Instant,
    /// Nanoseconds.
    processor: u64,
    resident_bytes: u64,
    private_bytes: u64,
}

fn watch(machine: &mut dyn Machine, minutes: u32) -> Result<Vec<Look>> {
    let mut looks = vec![look(machine)?];
    for minute in 1..=minutes {
        wait(machine, Duration::from_secs(60))?;
        looks.push(look(machine)?);
        progress(&format!("idle for {minute} of {minutes} min"));
    }
    Ok(looks)
}

fn look(machine: &mut dyn Machine) -> Result<Look> {
    let ran = machine.run(LOOK, LOOK_LIMIT)?;
    read_look(&ran.text, Instant::now()).ok_or_else(|| {
        Error::Lacking(format!("the agent cannot be looked at: {}", tail(&ran.text, 3)))
    })
}

/// Reads what [`LOOK`] prints: a number, and smaps_rollup (proc_pid_smaps(5)).
fn read_look(text: &str, at: Instant) -> Option<Look> {
    let mut lines = text.lines();
    let processor = lines.next()?.trim().parse().ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let private = kib("Private_Clean:")? + kib("Private_Dirty:")?;
    Some(Look { at, processor, resident_bytes: kib("Rss:")? * 1024, private_bytes: private * 1024 })
}

fn rows(looks: &[Look], place: &str) -> Vec<Measured> {
    let memory = |bytes: fn(&Look) -> u64| {
        let samples = looks.iter().flat_map(|look| Samples::bytes(bytes(look)).all().to_vec());
        Samples::new(samples.collect()).into()
    };
    let percent = looks.windows(2).filter_map(|pair| match pair {
        [before, after] => {
            let wall = after.at.saturating_duration_since(before.at).as_secs_f64();
            let spent = Duration::from_nanos(after.processor.saturating_sub(before.processor))
                .as_secs_f64();
            Some(100.0 * spent / wall)
        }
        _ => None,
    });
    vec![
        Measured::ours("idle agent, resident", Unit::Bytes, memory(|look| look.resident_bytes))
            .aiming(Aim::AtMost(RESIDENT_BYTES))
            .because(place),
        Measured::ours("idle agent, private", Unit::Bytes, memory(|look| look.private_bytes))
            .because(place),
        Measured::ours(
            "idle agent, of a core, by the minute",
            Unit::PercentOfACore,
            Samples::new(percent.collect()).into(),
        )
        .aiming(Aim::AtMost(PERCENT))
        .because(place),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "123456789\n55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:                6144 kB\nPss: 1 kB\nPrivate_Clean:       100 kB\nPrivate_Dirty:      2000 kB\n";

    #[test]
    fn a_look_reads_memory_in_bytes() {
        let look = read_look(TEXT, Instant::now()).unwrap();
        assert_eq!((look.processor, look.resident_bytes), (123_456_789, 6144 * 1024));
        assert_eq!(look.private_bytes, 2100 * 1024);
    }

    #[test]
    fn a_unit_without_accounting_is_no_zero() {
        assert_eq!(read_look(&TEXT.replace("123456789", "[not set]"), Instant::now()), None);
    }

    #[test]
    fn processor_time_is_a_share_of_the_time_between_looks() {
        let first = read_look(TEXT, Instant::now()).unwrap();
        let after = Look {
            at: first.at + Duration::from_secs(60),
            processor: first.processor + 60_000_000,
            ..first
        };
        let rows: Vec<_> = rows(&[first, after], "").into_iter().map(crate::row::row).collect();
        assert!((rows[2].ours.as_ref().unwrap().median - 0.1).abs() < 1e-9);
    }
}
