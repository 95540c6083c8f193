//! What can go wrong while something is measured.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A measurement that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("{what} {}", path.display())]
    File {
        /// What we were doing, `reading`.
        what: &'static str,
        /// To which path.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A document that does not say what it should.
    #[error("reading {}", path.display())]
    Document {
        /// Which document.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A program that would not start.
    #[error("starting {program}")]
    Start {
        /// Its name.
        program: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A program that ran and failed.
    #[error("{program} ended with {status}: {said}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// Something that took longer than it may.
    #[error("waited {} s for {what}; last seen: {seen}", limit.as_secs())]
    Deadline {
        /// For what.
        what: String,
        /// How long.
        limit: Duration,
        /// What was there instead.
        seen: String,
    },
    /// The machine driver's own failure.
    #[error("driving a machine")]
    Machines(#[from] ballast_machines::error::Error),
    /// Something this measurement needs and does not have here; the text is a whole reason.
    #[error("{0}")]
    Lacking(String),
    /// What several measurements share could not be made; the text is the whole chain of that first error.
    #[error("{0}")]
    Shared(String),
    /// The user asked to stop.
    #[error("stopped on request")]
    Interrupted,
}

/// What every fallible function of this room returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the user asked to stop.
    pub fn is_interrupt(&self) -> bool {
        use ballast_machines::error::Error as Machines;
        matches!(self, Self::Interrupted | Self::Machines(Machines::Interrupted))
    }

    /// For `map_err` on a file operation.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
