//! What a program that drives machines must also be able to do when it is started again as its own helper.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::error::Result;
use crate::{nspawn, workspace};

/// A helper's duty; hidden subcommands of every program that makes a [`workspace::Workspace`] or a site.
#[derive(Subcommand, Debug)]
pub enum Helper {
    /// Removes a run's directory and cgroup once stdin closes.
    #[command(hide = true)]
    Sweep {
        /// The run's directory.
        dir: PathBuf,
    },
    /// Makes the namespaces in which containers live.
    #[command(hide = true)]
    Stage {
        /// The run's directory.
        dir: PathBuf,
    },
    /// The first process in those namespaces.
    #[command(hide = true)]
    StageInit,
    /// Runs a command in another process's namespaces.
    #[command(hide = true)]
    Within {
        /// That process.
        pid: u32,
        /// The cgroup the command belongs in.
        #[arg(long)]
        cgroup: Option<String>,
        /// The command.
        #[arg(last = true)]
        argv: Vec<String>,
    },
}

/// Does the helper's duty.
///
/// # Errors
/// What that duty cannot do.
pub fn run(helper: Helper) -> Result<ExitCode> {
    match helper {
        Helper::Sweep { dir } => workspace::sweep(&dir)?,
        Helper::Stage { dir } => nspawn::stage::set(&dir)?,
        Helper::StageInit => nspawn::stage::init()?,
        Helper::Within { pid, cgroup, argv } => {
            let status = nspawn::within::run(pid, cgroup.as_deref(), &argv)?;
            return Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)));
        }
    }
    Ok(ExitCode::SUCCESS)
}
