//! Mirrors: roots that may hold a path, asked in order. What they answer is trusted only once a digest or signature says so.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

/// The largest file taken: an index of all packages is a tenth of it.
const LIMIT_BYTES: u64 = 512 << 20;

/// The mirrors named by the environment.
pub struct Mirrors {
    roots: Vec<String>,
    agent: ureq::Agent,
}

impl Mirrors {
    /// Roots separated by blanks: URLs or directories.
    pub fn new(roots: &str) -> Result<Self> {
        let roots: Vec<String> =
            roots.split_whitespace().map(|root| root.trim_end_matches('/').to_owned()).collect();
        if roots.is_empty() {
            return Err(Error::NoMirror);
        }
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::PlatformVerifier)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_global(Some(Duration::from_secs(600)))
            .build();
        Ok(Self { roots, agent: config.into() })
    }

    /// The file at `path` below `archive`, from the first root that has it.
    pub fn fetch(&self, archive: &str, path: &str) -> Result<Vec<u8>> {
        let mut failed = None;
        for root in &self.roots {
            for place in [format!("{root}/{path}"), format!("{root}/{archive}/{path}")] {
                match self.read(&place) {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => {}
                    Err(error) => failed = Some(error),
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::NotFound {
            path: path.to_owned(),
            asked: self.roots.join(", "),
        }))
    }

    fn read(&self, place: &str) -> Result<Option<Vec<u8>>> {
        if !place.contains("://") {
            return match std::fs::read(place) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => {
                    Err(Error::File { what: "reading", path: Path::new(place).to_owned(), source })
                }
            };
        }
        let refuse = |source| Error::Fetch { url: place.to_owned(), source: Box::new(source) };
        match self.agent.get(place).call() {
            Ok(mut answer) => {
                let mut bytes = Vec::new();
                let mut body = answer.body_mut().as_reader().take(LIMIT_BYTES);
                body.read_to_end(&mut bytes).map_err(|source| refuse(ureq::Error::Io(source)))?;
                Ok(Some(bytes))
            }
            Err(ureq::Error::StatusCode(403 | 404 | 410)) => Ok(None),
            Err(source) => Err(refuse(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mirror_is_refused() {
        assert!(matches!(Mirrors::new("  "), Err(Error::NoMirror)));
    }

    #[test]
    fn the_first_root_that_has_a_file_gives_it() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("two/debian/pool/x", "by archive"), ("three/pool/x", "last")] {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let root = dir.path().display();
        let mirrors = Mirrors::new(&format!("{root}/one {root}/two/ {root}/three")).unwrap();
        assert_eq!(mirrors.fetch("debian", "pool/x").unwrap(), b"by archive");
        let refusal = mirrors.fetch("debian", "pool/y").unwrap_err().to_string();
        assert!(refusal.starts_with("no mirror has pool/y (asked: "), "{refusal}");
    }
}
