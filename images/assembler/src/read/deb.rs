//! Reads one Debian package in memory: its control fields, maintainer scripts, and files (deb(5)).

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tar::EntryType;

use super::ar::read_ar;
use super::control::Paragraph;
use crate::error::DebError;
use crate::tree::Content;

/// One package.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name, version and architecture, from its own control file.
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// All fields of its control file.
    pub control: Paragraph,
    /// The other control members that are text: `postinst`, `triggers`, `conffiles`.
    pub scripts: BTreeMap<String, String>,
    /// What it brings, in its own order.
    pub items: Vec<Item>,
    /// SHA-256 of the .deb.
    pub sha256: [u8; 32],
    /// Size of the .deb in bytes.
    pub size: u64,
    /// Newest modification time of what it brings, in seconds since 1970.
    pub newest: u64,
}

/// One entry of a package's data archive.
#[derive(Debug, Clone)]
pub struct Item {
    /// Path without a leading slash; empty for the root.
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub shape: Shape,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Shape {
    Dir,
    File(Content),
    Link(String),
    /// Another name of the file at this path of the same package.
    Hard(String),
}

/// Reads a whole .deb.
///
/// # Errors
/// What is wrong with it; never panics, whatever the bytes.
pub fn read_deb(bytes: &[u8]) -> Result<Package, DebError> {
    let members = read_ar(bytes)?;
    let member = |prefix: &'static str| {
        members
            .iter()
            .find(|(name, _)| name.starts_with(prefix))
            .ok_or(DebError::Missing(prefix))
            .and_then(|(name, content)| decompress(name, content))
    };
    if !members.iter().any(|(name, content)| name == "debian-binary" && content.starts_with(b"2."))
    {
        return Err(DebError::Missing("debian-binary of version 2"));
    }
    let scripts = read_control(&member("control.tar")?)?;
    let control = Paragraph::read(scripts.get("control").ok_or(DebError::Missing("control"))?);
    let field =
        |name: &'static str| control.get(name).map(str::to_owned).ok_or(DebError::Field(name));
    let (items, newest) = read_data(Arc::new(member("data.tar")?))?;
    Ok(Package {
        name: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        items,
        newest,
        scripts,
        control,
        sha256: Sha256::digest(bytes).into(),
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
    })
}

fn decompress(name: &str, content: &[u8]) -> Result<Vec<u8>, DebError> {
    let mut plain = Vec::with_capacity(content.len().saturating_mul(4));
    let done = match name.rsplit('.').next() {
        Some("tar") => {
            plain.extend_from_slice(content);
            Ok(0)
        }
        Some("xz") => liblzma::read::XzDecoder::new(content).read_to_end(&mut plain),
        Some("gz") => flate2::read::GzDecoder::new(content).read_to_end(&mut plain),
        Some("zst") => zstd::stream::read::Decoder::new(content)
            .and_then(|mut decoder| decoder.read_to_end(&mut plain)),
        _ => return Err(DebError::Compression(name.to_owned())),
    };
    done.map_err(|e| DebError::Decompress(name.to_owned(), e))?;
    Ok(plain)
}

fn read_control(tar: &[u8]) -> Result<BTreeMap<String, String>, DebError> {
    let broken = |e| DebError::Tar("control.tar", e);
    let mut texts = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let name = plain_path(&entry.path_bytes())?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        texts.insert(name, String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(texts)
}

fn read_data(tar: Arc<Vec<u8>>) -> Result<(Vec<Item>, u64), DebError> {
    let broken = |e| DebError::Tar("data.tar", e);
    let mut items = Vec::new();
    let mut newest = 0;
    let mut archive = tar::Archive::new(Cursor::new(tar.as_slice()));
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = plain_path(&entry.path_bytes())?;
        let refuse = |reason| DebError::Entry { path: path.clone(), reason };
        let header = entry.header();
        let number = |n: u64| u32::try_from(n).map_err(|_| refuse("has an owner out of range"));
        let link = || {
            let target = entry.link_name_bytes().ok_or_else(|| refuse("links to nothing"))?;
            String::from_utf8(target.into_owned())
                .map_err(|_| refuse("links to a name that is not text"))
        };
        let shape = match header.entry_type() {
            EntryType::Directory => Shape::Dir,
            EntryType::Regular | EntryType::Continuous => {
                let range = usize::try_from(entry.raw_file_position())
                    .ok()
                    .zip(usize::try_from(entry.size()).ok())
                    .and_then(|(start, size)| Some(start..start.checked_add(size)?))
                    .ok_or_else(|| refuse("is too large"))?;
                Shape::File(Content::slice(&tar, range).ok_or_else(|| refuse("is cut off"))?)
            }
            EntryType::Symlink => Shape::Link(link()?),
            EntryType::Link => Shape::Hard(plain_path(link()?.as_bytes())?),
            _ => return Err(refuse("is neither a file, a directory nor a link")),
        };
        newest = newest.max(header.mtime().map_err(broken)?);
        items.push(Item {
            mode: header.mode().map_err(broken)? & 0o7777,
            uid: number(header.uid().map_err(broken)?)?,
            gid: number(header.gid().map_err(broken)?)?,
            path: path.clone(),
            shape,
        });
    }
    Ok((items, newest))
}

/// `./usr/bin/` is `usr/bin`; whatever leaves the tree is refused.
fn plain_path(bytes: &[u8]) -> Result<String, DebError> {
    let refuse =
        |reason| DebError::Entry { path: String::from_utf8_lossy(bytes).into_owned(), reason };
    let text = std::str::from_utf8(bytes).map_err(|_| refuse("has a name that is not text"))?;
    let parts: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(refuse("leaves the tree"));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_with_two_dots_is_refused() {
        assert!(matches!(plain_path(b"./usr/../../etc"), Err(DebError::Entry { .. })));
        assert_eq!(plain_path(b"./usr//bin/").unwrap(), "usr/bin");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_package_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_deb(&bytes);
            let mut archive = b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n".to_vec();
            archive.extend_from_slice(format!("{:<48}{:<10}`\n", "control.tar", bytes.len()).as_bytes());
            archive.extend_from_slice(&bytes);
            let _ = read_deb(&archive);
        }
    }
}
