//! One QEMU machine: its process, its console and its shell.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
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
use crate::programs::tail;
use crate::transcript::Transcript;

/// Room beyond the image, where slot B and the state partition are made on first boot.
const GROWTH: u64 = 4 << 30;

/// One QEMU machine.
pub struct QemuMachine {
    hardware: Hardware,
    wanted: Wanted,
    files: Files,
    console: Transcript,
    complaints: Transcript,
    life: Option<Life>,
}

/// From power-on to power-off.
struct Life {
    process: Child,
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
            complaints: Transcript::default(),
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
    let disk = wanted.disk.clone().unwrap_or_else(|| hardware.image.join("disk.raw"));
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
        let mut process = arguments::command(&self.hardware, &self.wanted, &self.files)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program: "qemu-system-x86_64".into(), source })?;
        if let Some(stdout) = process.stdout.take() {
            self.console.follow(stdout);
        }
        if let Some(stderr) = process.stderr.take() {
            self.complaints.follow(stderr);
        }
        match connect(&self.wanted.name, &self.files, &mut process, &self.complaints) {
            Ok(shell) => {
                self.life = Some(Life { process, shell });
                Ok(())
            }
            Err(error) => {
                end(&mut process);
                Err(error)
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut life) = self.life.take() {
            end(&mut life.process);
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
        self.life.as_mut().is_some_and(|life| matches!(life.process.try_wait(), Ok(None)))
    }

    fn run(&mut self, script: &str, limit: Duration) -> Result<Ran> {
        let name = &self.wanted.name;
        let complaints = &self.complaints;
        let Some(Life { process, shell }) = self.life.as_mut() else {
            return Err(Error::Off { name: name.clone() });
        };
        shell.run(script, limit, || still_alive(name, process, complaints))
    }
}

impl Drop for QemuMachine {
    fn drop(&mut self) {
        if let Some(mut life) = self.life.take() {
            end(&mut life.process);
        }
    }
}

fn connect(name: &str, files: &Files, process: &mut Child, said: &Transcript) -> Result<Shell> {
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
        still_alive(name, process, said)?;
        poll::check_interrupt()?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn still_alive(name: &str, process: &mut Child, said: &Transcript) -> Result<()> {
    match process.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(Error::Ended {
            name: name.to_owned(),
            status: status.to_string(),
            said: tail(&said.text(), 4),
        }),
        Err(source) => Err(Error::System { what: format!("waiting for {name}"), source }),
    }
}

fn end(process: &mut Child) {
    // Both fail only when it has ended already.
    let _ = process.kill();
    let _ = process.wait();
}
