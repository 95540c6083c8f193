//! Whether an application that ended is started again, and when: no I/O, no clock.

use std::time::Duration;

use serde::Deserialize;

use super::reaper::End;

/// When an application is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Restart {
    /// Never: the container ends with it, and whoever runs the container decides.
    #[default]
    Never,
    /// When it ended with another status than 0.
    OnFailure,
    Always,
}

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Exit,
    /// It is started again after this.
    Again(Duration),
}

/// How often it has ended too soon.
#[derive(Debug)]
pub(super) struct Life {
    restart: Restart,
    short: u32,
}

/// The first and the longest pause, and how long a life must be to be no failure of the start.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);

impl Life {
    pub(super) fn new(restart: Restart) -> Self {
        Self { restart, short: 0 }
    }

    /// What follows when it ended so after this long.
    pub(super) fn next(&mut self, end: End, lived: Duration) -> Next {
        let again = match self.restart {
            Restart::Never => false,
            Restart::OnFailure => end != End::Status(0),
            Restart::Always => true,
        };
        if !again {
            return Next::Exit;
        }
        self.short = if lived >= LONG { 0 } else { self.short.saturating_add(1) };
        let doubled = FIRST.saturating_mul(1_u32 << self.short.saturating_sub(1).min(16));
        Next::Again(doubled.min(LAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_that_ends_at_once_is_started_less_and_less_often() {
        let mut life = Life::new(Restart::Always);
        let pauses = [(); 8].map(|()| match life.next(End::Status(1), Duration::ZERO) {
            Next::Again(pause) => pause.as_secs(),
            Next::Exit => panic!("it is not started again"),
        });
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(life.next(End::Status(1), LONG), Next::Again(FIRST));
    }

    #[test]
    fn it_is_started_again_only_as_told() {
        let next = |restart, status| Life::new(restart).next(End::Status(status), LONG);
        assert_eq!(next(Restart::Never, 1), Next::Exit);
        assert_eq!(next(Restart::OnFailure, 0), Next::Exit);
        assert_eq!(next(Restart::OnFailure, 1), Next::Again(FIRST));
        assert_eq!(next(Restart::Always, 0), Next::Again(FIRST));
    }
}
