//! Writes an initrd: a cpio archive of format "newc" (kernel documentation, "initramfs buffer format").

use crate::error::AssembleError;

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

impl Cpio {
    /// Adds a directory.
    pub fn dir(&mut self, path: &str) -> Result<(), AssembleError> {
        self.entry(path, DIR | 0o755, b"")
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), AssembleError> {
        self.entry(path, FILE | mode, content)
    }

    /// Closes the archive, padded so that another may follow it.
    pub fn finish(mut self) -> Result<Vec<u8>, AssembleError> {
        self.entry("TRAILER!!!", 0, b"")?;
        self.pad(512);
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), AssembleError> {
        let limit = |_| AssembleError::Format {
            format: "initrd",
            reason: format!("{path} is larger than the archive's format allows"),
        };
        let size = u32::try_from(content.len()).map_err(limit)?;
        let name = u32::try_from(path.len() + 1).map_err(limit)?;
        self.inode += 1;
        // inode, mode, uid, gid, links, mtime, size, device and rdevice (major, minor), name's size, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(content);
        self.pad(4);
        Ok(())
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_the_same_bytes_twice_and_ends_on_a_block() {
        let make = || {
            let mut cpio = Cpio::default();
            cpio.dir("dev").unwrap();
            cpio.file("init", 0o755, b"#!").unwrap();
            cpio.finish().unwrap()
        };
        assert_eq!(make(), make());
        assert_eq!(make().len() % 512, 0);
        assert!(make().starts_with(b"070701"));
    }
}
