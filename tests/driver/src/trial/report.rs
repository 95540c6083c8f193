//! How each promise came out, for the reader and for the Nix check.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};

/// How one promise came out.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The promise.
    pub name: &'static str,
    /// How long it took.
    pub seconds: f32,
    /// Why it does not hold, if it does not.
    pub broken: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.broken {
            None => write!(f, "test {} ... ok ({:.1} s)", self.name, self.seconds),
            Some(why) => {
                write!(f, "test {} ... FAILED ({:.1} s)\n  {why}", self.name, self.seconds)
            }
        }
    }
}

/// All outcomes of a run.
#[derive(Debug, Default)]
pub struct Report {
    outcomes: Vec<Outcome>,
}

impl Report {
    /// Adds a group's outcomes.
    pub fn add(&mut self, outcomes: Vec<Outcome>) {
        self.outcomes.extend(outcomes);
    }

    /// How many promises do not hold.
    pub fn failed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.broken.is_some()).count()
    }

    /// Writes counts and outcomes as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        let failed = self.failed();
        let json = serde_json::json!({
            "passed": self.outcomes.len() - failed,
            "failed": failed,
            "tests": self.outcomes,
        });
        fs::write(file, format!("{json:#}\n")).map_err(Error::file("writing", file))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed();
        write!(f, "{} passed, {failed} failed", self.outcomes.len() - failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_counted_and_says_why() {
        let mut report = Report::default();
        let broken = Some("the root was not verified".to_owned());
        report.add(vec![
            Outcome { name: "a", seconds: 1.0, broken: None },
            Outcome { name: "b", seconds: 2.04, broken },
        ]);
        assert_eq!(report.to_string(), "1 passed, 1 failed");
        let line = report.outcomes.get(1).unwrap().to_string();
        assert_eq!(line, "test b ... FAILED (2.0 s)\n  the root was not verified");
    }
}
