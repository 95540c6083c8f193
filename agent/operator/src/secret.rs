//! Secrets: random bytes of the operating system, in the forms Consul wants them.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::error::Error;

/// Random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4), as Consul's tokens are.
pub fn uuid() -> Result<String, Error> {
    let random = u128::from_be_bytes(random()?);
    let version_and_variant: u128 = (0x4000 << 64) | (0x8000 << 48);
    let free: u128 = !((0xf000 << 64) | (0xc000 << 48));
    let digits = format!("{:032x}", random & free | version_and_variant);
    let parts =
        [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default());
    Ok(parts.join("-"))
}

/// A key for Consul's gossip: 32 bytes in base64.
pub fn gossip_key() -> Result<String, Error> {
    Ok(BASE64_STANDARD.encode(random::<32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_random_ones_and_differ() {
        let (a, b) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(a.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&a.as_bytes()[19]), "{a}");
    }
}
