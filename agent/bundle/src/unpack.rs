//! Unpacking: a verified bundle becomes the current generation on disk, wholly or not at all.
//!
//! A generation is a directory named by its digest; `current` links to the one in use and `previous` to the one before
//! it. Everything else in the directory is a leftover and goes.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::archive::File;
use crate::manifest::{MANIFEST, Manifest, SIGNATURE};
use crate::pack::MODE;
use crate::verify::verify_files;
use crate::{Bundle, Error, Expectation, MAX_BYTES};

/// The link to the generation in use, and to the one before it.
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
/// Where a generation or a link is made before it is renamed into place.
const NEW: &str = ".new";

/// Makes a bundle the current generation below `bundles`, and returns that generation's directory.
///
/// Unpacking the current generation again changes nothing. The generation before it is kept, older ones are removed.
///
/// # Errors
/// What could not be written; the generation that was current still is.
pub fn unpack(bundle: &Bundle, bundles: &Path) -> Result<PathBuf, Error> {
    let generation = bundles.join(&bundle.digest);
    make_directory(bundles)?;
    if !holds(&generation, bundle) {
        save_generation(bundle, bundles, &generation)?;
    }
    let current = linked(bundles, CURRENT);
    if current.as_deref() != Some(bundle.digest.as_str()) {
        if let Some(before) = &current {
            link(bundles, PREVIOUS, before)?;
        }
        link(bundles, CURRENT, &bundle.digest)?;
        remove_leftovers(bundles)?;
    }
    Ok(generation)
}

/// Loads a generation from its directory, `…/bundles/current`, and verifies it as if it had just arrived.
///
/// # Errors
/// It is not there, or would not be taken.
pub fn load_generation(directory: &Path, expectation: &Expectation) -> Result<Bundle, Error> {
    let mut budget = MAX_BYTES;
    let mut load = |name: &str| -> Result<File, Error> {
        let path = directory.join(name);
        let doing = "reading the unpacked bundle's";
        let mut content = Vec::new();
        let file = fs::File::open(&path).map_err(Error::io(doing, &path))?;
        let limit = u64::try_from(budget).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut content).map_err(Error::io(doing, &path))?;
        budget = budget
            .checked_sub(content.len())
            .ok_or(Error::TooLarge { bytes: MAX_BYTES.saturating_add(1) })?;
        Ok(File { path: name.to_owned(), mode: MODE, content })
    };
    let mut files = vec![load(MANIFEST)?, load(SIGNATURE)?];
    let manifest = files.first().map(|f| f.content.as_slice()).unwrap_or_default();
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(Error::Manifest)?;
    for entry in &manifest.files {
        if entry.path.starts_with('/') || entry.path.split('/').any(|part| part == "..") {
            return Err(Error::Path { path: entry.path.clone() });
        }
        files.push(load(&entry.path)?);
    }
    verify_files(&files, expectation)
}

/// Whether a generation is on disk with every byte in place.
fn holds(generation: &Path, bundle: &Bundle) -> bool {
    let same = |(path, content): &(String, Vec<u8>)| {
        fs::read(generation.join(path)).is_ok_and(|found| found == *content)
    };
    bundle.files.iter().all(same)
}

/// Writes a generation beside its place and renames it there.
fn save_generation(bundle: &Bundle, bundles: &Path, generation: &Path) -> Result<(), Error> {
    let new = bundles.join(NEW);
    remove(&new)?;
    make_directory(&new)?;
    let mut directories = vec![new.clone()];
    for (path, content) in &bundle.files {
        let path = new.join(path);
        if let Some(parent) = path.parent().filter(|p| !directories.iter().any(|d| d == p)) {
            make_directory(parent)?;
            directories.push(parent.to_owned());
        }
        save_file(&path, content).map_err(Error::io("writing", &path))?;
    }
    for directory in &directories {
        sync(directory)?;
    }
    // Only a damaged generation can stand here: a whole one would not be written again.
    remove(generation)?;
    fs::rename(&new, generation).map_err(Error::io("putting in place", generation))?;
    sync(bundles)
}

fn save_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(content)?;
    file.sync_all()
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let doing = "making the directory";
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io(doing, path))?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(Error::io(doing, path))
}

/// What a link in the directory holds.
fn linked(bundles: &Path, name: &str) -> Option<String> {
    fs::read_link(bundles.join(name)).ok()?.to_str().map(str::to_owned)
}

/// Makes a link hold a generation's name, in one step.
fn link(bundles: &Path, name: &str, digest: &str) -> Result<(), Error> {
    let (new, place) = (bundles.join(NEW), bundles.join(name));
    remove(&new)?;
    symlink(digest, &new).map_err(Error::io("linking", &new))?;
    fs::rename(&new, &place).map_err(Error::io("linking", &place))?;
    sync(bundles)
}

/// Removes everything that neither link needs.
fn remove_leftovers(bundles: &Path) -> Result<(), Error> {
    let needed = [CURRENT, PREVIOUS].map(|name| linked(bundles, name));
    let entries = fs::read_dir(bundles).map_err(Error::io("listing", bundles))?;
    for entry in entries {
        let entry = entry.map_err(Error::io("listing", bundles))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != CURRENT && name != PREVIOUS && !needed.contains(&Some(name)) {
            remove(&entry.path())?;
        }
    }
    sync(bundles)
}

/// Removes a file, a link or a directory, if there is one.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(Error::io("removing", path))
}

/// Waits until a directory's entries are on disk.
fn sync(directory: &Path) -> Result<(), Error> {
    fs::File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(Error::io("writing to disk", directory))
}
