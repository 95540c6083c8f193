//! The seed's digest: of a store path `bin/<file>`, in the form in which Nix serialises a tree.

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The digest of the store path that holds `file` of a .deb, as Nix writes it.
pub fn hash_seed(package: &str, deb: &[u8], file: &str) -> Result<String> {
    let missing = || Error::Seed { package: package.to_owned(), file: file.to_owned() };
    let unpack = |source| Error::Unpack { what: package.to_owned(), source };
    let data = member(deb, "data.tar.xz").ok_or_else(missing)?;
    let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(data));
    for entry in archive.entries().map_err(unpack)? {
        let mut entry = entry.map_err(unpack)?;
        if entry.path_bytes().strip_prefix(b"./") == Some(file.as_bytes()) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(unpack)?;
            let name = file.rsplit('/').next().unwrap_or(file);
            let digest =
                Sha256::digest(directory("bin", &directory(name, &executable(&bytes))).concat());
            return Ok(format!("sha256-{}", base64(&digest)));
        }
    }
    Err(missing())
}

/// A member of an ar archive (ar(5), as deb(5) uses it).
fn member<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = archive.strip_prefix(b"!<arch>\n")?;
    loop {
        let (header, after) = rest.split_at_checked(60)?;
        let found = std::str::from_utf8(header.get(..16)?).ok()?;
        let size: usize = std::str::from_utf8(header.get(48..58)?).ok()?.trim().parse().ok()?;
        let (content, after) = after.split_at_checked(size)?;
        if found.trim_end().trim_end_matches('/') == name {
            return Some(content);
        }
        rest = after.get(size % 2..)?;
    }
}

// Serialised pieces; the outermost is wrapped by `directory` only, so the magic stands in front of the first of them.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn executable(content: &[u8]) -> Vec<Vec<u8>> {
    let words: [&[u8]; 7] = [b"(", b"type", b"regular", b"executable", b"", b"contents", content];
    words.into_iter().chain([&b")"[..]]).map(text).collect()
}

fn directory(name: &str, node: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let magic: &[u8] = b"nix-archive-1";
    let outermost = name == "bin";
    let opening: [&[u8]; 8] =
        [b"(", b"type", b"directory", b"entry", b"(", b"name", name.as_bytes(), b"node"];
    let mut pieces: Vec<Vec<u8>> = if outermost { vec![text(magic)] } else { Vec::new() };
    pieces.extend(opening.into_iter().map(text));
    pieces.extend_from_slice(node);
    pieces.extend([text(b")"), text(b")")]);
    pieces
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3)
            .fold(0u32, |word, at| (word << 8) | chunk.get(at).map_or(0, |byte| u32::from(*byte)));
        for at in 0..4 {
            let letter =
                LETTERS.get(((word >> (18 - 6 * at)) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_pads() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_digest_is_the_one_nix_computes() {
        // `nix hash path` of a folder whose only file is an executable bin/busybox with the content "seed\n".
        let node = executable(b"seed\n");
        let digest = Sha256::digest(directory("bin", &directory("busybox", &node)).concat());
        assert_eq!(
            format!("sha256-{}", base64(&digest)),
            "sha256-aWREt/3D2dGV7BWs4t8aJSNpeTgn/hVAHyzfDebjTYY="
        );
    }

    #[test]
    fn a_package_without_the_file_is_refused() {
        assert!(hash_seed("busybox-static", b"", "usr/bin/busybox").is_err());
    }

    proptest! {
        #[test]
        fn any_archive_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in "[0-9 ]{10}") {
            let _ = member(&bytes, "data.tar.xz");
            let mut archive = b"!<arch>\n".to_vec();
            archive.extend(format!("{:<16}{:<32}{size}`\n", "data.tar.xz", "").bytes());
            archive.extend(bytes);
            let _ = hash_seed("busybox-static", &archive, "usr/bin/busybox");
        }
    }
}
