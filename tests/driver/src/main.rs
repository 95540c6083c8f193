//! `ballast-machines`: machines from our images, for the tests and for `lab`.

mod base64;
mod boot;
mod cluster;
mod consul;
mod error;
mod given;
mod hub;
mod lab;
mod machine;
mod nspawn;
mod overlay;
mod poll;
mod programs;
mod qemu;
mod transcript;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use error::{Error, Result, chain};

#[derive(Parser)]
#[command(
    version,
    about = "Boots machines from Ballast images: for the tests, and for a site to look at"
)]
struct Arguments {
    #[command(subcommand)]
    command: Work,
}

#[derive(Subcommand)]
enum Work {
    /// Brings up a site of Consul servers, shows it and keeps it until Ctrl-C
    Lab(lab::Options),
    /// Boots one machine in QEMU and shows its console
    Boot(boot::Options),
    /// Removes a run's directory and cgroup once stdin closes.
    #[command(hide = true)]
    Sweep { dir: PathBuf },
    /// Makes the namespaces in which containers live.
    #[command(hide = true)]
    Stage { dir: PathBuf },
    /// The first process in those namespaces.
    #[command(hide = true)]
    StageInit,
    /// Runs a command in another process's namespaces.
    #[command(hide = true)]
    Within {
        pid: u32,
        #[arg(long)]
        cgroup: Option<String>,
        #[arg(last = true)]
        argv: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(error @ Error::Missing(_)) => {
            eprintln!("ballast-machines: {}", chain(&error));
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("ballast-machines: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(work: Work) -> Result<ExitCode> {
    match work {
        Work::Lab(options) => lab::lab(&options).map(|()| ExitCode::SUCCESS),
        Work::Boot(options) => boot::boot(options).map(|()| ExitCode::SUCCESS),
        Work::Sweep { dir } => workspace::sweep(&dir).map(|()| ExitCode::SUCCESS),
        Work::Stage { dir } => nspawn::stage::set(&dir).map(|()| ExitCode::SUCCESS),
        Work::StageInit => nspawn::stage::init().map(|()| ExitCode::SUCCESS),
        Work::Within { pid, cgroup, argv } => {
            let status = nspawn::within::run(pid, cgroup.as_deref(), &argv)?;
            Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
        }
    }
}
