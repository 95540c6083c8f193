//! Secrets: random bytes of the operating system, in the forms Consul and the databases want them.

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

/// A password that no configuration file has to quote: 32 letters and digits.
pub fn password() -> Result<String, Error> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::new();
    while password.len() < 32 {
        let [byte] = random::<1>()?;
        // A byte beyond the last whole round of digits would make the first ones likelier.
        let fair = usize::from(byte) < 256 - 256 % DIGITS.len();
        let digit = DIGITS.get(usize::from(byte) % DIGITS.len()).filter(|_| fair);
        password.extend(digit.map(|digit| char::from(*digit)));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_random_ones_that_a_bundle_takes() {
        let passwords = [(); 100].map(|()| password().unwrap());
        assert!(passwords.iter().all(|p| p.len() == 32 && ballast_bundle::is_password(p)));
        let mut digits: Vec<_> = passwords.iter().flat_map(|p| p.bytes()).collect();
        digits.sort_unstable();
        digits.dedup();
        assert_eq!(digits.len(), 62, "a digit never came in 3200");
    }

    #[test]
    fn uuids_are_random_ones_and_differ() {
        let (a, b) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(a.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&a.as_bytes()[19]), "{a}");
    }
}
