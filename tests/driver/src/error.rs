//! What can go wrong while machines are driven.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the driver or of what it drives.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the run.
    #[error("{what} {}", path.display())]
    File {
        /// What we were doing, `writing`.
        what: &'static str,
        /// To which path.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A program that would not start.
    #[error("starting {program}")]
    Start {
        /// The program's name.
        program: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A program that ran and failed.
    #[error("{program} ended with {status}: {stderr}")]
    Failed {
        /// The program and what it was to do.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// A system call on behalf of a namespace, cgroup or process.
    #[error("{what}")]
    System {
        /// What we were doing to which thing.
        what: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A condition that did not come true.
    #[error("waited {waited:?} for {what}; last seen: {seen}")]
    Deadline {
        /// The condition, `consul-1 to be passing`.
        what: String,
        /// How long.
        waited: Duration,
        /// What the last look showed.
        seen: String,
    },
    /// A machine that ended while it was needed.
    #[error("machine {name} ended ({status}): {said}")]
    Ended {
        /// The machine.
        name: String,
        /// How its process ended.
        status: String,
        /// The end of what its process said.
        said: String,
    },
    /// A machine that is off, asked for something only a running one can do.
    #[error("machine {name} is not running")]
    Off {
        /// The machine.
        name: String,
    },
    /// An answer that is not what the asked program promises.
    #[error("reading {what}: {answer:?}")]
    Answer {
        /// Whose answer.
        what: String,
        /// The answer's beginning.
        answer: String,
    },
    /// A promise that does not hold.
    #[error("{0}")]
    Broken(String),
    /// Something the run needs and was not given.
    #[error("{0}")]
    Missing(String),
    /// The user asked to stop.
    #[error("stopped on request")]
    Interrupted,
}

/// What every fallible function of this room returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err` on a file operation.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// For `map_err` on a system call.
    pub fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::System { what, source: source.into() }
    }
}

/// The whole chain of an error on one line, for the one place that prints it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
