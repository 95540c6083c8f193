//! A run leaves nothing behind: its sweeper sees to it, and the next run where the sweeper could not.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// The program, beside the directory of the test's own. Cargo's variable for it has a hyphen in its name, and a shell
/// that stands between cargo and the compiler drops such a one.
fn program() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("ballast-machines")
}

/// A run that sweeps, makes its directory, and ends because it was given no image.
fn run_in(temporary: &Path) {
    let mut command = Command::new(program());
    command.arg("boot").env("TMPDIR", temporary).stderr(Stdio::null());
    for given in ["BALLAST_IMAGE", "BALLAST_PARTS"] {
        command.env_remove(given);
    }
    assert_eq!(command.status().unwrap().code(), Some(2));
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap())).collect()
}

#[test]
fn a_run_that_fails_leaves_no_file_behind() {
    let temporary = tempfile::tempdir().unwrap();
    run_in(temporary.path());
    assert_eq!(names(temporary.path()), Vec::<String>::new());
}

#[test]
fn the_sweeper_waits_for_the_runs_end_and_then_removes_all() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("ballast-machines-run");
    fs::create_dir_all(dir.join("consul-1")).unwrap();
    fs::write(dir.join("consul-1/disk"), "data").unwrap();
    let mut sweeper =
        Command::new(program()).arg("sweep").arg(&dir).stdin(Stdio::piped()).spawn().unwrap();
    let pipe = sweeper.stdin.take();
    assert!(dir.exists() && sweeper.try_wait().unwrap().is_none());
    drop(pipe);
    assert!(sweeper.wait().unwrap().success());
    assert!(!dir.exists());
}

#[test]
fn the_next_run_sweeps_up_after_one_that_could_not() {
    let temporary = tempfile::tempdir().unwrap();
    let left = temporary.path().join("ballast-machines-left");
    fs::create_dir_all(left.join("consul-1")).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    run_in(temporary.path());
    assert_eq!(names(temporary.path()), Vec::<String>::new());
}

#[test]
fn a_run_that_goes_on_is_left_alone_and_so_is_what_is_not_ours() {
    let temporary = tempfile::tempdir().unwrap();
    let other = temporary.path().join("ballast-machines-other");
    fs::create_dir(&other).unwrap();
    fs::create_dir(temporary.path().join("somebody-elses")).unwrap();
    let lock = File::create(other.join("lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
    run_in(temporary.path());
    let mut left = names(temporary.path());
    left.sort();
    assert_eq!(left, ["ballast-machines-other", "somebody-elses"]);
}
