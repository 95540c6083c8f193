//! A suite's indexes, from a signature to packages: nothing is read before the digest above it has been checked.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::mirror::Mirrors;
use crate::packages::{Package, read_packages};
use crate::release::{Release, read_release};

/// One suite of one archive.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Whose pool its packages are in, `debian`.
    pub archive: String,
    /// Its code name.
    pub suite: String,
    /// Which parts of it are looked at.
    pub components: Vec<String>,
    /// The only packages taken from it; empty takes all.
    #[serde(default)]
    pub only: Vec<String>,
}

/// Who verifies a Release file: the program and the keys it accepts.
pub struct Verifier {
    /// gpgv.
    pub program: PathBuf,
    /// The archive's keys.
    pub keyring: PathBuf,
}

impl Verifier {
    /// The text that one of the keys has signed; what else the file holds is not in it.
    fn signed_text(&self, suite: &str, file: &[u8]) -> Result<String> {
        let dir = tempfile::tempdir()
            .map_err(|source| at("making a directory in", &std::env::temp_dir(), source))?;
        let (signed, text) = (dir.path().join("InRelease"), dir.path().join("Release"));
        std::fs::write(&signed, file).map_err(|source| at("writing", &signed, source))?;
        let output = Command::new(&self.program)
            .arg("--keyring")
            .arg(&self.keyring)
            .arg("--output")
            .arg(&text)
            .arg(&signed)
            .output()
            .map_err(|source| Error::Start {
                program: self.program.display().to_string(),
                source,
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned();
            return Err(Error::Refused {
                program: "gpgv",
                subject: format!("the Release file of {suite}"),
                said,
            });
        }
        std::fs::read_to_string(&text).map_err(|source| at("reading", &text, source))
    }
}

fn at(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { what, path: path.to_owned(), source }
}

/// Fetches and verifies a suite's Release file. `now`: seconds since 1970, `None` to take it whatever its age.
pub fn fetch_release(
    mirrors: &Mirrors,
    verifier: &Verifier,
    suite: &Suite,
    now: Option<u64>,
) -> Result<Release> {
    let signed = mirrors.fetch(&suite.archive, &format!("dists/{}/InRelease", suite.suite))?;
    let release = read_release(&suite.suite, &verifier.signed_text(&suite.suite, &signed)?)?;
    match (&release.valid_until, now) {
        (Some((until, written)), Some(now)) if *until < now => {
            Err(Error::Expired { suite: suite.suite.clone(), until: written.clone() })
        }
        _ => Ok(release),
    }
}

/// Fetches the indexes of all components that the release has, and reads those packages that may be taken.
pub fn fetch_packages(mirrors: &Mirrors, suite: &Suite, release: &Release) -> Result<Vec<Package>> {
    let mut all = Vec::new();
    for component in &suite.components {
        let path = format!("{component}/binary-amd64/Packages.xz");
        let listed = release.indexes.iter().find(|(listed, _, _)| *listed == path);
        let (_, digest, _) = listed.ok_or_else(|| Error::Release {
            suite: suite.suite.clone(),
            field: "index Packages.xz",
        })?;
        let what = format!("{path} of {}", suite.suite);
        let packed = fetch_index(mirrors, suite, component, &path, digest)?;
        let found = hex::encode(Sha256::digest(&packed));
        if found != *digest {
            return Err(Error::Digest { what, expected: digest.clone(), found });
        }
        let mut text = String::new();
        liblzma::read::XzDecoder::new(packed.as_slice())
            .read_to_string(&mut text)
            .map_err(|source| Error::Unpack { what, source })?;
        let packages = read_packages(&suite.archive, &suite.suite, &text)?;
        all.extend(
            packages
                .into_iter()
                .filter(|package| suite.only.is_empty() || suite.only.contains(&package.name)),
        );
    }
    Ok(all)
}

/// By digest first: the plain name may already be the next version's.
fn fetch_index(
    mirrors: &Mirrors,
    suite: &Suite,
    component: &str,
    path: &str,
    digest: &str,
) -> Result<Vec<u8>> {
    let by_digest =
        format!("dists/{}/{component}/binary-amd64/by-hash/SHA256/{digest}", suite.suite);
    match mirrors.fetch(&suite.archive, &by_digest) {
        Err(Error::NotFound { .. }) => {
            mirrors.fetch(&suite.archive, &format!("dists/{}/{path}", suite.suite))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier() -> Verifier {
        let program = std::env::var_os("BALLAST_GPGV").unwrap().into();
        let keyring = std::env::var_os("BALLAST_KEYRING").unwrap().into();
        Verifier { program, keyring }
    }

    #[test]
    #[ignore = "needs BALLAST_GPGV, a gpgv, and BALLAST_KEYRING, the archive's keys"]
    fn a_release_that_nobody_signed_is_refused() {
        let text = b"Suite: stable\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n";
        let refusal = verifier().signed_text("trixie", text).unwrap_err().to_string();
        assert!(refusal.starts_with("gpgv refused the Release file of trixie: "), "{refusal}");
    }

    #[test]
    #[ignore = "needs BALLAST_GPGV, a gpgv, and BALLAST_KEYRING, the archive's keys"]
    fn a_release_with_a_made_up_signature_is_refused() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSuite: stable\n-----BEGIN PGP SIGNATURE-----\n\n\
                    iHUEARYKAB0WIQRM=\n=aaaa\n-----END PGP SIGNATURE-----\n";
        assert!(verifier().signed_text("trixie", text.as_bytes()).is_err());
    }

    /// A mirror of one suite, whose index is not the one the release names.
    #[test]
    fn an_index_with_another_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("dists/trixie/main/binary-amd64");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Packages.xz"), "not what was signed").unwrap();
        let path = "main/binary-amd64/Packages.xz".to_owned();
        let release =
            Release { date: 0, valid_until: None, indexes: vec![(path, "0".repeat(64), 1)] };
        let suite = Suite {
            archive: "debian".into(),
            suite: "trixie".into(),
            components: vec!["main".into()],
            only: Vec::new(),
        };
        let mirrors = Mirrors::new(&dir.path().display().to_string()).unwrap();
        let refusal = fetch_packages(&mirrors, &suite, &release).unwrap_err().to_string();
        assert!(
            refusal.starts_with("main/binary-amd64/Packages.xz of trixie has digest "),
            "{refusal}"
        );
    }
}
