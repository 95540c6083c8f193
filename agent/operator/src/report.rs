//! What a run did, one line per file; never what is in the files.

use std::fmt;
use std::path::Path;

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<(Deed, String, String)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Created,
    Changed,
    Kept,
    Removed,
}

impl Report {
    pub fn created(&mut self, path: &Path, what: &str) {
        self.add(Deed::Created, path, what);
    }

    pub fn changed(&mut self, path: &Path, what: &str) {
        self.add(Deed::Changed, path, what);
    }

    pub fn kept(&mut self, path: &Path, what: &str) {
        self.add(Deed::Kept, path, what);
    }

    pub fn removed(&mut self, path: &Path, what: &str) {
        self.add(Deed::Removed, path, what);
    }

    fn add(&mut self, deed: Deed, path: &Path, what: &str) {
        self.0.push((deed, path.display().to_string(), what.to_owned()));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(_, path, _)| path.len()).max().unwrap_or_default();
        for (deed, path, what) in &self.0 {
            let deed = match deed {
                Deed::Created => "created",
                Deed::Changed => "changed",
                Deed::Kept => "kept",
                Deed::Removed => "removed",
            };
            writeln!(f, "{deed:<7}  {path:<width$}  {what}")?;
        }
        Ok(())
    }
}
