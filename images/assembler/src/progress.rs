//! Says on standard error what was done and how long it took. Times are shown, never stored.

use std::time::Instant;

/// The line's progress so far.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    last: Instant,
}

impl Progress {
    /// Starts now.
    pub fn start() -> Self {
        let now = Instant::now();
        Self { start: now, last: now }
    }

    /// Says that a step is done.
    pub fn done(&mut self, what: &str) {
        let now = Instant::now();
        eprintln!("{:6.2} s  {what}", now.duration_since(self.last).as_secs_f64());
        self.last = now;
    }

    /// Says that everything is.
    pub fn finish(&self, what: &str) {
        eprintln!("{:6.2} s  {what} in all", self.start.elapsed().as_secs_f64());
    }
}
