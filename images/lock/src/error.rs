//! What can go wrong between asking for packages and a written lock.

use std::io;
use std::path::PathBuf;

/// What the whole room returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of the lock command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that did not start.
    #[error("starting {program}")]
    Start { program: String, source: io::Error },
    /// A program that failed.
    #[error("{program} refused {subject}: {said}")]
    Refused { program: &'static str, subject: String, said: String },
    /// What the flake says it wants is not of the expected shape.
    #[error("reading what {flake} wants locked")]
    Wanted { flake: String, source: serde_json::Error },
    /// A file.
    #[error("{what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// A lock that is not one.
    #[error("reading the lock {}", path.display())]
    Lock { path: PathBuf, source: serde_json::Error },
    /// A lock of a later or earlier format.
    #[error("the lock {} has version {found}, and this program writes version {known}", path.display())]
    LockVersion { path: PathBuf, found: u32, known: u32 },
    /// No mirror is named.
    #[error(
        "BALLAST_MIRROR names no mirror\nhint: run this through ./nixw, which asks the machine's package manager"
    )]
    NoMirror,
    /// None of the mirrors has a file.
    #[error("no mirror has {path} (asked: {asked})")]
    NotFound { path: String, asked: String },
    /// A mirror that failed otherwise than by not having the file.
    #[error("fetching {url}")]
    Fetch { url: String, source: Box<ureq::Error> },
    /// A Release file whose time has passed.
    #[error(
        "the Release file of {suite} was valid until {until}: the mirror is stale\nhint: --allow-expired takes it nevertheless"
    )]
    Expired { suite: String, until: String },
    /// A Release file without a needed field.
    #[error("the Release file of {suite} has no usable {field}")]
    Release { suite: String, field: &'static str },
    /// Bytes that are not those the signed file names.
    #[error("{what} has digest {found}, and its signed index says {expected}")]
    Digest { what: String, expected: String, found: String },
    /// A compressed file or archive that does not unpack.
    #[error("unpacking {what}")]
    Unpack { what: String, source: io::Error },
    /// A line that is no control data.
    #[error("{what}, line {line}: {reason}")]
    Control { what: String, line: usize, reason: &'static str },
    /// A package stanza without a needed field.
    #[error("package {package} of {suite} has no usable {field}")]
    Field { package: String, suite: String, field: &'static str },
    /// A dependency that is none.
    #[error("{package} has the dependency `{text}`, which is none")]
    Relation { package: String, text: String },
    /// A package that no suite has.
    #[error("closure {closure} asks for {package}, which no suite has")]
    Unknown { closure: String, package: String },
    /// A dependency that nothing satisfies.
    #[error("closure {closure}: {package} needs {relation}, and {reason}")]
    Unsatisfied { closure: String, package: String, relation: String, reason: String },
    /// Two packages that exclude each other.
    #[error("closure {closure}: {package} excludes {other} ({relation})")]
    Conflict { closure: String, package: String, other: String, relation: String },
    /// The seed's package does not hold the seed.
    #[error("package {package} holds no {file}")]
    Seed { package: String, file: String },
}

/// One line per failure, cause after cause.
pub fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut hint = String::new();
    if let Some(at) = text.find("\nhint:") {
        hint = text.split_off(at);
    }
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text + &hint
}
