//! What can go wrong while a site is broken on purpose.

use std::io;
use std::path::PathBuf;

/// A run that could not be made. What a store did wrong is no error: it stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("{what} {}", path.display())]
    File {
        /// What we were doing, `writing`.
        what: &'static str,
        /// To which path.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A document that does not say what it should.
    #[error("reading {what}")]
    Document {
        /// Which document.
        what: String,
        /// What the parser says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A client that could not be made or asked.
    #[error("{what}")]
    Client {
        /// What it was doing.
        what: String,
        /// What its library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The machine driver's own failure.
    #[error("driving the machines")]
    Machines(#[from] ballast_machines::error::Error),
    /// Something the run needs and does not have; the text is a whole reason.
    #[error("{0}")]
    Lacking(String),
    /// Wrong usage.
    #[error("{0}")]
    Usage(String),
}

/// What every fallible function of this room returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err` on a file operation.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// For `map_err` on a client's operation.
    pub fn client<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Client { what, source: source.into() }
    }

    /// For `map_err` on reading a document.
    pub fn document<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Document { what, source: source.into() }
    }

    /// Whether the user asked to stop.
    pub fn is_interrupt(&self) -> bool {
        matches!(self, Self::Machines(ballast_machines::error::Error::Interrupted))
    }
}
