//! Why a command did not do what it was asked, what to do about it, and the exit status that says so.

use std::io;
use std::path::PathBuf;

use ballast_bundle::DocumentError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Cluster(#[from] DocumentError),
    #[error("reading {}", path.display())]
    LoadCluster { path: PathBuf, source: io::Error },
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is in use by another run of ballast", path.display())]
    Locked { path: PathBuf },
    #[error("{} belongs to site {found:?}, and the cluster file describes site {expected:?}", path.display())]
    OtherSite { path: PathBuf, found: String, expected: String },
    #[error("{} does not read as what it must hold", path.display())]
    // Without its source: what a parser says may quote a secret.
    Damaged { path: PathBuf },
    #[error("{} has no authority and keys of a site", path.display())]
    NoState { path: PathBuf },
    // Without its source, as above.
    #[error("{} does not read as an access_key and a secret_key", path.display())]
    Credentials { path: PathBuf },
    #[error("there is no secret {name:?}")]
    UnknownSecret { name: String, known: String },
    #[error("{reason}")]
    Unsafe { reason: String, hint: String },
    #[error("{node} is not a member of {cluster}")]
    NoMember { node: String, cluster: String, known: String },
    #[error("the site has no nodes of role {role:?}")]
    NoRole { role: &'static str },
    #[error("no member of {cluster} answers: {reasons}")]
    Silent { cluster: String, reasons: String },
    #[error("{node} refuses: {reason}")]
    Patroni { node: String, reason: String },
    #[error("{node} could not hand over: {reason}")]
    Redis { node: String, reason: String },
    #[error("no primary of {cluster} has answered within {secs} s")]
    NoPrimaryAnswers { cluster: String, secs: u64 },
    #[error("nothing was done")]
    Unconfirmed { asked: bool },
    #[error("the site's authority expires at {at}, too soon to issue certificates")]
    AuthorityExpires { at: String },
    #[error("getting random bytes from the operating system")]
    Random(#[source] getrandom::Error),
    #[error("the cluster file has no [postgres.backup]: nothing is backed up")]
    NoBackups,
    #[error("no Consul server answers: {reasons}")]
    NoServer { reasons: String },
    #[error("no primary has said yet which backups there are")]
    NothingSaid,
    #[error("the primary {node} could not make the backup: {reason}")]
    Backup { node: String, reason: String },
    #[error("no primary has answered within {secs} s")]
    Unanswered { secs: u64 },
    #[error("nothing can be restored to {to}: {reason}")]
    Outside { to: String, reason: String },
    #[error("making {what}")]
    Certificate { what: String, source: rcgen::Error },
    #[error("making the bundle of node {node:?}")]
    Bundle { node: String, source: ballast_bundle::Error },
}

impl Error {
    /// For `map_err` on what the operating system refuses.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// What to do about it, for the line after the message.
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Cluster(error) => &error.hint,
            Self::LoadCluster { .. } => "`ballast init` writes a cluster.toml to start from",
            Self::Exists { .. } => "edit it, or name another directory",
            Self::Locked { .. } => "wait for it to end",
            Self::OtherSite { .. } => {
                "name the site's own folder with --state; a site cannot be renamed in place"
            }
            Self::Damaged { .. } => "restore the state folder from its backup",
            Self::NoState { .. } => {
                "run `ballast bundle` first, or name the site's state folder with --state"
            }
            Self::Credentials { .. } => {
                "the file is TOML with two strings, `access_key` and `secret_key`, as the store gives them"
            }
            Self::UnknownSecret { known, .. } if known.is_empty() => {
                "run `ballast bundle` first; a site without databases has no passwords"
            }
            Self::UnknownSecret { known, .. } => known,
            Self::Unsafe { hint, .. } => hint,
            Self::NoMember { known, .. } => known,
            Self::Unconfirmed { asked: false } => "give --yes to go on without being asked",
            Self::NoPrimaryAnswers { .. } => {
                "`ballast status` shows whether there is a primary, and whether Consul hears it"
            }
            Self::Silent { .. } => "`ballast status` shows which nodes Consul knows",
            Self::AuthorityExpires { .. } => {
                "start a new state folder and give every node a bundle made with it"
            }
            Self::NoBackups => "uncomment it, run `ballast bundle`, and give every node its bundle",
            Self::NoServer { .. } => "`ballast status` shows which servers answer",
            Self::NothingSaid | Self::Unanswered { .. } => {
                "`ballast status` shows whether there is a primary, and whether its bundle has the backups"
            }
            Self::Outside { .. } => "`ballast backup list` shows what there is",
            Self::Bundle { source, .. } => source.hint(),
            Self::Io { .. } | Self::Random(_) | Self::Backup { .. } => return None,
            Self::Certificate { .. } | Self::Patroni { .. } | Self::Redis { .. } => return None,
            Self::NoRole { .. } | Self::Unconfirmed { .. } => return None,
        })
    }

    /// 2 for input that is wrong, 1 for what failed.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Cluster(_) | Self::LoadCluster { .. } | Self::Exists { .. } => 2,
            Self::OtherSite { .. } | Self::NoState { .. } => 2,
            Self::Credentials { .. } | Self::UnknownSecret { .. } => 2,
            Self::NoMember { .. } | Self::NoRole { .. } | Self::Unconfirmed { asked: false } => 2,
            Self::NoBackups | Self::Outside { .. } => 2,
            _ => 1,
        }
    }
}
