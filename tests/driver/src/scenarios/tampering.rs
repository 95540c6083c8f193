//! A root of which one bit is not what was built: the machine must not run it.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::slots::{self, copy_sparse};
use super::{ensure, wait_for_console, wanted};
use crate::cluster::CONSUL_SERVER;
use crate::error::{Error, Result};
use crate::machine::Wanted;
use crate::trial::{Group, Trial};

/// The group. That an unchanged root boots, every other group shows.
pub const GROUP: Group = Group {
    name: "tampering",
    promises: &["a_flipped_bit_in_the_root_refuses_to_boot"],
    containers: false,
    run: try_flipped_bit,
};

fn try_flipped_bit(trial: &mut Trial) -> Result<()> {
    let disk = trial.dir().join("flipped.raw");
    copy_sparse(&trial.given().images()?.of(CONSUL_SERVER)?.disk()?, &disk)?;
    // EROFS does not use the first KiB of its partition: without verification nobody would notice.
    flip_bit(&disk, slots::find(&disk, &slots::ROOT)?.start + 512)?;
    let mut machine = trial.machine(Wanted { disk: Some(disk), ..wanted("flipped", 1) })?;
    machine.power_on()?;
    wait_for_console(machine.as_mut(), "data block 0 is corrupted")?;
    let console = machine.console().text();
    ensure(!console.contains("Welcome to"), || "systemd of the changed root was started".into())?;
    trial.holds("a_flipped_bit_in_the_root_refuses_to_boot")
}

fn flip_bit(disk: &Path, offset: u64) -> Result<()> {
    let changing = || Error::file("changing", disk);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(disk).map_err(changing())?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).map_err(changing())?;
    file.read_exact(&mut byte).map_err(changing())?;
    file.seek(SeekFrom::Start(offset)).map_err(changing())?;
    file.write_all(&byte.map(|byte| byte ^ 1)).map_err(changing())
}
