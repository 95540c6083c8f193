//! `ballast init`: a commented cluster.toml to start from.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The example, which is a valid site.
pub const EXAMPLE: &str = include_str!("cluster.toml");

/// Writes the example into a directory and returns its path; a file that is there is left alone.
pub fn init(directory: &Path) -> Result<PathBuf, Error> {
    fs::create_dir_all(directory).map_err(Error::io("making the directory", directory))?;
    let path = directory.join("cluster.toml");
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::Exists { path });
        }
        Err(error) => return Err(Error::io("writing", path)(error)),
    };
    file.write_all(EXAMPLE.as_bytes()).map_err(Error::io("writing", &path))?;
    Ok(path)
}
