//! A disk of a size of its own: a file with ext4 in it, mounted on the stage, so that a machine can fill it.
//!
//! It is mounted for the life of the run, whatever becomes of the machine, and goes with the stage's mounts.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::stage::Stage;
use super::within;
use crate::error::{Error, Result};
use crate::programs::{Programs, output};

/// One disk.
pub struct Disk {
    /// What makes a file system in the file; what mounts it, and unmounts it.
    make: Vec<String>,
    mount: Vec<String>,
    unmount: Vec<String>,
}

impl Disk {
    /// Makes a disk of so many bytes beside `place` and mounts it there. The file system's own program is the image's.
    ///
    /// # Errors
    /// When the host has no loop device to give.
    pub fn make(
        programs: &Programs,
        stage: &Stage,
        root: &Path,
        place: &Path,
        bytes: u64,
    ) -> Result<Self> {
        let file = place.with_extension("disk");
        let made = File::create(&file).map_err(Error::file("making", &file))?;
        made.set_len(bytes).map_err(Error::file("sizing", &file))?;
        // Nothing is kept for root: what is full for PostgreSQL is full.
        let mut make = Programs::new(&[root.to_path_buf()]).command("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0"]).arg(&file);
        let mut mount = programs.command("mount");
        mount.args(["-o", "loop"]).arg(&file).arg(place);
        let mut unmount = programs.command("umount");
        unmount.arg(place);
        let [make, mount, unmount] = [make, mount, unmount].map(|command| words(&command));
        let disk = Self { make, mount, unmount };
        disk.run(stage.pid(), [&disk.make, &disk.mount])?;
        Ok(disk)
    }

    /// Makes it anew, with nothing in it.
    ///
    /// # Errors
    /// When something still uses it.
    pub fn empty(&self, stage_pid: u32) -> Result<()> {
        self.run(stage_pid, [&self.unmount, &self.make])
            .and_then(|()| self.run(stage_pid, [&self.mount]))
    }

    fn run<const N: usize>(&self, stage_pid: u32, commands: [&Vec<String>; N]) -> Result<()> {
        for words in commands {
            output(within::command(stage_pid)?.args(words))?;
        }
        Ok(())
    }
}

/// A command's program and arguments.
pub fn words(command: &Command) -> Vec<String> {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
