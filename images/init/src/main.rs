//! The initrd's only program: finds the root by its root hash, lets the kernel verify it, and hands over to systemd.
//!
//! Invariant: nothing of the root is used before dm-verity stands between it and us. What fails is one sentence on
//! the console and a restart, so that boot counting can take the other slot.

mod block;
mod command_line;
mod dm;
mod error;
mod gpt;
mod identity;
mod loopback;
mod modules;
mod root;
mod superblock;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::command_line::Boot;
use crate::error::InitError;

/// What becomes process 1.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("ballast-init: this program is an initrd's process 1 and does nothing elsewhere");
        return ExitCode::from(2);
    }
    let mut boot = Boot::default();
    let failure = boot_to_systemd(&mut boot).err();
    if let Some(error) = failure {
        refuse(&error, boot.restart_after);
    }
    ExitCode::FAILURE
}

/// The whole boot, a verb and a noun per line.
fn boot_to_systemd(boot: &mut Boot) -> Result<(), InitError> {
    root::mount_kernel_filesystems()?;
    *boot = command_line::load()?;
    modules::insert_all()?;
    let image = root::find_image(boot)?;
    let device = dm::open_verity(&image.data, &image.hash, &boot.root_hash)?;
    root::mount_root(&device)?;
    identity::bind_machine_id(image.whole_disk.as_deref())?;
    root::settle_state(&image)?;
    root::switch()?;
    let source = Command::new(SYSTEMD).exec();
    Err(InitError::Exec { program: SYSTEMD, source })
}

/// Says why on the console and restarts the machine.
fn refuse(error: &InitError, after: Duration) {
    let mut sentence = format!("ballast-init: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        sentence.push_str(&format!(": {source}"));
        cause = source.source();
    }
    let text = format!("\r\n{sentence}; restarting in {} s\r\n", after.as_secs());
    match std::fs::File::options().write(true).open("/dev/console") {
        Ok(mut console) => {
            let _ = console.write_all(text.as_bytes());
        }
        Err(_) => eprint!("{text}"),
    }
    std::thread::sleep(after);
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
}
