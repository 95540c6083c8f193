//! Everything that can stop an image from being assembled, each as a sentence about what we were doing to which thing.

use std::path::PathBuf;

/// Why no image was made. The cause, where the operating system or a format gave one, is the source.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A file could not be read.
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    /// A file could not be written.
    #[error("writing {path}")]
    Write { path: PathBuf, source: std::io::Error },
    /// A JSON document does not parse.
    #[error("reading {path} as {what}")]
    Json { path: PathBuf, what: &'static str, source: serde_json::Error },
    /// A spec that parses and breaks a rule.
    #[error("checking {path}")]
    Spec { path: PathBuf, source: ballast_contract::Refused },
    /// A .deb is not what it says.
    #[error("reading package {path}")]
    Package { path: PathBuf, source: DebError },
    /// The list of packages and a package disagree.
    #[error("package list says {listed}, and {path} is {found}")]
    Listed { path: PathBuf, listed: String, found: String },
    /// Two packages bring different things to one path.
    #[error("merging packages: {first} and {second} both bring /{path}, and differ")]
    Conflict { path: String, first: String, second: String },
    /// A path that can't be resolved in the tree.
    #[error("placing /{path}: {reason}")]
    Place { path: String, reason: String },
    /// A pass can't do its work.
    #[error("pass {pass}: {reason}")]
    Pass { pass: &'static str, reason: String },
    /// Maintainer scripts do something that nothing here does.
    #[error("{0}")]
    Scripts(String),
    /// A tool did not do its work.
    #[error("running {tool}: {reason}")]
    Tool { tool: String, reason: String },
    /// A tool could not be started.
    #[error("starting {tool}")]
    Start { tool: String, source: std::io::Error },
    /// A format's limit was reached.
    #[error("writing the {format}: {reason}")]
    Format { format: &'static str, reason: String },
}

impl AssembleError {
    /// Whether the fault is in what was given to us, and not in the machine we ran on.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Tool { .. } | Self::Start { .. })
    }

    /// A pass's refusal.
    pub fn pass(pass: &'static str, reason: impl Into<String>) -> Self {
        Self::Pass { pass, reason: reason.into() }
    }
}

/// What is wrong inside one .deb.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The outer archive is damaged.
    #[error("the ar archive is damaged at byte {at}: {reason}")]
    Ar { at: usize, reason: &'static str },
    /// A member is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A member's compression is not one of Debian's.
    #[error("member {0} is compressed in a way we do not read")]
    Compression(String),
    /// A member does not decompress.
    #[error("member {0} does not decompress")]
    Decompress(String, #[source] std::io::Error),
    /// A tar archive is damaged.
    #[error("member {0} is not a whole tar archive")]
    Tar(&'static str, #[source] std::io::Error),
    /// An entry that no package may have.
    #[error("entry {path:?} {reason}")]
    Entry { path: String, reason: &'static str },
    /// The control file is not one paragraph of fields.
    #[error("its control file has no field {0}")]
    Field(&'static str),
}
