//! Waiting: a condition is asked again and again until it holds, its deadline passes, or the user interrupts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::{Error, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What one look at a condition showed.
pub enum Seen<T> {
    /// It holds.
    Ready(T),
    /// It does not yet; the text says what was there instead.
    NotYet(String),
}

/// Asks every `pause` until the answer is [`Seen::Ready`].
///
/// # Errors
/// The look's own error at once; [`Error::Deadline`] with what was seen last; [`Error::Interrupted`].
pub fn until<T>(
    what: &str,
    deadline: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        check_interrupt()?;
        let seen = match look()? {
            Seen::Ready(value) => return Ok(value),
            Seen::NotYet(seen) => seen,
        };
        if start.elapsed() >= deadline {
            return Err(Error::Deadline { what: what.to_owned(), waited: deadline, seen });
        }
        nap(pause);
    }
}

/// Sleeps, but no longer than until an interrupt.
pub fn nap(pause: Duration) {
    let end = Instant::now() + pause;
    while Instant::now() < end && !INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::sleep(pause.min(Duration::from_millis(100)));
    }
}

/// [`Error::Interrupted`] once the user asked to stop.
///
/// # Errors
/// As said.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Takes SIGINT, SIGTERM and SIGHUP as a wish to stop, so that everything is put away in order.
///
/// # Errors
/// When the handlers cannot be set.
pub fn catch_interrupts() -> Result<()> {
    extern "C" fn note(_: nix::libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic, which is allowed in a signal handler.
        unsafe { sigaction(signal, &action) }.map_err(Error::system("catching interrupts"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_deadline_says_what_was_seen_last() {
        let mut looks = 0;
        let error = until("three looks", Duration::ZERO, Duration::ZERO, || {
            looks += 1;
            Ok(Seen::<()>::NotYet(format!("look {looks}")))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "waited 0ns for three looks; last seen: look 1");
    }
}
