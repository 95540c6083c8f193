//! `ballast-bench`: measures what is built and what it does, beside a stock Debian in the same run, as a table and as JSON.
//!
//! Invariant: what cannot be measured here stands in the table with the reason; nothing is left behind.

mod bench;
mod error;
mod machine;
mod measure;
mod node_bundle;
mod options;
mod phases;
mod row;
mod samples;
mod stock;
mod table;
mod timed;

use std::path::Path;
use std::process::ExitCode;

use ballast_machines::error::chain;
use ballast_machines::helper::{self, Helper};
use ballast_machines::poll;
use clap::Parser;
use serde::Serialize;

use crate::bench::{Bench, progress};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::options::Options;
use crate::row::Row;

/// Measures images, machines and programs, beside a stock Debian made of the same packages.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    helper: Option<Helper>,
    #[command(flatten)]
    options: Options,
}

/// Everything a run found out, as it is kept.
#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    rows: &'a [Row],
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.helper {
        Some(helper) => helper::run(helper).map_err(Error::from),
        None => bench(cli.options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("ballast-bench: {}", chain(&error));
        ExitCode::FAILURE
    })
}

fn bench(options: Options) -> Result<ExitCode> {
    poll::catch_interrupts()?;
    let json = options.json.clone();
    let bench = Bench::new(options)?;
    let accelerator = match bench.accel() {
        Ok((accel, why)) => format!("QEMU {accel:?}, {why}"),
        Err(error) => format!("none, {}", chain(&error)),
    };
    let machine = Machine::look(accelerator);
    progress(&machine.describe());
    let (rows, whole) = measure::all(&bench)?;
    println!("{}\n\n{}", machine.describe(), table::write_table(&rows));
    if let Some(path) = json {
        save(&path, &Report { machine: &machine, rows: &rows })?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn save(path: &Path, report: &Report) -> Result<()> {
    let document = |source| Error::Document { path: path.into(), source };
    let mut text = serde_json::to_string_pretty(report).map_err(document)?;
    text.push('\n');
    std::fs::write(path, text).map_err(Error::file("writing", path))
}
