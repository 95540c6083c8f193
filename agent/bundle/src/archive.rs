//! The archive: regular files in a `ustar` tar that is the same bytes for the same files.

use std::io::{self, Read, Write};

use crate::{Error, MAX_BYTES};

/// One file of an archive.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// The bytes of an archive of these files, in this order, owned by root, at the epoch.
pub(crate) fn write_archive(files: &[File]) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(&file.path)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(u64::try_from(file.content.len()).map_err(io::Error::other)?);
        header.set_cksum();
        builder.append(&header, file.content.as_slice())?;
    }
    let mut bytes = builder.into_inner()?;
    bytes.flush()?;
    Ok(bytes)
}

/// The files of an archive, in its order: regular ones with plain paths, none twice.
pub(crate) fn read_archive(bytes: &[u8]) -> Result<Vec<File>, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::TooLarge { bytes: bytes.len() });
    }
    let mut archive = tar::Archive::new(bytes);
    let mut files: Vec<File> = Vec::new();
    // Raw: extensions (long names, pax, sparse) stay entries of their own kind, and are refused as such.
    for entry in archive.entries().map_err(Error::Archive)?.raw(true) {
        let mut entry = entry.map_err(Error::Archive)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(Error::NotAFile { path });
        }
        if !is_plain(&path) {
            return Err(Error::Path { path });
        }
        if files.iter().any(|f| f.path == path) {
            return Err(Error::Duplicate { path });
        }
        let mode = entry.header().mode().map_err(Error::Archive)?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(Error::Archive)?;
        files.push(File { path, mode, content });
    }
    Ok(files)
}

/// Whether a path is relative and normal, and of portable characters: `consul/ca.pem`.
fn is_plain(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    path.len() <= 100 && path.split('/').all(part)
}
