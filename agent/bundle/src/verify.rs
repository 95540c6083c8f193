//! Verifying: from bytes of unknown origin to a bundle that this node may take, or one sentence why not.

use std::time::SystemTime;

use crate::acl::ACL;
use crate::archive::{File, read_archive, write_archive};
use crate::certificates::{self, CA, CERT, KEY};
use crate::manifest::{MANIFEST, Manifest, ManifestFile, SIGNATURE, sha256};
use crate::node::{NODE, SECRETS};
use crate::pack::MODE;
use crate::{Acl, Error, NodeConfig, Secrets, SiteKey, VERSION};

/// Whose bundles are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Anyone's: the caller pins [`Bundle::site_key`], so that it is asked once in a node's life.
    FirstUse,
    /// Those that one of these keys has signed.
    Keys(Vec<SiteKey>),
}

/// What a bundle must be for this node to take it.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Whose bundles are taken.
    pub trust: Trust,
    /// The node's name, where it is already known.
    pub node: Option<String>,
    /// The image's role; without it any is taken.
    pub role: Option<String>,
    /// The time at which the certificates must not have expired.
    pub now: SystemTime,
}

/// A bundle that was verified. Holds secrets, hence no `Debug`.
#[derive(Clone)]
pub struct Bundle {
    /// SHA-256 of its manifest, and thereby of all: the name of its generation.
    pub digest: String,
    /// The key that signed it.
    pub site_key: SiteKey,
    /// Everything about the node that is no secret.
    pub node: NodeConfig,
    /// What only the node may know.
    pub secrets: Secrets,
    /// The ACLs to make true, on servers of the data centre that holds them.
    pub acl: Option<Acl>,
    /// Every file with its path, in order.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    /// Every file with its path, the manifest and its signature first.
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }
}

/// Verifies a bundle's bytes. Pure: reads no file and no clock.
///
/// # Errors
/// The first thing that keeps this node from taking it; nothing of a refused bundle is used.
pub fn verify(bytes: &[u8], expectation: &Expectation) -> Result<Bundle, Error> {
    let files = read_archive(bytes)?;
    let bundle = verify_files(&files, expectation)?;
    // Headers and padding are under no signature, so they must be what the writer would have made.
    if write_archive(&files).map_err(Error::Write)? != bytes {
        return Err(Error::NotCanonical);
    }
    Ok(bundle)
}

/// Verifies the files of a bundle, manifest and signature first.
pub(crate) fn verify_files(files: &[File], expectation: &Expectation) -> Result<Bundle, Error> {
    let [manifest, signature, files @ ..] = files else { return Err(Error::NoManifest) };
    if manifest.path != MANIFEST || signature.path != SIGNATURE {
        return Err(Error::NoManifest);
    }
    let digest = sha256(&manifest.content);
    let manifest_bytes = &manifest.content;
    let manifest = read_manifest(manifest_bytes)?;
    let site_key = check_key(&manifest, &expectation.trust)?;
    if !site_key.has_signed(manifest_bytes, &signature.content) {
        return Err(Error::Signature { key: site_key });
    }
    check_files(&manifest.files, files)?;

    let content = |path: &str| files.iter().find(|f| f.path == path).map(|f| f.content.as_slice());
    let need = |path: &str| content(path).ok_or_else(|| Error::Missing { path: path.to_owned() });
    if let Some(file) =
        files.iter().find(|f| ![NODE, SECRETS, ACL, CA, CERT, KEY].contains(&f.path.as_str()))
    {
        return Err(Error::Extra { path: file.path.clone() });
    }
    let node = NodeConfig::read(need(NODE)?)?;
    check_identity(&manifest, &node, expectation)?;
    let secrets = Secrets::read(need(SECRETS)?)?;
    let acl = content(ACL).map(Acl::read).transpose()?;
    certificates::check(&node, need(CA)?, need(CERT)?, need(KEY)?, expectation.now)?;

    let pair = |file: &File| (file.path.clone(), file.content.clone());
    let head = [
        (MANIFEST.to_owned(), manifest_bytes.clone()),
        (SIGNATURE.to_owned(), signature.content.clone()),
    ];
    let files = head.into_iter().chain(files.iter().map(pair)).collect();
    Ok(Bundle { digest, site_key, node, secrets, acl, files })
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, Error> {
    /// Read first, so that a later version is called that and not a wrong key.
    #[derive(serde::Deserialize)]
    struct AnyVersion {
        version: u64,
    }
    let AnyVersion { version } = serde_json::from_slice(bytes).map_err(Error::Manifest)?;
    if version != u64::from(VERSION) {
        return Err(Error::Version { found: version });
    }
    serde_json::from_slice(bytes).map_err(Error::Manifest)
}

fn check_key(manifest: &Manifest, trust: &Trust) -> Result<SiteKey, Error> {
    let found: SiteKey = manifest.site_key.parse()?;
    match trust {
        Trust::Keys(keys) if !keys.contains(&found) => Err(Error::Untrusted { found }),
        _ => Ok(found),
    }
}

/// The archive holds what the manifest names, in its order, and nothing else.
fn check_files(expected: &[ManifestFile], files: &[File]) -> Result<(), Error> {
    for entry in expected {
        let path = || entry.path.clone();
        if entry.mode != format!("{MODE:04o}") {
            return Err(Error::Mode { path: path(), mode: entry.mode.clone() });
        }
        let Some(file) = files.iter().find(|f| f.path == entry.path) else {
            return Err(Error::Missing { path: path() });
        };
        let found = file.content.len();
        if u64::try_from(found).ok() != Some(entry.bytes) {
            return Err(Error::Size { path: path(), found, expected: entry.bytes });
        }
        if file.mode != MODE {
            return Err(Error::Mode { path: path(), mode: format!("{:04o}", file.mode) });
        }
        if sha256(&file.content) != entry.sha256 {
            return Err(Error::Digest { path: path() });
        }
    }
    match files.iter().find(|f| !expected.iter().any(|e| e.path == f.path)) {
        Some(file) => Err(Error::Extra { path: file.path.clone() }),
        None if !files.iter().map(|f| &f.path).eq(expected.iter().map(|e| &e.path)) => {
            Err(Error::NotCanonical)
        }
        None => Ok(()),
    }
}

/// The bundle is for this node, and says so everywhere it says it.
fn check_identity(
    manifest: &Manifest,
    node: &NodeConfig,
    expectation: &Expectation,
) -> Result<(), Error> {
    let differs = |expected: &Option<String>, found: &str| match expected {
        Some(expected) if expected != found => Some((found.to_owned(), expected.clone())),
        _ => None,
    };
    if manifest.node != node.node.name || manifest.site != node.node.site {
        let reason = "names another node or site than manifest.json".to_owned();
        return Err(Error::Content { file: NODE, reason });
    }
    if let Some((found, expected)) = differs(&expectation.node, &node.node.name) {
        return Err(Error::WrongNode { found, expected });
    }
    if let Some((found, expected)) = differs(&expectation.role, &node.node.role) {
        return Err(Error::WrongRole { found, expected });
    }
    Ok(())
}
