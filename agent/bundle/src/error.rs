//! Why a bundle is not taken: one sentence each, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::{DocumentError, MAX_BYTES, SiteKey, VERSION};

/// Why a bundle was not packed, taken or unpacked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message is its documentation")]
pub enum Error {
    #[error("bundle is {bytes} bytes long, more than the {MAX_BYTES} that are read")]
    TooLarge { bytes: usize },
    #[error("reading the bundle as a tar archive")]
    Archive(#[source] io::Error),
    #[error("writing the bundle's tar archive")]
    Write(#[source] io::Error),
    #[error("bundle holds {path:?}, which is not a regular file")]
    NotAFile { path: String },
    #[error("bundle holds {path:?}, which is not a plain relative path")]
    Path { path: String },
    #[error("bundle holds {path:?} twice")]
    Duplicate { path: String },
    #[error("bundle does not begin with manifest.json and manifest.sig")]
    NoManifest,
    #[error("reading manifest.json of the bundle")]
    Manifest(#[source] serde_json::Error),
    #[error("bundle is of version {found}, and this program reads version {VERSION}")]
    Version { found: u64 },
    #[error("{text:?} is not a site key")]
    SiteKey { text: String },
    #[error("bundle is signed with site key {found}, which this node does not trust")]
    Untrusted { found: SiteKey },
    #[error("manifest.json is not what site key {key} signed")]
    Signature { key: SiteKey },
    #[error("{path} has the mode {mode:?}, and 0600 is the only one")]
    Mode { path: String, mode: String },
    #[error("bundle lacks {path:?}")]
    Missing { path: String },
    #[error("bundle holds {path:?}, which its manifest does not name")]
    Extra { path: String },
    #[error("{path} is {found} bytes long, and the manifest says {expected}")]
    Size { path: String, found: usize, expected: u64 },
    #[error("{path} does not have the digest that the manifest says")]
    Digest { path: String },
    #[error("bundle has bytes that its content does not account for")]
    NotCanonical,
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{file}:{line}:{column} does not read as what it must hold")]
    // Without its source: what serde_json says may quote a secret.
    Secret { file: &'static str, line: usize, column: usize },
    #[error("{file}: {reason}")]
    Content { file: &'static str, reason: String },
    #[error("bundle is for node {found:?}, and this node is {expected:?}")]
    WrongNode { found: String, expected: String },
    #[error("bundle is for role {found:?}, and this image's role is {expected:?}")]
    WrongRole { found: String, expected: String },
    #[error("consul/{file} {reason}")]
    Certificate { file: &'static str, reason: String },
    #[error("consul/{file} expired at {at}")]
    Expired { file: &'static str, at: String },
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// What to do about it, for the line after the message.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Version { .. } | Self::Document(_) => {
                "make the bundle with the `ballast` of the image's version"
            }
            Self::SiteKey { .. } => {
                "a site key is 64 hexadecimal digits: the file site-key.pub of the state folder"
            }
            Self::Untrusted { .. } => {
                "give the node a bundle of its own site, or set up its state anew to move it to another site"
            }
            Self::WrongNode { .. } => "give each node the bundle that bears its name",
            Self::WrongRole { .. } => {
                "boot the image of the node's role, or correct `role` in cluster.toml and make the bundles again"
            }
            Self::Expired { .. } => {
                "make new certificates with `ballast bundle --renew`, and see that this machine's clock is right"
            }
            Self::Io { .. } => "see that the disk is neither full nor read-only",
            _ => "make the bundle again with `ballast bundle`, and copy the whole file unchanged",
        }
    }
}
