//! The process behind a machine: started with its console followed, and missed when it ends by itself.

use std::process::{Child, Command, ExitStatus, Stdio};

use crate::error::{Error, Result};
use crate::programs::tail;
use crate::transcript::Transcript;

/// One life of a machine, as the host sees it.
pub struct Process {
    machine: String,
    child: Child,
    complaints: Transcript,
}

impl Process {
    /// Starts the program. What it prints is the machine's console; what it says on stderr is its own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        command: &mut Command,
        program: &str,
        machine: &str,
        console: &Transcript,
    ) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program: program.to_owned(), source })?;
        let complaints = Transcript::default();
        if let Some(stdout) = child.stdout.take() {
            console.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            complaints.follow(stderr);
        }
        Ok(Self { machine: machine.to_owned(), child, complaints })
    }

    /// Its number, as the host counts.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Nothing while it lives.
    ///
    /// # Errors
    /// How it ended, and what it said last.
    pub fn check_alive(&mut self) -> Result<()> {
        let waiting = format!("waiting for {}", self.machine);
        match self.child.try_wait().map_err(Error::system(waiting))? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                name: self.machine.clone(),
                status: status.to_string(),
                said: tail(&self.complaints.text(), 4),
            }),
        }
    }

    /// Waits for its end, which something else has brought about.
    ///
    /// # Errors
    /// When the system does not say how it ended.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().map_err(Error::system(format!("waiting for {}", self.machine)))
    }

    /// Ends it.
    pub fn end(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
