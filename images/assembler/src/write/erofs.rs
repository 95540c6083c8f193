//! Writes the root's file system: the tree as a tar stream, through `mkfs.erofs`.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use uuid::Uuid;

use crate::args;
use crate::error::AssembleError;
use crate::tool;
use crate::tree::{Kind, Node, Tree};

/// Writes the tree to `to` and returns a digest of everything in it.
///
/// Nothing is compressed: what travels is compressed as a whole, some per cent smaller than block by block. Where the
/// CPU has instructions for SHA-256, booting from plain blocks was not measurably slower than from lz4hc ones.
///
/// The file system's UUID comes from that digest: one tree, one image.
///
/// # Errors
/// A tree that tar can't hold, or `mkfs.erofs` failing.
pub fn save_erofs(tree: &Tree, epoch: u64, to: &Path) -> Result<[u8; 32], AssembleError> {
    let format =
        |e: std::io::Error| AssembleError::Format { format: "root", reason: e.to_string() };
    let mut digest = Digesting { digest: Sha256::new(), to: std::io::sink() };
    write_tar(tree, epoch, &mut digest).map_err(format)?;
    let digest: [u8; 32] = digest.digest.finalize().into();
    let arguments = args![
        "--tar=f",
        "--quiet",
        "-x-1",
        format!("-T{epoch}"),
        format!("-U{}", uuid_from(&digest, "erofs")),
        to,
    ];
    // The tool opens an existing file without cutting it short.
    let _ = std::fs::remove_file(to);
    tool::run("mkfs.erofs", &arguments, epoch, |pipe| write_tar(tree, epoch, pipe))?;
    Ok(digest)
}

/// A UUID that the content names: version 8 of RFC 9562.
pub fn uuid_from(digest: &[u8; 32], what: &str) -> Uuid {
    let hash = Sha256::new().chain_update(what).chain_update(digest).finalize();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = from;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

struct Digesting<W> {
    digest: Sha256,
    to: W,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.digest.update(bytes);
        self.to.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// What makes two names one file: the same bytes in memory, mode and owner.
type Identity = ((usize, usize, usize), u32, u32, u32);

/// The tree as a tar stream; names of one and the same file are hard links.
pub fn write_tar(tree: &Tree, epoch: u64, to: &mut dyn Write) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(to);
    let mut seen: HashMap<Identity, String> = HashMap::new();
    for (path, node) in tree.iter() {
        let name = if path.is_empty() { "./".to_owned() } else { format!("./{path}") };
        let mut header = header(node, epoch);
        match &node.kind {
            Kind::Dir => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, name, std::io::empty())?;
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, name, target)?;
            }
            Kind::File(content) => {
                let bytes = content.bytes();
                let key = (content.identity(), node.mode, node.uid, node.gid);
                match seen.get(&key).filter(|_| !bytes.is_empty()) {
                    Some(first) => {
                        header.set_entry_type(EntryType::Link);
                        tar.append_link(&mut header, name, first)?;
                    }
                    None => {
                        header.set_entry_type(EntryType::Regular);
                        header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                        tar.append_data(&mut header, &name, bytes)?;
                        seen.insert(key, name);
                    }
                }
            }
        }
    }
    tar.finish()
}

fn header(node: &Node, epoch: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    header.set_mtime(epoch);
    header.set_size(0);
    header
}
