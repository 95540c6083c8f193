//! Files with secrets on disk: written whole or not at all, and readable by their owner alone.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::error::Error;

/// How the name of a file begins while it is being written.
const NEW: &str = ".new-";

/// Makes a directory, and the ones above it, that only its owner may enter and that version control passes by; one that
/// is there stays as it is.
pub fn make_directory(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("making the directory", path))?;
    save(&path.join(".gitignore"), b"# Secrets are not for version control.\n*\n")
}

/// Saves a file that only its owner may read, in one step.
pub fn save(path: &Path, content: &[u8]) -> Result<(), Error> {
    let error = || Error::io("writing", path);
    let directory = path.parent().unwrap_or(Path::new("."));
    // Made with mode 0600.
    let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(directory).map_err(error())?;
    file.as_file().set_permissions(Permissions::from_mode(0o600)).map_err(error())?;
    file.write_all(content).map_err(error())?;
    file.as_file().sync_all().map_err(error())?;
    file.persist(path).map_err(|e| error()(e.error))?;
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(error())
}

/// Loads a file, if there is one.
pub fn load(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading", path)(error)),
    }
}

/// Removes a file, if there is one.
pub fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("removing", path)(error)),
    }
}

/// Removes what a run that was cut short was writing in a directory.
pub fn remove_leftovers(directory: &Path) -> Result<(), Error> {
    for name in list(directory)?.iter().filter(|name| name.starts_with(NEW)) {
        remove(&directory.join(name))?;
    }
    Ok(())
}

/// The names in a directory, in order.
pub fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let names = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    });
    let mut names: Vec<String> = names.map_err(Error::io("listing", directory))?;
    names.sort();
    Ok(names)
}
