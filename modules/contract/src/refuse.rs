//! What is wrong with a spec: a path into the document and one sentence.

use std::fmt;

/// A spec that parsed but may not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where, as a path into the document: `role.ports[2].port`.
    pub place: String,
    /// What and why, lower case, no full stop.
    pub reason: String,
}

impl Refused {
    pub(crate) fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for Refused {}
