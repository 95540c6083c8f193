//! The time from power-on to `passing`, by phase: our image beside a stock one, in turns, on the same virtual hardware,
//! through the same firmware and boot loader, with Debian's cloud kernel.
//!
//! Each side boots a fresh disk as it ships, is switched off in order, and boots again. Kernel and journal are shown on
//! the console on both sides, because that is where the phases are read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ballast_machines::cluster::CONSUL_SERVER;
use ballast_machines::error::chain;
use ballast_machines::machine::{Boot, Bundle, Machine, Site, Wanted};
use ballast_machines::poll;
use ballast_machines::programs::tail;
use ballast_machines::qemu::{Hardware, QemuSite};

use crate::bench::{Bench, progress};
use crate::error::{Error, Result};
use crate::node_bundle;
use crate::phases::{EVERY, Ending, Phase, ROLE, Timeline, timeline};
use crate::row::{Aim, Measured, Side};
use crate::samples::{Samples, Unit};

/// What a boot of ours takes, of a stock one.
const STOCK_PARTS: f64 = 3.0;
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const OFF_LIMIT: Duration = Duration::from_secs(90);
const WORDS: [&str; 3] = [
    "loglevel=7",
    "systemd.journald.forward_to_console=1",
    // A stock Debian would ask for a login where the driver's shell is.
    "systemd.mask=serial-getty@hvc0.service",
];

/// Rows: first boot by phase, first boot, second boot.
pub fn measure(bench: &Bench) -> Result<Vec<Measured>> {
    let (accel, _) = bench.accel()?;
    let mut hardware = bench.options.given.hardware(accel)?;
    hardware.words = WORDS.map(str::to_owned).to_vec();
    let dir = bench.dir("boot")?;
    let bundle = node_bundle::save(bench.options.given.ballast(), &dir)?;
    let ours = Kind {
        name: "ours",
        bundle: Bundle::Credential(bundle),
        disk: None,
        endings: EVERY.into_iter().chain([ROLE]).collect(),
    };
    let stock = bench.stock().map(|stock| Kind {
        name: "stock",
        bundle: Bundle::None,
        disk: Some(stock.disk()),
        endings: EVERY.to_vec(),
    });
    let mut sides = [Boots::of(Ok(ours)), Boots::of(stock)];
    for run in 1..=bench.options.runs {
        for side in &mut sides {
            side.boot_twice(&hardware, &dir, run)?;
        }
    }
    let [ours, stock] = &sides;
    Ok(rows(ours, stock))
}

/// The boots of one side, or what has kept it from booting.
struct Boots {
    kind: Result<Kind>,
    first: Vec<Timeline>,
    second: Vec<Timeline>,
}

impl Boots {
    fn of(kind: Result<Kind>) -> Self {
        Self { kind, first: Vec::new(), second: Vec::new() }
    }

    /// A fresh machine, twice; a side that has failed is left alone, so that the other one still stands.
    fn boot_twice(&mut self, hardware: &Hardware, dir: &Path, run: u32) -> Result<()> {
        let Ok(kind) = &self.kind else { return Ok(()) };
        let dir = dir.join(format!("{}-{run}", kind.name));
        fs::create_dir(&dir).map_err(Error::file("making", &dir))?;
        // Boots that came to their end stand, whatever follows them.
        match kind.boot_twice(hardware, &dir, &mut self.first, &mut self.second) {
            Ok(()) => {}
            Err(error) if error.is_interrupt() => return Err(error),
            Err(error) => {
                progress(&chain(&error));
                self.kind = Err(error);
            }
        }
        fs::remove_dir_all(&dir).map_err(Error::file("removing", &dir))
    }

    fn side(&self, boots: &[Timeline], seconds: &dyn Fn(&Timeline) -> Option<f64>) -> Side {
        match (&self.kind, Samples::new(boots.iter().filter_map(seconds).collect())) {
            (_, Some(samples)) => Side::Seen(samples),
            (Err(error), None) => Side::from_error(error),
            // A phase this side does not have.
            (Ok(_), None) => Side::Nothing,
        }
    }
}

/// One side.
struct Kind {
    name: &'static str,
    bundle: Bundle,
    disk: Option<PathBuf>,
    endings: Vec<Ending>,
}

impl Kind {
    fn boot_twice(
        &self,
        hardware: &Hardware,
        dir: &Path,
        first: &mut Vec<Timeline>,
        second: &mut Vec<Timeline>,
    ) -> Result<()> {
        let site = QemuSite::new(hardware.clone(), dir);
        let mut machine = site.machine(Wanted {
            bundle: self.bundle.clone(),
            boot: Boot::Firmware,
            disk: self.disk.clone(),
            ..Wanted::new(node_bundle::NODE, 1, CONSUL_SERVER)
        })?;
        first.push(self.boot(machine.as_mut(), "first boot")?);
        switch_off(machine.as_mut())?;
        second.push(self.boot(machine.as_mut(), "second boot")?);
        machine.kill()?;
        Ok(())
    }

    fn boot(&self, machine: &mut dyn Machine, which: &str) -> Result<Timeline> {
        let console = machine.console().clone();
        let place = console.len();
        let start = Instant::now();
        machine.power_on()?;
        let seen = |line: &str| {
            console
                .arrival_since(place, line)
                .map(|at| at.saturating_duration_since(start).as_secs_f64())
        };
        loop {
            poll::check_interrupt()?;
            let stopped = match timeline(&self.endings, seen) {
                Ok(timeline) => {
                    progress(&format!("{}, {which}: {}", self.name, describe(&timeline)));
                    return Ok(timeline);
                }
                Err(phase) => phase,
            };
            if start.elapsed() > BOOT_LIMIT || !machine.is_on() {
                return Err(Error::Deadline {
                    what: format!("{}, {which}, to leave the phase {}", self.name, stopped.name()),
                    limit: start.elapsed(),
                    seen: tail(&console.since(place).replace('\r', ""), 12),
                });
            }
            poll::nap(Duration::from_millis(50));
        }
    }
}

