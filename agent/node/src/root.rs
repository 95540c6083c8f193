//! The file system below a root: `/` on a node, a temporary directory in a test.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ballast_contract::{Spec, paths};

use crate::error::Error;

/// Where a file system begins.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether this is the running system, so that the kernel and not only files may be told.
    pub(crate) fn is_live(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The place of an absolute path below this root.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// A file's bytes, or none where there is no such file.
    pub(crate) fn load(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        load(&self.at(path))
    }

    /// The image's spec.
    pub(crate) fn load_spec(&self) -> Result<Spec, Error> {
        let path = self.at(paths::SPEC);
        let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
        let spec: Spec = serde_json::from_slice(&bytes)
            .map_err(|source| Error::SpecText { path: path.clone(), source })?;
        spec.validate().map_err(|reason| Error::Spec { path, reason })?;
        Ok(spec)
    }

    /// The words of the kernel command line; in a container, where that is the host's, those of its first process.
    pub(crate) fn load_command_line(&self) -> Result<Vec<String>, Error> {
        let in_container = self.at("/run/systemd/container").exists();
        let path = if in_container { "/proc/1/cmdline" } else { "/proc/cmdline" };
        let bytes = self.load(path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let words = text.split(|c: char| c.is_whitespace() || c == '\0');
        Ok(words.filter(|w| !w.is_empty()).map(str::to_owned).collect())
    }
}

/// The value of the last `name=value` among words: later ones win, as in the kernel.
pub(crate) fn word<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().rev().find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
}

/// A file's bytes, or none where there is no such file.
pub(crate) fn load(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading", path)(error)),
    }
}

/// Makes a directory and those above it, where missing.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(Error::io("making the directory", path))
}

/// Puts a file in place in one step: readers see the old bytes or the new ones, and never with a wider mode.
pub(crate) fn save(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    make_directory(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new = directory.join(format!(".{name}.new"));
    let written = write_new(&new, bytes, mode, owner).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        // The first error is the one to tell; a leftover is removed by the next try.
        let _ = fs::remove_file(&new);
        return Err(Error::io("writing", path)(error));
    }
    fs::File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(Error::io("writing to disk", directory))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask has had its say at creation.
    file.set_permissions(Permissions::from_mode(mode))?;
    if let Some((uid, gid)) = owner {
        chown(path, Some(uid), Some(gid))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_name_wins() {
        let words: Vec<String> =
            ["a=1", "ballast.node=n1", "ballast.node=n2"].map(str::to_owned).to_vec();
        assert_eq!(word(&words, "ballast.node"), Some("n2"));
        assert_eq!(word(&words, "ballast"), None);
    }

    #[test]
    fn a_secret_is_never_readable_by_others_even_for_a_moment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        save(&path, b"new", 0o600, None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no leftover beside it");
    }
}
