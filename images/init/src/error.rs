//! Everything that can stop the boot before systemd, each as a sentence.

use std::io;
use std::path::PathBuf;

/// Why this machine does not start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("mounting {what} on {place}")]
    Mount { what: String, place: &'static str, source: io::Error },
    #[error("reading {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("writing {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error("the kernel command line has no roothash= of 64 hexadecimal digits")]
    NoRootHash,
    #[error("inserting kernel module {0}")]
    Module(String, #[source] io::Error),
    #[error("no disk holds the root of this image: {missing} did not appear within {secs} s")]
    NoRoot { missing: String, secs: u64 },
    #[error("{device} holds no verity hash tree we can read: {reason}")]
    Superblock { device: PathBuf, reason: &'static str },
    #[error("verifying the root: setting up dm-verity ({step})")]
    Verity { step: &'static str, source: io::Error },
    #[error("refusing to boot: the root does not match its root hash or is no EROFS file system")]
    Refused(#[source] io::Error),
    #[error("attaching {0} as a loop device")]
    Loop(PathBuf, #[source] io::Error),
    #[error("entering the root")]
    Switch(#[source] io::Error),
    #[error("starting {program}")]
    Exec { program: &'static str, source: io::Error },
}
