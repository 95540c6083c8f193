//! The measurements, one file each, in the order they are made.

mod assembling;
mod boot;
mod evaluation;
mod idle;
mod losses;
mod programs;
mod sizes;

use std::time::Instant;

use ballast_machines::error::chain;

use crate::bench::{Bench, progress};
use crate::error::{Error, Result};
use crate::options::Name;
use crate::row::{Measured, Row, Side, row};
use crate::samples::Unit;

type Measure = fn(&Bench) -> Result<Vec<Measured>>;

/// Cheap ones first. To add a measurement: its name in `options.rs`, its file here, its line in this table.
const MEASUREMENTS: [(Name, Measure); 7] = [
    (Name::Programs, programs::measure),
    (Name::Sizes, sizes::measure),
    (Name::Evaluation, evaluation::measure),
    (Name::Assembling, assembling::measure),
    (Name::Boot, boot::measure),
    (Name::Idle, idle::measure),
    (Name::Losses, losses::measure),
];

/// Makes every measurement that was asked for, and says whether none of them failed.
///
/// One that cannot be made here becomes a row that says why.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn all(bench: &Bench) -> Result<(Vec<Row>, bool)> {
    let only = &bench.options.only;
    let mut rows = Vec::new();
    let mut whole = true;
    for (name, measure) in MEASUREMENTS {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        progress(&format!("{}: starting", name.word()));
        let start = Instant::now();
        let measured = match measure(bench) {
            Ok(measured) => measured,
            Err(error) if error.is_interrupt() => return Err(Error::Interrupted),
            Err(error) => {
                progress(&format!("{}: {}", name.word(), chain(&error)));
                vec![Measured::ours(name.word(), Unit::Seconds, Side::from_error(&error))]
            }
        };
        whole &= measured.iter().all(Measured::is_whole);
        rows.extend(measured.into_iter().map(row));
        progress(&format!("{}: done in {:.0?}", name.word(), start.elapsed()));
    }
    Ok((rows, whole))
}
