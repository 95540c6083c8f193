//! `boot`: one machine, its console on ours, and a script run inside it: for looking at an image by hand.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cluster::CONSUL_SERVER;
use crate::error::{Error, Result};
use crate::given::Given;
use crate::machine::{self, Bundle, Machine, Site, Wanted};
use crate::poll;
use crate::qemu::{Accel, QemuSite};
use crate::workspace::Workspace;

/// One machine to look at.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    given: Given,
    /// How it is started
    #[arg(long, value_enum, default_value_t = How::Direct)]
    how: How,
    /// The role whose image it is made from
    #[arg(long, default_value = CONSUL_SERVER)]
    role: String,
    /// A disk image in place of the image's own
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// A bundle, given as a credential
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// A directory with `bundle.tar`, given as a volume labelled BALLAST
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    volume: Option<PathBuf>,
    /// A script to run with the machine's shell; the machine is switched off when it ends
    #[arg(long, value_name = "SCRIPT")]
    run: Option<String>,
    /// Seconds the script may take, its shell's start included
    #[arg(long, default_value_t = 300)]
    limit_secs: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    Firmware,
    Direct,
    Netboot,
}

/// Boots the machine until the script ends, the machine ends, or the user interrupts.
///
/// # Errors
/// When it cannot be started, or the script fails.
pub fn boot(options: Options) -> Result<()> {
    poll::catch_interrupts()?;
    let workspace = Workspace::new()?;
    let site = QemuSite::new(options.given.hardware(Accel::Tcg)?, workspace.dir());
    let mut machine = site.machine(Wanted {
        bundle: match (options.bundle, options.volume) {
            (Some(file), _) => Bundle::Credential(file),
            (None, Some(dir)) => Bundle::Volume(dir),
            (None, None) => Bundle::None,
        },
        boot: match options.how {
            How::Firmware => machine::Boot::Firmware,
            How::Direct => machine::Boot::Direct,
            How::Netboot => machine::Boot::Netboot,
        },
        disk: options.disk,
        ..Wanted::new("machine", 1, &options.role)
    })?;
    machine.power_on()?;
    show(machine.console().clone());
    match options.run {
        Some(script) => {
            let ran = machine.run(&script, Duration::from_secs(options.limit_secs))?;
            println!("{}", ran.text);
            if ran.status == 0 {
                return Ok(());
            }
            Err(Error::Broken(format!("the script ended with status {}", ran.status)))
        }
        None => wait(machine.as_mut()),
    }
}

fn show(console: crate::transcript::Transcript) {
    std::thread::spawn(move || {
        let mut shown = 0;
        loop {
            let bytes = console.bytes_since(shown);
            shown += bytes.len();
            // Nobody reads: nothing is lost.
            let _ = std::io::stdout().write_all(&bytes);
            let _ = std::io::stdout().flush();
            console.wait_past(shown, Duration::from_secs(3600));
        }
    });
}

fn wait(machine: &mut dyn Machine) -> Result<()> {
    while machine.is_on() {
        poll::check_interrupt()?;
        poll::nap(Duration::from_millis(300));
    }
    Ok(())
}