/// Switches the machine off in order, so that its disk is whole for the next boot.
fn switch_off(machine: &mut dyn Machine) -> Result<()> {
    // By force: services are ended and file systems unmounted, but nobody waits for the shell that this comes from.
    machine.run("(sleep 1; exec systemctl --force poweroff) >/dev/null 2>&1 &", OFF_LIMIT)?;
    let start = Instant::now();
    while machine.is_on() {
        if start.elapsed() > OFF_LIMIT {
            let seen = tail(&machine.console().text(), 6);
            return Err(Error::Deadline {
                what: "a machine to switch off".into(),
                limit: OFF_LIMIT,
                seen,
            });
        }
        poll::check_interrupt()?;
        poll::nap(Duration::from_millis(100));
    }
    Ok(())
}

fn describe(timeline: &Timeline) -> String {
    let phases = timeline.phases.iter().map(|(phase, took)| format!("{} {took:.1}", phase.name()));
    format!("{:.1} s ({})", timeline.total, phases.collect::<Vec<_>>().join(", "))
}

fn rows(ours: &Boots, stock: &Boots) -> Vec<Measured> {
    let mut rows = Vec::new();
    for (name, our, theirs) in [
        ("power-on to passing, first boot", &ours.first, &stock.first),
        ("power-on to passing, second boot", &ours.second, &stock.second),
    ] {
        let row = |name: String, seconds: &dyn Fn(&Timeline) -> Option<f64>| {
            Measured::ours(name, Unit::Seconds, ours.side(our, seconds))
                .beside(stock.side(theirs, seconds))
        };
        let whole = row(name.to_owned(), &|timeline| Some(timeline.total));
        rows.push(whole.aiming(Aim::PartOfStock(STOCK_PARTS)).because(because(our)));
        for (phase, _) in EVERY.into_iter().chain([ROLE]) {
            let mut row = row(format!("– {}", phase.name()), &|timeline| timeline.of(phase));
            // The row of the whole has said why.
            for side in [&mut row.ours, &mut row.stock] {
                if !matches!(side, Side::Seen(_)) {
                    *side = Side::Nothing;
                }
            }
            rows.push(row);
        }
    }
    rows
}

/// What our boots spend their time on, the longest first.
fn because(ours: &[Timeline]) -> String {
    let median = |phase: Phase| {
        Samples::new(ours.iter().filter_map(|timeline| timeline.of(phase)).collect())
            .map(|s| s.median())
    };
    let mut phases: Vec<(Phase, f64)> = EVERY
        .into_iter()
        .chain([ROLE])
        .filter_map(|(phase, _)| median(phase).map(|took| (phase, took)))
        .collect();
    phases.sort_by(|a, b| b.1.total_cmp(&a.1));
    let longest: Vec<String> = phases
        .iter()
        .take(3)
        .map(|(phase, took)| format!("{} {took:.1} s", phase.name()))
        .collect();
    let fixed: f64 =
        [Phase::Firmware, Phase::Loader, Phase::Kernel].into_iter().filter_map(median).sum();
    format!(
        "longest: {}; firmware, loader and kernel are {fixed:.1} s, which no image changes much",
        longest.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::row;

    fn boots(at: &[(Phase, f64)]) -> Boots {
        let timeline =
            Timeline { phases: at.to_vec(), total: at.iter().map(|(_, took)| took).sum() };
        let kind = Kind { name: "", bundle: Bundle::None, disk: None, endings: Vec::new() };
        Boots { kind: Ok(kind), first: vec![timeline.clone()], second: vec![timeline] }
    }

    #[test]
    fn the_reason_names_where_the_time_goes() {
        let ours = boots(&[(Phase::Firmware, 2.0), (Phase::Kernel, 3.0), (Phase::Consul, 9.0)]);
        let stock = boots(&[(Phase::Firmware, 2.0), (Phase::Consul, 19.0)]);
        let rows: Vec<_> = rows(&ours, &stock).into_iter().map(row).collect();
        assert_eq!(rows[0].aims[0].met, Some(false));
        assert!(rows[0].why.starts_with("longest: Consul 9.0 s, kernel 3.0 s, firmware 2.0 s; "));
        assert!(rows[0].why.contains("are 5.0 s"));
    }

    #[test]
    fn a_phase_that_a_side_does_not_have_is_nothing_missing() {
        let ours = boots(&[(Phase::Firmware, 2.0), (Phase::Role, 3.0)]);
        let rows = rows(&ours, &boots(&[(Phase::Firmware, 2.0)]));
        let role = rows.into_iter().find(|row| row.name == "– role").map(row).unwrap();
        assert_eq!((role.ours.unwrap().median, role.why.as_str()), (3.0, ""));
        assert!(role.stock.is_none());
    }

    #[test]
    fn without_a_stock_side_ours_still_stands() {
        let stock = Boots::of(Err(Error::Lacking("needs root".into())));
        let row = row(rows(&boots(&[(Phase::Firmware, 2.0)]), &stock).into_iter().next().unwrap());
        assert_eq!(row.ours.unwrap().median, 2.0);
        assert_eq!(row.why, "stock not measured: needs root");
    }
}
