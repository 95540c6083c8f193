//! `ballast-machines`: machines from our images, for the tests and for `lab`.

use std::process::ExitCode;

use ballast_machines::error::{Error, Result, chain};
use ballast_machines::helper::Helper;
use ballast_machines::{boot, helper, lab, trial};
use clap::{Parser, Subcommand};

/// Boots machines from Ballast images: for the tests, and for a site to look at
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Work,
}

#[derive(Subcommand)]
enum Work {
    /// Brings up a site of Consul servers, shows it and keeps it until Ctrl-C
    Lab(lab::Options),
    /// Tries the promises that cross a machine's wall, on machines booted for it
    Test(trial::Options),
    /// Boots one machine in QEMU and shows its console
    Boot(boot::Options),
    #[command(flatten)]
    Helper(Helper),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ballast-machines: {}", chain(&error));
            ExitCode::from(if matches!(error, Error::Missing(_)) { 2 } else { 1 })
        }
    }
}

fn run(work: Work) -> Result<ExitCode> {
    match work {
        Work::Lab(options) => lab::lab(&options)?,
        Work::Test(options) => return trial::test(&options),
        Work::Boot(options) => boot::boot(options)?,
        Work::Helper(duty) => return helper::run(duty),
    }
    Ok(ExitCode::SUCCESS)
}
