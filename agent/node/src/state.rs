//! The life of a node as a table of edges, and health in Consul's words. No I/O, no clock.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// Health, in Consul's words; a later one is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    Passing,
    Warning,
    Critical,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) health: Health,
    /// One sentence for people.
    pub(crate) output: String,
}

impl Answer {
    pub(crate) fn passing(output: impl Into<String>) -> Self {
        Self { health: Health::Passing, output: output.into() }
    }

    pub(crate) fn warning(output: impl Into<String>) -> Self {
        Self { health: Health::Warning, output: output.into() }
    }

    pub(crate) fn critical(output: impl Into<String>) -> Self {
        Self { health: Health::Critical, output: output.into() }
    }
}

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Not every check has answered yet.
    Starting,
    /// Every check is passing.
    Passing,
    /// No check is critical, and one is warning.
    Warning,
    /// A check is critical.
    Critical,
    /// The agent was told to stop; nothing leads out of here.
    Stopping,
}

/// What can happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    AllPassing,
    SomeWarning,
    SomeCritical,
    Stop,
}

/// Every edge. What is not here changes nothing.
pub(crate) const EDGES: [(State, Event, State); 13] = {
    use Event::{AllPassing, SomeCritical, SomeWarning, Stop};
    use State::{Critical, Passing, Starting, Stopping, Warning};
    [
        (Starting, AllPassing, Passing),
        (Starting, SomeWarning, Warning),
        (Starting, SomeCritical, Critical),
        (Starting, Stop, Stopping),
        (Passing, SomeWarning, Warning),
        (Passing, SomeCritical, Critical),
        (Passing, Stop, Stopping),
        (Warning, AllPassing, Passing),
        (Warning, SomeCritical, Critical),
        (Warning, Stop, Stopping),
        (Critical, AllPassing, Passing),
        (Critical, SomeWarning, Warning),
        (Critical, Stop, Stopping),
    ]
};

impl State {
    /// The state after an event.
    pub(crate) fn after(self, event: Event) -> Self {
        EDGES
            .iter()
            .find(|(from, on, _)| (*from, *on) == (self, event))
            .map_or(self, |(_, _, to)| *to)
    }

    /// What Consul hears of the node as a whole.
    pub(crate) fn health(self) -> Health {
        match self {
            Self::Passing => Health::Passing,
            Self::Warning => Health::Warning,
            Self::Starting | Self::Critical | Self::Stopping => Health::Critical,
        }
    }
}

/// What the checks' last answers amount to; nothing while one has not answered yet.
pub(crate) fn event<'a>(answers: impl IntoIterator<Item = Option<&'a Answer>>) -> Option<Event> {
    let mut worst = Health::Passing;
    for answer in answers {
        worst = worst.max(answer?.health);
    }
    Some(match worst {
        Health::Passing => Event::AllPassing,
        Health::Warning => Event::SomeWarning,
        Health::Critical => Event::SomeCritical,
    })
}

/// The table as a Mermaid state diagram.
pub(crate) fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n    [*] --> starting\n");
    for (from, on, to) in EDGES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {from} --> {to}: {on}");
    }
    text + "    stopping --> [*]\n"
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Stopping => "stopping",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllPassing => "all checks passing",
            Self::SomeWarning => "a check warning",
            Self::SomeCritical => "a check critical",
            Self::Stop => "told to stop",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] =
        [State::Starting, State::Passing, State::Warning, State::Critical, State::Stopping];

    #[test]
    fn no_edge_stands_twice() {
        for (i, (from, on, _)) in EDGES.iter().enumerate() {
            assert!(!EDGES[..i].iter().any(|(f, o, _)| (f, o) == (from, on)), "{from} {on}");
        }
    }

    #[test]
    fn a_critical_check_never_leaves_a_node_passing() {
        for state in STATES {
            assert_eq!(state.after(Event::SomeCritical).health(), Health::Critical, "{state}");
        }
    }

    #[test]
    fn nothing_leads_out_of_stopping() {
        for event in [Event::AllPassing, Event::SomeWarning, Event::SomeCritical, Event::Stop] {
            assert_eq!(State::Stopping.after(event), State::Stopping);
            assert_eq!(State::Starting.after(event).after(Event::Stop), State::Stopping);
        }
    }

    #[test]
    fn a_check_without_an_answer_is_no_news() {
        let passing = Answer::passing("");
        assert_eq!(event([Some(&passing), None]), None);
        assert_eq!(event([Some(&passing)]), Some(Event::AllPassing));
        assert_eq!(event([]), Some(Event::AllPassing));
    }

    #[test]
    fn the_map_shows_the_table_as_it_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&diagram()), "print it with `ballast-agent states`:\n{}", diagram());
    }
}
