//! The stage: one process in namespaces of its own, in which all containers of a run live.
//!
//! It is the first process of a process namespace, so the kernel ends everything in there when it ends; and it ends with the
//! driver. Mounts, bridge and links go with the namespaces.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::error::{Error, Result};
use crate::programs::Programs;
use crate::workspace::{cgroup_of, mount_cgroups, own_program};

const READY: &str = "ready";

/// The stage, seen from the driver.
pub struct Stage {
    process: Child,
    /// The first process of the stage's namespace, as the host counts.
    pid: u32,
}

impl Stage {
    /// Starts the stage's processes.
    ///
    /// # Errors
    /// When a namespace or mount is refused.
    pub fn set(dir: &Path) -> Result<Self> {
        let mut process = Command::new(own_program()?)
            .arg("stage")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program: "the stage".into(), source })?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            // An empty line means that it ended, and said why on stderr.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let pid = line.trim().strip_prefix(READY).and_then(|pid| pid.trim().parse().ok());
        match pid {
            Some(pid) => Ok(Self { process, pid }),
            None => {
                let _ = process.kill();
                let status = process.wait().map(|status| status.to_string()).unwrap_or_default();
                Err(Error::Ended { name: "stage".into(), status, said: line })
            }
        }
    }

    /// A command that runs a program of the tree on the stage.
    ///
    /// # Errors
    /// When this program is not found.
    pub fn command(&self, programs: &Programs, program: &str) -> Result<Command> {
        let inner = programs.command(program);
        let mut command = super::within::command(self.pid)?;
        command.arg(inner.get_program()).args(inner.get_args());
        Ok(command)
    }

    /// The stage's first process, as the host counts.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The cgroup of a machine on the stage.
    pub fn cgroup(&self, machine: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/sys/fs/cgroup/{machine}", self.pid))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Its namespaces' first process dies with it, and everything with that one.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The outer process: makes the namespaces and starts the inner one, the first in them.
///
/// # Errors
/// When a namespace, mount or cgroup is refused.
pub fn set(dir: &Path) -> Result<()> {
    die_with_parent()?;
    mount_cgroups(dir)?;
    let cgroup = cgroup_of(dir);
    fs::create_dir(&cgroup).map_err(Error::file("making", &cgroup))?;
    let members = cgroup.join("cgroup.procs");
    fs::write(&members, "0").map_err(Error::file("writing", &members))?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
    .map_err(Error::system("taking namespaces"))?;
    let mut inner =
        Command::new(own_program()?).arg("stage-init").stdout(Stdio::piped()).spawn().map_err(
            |source| Error::Start { program: "the stage's first process".into(), source },
        )?;
    let mut ready = String::new();
    if let Some(stdout) = &mut inner.stdout {
        let mut byte = [0; 1];
        while matches!(stdout.read(&mut byte), Ok(1)) && byte != *b"\n" {
            ready.push(char::from(byte[0]));
        }
    }
    if ready == READY {
        println!("{READY} {}", inner.id());
    }
    let status = inner.wait().map_err(Error::system("waiting for the stage's first process"))?;
    Err(Error::Ended { name: "stage".into(), status: status.to_string(), said: ready })
}

/// The inner process: mounts what shows its namespaces, then reaps whatever is left to it.
///
/// # Errors
/// When a mount is refused.
pub fn init() -> Result<()> {
    die_with_parent()?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().map_err(Error::system("blocking SIGCHLD"))?;
    // nspawn keeps notes of its own below /run/systemd, which are not the host's.
    let notes = if Path::new("/run/systemd").is_dir() { "/run/systemd" } else { "/run" };
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("cgroup2", "/sys/fs/cgroup"), ("tmpfs", notes)]
    {
        let none: Option<&str> = None;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), none)
            .map_err(Error::system(format!("mounting {kind} on {place}")))?;
    }
    provide_machine_id(notes)?;
    println!("{READY}");
    loop {
        children.wait().map_err(Error::system("waiting for SIGCHLD"))?;
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
    }
}

/// Gives the stage a machine id where the host has none, as in a bare container: nspawn makes links' addresses from it.
/// It is laid over the stage's `/etc` from the tmpfs at `notes`, so the host's stays as it is.
fn provide_machine_id(notes: &str) -> Result<()> {
    const MACHINE_ID: &str = "b4115700b4115700b4115700b4115700";
    let known = fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim().len() == 32);
    if known {
        return Ok(());
    }
    let folder = |name: &str| format!("{notes}/ballast-{name}");
    let (upper, work) = (folder("upper"), folder("work"));
    for path in [&upper, &work] {
        fs::create_dir(path).map_err(Error::file("making", path))?;
    }
    let id = format!("{upper}/machine-id");
    fs::write(&id, MACHINE_ID).map_err(Error::file("writing", &id))?;
    let layers = format!("lowerdir=/etc,upperdir={upper},workdir={work}");
    mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .map_err(Error::system("laying a machine id over /etc"))
}

fn die_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Error::system("asking to die with the parent"))
}
