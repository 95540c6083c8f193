//! A run's own directory and cgroup, which go away with the run, however it ends.
//!
//! A child of ours, the sweeper, holds nothing but the read end of a pipe. The pipe closes when we end, be it by
//! return, panic or SIGKILL; then the sweeper ends what still runs in the cgroup and removes cgroup and directory. Should the
//! sweeper be killed too, the next run finds the directory without a lock on it and sweeps.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Error, Result};

const PREFIX: &str = "ballast-machines-";
const LOCK: &str = "lock";
/// Where, in the directory, the sweeper and the stage each mount the cgroup hierarchy for themselves alone.
pub const CGROUP_MOUNT: &str = "cgroup";

/// A directory that is ours alone.
pub struct Workspace {
    dir: PathBuf,
    pipe: Option<ChildStdin>,
    sweeper: Child,
    _lock: Flock<File>,
}

impl Workspace {
    /// Makes the directory below the system's temporary one, and sweeps up after runs that could not.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep_leftovers(&parent)?;
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&parent)
            .map_err(Error::file("making a directory in", &parent))?
            .keep();
        let lock = take_lock(&dir)?.ok_or_else(|| Error::Missing("a lock of our own".into()))?;
        let mut sweeper = start_sweeper(&dir, Stdio::piped())?;
        let pipe = sweeper.stdin.take();
        Ok(Self { dir, pipe, sweeper, _lock: lock })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // The sweeper prints what it could not do.
        let _ = self.sweeper.wait();
    }
}

/// The directory of the run that this directory belongs to.
fn run_of(dir: &Path) -> &Path {
    let is_run = |dir: &&Path| {
        dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    };
    dir.ancestors().find(is_run).unwrap_or(dir)
}

/// The cgroup of a stage that keeps its files in this directory, below wherever the hierarchy is mounted.
///
/// It is named by the run, which no other run is named like, and by the place within the run.
pub fn cgroup_of(dir: &Path) -> PathBuf {
    let run = run_of(dir);
    let mut name = run.file_name().unwrap_or_default().to_os_string();
    for part in dir.strip_prefix(run).unwrap_or(Path::new("")) {
        name.push(".");
        name.push(part);
    }
    run.join(CGROUP_MOUNT).join(name)
}

/// All cgroups of a run, where the hierarchy is mounted.
fn cgroups_of_run(run: &Path) -> Result<Vec<PathBuf>> {
    let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mount = run.join(CGROUP_MOUNT);
    let entries = fs::read_dir(&mount).map_err(Error::file("listing", &mount))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let ours = |path: &PathBuf| {
        let other = path.file_name().unwrap_or_default().to_string_lossy();
        other.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    Ok(paths.filter(ours).collect())
}

/// Mounts the cgroup hierarchy in the directory of the run, for this process and its children alone.
///
/// # Errors
/// Without the privilege to.
pub fn mount_cgroups(dir: &Path) -> Result<()> {
    let place = run_of(dir).join(CGROUP_MOUNT);
    fs::create_dir_all(&place).map_err(Error::file("making", &place))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::system("taking a mount namespace"))?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::system("making mounts private"))?;
    mount(Some("cgroup2"), &place, Some("cgroup2"), MsFlags::empty(), none)
        .map_err(Error::system(format!("mounting cgroup2 on {}", place.display())))
}

/// The sweeper's whole life: waits for the pipe to close, then removes all.
///
/// # Errors
/// When something stays behind.
pub fn sweep(dir: &Path) -> Result<()> {
    let mut rest = Vec::new();
    // Nothing is ever written: this returns when the other end is gone.
    io::stdin().read_to_end(&mut rest).map_err(Error::system("waiting for the run's end"))?;
    // Runs without privilege have no cgroup.
    if nix::unistd::geteuid().is_root() && dir.join(CGROUP_MOUNT).is_dir() {
        mount_cgroups(dir)?;
        for cgroup in cgroups_of_run(dir)? {
            remove_cgroup(&cgroup)?;
        }
        nix::mount::umount(&dir.join(CGROUP_MOUNT)).map_err(Error::system("unmounting cgroup2"))?;
    }
    fs::remove_dir_all(dir).map_err(Error::file("removing", dir))
}

/// Kills all that runs in a cgroup and removes it, once the kernel is done with it.
///
/// # Errors
/// When it cannot be removed within ten seconds.
pub fn remove_cgroup(cgroup: &Path) -> Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    let kill = cgroup.join("cgroup.kill");
    fs::write(&kill, "1").map_err(Error::file("writing", &kill))?;
    let start = Instant::now();
    loop {
        match remove_empty(cgroup) {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > Duration::from_secs(10) => {
                return Err(Error::File { what: "removing", path: cgroup.into(), source: error });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn remove_empty(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

fn sweep_leftovers(parent: &Path) -> Result<()> {
    let entries = fs::read_dir(parent).map_err(Error::file("listing", parent))?;
    for entry in entries.filter_map(io::Result::ok) {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Another user's runs are not ours to sweep, and their locks do not open.
        if !ours || !matches!(take_lock(&entry.path()), Ok(Some(_))) {
            continue;
        }
        let mut sweeper = start_sweeper(&entry.path(), Stdio::null())?;
        sweeper.wait().map_err(Error::system("waiting for the sweeper"))?;
    }
    Ok(())
}

/// The directory's lock, unless a run holds it.
fn take_lock(dir: &Path) -> Result<Option<Flock<File>>> {
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::file("opening", &path))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
}

fn start_sweeper(dir: &Path, stdin: Stdio) -> Result<Child> {
    Command::new(own_program()?)
        .arg("sweep")
        .arg(dir)
        .stdin(stdin)
        // A group of its own: Ctrl-C at the terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(|source| Error::Start { program: "the sweeper".into(), source })
}

/// This program, to be started again as one of its own helpers.
///
/// # Errors
/// When the system does not say where it is.
pub fn own_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(Error::system("finding this program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_share_a_cgroup_though_their_parts_are_named_alike() {
        let cgroup = |dir: &str| cgroup_of(Path::new(dir)).display().to_string();
        let of_run = cgroup("/tmp/ballast-machines-a1");
        assert_eq!(of_run, "/tmp/ballast-machines-a1/cgroup/ballast-machines-a1");
        let of_part = cgroup("/tmp/ballast-machines-a1/idle");
        assert_eq!(of_part, "/tmp/ballast-machines-a1/cgroup/ballast-machines-a1.idle");
        assert!(cgroup("/tmp/ballast-machines-b2/idle").ends_with("/ballast-machines-b2.idle"));
    }

    #[test]
    fn a_runs_cgroups_are_swept_with_those_of_its_parts_and_no_other_runs() {
        let temporary = tempfile::tempdir().unwrap();
        let run = temporary.path().join("ballast-machines-a1");
        for name in ["a1", "a1.idle", "a12", "b2.idle"] {
            let cgroup = run.join(CGROUP_MOUNT).join(format!("ballast-machines-{name}"));
            fs::create_dir_all(cgroup).unwrap();
        }
        let mut swept = cgroups_of_run(&run).unwrap();
        swept.sort();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let names: Vec<String> = swept.iter().map(name).collect();
        assert_eq!(names, ["ballast-machines-a1", "ballast-machines-a1.idle"]);
    }
}
