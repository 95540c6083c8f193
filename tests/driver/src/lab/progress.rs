//! What the user sees while waiting: what happens, and how long it has taken.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Lines on stderr, each with the seconds since the start.
pub struct Progress {
    start: Instant,
    terminal: bool,
    last: RefCell<(String, Instant)>,
}

/// How often an unchanged state is said again where lines cannot be rewritten.
const AGAIN: Duration = Duration::from_secs(10);
/// What fits a terminal's line beside the time.
const WIDTH: usize = 150;

impl Progress {
    /// Begins to count.
    pub fn start() -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self { start: now, terminal, last: RefCell::new((String::new(), now)) }
    }

    /// Says what has happened.
    pub fn say(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        // Nobody reads: nothing is lost.
        let _ =
            writeln!(std::io::stderr(), "{clear}[{:>4} s] {text}", self.start.elapsed().as_secs());
    }

    /// Shows what is waited for: on a terminal in one line that changes, elsewhere when it changes or has stood long.
    pub fn show(&self, text: &str) {
        let line: String = text.replace('\n', " ").chars().take(WIDTH).collect();
        if self.terminal {
            let seconds = self.start.elapsed().as_secs();
            let _ = write!(std::io::stderr(), "\r\x1b[K[{seconds:>4} s] {line}");
            let _ = std::io::stderr().flush();
            return;
        }
        let mut last = self.last.borrow_mut();
        if last.0 != line || last.1.elapsed() >= AGAIN {
            self.say(&line);
            *last = (line, Instant::now());
        }
    }
}
