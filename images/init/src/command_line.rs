//! Reads the few words of the kernel command line that concern us.

use std::time::Duration;

use crate::error::InitError;

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// `roothash=`: 64 lower-case hexadecimal digits.
    pub root_hash: String,
    /// How long a refusal stays on the console: `panic=` seconds, as for the kernel's own.
    pub restart_after: Duration,
}

impl Default for Boot {
    fn default() -> Self {
        Self { root_hash: String::new(), restart_after: Duration::from_secs(10) }
    }
}

impl Boot {
    /// UUID of the data partition, as the kernel writes it: the root hash's first half.
    pub fn data_partition(&self) -> String {
        uuid(self.root_hash.get(..32).unwrap_or_default())
    }

    /// UUID of the hash partition: the last half.
    pub fn hash_partition(&self) -> String {
        uuid(self.root_hash.get(32..).unwrap_or_default())
    }
}

/// Reads `/proc/cmdline`.
///
/// # Errors
/// No root hash: then nothing can be verified, and nothing is booted.
pub fn load() -> Result<Boot, InitError> {
    let path = "/proc/cmdline";
    let text = std::fs::read_to_string(path).map_err(|e| InitError::Read(path.into(), e))?;
    read(&text)
}

fn read(text: &str) -> Result<Boot, InitError> {
    let mut boot = Boot::default();
    for word in text.split_whitespace() {
        if let Some(hash) = word.strip_prefix("roothash=") {
            boot.root_hash = hash.to_ascii_lowercase();
        } else if let Some(secs) = word.strip_prefix("panic=") {
            // A negative number is the kernel's "at once".
            let secs = secs.parse::<i64>().unwrap_or(10);
            boot.restart_after = Duration::from_secs(u64::try_from(secs).unwrap_or(0).min(600));
        }
    }
    let hash = &boot.root_hash;
    if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(InitError::NoRootHash);
    }
    Ok(boot)
}

fn uuid(half: &str) -> String {
    let part = |from: usize, to: usize| half.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    #[test]
    fn partitions_are_named_by_the_halves_of_the_root_hash() {
        let boot = read(&format!("console=ttyS0 roothash={HASH} panic=-1")).unwrap();
        assert_eq!(boot.data_partition(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(boot.hash_partition(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(boot.restart_after, Duration::ZERO);
    }

    #[test]
    fn a_command_line_without_a_whole_root_hash_boots_nothing() {
        assert!(read("console=ttyS0").is_err());
        assert!(read("roothash=00").is_err());
        assert!(read(&format!("roothash={}", HASH.replace('0', "g"))).is_err());
    }

    proptest! {
        #[test]
        fn no_command_line_makes_the_reader_panic(text in ".*") {
            let _ = read(&text);
        }
    }
}
