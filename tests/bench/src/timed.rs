//! Runs a program to its end and says how long it took; past its deadline, or once the user asks to stop, it and all
//! its children are ended.

use std::fs::{self, File};
use std::ops::Add;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use ballast_machines::poll;
use ballast_machines::programs::tail;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// Between two looks at a running program: the error of every time measured here.
const LOOK: Duration = Duration::from_millis(4);

/// What a program took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// By the clock on the wall.
    pub wall: Duration,
    /// Of all cores together, its children's included: what other load on the machine does not change.
    pub processor: Duration,
}

impl Add for Took {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, processor: self.processor + other.processor }
    }
}

/// Runs the command, which writes what it says into `dir`.
///
/// # Errors
/// That it would not start, that it failed (with the end of what it said), its deadline, or an interrupt.
pub fn run(name: &str, command: &mut Command, dir: &Path, limit: Duration) -> Result<Took> {
    let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
    let sink = |path: &Path| File::create(path).map_err(Error::file("writing", path));
    command.stdout(sink(&stdout)?).stderr(sink(&stderr)?).process_group(0);
    let before = children_processor_time();
    let start = Instant::now();
    let mut child =
        command.spawn().map_err(|source| Error::Start { program: name.to_owned(), source })?;
    let status = wait(name, &mut child, start, limit)?;
    let wall = start.elapsed();
    let processor = children_processor_time().saturating_sub(before);
    if status.success() {
        return Ok(Took { wall, processor });
    }
    let said = fs::read(&stderr).map_err(Error::file("reading", &stderr))?;
    let said = tail(&String::from_utf8_lossy(&said), 6);
    Err(Error::Failed { program: name.to_owned(), status: status.to_string(), said })
}

/// Of all children that have ended so far; one runs at a time here.
fn children_processor_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

fn wait(name: &str, child: &mut Child, start: Instant, limit: Duration) -> Result<ExitStatus> {
    let failed = |source| Error::Start { program: name.to_owned(), source };
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        let late = start.elapsed() > limit;
        if late || poll::check_interrupt().is_err() {
            end_group(child);
            let seen = "still running".to_owned();
            let late = Error::Deadline { what: format!("{name} to end"), limit, seen };
            return Err(if poll::check_interrupt().is_err() { Error::Interrupted } else { late });
        }
        std::thread::sleep(LOOK);
    }
}

fn end_group(child: &mut Child) {
    // All of these fail only when there is nothing left to end.
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Took> {
        let dir = tempfile::tempdir().unwrap();
        run("sh", Command::new("sh").args(["-c", script]), dir.path(), limit)
    }

    #[test]
    fn a_failing_program_says_why() {
        let error = shell("echo no room >&2; exit 3", Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit status: 3: no room");
    }

    #[test]
    fn a_program_past_its_deadline_takes_its_children_along() {
        let start = Instant::now();
        let error = shell("sleep 60 & sleep 60", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
