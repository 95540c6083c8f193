//! The time from power-on to `passing`, by phase: our image beside a stock one, in turns, on the same virtual hardware,
//! through the same firmware and boot loader, with Debian's cloud kernel.
//!
//! Each side boots a fresh disk as it ships, is switched off in order, and boots again. Kernel and journal are shown on
//! the console on both sides, because that is where the phases are read.

use std::path::PathBuf;
use std::time::{Duration, Instant};

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
const WORDS: [&str; 2] = ["loglevel=7", "systemd.journald.forward_to_console=1"];

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
    let mut boots = [Boots::default(), Boots::default()];
    for run in 1..=bench.options.runs {
        for (kind, boots) in [Some(&ours), stock.as_ref().ok()].into_iter().zip(&mut boots) {
            let Some(kind) = kind else { continue };
            let dir = dir.join(format!("{}-{run}", kind.name));
            std::fs::create_dir(&dir).map_err(Error::file("making", &dir))?;
            kind.boot_twice(&hardware, &dir, boots)?;
            std::fs::remove_dir_all(&dir).map_err(Error::file("removing", &dir))?;
        }
    }
    let [ours, stock_boots] = &boots;
    let missing = stock.err().map(|error| chain(&error));
    Ok(rows(ours, stock_boots, missing.as_deref()))
}

/// The boots of one side.
#[derive(Default)]
struct Boots {
    first: Vec<Timeline>,
    second: Vec<Timeline>,
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
        dir: &std::path::Path,
        boots: &mut Boots,
    ) -> Result<()> {
        let site = QemuSite::new(hardware.clone(), dir);
        let mut machine = site.machine(Wanted {
            name: node_bundle::NODE.into(),
            number: 1,
            bundle: self.bundle.clone(),
            boot: Boot::Firmware,
            disk: self.disk.clone(),
            credentials: Vec::new(),
        })?;
        boots.first.push(self.boot(machine.as_mut(), "first boot")?);
        switch_off(machine.as_mut())?;
        boots.second.push(self.boot(machine.as_mut(), "second boot")?);
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

/// Switches the machine off as its user would, so that its disk is whole for the next boot.
fn switch_off(machine: &mut dyn Machine) -> Result<()> {
    machine.run("systemctl --no-block poweroff", OFF_LIMIT)?;
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

fn rows(ours: &Boots, stock: &Boots, missing: Option<&str>) -> Vec<Measured> {
    let side = |boots: &[Timeline], seconds: &dyn Fn(&Timeline) -> Option<f64>| {
        Samples::new(boots.iter().filter_map(seconds).collect())
    };
    let beside = |boots: &[Timeline], seconds: &dyn Fn(&Timeline) -> Option<f64>| match missing {
        Some(reason) => Side::Missing(reason.to_owned()),
        None => side(boots, seconds).map_or(Side::Nothing, Side::Seen),
    };
    let mut rows = Vec::new();
    for (name, ours, stock) in [
        ("power-on to passing, first boot", &ours.first, &stock.first),
        ("power-on to passing, second boot", &ours.second, &stock.second),
    ] {
        let whole = |timeline: &Timeline| Some(timeline.total);
        rows.push(
            Measured::ours(name, Unit::Seconds, side(ours, &whole).into())
                .beside(beside(stock, &whole))
                .aiming(Aim::PartOfStock(STOCK_PARTS))
                .because(because(ours)),
        );
        for phase in EVERY.into_iter().chain([ROLE]).map(|(phase, _)| phase) {
            let one = |timeline: &Timeline| timeline.of(phase);
            rows.push(
                Measured::ours(
                    format!("– {}", phase.name()),
                    Unit::Seconds,
                    side(ours, &one).into(),
                )
                .beside(beside(stock, &one)),
            );
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

    fn boots(at: &[(Phase, f64)]) -> Boots {
        let timeline =
            Timeline { phases: at.to_vec(), total: at.iter().map(|(_, took)| took).sum() };
        Boots { first: vec![timeline.clone()], second: vec![timeline] }
    }

    #[test]
    fn the_reason_names_where_the_time_goes() {
        let ours = boots(&[(Phase::Firmware, 2.0), (Phase::Kernel, 3.0), (Phase::Consul, 9.0)]);
        let stock = boots(&[(Phase::Firmware, 2.0), (Phase::Consul, 19.0)]);
        let rows: Vec<_> = rows(&ours, &stock, None).into_iter().map(crate::row::row).collect();
        assert_eq!(rows[0].aims[0].met, Some(false));
        assert!(rows[0].why.starts_with("longest: Consul 9.0 s, kernel 3.0 s, firmware 2.0 s; "));
        assert!(rows[0].why.contains("are 5.0 s"));
    }

    #[test]
    fn without_a_stock_side_ours_still_stands() {
        let ours = boots(&[(Phase::Firmware, 2.0)]);
        let rows = rows(&ours, &Boots::default(), Some("needs root"));
        let row = crate::row::row(rows.into_iter().next().unwrap());
        assert_eq!(row.ours.unwrap().median, 2.0);
        assert_eq!(row.why, "stock not measured: needs root");
    }
}
