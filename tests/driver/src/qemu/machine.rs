//! One QEMU machine: its process, its console and its shell.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Hardware;
use super::arguments::{self, Files};
use super::shell::Shell;
use crate::error::{Error, Result};
use crate::machine::{Boot, Machine, Ran, Wanted};
use crate::overlay;
use crate::poll;
use crate::process::Process;
use crate::transcript::Transcript;

/// Room beyond the image, where slot B and the state partition are made on first boot.
const GROWTH: u64 = 6 << 30;

/// One QEMU machine.
pub struct QemuMachine {
    hardware: Hardware,
    wanted: Wanted,
    files: Files,
    console: Transcript,
    life: Option<Life>,
}

/// From power-on to power-off.
struct Life {
    process: Process,
    shell: Shell,
}

impl QemuMachine {
    /// Makes the machine's files in `dir`.
    pub fn new(hardware: &Hardware, wanted: Wanted, dir: PathBuf, port: PathBuf) -> Result<Self> {
        let files = Files {
            disk: dir.join("disk.qcow2"),
            variables: dir.join("variables.fd"),
            smbios: arguments::save_smbios(&dir, &wanted)?,
            shell: dir.join("shell"),
            port,
        };
        save_disk(hardware, &wanted, &files)?;
        Ok(Self {
            hardware: hardware.clone(),
            wanted,
            files,
            console: Transcript::default(),
            life: None,
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let name = &self.wanted.name;
        let life = self.life.as_ref().ok_or_else(|| Error::Off { name: name.clone() })?;
        let pid =
            i32::try_from(life.process.id()).map_err(|_| Error::Off { name: name.clone() })?;
        kill(Pid::from_raw(pid), signal)
            .map_err(Error::system(format!("sending {signal} to {name}")))
    }
}

fn save_disk(hardware: &Hardware, wanted: &Wanted, files: &Files) -> Result<()> {
    // A netbooted machine carries its root in memory; its disk is empty but for what it makes there itself.
    if wanted.boot == Boot::Netboot && wanted.disk.is_none() {
        let empty = files.disk.with_extension("raw");
        fs::write(&empty, []).map_err(Error::file("writing", &empty))?;
        return overlay::save(&files.disk, &empty, GROWTH);
    }
    let disk = match &wanted.disk {
        Some(disk) => disk.clone(),
        None => hardware.images.of(&wanted.role)?.disk()?,
    };
    let length = fs::metadata(&disk).map_err(Error::file("reading", &disk))?.len();
    overlay::save(&files.disk, &disk, length + GROWTH)
}

impl Machine for QemuMachine {
    fn name(&self) -> &str {
        &self.wanted.name
    }

    fn console(&self) -> &Transcript {
        &self.console
    }

    fn power_on(&mut self) -> Result<()> {
        self.kill()?;
        // A socket of the last life would be connected to in vain.
        let _ = fs::remove_file(&self.files.shell);
        let mut command = arguments::command(&self.hardware, &self.wanted, &self.files)?;
        let name = &self.wanted.name;
        let mut process = Process::start(&mut command, "qemu-system-x86_64", name, &self.console)?;
        match connect(name, &self.files, &mut process) {
            Ok(shell) => {
                self.life = Some(Life { process, shell });
                Ok(())
            }
            Err(error) => {
                process.end();
                Err(error)
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut life) = self.life.take() {
            life.process.end();
        }
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn is_on(&mut self) -> bool {
        self.life.as_mut().is_some_and(|life| life.process.is_alive())
    }

    fn run(&mut self, script: &str, limit: Duration) -> Result<Ran> {
        let Some(Life { process, shell }) = self.life.as_mut() else {
            return Err(Error::Off { name: self.wanted.name.clone() });
        };
        shell.run(script, limit, || process.check_alive())
    }

    fn wipe(&mut self) -> Result<()> {
        self.kill()?;
        save_disk(&self.hardware, &self.wanted, &self.files)
    }
}

impl Drop for QemuMachine {
    fn drop(&mut self) {
        if let Some(mut life) = self.life.take() {
            life.process.end();
        }
    }
}

fn connect(name: &str, files: &Files, process: &mut Process) -> Result<Shell> {
    let start = Instant::now();
    loop {
        match Shell::connect(name, &files.shell) {
            Ok(shell) => return Ok(shell),
            Err(error) if start.elapsed() > Duration::from_secs(30) => {
                return Err(Error::File {
                    what: "connecting to",
                    path: files.shell.clone(),
                    source: error,
                });
            }
            Err(_) => {}
        }
        process.check_alive()?;
        poll::check_interrupt()?;
        std::thread::sleep(Duration::from_millis(20));
    }
}
