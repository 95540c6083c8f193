//! The timeline of one scenario: what was done to whom and when, and how long writers waited.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// What a machine went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On and let alone.
    Well,
    /// On, and something in it or around it is broken.
    Hurt,
    /// On, and cut from others.
    Cut,
    /// On, and standing still.
    Frozen,
    /// Off.
    Off,
}

/// Something that was done. Times are counted from the scenario's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// To which machine.
    pub node: String,
    /// What it is from now on.
    pub state: State,
    /// In words.
    pub what: String,
}

/// A time as whole milliseconds, for programs.
pub fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The same, of a time that may never have come.
pub fn maybe_milliseconds<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => milliseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// A time in which no write was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last acknowledgement before it.
    #[serde(rename = "from_ms", serialize_with = "milliseconds")]
    pub from: Duration,
    /// The first after it, or the end of the scenario.
    #[serde(rename = "until_ms", serialize_with = "milliseconds")]
    pub until: Duration,
}

impl Gap {
    /// How long it was.
    pub fn length(self) -> Duration {
        self.until.saturating_sub(self.from)
    }
}

/// The longest gap that was open at `fault` or began after it, between sorted acknowledgements, until `end`.
pub fn longest_gap(answered: &[Duration], fault: Duration, end: Duration) -> Gap {
    let before = answered.iter().copied().take_while(|at| *at <= fault).last();
    let mut from = before.unwrap_or(Duration::ZERO);
    let mut longest = Gap { from, until: from };
    for until in answered.iter().copied().filter(|at| *at > fault).chain([end]) {
        let gap = Gap { from, until: until.max(from) };
        if gap.length() > longest.length() {
            longest = gap;
        }
        from = until;
    }
    longest
}

/// Runs of acknowledgements with no gap longer than `pause` in them.
pub fn runs(answered: &[Duration], pause: Duration) -> Vec<Gap> {
    let mut runs: Vec<Gap> = Vec::new();
    for at in answered {
        match runs.last_mut() {
            Some(run) if at.saturating_sub(run.until) <= pause => run.until = *at,
            _ => runs.push(Gap { from: *at, until: *at }),
        }
    }
    runs
}

/// What each machine was, and when: its states one after another until `end`, from the events.
pub fn states(events: &[Event], node: &str, end: Duration) -> Vec<(State, Gap)> {
    let mut states = Vec::new();
    let mut now = (State::Well, Duration::ZERO);
    for event in events.iter().filter(|event| event.node == node) {
        states.push((now.0, Gap { from: now.1, until: event.at }));
        now = (event.state, event.at);
    }
    states.push((now.0, Gap { from: now.1, until: end.max(now.1) }));
    states.retain(|(_, during)| during.length() > Duration::ZERO);
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().map(|time| Duration::from_millis(*time)).collect()
    }

    fn gap(from: u64, until: u64) -> Gap {
        Gap { from: Duration::from_millis(from), until: Duration::from_millis(until) }
    }

    #[test]
    fn the_longest_gap_is_that_of_the_fault_and_not_one_before_it() {
        let answered = ms(&[0, 900, 1_000, 1_020, 1_640, 1_660, 1_900]);
        let found = longest_gap(&answered, Duration::from_millis(1_030), Duration::from_secs(2));
        assert_eq!(found, gap(1_020, 1_640));
        assert_eq!(found.length(), Duration::from_millis(620));
    }

    #[test]
    fn a_gap_that_nothing_ends_lasts_until_the_end() {
        let found =
            longest_gap(&ms(&[0, 500]), Duration::from_millis(600), Duration::from_millis(9_000));
        assert_eq!(found, gap(500, 9_000));
        let none = longest_gap(&[], Duration::from_millis(600), Duration::from_millis(9_000));
        assert_eq!(none, gap(0, 9_000));
    }

    #[test]
    fn acknowledgements_that_follow_each_other_are_one_run() {
        let answered = ms(&[0, 20, 40, 500, 520]);
        assert_eq!(runs(&answered, Duration::from_millis(100)), [gap(0, 40), gap(500, 520)]);
    }

    #[test]
    fn a_machine_is_well_until_something_is_done_to_it() {
        let event = |at, node: &str, state| Event {
            at: Duration::from_millis(at),
            node: node.into(),
            state,
            what: String::new(),
        };
        let events =
            [event(10, "a", State::Off), event(15, "b", State::Cut), event(30, "a", State::Well)];
        assert_eq!(
            states(&events, "a", Duration::from_millis(50)),
            [(State::Well, gap(0, 10)), (State::Off, gap(10, 30)), (State::Well, gap(30, 50))]
        );
        assert_eq!(states(&[], "c", Duration::from_millis(5)), [(State::Well, gap(0, 5))]);
    }
}
