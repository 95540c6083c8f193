//! The site's public key: whose bundles a node takes.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::Error;

/// An Ed25519 public key, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SiteKey([u8; 32]);

impl SiteKey {
    /// Whether this key's owner signed these bytes (strictly: no weak key, no second form of one signature).
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::from_bytes(&self.0);
        let signature = Signature::from_slice(signature);
        matches!((key, signature), (Ok(k), Ok(s)) if k.verify_strict(bytes, &s).is_ok())
    }
}

impl From<VerifyingKey> for SiteKey {
    fn from(key: VerifyingKey) -> Self {
        Self(key.to_bytes())
    }
}

impl FromStr for SiteKey {
    type Err = Error;

    /// Reads 64 hexadecimal digits; white space around them is left out, as files end in a newline.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::SiteKey { text: text.trim().chars().take(80).collect() };
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| refused())?;
        VerifyingKey::from_bytes(&bytes).map_err(|_| refused())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteKey({self})")
    }
}
