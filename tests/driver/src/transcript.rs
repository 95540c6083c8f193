//! What a machine has printed so far, with the time each piece arrived.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Text that grows while someone reads it. Clones share it.
#[derive(Clone, Default)]
pub struct Transcript {
    shared: Arc<(Mutex<Said>, Condvar)>,
}

#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    /// When the text had grown to which length.
    arrivals: Vec<(usize, Instant)>,
}

impl Transcript {
    /// Takes everything the stream says, in a thread of its own, until the stream ends.
    pub fn follow(&self, mut stream: impl Read + Send + 'static) {
        let transcript = self.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = stream.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                transcript.add(buffer.get(..count).unwrap_or_default());
            }
        });
    }

    /// Adds text.
    pub fn add(&self, bytes: &[u8]) {
        let mut said = self.lock();
        said.bytes.extend_from_slice(bytes);
        let length = said.bytes.len();
        said.arrivals.push((length, Instant::now()));
        self.shared.1.notify_all();
    }

    /// How many bytes there are: a place to read on from.
    pub fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Whether nothing has been said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from a place on.
    pub fn bytes_since(&self, place: usize) -> Vec<u8> {
        self.lock().bytes.get(place..).unwrap_or_default().to_vec()
    }

    /// The text from a place on.
    pub fn since(&self, place: usize) -> String {
        String::from_utf8_lossy(&self.bytes_since(place)).into_owned()
    }

    /// All of the text, without carriage returns and without what only colours or moves on a terminal.
    pub fn text(&self) -> String {
        plain(&self.since(0))
    }

    /// When the text first held the needle: the arrival of its last byte.
    pub fn arrival(&self, needle: &str) -> Option<Instant> {
        self.arrival_since(0, needle)
    }

    /// When the text from a place on first held the needle.
    pub fn arrival_since(&self, place: usize, needle: &str) -> Option<Instant> {
        let said = self.lock();
        let needle = needle.as_bytes();
        let mut windows = said.bytes.get(place..)?.windows(needle.len().max(1));
        let end = place + windows.position(|window| window == needle)? + needle.len();
        said.arrivals.iter().find(|(length, _)| *length >= end).map(|(_, when)| *when)
    }

    /// Waits for more text than there was at `length`; false when none came in time.
    pub fn wait_past(&self, length: usize, limit: Duration) -> bool {
        let said = self.lock();
        let waited =
            self.shared.1.wait_timeout_while(said, limit, |said| said.bytes.len() <= length);
        match waited {
            Ok((said, _)) => said.bytes.len() > length,
            Err(_) => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves out control sequences (ECMA-48: ESC, `[`, parameters, and a final byte from `@` on) and carriage returns.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\r' => {}
            '\u{1b}' if chars.clone().next() == Some('[') => {
                chars.next();
                chars.by_ref().find(|char| ('@'..='~').contains(char));
            }
            '\u{1b}' => {
                chars.next();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_and_words_stay() {
        let line =
            "[\u{1b}[0;32m  OK  \u{1b}[0m] Started \u{1b}[0;1;39mconsul\u{1b}[0m.\r\n\u{1b}Mup";
        assert_eq!(plain(line), "[  OK  ] Started consul.\nup");
    }

    #[test]
    fn a_needle_split_over_two_arrivals_counts_from_the_second() {
        let transcript = Transcript::default();
        transcript.add(b"kernel rea");
        let between = Instant::now();
        transcript.add(b"dy\r\n");
        assert!(transcript.arrival("ready").unwrap() >= between);
        assert_eq!(transcript.arrival("never"), None);
        assert_eq!(transcript.text(), "kernel ready\n");
    }
}
