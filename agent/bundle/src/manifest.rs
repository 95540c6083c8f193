//! `manifest.json`: for whom a bundle is, by whom, and what it holds.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The manifest's path in the archive, and its signature's.
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const SIGNATURE: &str = "manifest.sig";

/// For whom a bundle is, by whom, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`](crate::VERSION).
    pub version: u32,
    /// The site's name.
    pub site: String,
    /// The node's name.
    pub node: String,
    /// The key that signed this manifest: hexadecimal Ed25519 public key.
    pub site_key: String,
    /// Every file of the archive but the manifest and its signature, in the archive's order.
    pub files: Vec<ManifestFile>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Relative path, its parts joined by `/`.
    pub path: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// Size of the content.
    pub bytes: u64,
    /// Permission bits in octal, `"0600"`.
    pub mode: String,
}

/// The SHA-256 of bytes, in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
