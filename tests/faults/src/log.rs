//! What a scenario does, written down as it happens: events for the report, and lines for whoever watches.

use std::time::{Duration, Instant};

use crate::timeline::{Event, State};

/// The events of one scenario.
pub struct Log {
    origin: Instant,
    events: Vec<Event>,
}

impl Log {
    /// Begins to count.
    pub fn start() -> Self {
        Self { origin: Instant::now(), events: Vec::new() }
    }

    /// When it began.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// The time since.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Notes what a node is from now on.
    pub fn note(&mut self, node: &str, state: State, what: impl Into<String>) {
        let what = what.into();
        let at = self.now();
        say(&format!("  {:7.2} s  {node}: {what}", at.as_secs_f64()));
        self.events.push(Event { at, node: node.to_owned(), state, what });
    }

    /// The events.
    pub fn events(self) -> Vec<Event> {
        self.events
    }
}

/// Says what happens to whoever watches.
pub fn say(text: &str) {
    eprintln!("{text}");
}
