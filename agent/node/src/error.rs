//! Why a command of the agent failed: one sentence each, the cause as source, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a command of the agent failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("reading {} as a spec", path.display())]
    SpecText { path: PathBuf, source: serde_json::Error },
    #[error("{}: {reason}", path.display())]
    Spec { path: PathBuf, reason: ballast_contract::Refused },
    #[error("writing the text of {}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("no bundle is here: {looked}")]
    NoBundle { looked: String },
    #[error("the bundle from {origin} is refused")]
    Refused { origin: String, source: ballast_bundle::Error },
    #[error("the site key from {origin} cannot be used")]
    SiteKey { origin: String, source: ballast_bundle::Error },
    #[error(
        "this node is called {pinned:?} by the bundle it took before and {given:?} by {origin}"
    )]
    TwoNames { pinned: String, given: String, origin: &'static str },
    #[error("fetching the bundle from {url}")]
    Fetch { url: String, source: Box<ureq::Error> },
    #[error("starting {program}")]
    Start { program: String, source: io::Error },
    #[error("{program} ended with {status}: {stderr}")]
    Ended { program: String, status: String, stderr: String },
    #[error("mounting {}", path.display())]
    Mount { path: PathBuf, source: io::Error },
    #[error("setting the host name to {name:?}")]
    HostName { name: String, source: io::Error },
    #[error("setting up the questions to Redis")]
    RedisClient { source: Box<redis::RedisError> },
    #[error("listening on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("starting the agent's runtime")]
    Runtime(#[source] io::Error),
    #[error("this boot took no bundle")]
    NotTaken,
    #[error("there is no data from the backups of {cluster}")]
    NotRestored { cluster: String },
    #[error("this node is not the primary of a database cluster")]
    NotPrimary,
    #[error("asking the agent at {address} for the node's status")]
    Status { address: SocketAddr, source: crate::http::Error },
    #[error("reading the status that {address} answered")]
    StatusText { address: SocketAddr, source: serde_json::Error },
    #[error("the role is not healthy after {waited_secs} s: {closed}")]
    Unhealthy { waited_secs: u64, closed: String },
    #[error("reading the bundle's certificates")]
    Certificates { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("user {name:?} is in no image: neither the spec nor /etc/passwd has it")]
    NoUser { name: String },
    #[error("there is no application: neither behind -- nor as app.command in the configuration")]
    NoApplication,
    #[error("the application was not started within {waited_secs} s: {why}")]
    Unreached { waited_secs: u64, why: String },
    #[error(transparent)]
    Router(crate::router::Error),
}

impl Error {
    /// For `map_err`: an I/O error with what was being done to which path.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// What to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::NoBundle { .. } => Some(
                "make one with `ballast bundle`, attach it as a volume labelled BALLAST that holds bundle.tar, and start the machine again",
            ),
            Self::Refused { source, .. } | Self::SiteKey { source, .. } => Some(source.hint()),
            Self::Fetch { .. } => Some(
                "see that the URL can be reached from this machine, and that its server's certificate is of an authority that Debian knows",
            ),
            Self::Router(error) => Some(error.hint()),
            Self::NoApplication => Some("`ballast-agent app -- COMMAND`, with its arguments"),
            Self::Unreached { .. } => {
                Some("see that the nodes can be reached from here, or wait longer: app.wait_secs")
            }
            Self::NotTaken => Some("the journal of ballast-boot.service says why"),
            Self::Status { .. } => {
                Some("`systemctl status ballast.service` says whether the agent runs")
            }
            Self::TwoNames { .. } => {
                Some("start the machine with the name it had, or with an empty state partition")
            }
            _ => None,
        }
    }

    /// 2 when what was given is wrong, 1 when something else went wrong.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::SpecText { .. }
            | Self::Spec { .. }
            | Self::Refused { .. }
            | Self::SiteKey { .. }
            | Self::Router(_)
            | Self::NoApplication
            | Self::TwoNames { .. } => 2,
            _ => 1,
        }
    }
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A transparent cause would say the same thing twice.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
