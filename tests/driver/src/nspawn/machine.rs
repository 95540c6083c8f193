//! One container: its cgroup, its `/var`, its console.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::disk::{Disk, words};
use super::stage::Stage;
use super::within;
use crate::error::{Error, Result};
use crate::machine::{Boot, Bundle, Machine, Ran, SHARED, Wanted};
use crate::poll::{self, Seen};
use crate::process::Process;
use crate::programs::{Programs, output_within, tail};
use crate::qemu;
use crate::transcript::Transcript;
use crate::workspace::remove_cgroup;

/// How long the kernel may take to stop or start all tasks of a machine.
const FREEZING: Duration = Duration::from_secs(10);

/// One container.
pub struct NspawnMachine {
    wanted: Wanted,
    /// What starts it: kept whole, for every life.
    start: Vec<String>,
    stage_pid: u32,
    cgroup: PathBuf,
    remove_link: Vec<String>,
    /// What the machine sees as `/var`.
    var: PathBuf,
    /// What is mounted there, where it has a bound.
    disk: Option<Disk>,
    console: Transcript,
    process: Option<Process>,
}

impl NspawnMachine {
    /// Makes the container's files in `dir`.
    ///
    /// # Errors
    /// When it is to have what only hardware has.
    pub fn new(
        programs: &Programs,
        stage: &Stage,
        root: &std::path::Path,
        wanted: Wanted,
        dir: PathBuf,
    ) -> Result<Self> {
        if wanted.boot != Boot::Direct || wanted.disk.is_some() {
            return Err(Error::Missing(format!(
                "a machine with firmware and disk for {}",
                wanted.name
            )));
        }
        let var = dir.join("var");
        fs::create_dir(&var).map_err(Error::file("making", &var))?;
        let disk = match wanted.disk_bytes {
            Some(bytes) => Some(Disk::make(programs, stage, root, &var, bytes)?),
            None => None,
        };
        let mut nspawn = programs.command("systemd-nspawn");
        nspawn
            .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--console=read-only"])
            .args(["--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off"])
            .arg("--read-only")
            .arg(format!("--network-bridge={}", super::BRIDGE))
            .arg(format!("--machine={}", wanted.name))
            .arg(format!("--uuid={}", qemu::uuid(wanted.number)))
            .arg(format!("--directory={}", root.display()))
            .arg(format!("--bind={}:/var", var.display()));
        if let Some(shared) = &wanted.shared {
            nspawn.arg(format!("--bind={}:{SHARED}", shared.display()));
        }
        for (name, file) in credential_files(&wanted, &dir)? {
            nspawn.arg(format!("--load-credential={name}:{}", file.display()));
        }
        let mut link = programs.command("ip");
        link.args(["link", "delete", &format!("vb-{}", wanted.name)]);
        Ok(Self {
            stage_pid: stage.pid(),
            cgroup: stage.cgroup(&wanted.name),
            start: words(&nspawn),
            remove_link: words(&link),
            wanted,
            var,
            disk,
            console: Transcript::default(),
            process: None,
        })
    }

    /// The container's first process, as the host counts, once systemd has taken its place in the cgroup.
    fn leader(&self) -> Option<u32> {
        let members =
            fs::read_to_string(self.cgroup.join("payload/init.scope/cgroup.procs")).ok()?;
        members.lines().filter_map(|pid| pid.parse().ok()).find(|pid| is_first_in_namespace(*pid))
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        if self.process.is_none() {
            return Err(Error::Off { name: self.wanted.name.clone() });
        }
        let file = self.cgroup.join("cgroup.freeze");
        let (word, stands) = if frozen { ("1", "frozen 1") } else { ("0", "frozen 0") };
        fs::write(&file, word).map_err(Error::file("writing", &file))?;
        // The kernel stops one task after the other.
        let events = self.cgroup.join("cgroup.events");
        let what = format!("{} to be {stands}", self.wanted.name);
        poll::until(&what, FREEZING, Duration::from_millis(1), || {
            let seen = fs::read_to_string(&events).map_err(Error::file("reading", &events))?;
            let done = seen.lines().any(|line| line == stands);
            Ok(if done { Seen::Ready(()) } else { Seen::NotYet(seen) })
        })
    }
}

fn credential_files(wanted: &Wanted, dir: &std::path::Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for (name, value) in &wanted.credentials {
        let file = dir.join(name);
        fs::write(&file, value).map_err(Error::file("writing", &file))?;
        files.push((name.clone(), file));
    }
    match &wanted.bundle {
        Bundle::None => {}
        Bundle::Credential(file) => files.push(("ballast.bundle".into(), file.clone())),
        Bundle::Volume(_) => {
            return Err(Error::Missing(format!("a machine with volumes for {}", wanted.name)));
        }
    }
    Ok(files)
}

fn is_first_in_namespace(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .is_some_and(|pids| pids.split_whitespace().last() == Some("1"))
}

impl Machine for NspawnMachine {
    fn name(&self) -> &str {
        &self.wanted.name
    }

    fn console(&self) -> &Transcript {
        &self.console
    }

    fn power_on(&mut self) -> Result<()> {
        self.kill()?;
        fs::create_dir(&self.cgroup).map_err(Error::file("making", &self.cgroup))?;
        let mut command = within::command_in(self.stage_pid, Some(&self.wanted.name))?;
        command.args(&self.start);
        let name = &self.wanted.name;
        self.process = Some(Process::start(&mut command, "systemd-nspawn", name, &self.console)?);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        remove_cgroup(&self.cgroup)?;
        process.wait()?;
        // The kernel removes the link some time after its namespace; a machine that comes back at once needs the name.
        let mut command = within::command(self.stage_pid)?;
        command.args(&self.remove_link).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().map(drop).map_err(|source| Error::Start { program: "ip".into(), source })
    }

    fn freeze(&mut self) -> Result<()> {
        self.set_frozen(true)
    }

    fn thaw(&mut self) -> Result<()> {
        self.set_frozen(false)
    }

    fn is_on(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_alive)
    }

    fn run(&mut self, script: &str, limit: Duration) -> Result<Ran> {
        let start = Instant::now();
        let leader = loop {
            poll::check_interrupt()?;
            match self.process.as_mut() {
                Some(process) => process.check_alive()?,
                None => return Err(Error::Off { name: self.wanted.name.clone() }),
            }
            if let Some(pid) = self.leader() {
                break pid;
            }
            if start.elapsed() > limit {
                return Err(Error::Deadline {
                    what: format!("the first process of {}", self.wanted.name),
                    waited: limit,
                    seen: tail(&self.console.text(), 3),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut command = within::command(leader)?;
        command.args(["/bin/sh", "-c", &format!("exec 2>&1\n{script}")]);
        let rest = limit.saturating_sub(start.elapsed()).max(Duration::from_secs(1));
        let timed_out = Ran { status: 124, text: String::new() };
        Ok(output_within(&mut command, rest)?.map_or(timed_out, |output| Ran {
            status: output.status.code().unwrap_or(-1),
            text: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        }))
    }

    fn wipe(&mut self) -> Result<()> {
        self.kill()?;
        if let Some(disk) = &self.disk {
            return disk.empty(self.stage_pid);
        }
        fs::remove_dir_all(&self.var).map_err(Error::file("removing", &self.var))?;
        fs::create_dir(&self.var).map_err(Error::file("making", &self.var))
    }
}

impl Drop for NspawnMachine {
    fn drop(&mut self) {
        // What stays, the sweeper removes with the run's cgroup.
        let _ = self.kill();
    }
}
