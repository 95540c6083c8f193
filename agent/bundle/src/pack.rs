//! Packing: from what a node must know to the bytes of its bundle.

use ed25519_dalek::{Signer, SigningKey};

use crate::acl::ACL;
use crate::archive::{File, write_archive};
use crate::certificates::{CA, CERT, KEY};
use crate::manifest::{MANIFEST, Manifest, ManifestFile, SIGNATURE, sha256};
use crate::node::{NODE, SECRETS};
use crate::{Acl, Error, NodeConfig, Secrets, SiteKey, VERSION};

/// The one mode of every file in a bundle.
pub(crate) const MODE: u32 = 0o600;

/// What a node must know. Holds secrets, hence no `Debug`.
#[derive(Clone, PartialEq)]
pub struct Contents {
    /// Everything that is no secret.
    pub node: NodeConfig,
    /// What only the node may know.
    pub secrets: Secrets,
    /// The ACLs to make true, on servers of the data centre that holds them.
    pub acl: Option<Acl>,
    /// The site's authority, PEM.
    pub ca_pem: String,
    /// The node's certificate, PEM.
    pub cert_pem: String,
    /// The certificate's private key, PKCS #8 in PEM.
    pub key_pem: String,
}

/// The bundle that holds this, signed with the site's key: the same bytes for the same content and key.
///
/// # Errors
/// The content is not what a node would take.
pub fn pack(contents: &Contents, site_key: &SigningKey) -> Result<Vec<u8>, Error> {
    contents.node.validate()?;
    let unwritable = |file| move |reason: String| Error::Content { file, reason };
    let node = toml::to_string(&contents.node).map_err(|e| unwritable(NODE)(e.to_string()))?;
    let mut files = vec![
        (NODE, node.into_bytes()),
        (SECRETS, json(&contents.secrets).map_err(|e| unwritable(SECRETS)(e.to_string()))?),
    ];
    if let Some(acl) = &contents.acl {
        files.push((ACL, json(acl).map_err(|e| unwritable(ACL)(e.to_string()))?));
    }
    files.push((CA, contents.ca_pem.clone().into_bytes()));
    files.push((CERT, contents.cert_pem.clone().into_bytes()));
    files.push((KEY, contents.key_pem.clone().into_bytes()));
    seal(&contents.node.node.site, &contents.node.node.name, files, site_key)
}

/// Signs and archives files as they are, whether a node would take them or not: [`pack`] after its checks, and the way
/// to a wrong bundle with a right signature.
///
/// # Errors
/// A path does not fit a tar header.
pub fn seal(
    site: &str,
    node: &str,
    files: Vec<(&str, Vec<u8>)>,
    site_key: &SigningKey,
) -> Result<Vec<u8>, Error> {
    let entry = |(path, content): &(&str, Vec<u8>)| ManifestFile {
        path: (*path).to_owned(),
        sha256: sha256(content),
        bytes: u64::try_from(content.len()).unwrap_or(u64::MAX),
        mode: format!("{MODE:04o}"),
    };
    let manifest = Manifest {
        version: VERSION,
        site: site.to_owned(),
        node: node.to_owned(),
        site_key: SiteKey::from(site_key.verifying_key()).to_string(),
        files: files.iter().map(entry).collect(),
    };
    let manifest = json(&manifest).map_err(Error::Manifest)?;
    let signature = site_key.sign(&manifest).to_vec();
    let head = [(MANIFEST, manifest), (SIGNATURE, signature)];
    let files: Vec<File> = head
        .into_iter()
        .chain(files)
        .map(|(path, content)| File { path: path.to_owned(), mode: MODE, content })
        .collect();
    write_archive(&files).map_err(Error::Write)
}

fn json(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
