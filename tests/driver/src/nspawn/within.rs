//! Running a command in the namespaces of another process: those of the stage, or those of a container.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::error::{Error, Result};
use crate::workspace::own_program;

/// What the command sees; nothing of the host's environment goes in.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that runs what its further arguments say in the namespaces of `pid`.
///
/// # Errors
/// When this program is not found.
pub fn command(pid: u32) -> Result<Command> {
    command_in(pid, None)
}

/// The same, in a cgroup that the namespaces show.
///
/// # Errors
/// When this program is not found.
pub fn command_in(pid: u32, cgroup: Option<&str>) -> Result<Command> {
    let mut command = Command::new(own_program()?);
    command.args(["within", &pid.to_string()]);
    if let Some(cgroup) = cgroup {
        command.args(["--cgroup", cgroup]);
    }
    command.arg("--");
    let die = || prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into);
    // SAFETY: the closure makes one system call and touches no memory of the parent.
    unsafe { command.pre_exec(die) };
    Ok(command)
}

/// Enters and runs; the answer is the command's exit status.
///
/// # Errors
/// When a namespace may not be entered or the program is not there.
pub fn run(pid: u32, cgroup: Option<&str>, argv: &[String]) -> Result<i32> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| Error::Missing("a command to run".into()))?;
    // All are opened first: after the first is entered, /proc may be another.
    let kinds = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let mut opened = Vec::new();
    for (name, flag) in kinds {
        let path = format!("/proc/{pid}/ns/{name}");
        opened.push((File::open(&path).map_err(Error::file("opening", &path))?, flag, name));
    }
    for (file, flag, name) in opened {
        setns(file, flag).map_err(Error::system(format!("entering the {name} namespace")))?;
    }
    if let Some(cgroup) = cgroup {
        let members = format!("/sys/fs/cgroup/{cgroup}/cgroup.procs");
        std::fs::write(&members, "0").map_err(Error::file("writing", &members))?;
        // What the command mounts goes when it goes.
        unshare(CloneFlags::CLONE_NEWNS).map_err(Error::system("taking a mount namespace"))?;
    }
    let die = || prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("SYSTEMD_COLORS", "0")
        .current_dir("/");
    // SAFETY: the closure makes one system call and touches no memory of the parent.
    unsafe { command.pre_exec(die) };
    let starting = |source| Error::Start { program: program.clone(), source };
    let mut child = command.spawn().map_err(starting)?;
    if cgroup.is_some() {
        // A cgroup with a process of its own cannot hand controllers on to those below: only the command stays in it.
        let members = "/sys/fs/cgroup/cgroup.procs";
        std::fs::write(members, "0").map_err(Error::file("writing", members))?;
    }
    let status = child.wait().map_err(Error::system(format!("waiting for {program}")))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}
