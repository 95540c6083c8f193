//! Starting children and reaping them, and every orphan that the kernel gives to the first process.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix;
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Status(i32),
    Signal(Signal),
}

impl End {
    /// As a shell gives it.
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Status(status) => u8::try_from(status).unwrap_or(u8::MAX),
            Self::Signal(signal) => u8::try_from(128 + signal as i32).unwrap_or(u8::MAX),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Signal(signal) => write!(f, "{signal}"),
        }
    }
}

/// Who waits for whom.
#[derive(Default)]
pub(super) struct Reaper {
    waiting: Mutex<HashMap<Pid, oneshot::Sender<End>>>,
}

impl Reaper {
    /// Starts a process; its end is told once. Nothing is reaped while this runs, so that no end is missed.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<(Pid, oneshot::Receiver<End>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let (tell, told) = oneshot::channel();
        waiting.insert(pid, tell);
        Ok((pid, told))
    }

    /// Reaps whatever has ended, each time that something has.
    pub(super) async fn reap(self: Arc<Self>, mut children: unix::Signal) {
        loop {
            self.reap_all();
            if children.recv().await.is_none() {
                return;
            }
        }
    }

    fn reap_all(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, End::Status(status)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, End::Signal(signal)),
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                // There is no child.
                Err(_) => return,
            };
            if let Some(tell) = waiting.remove(&pid) {
                // Who waited may have given up.
                let _ = tell.send(end);
            }
        }
    }
}
