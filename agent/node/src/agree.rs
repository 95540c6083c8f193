//! What Consul must be told so that it agrees with the node: a pure decision, without I/O or clock.
//!
//! Each round compares all that is wanted with all that the local Consul agent holds, so a restarted Consul, a lost
//! registration and a leftover of another image are one and the same case.

use std::collections::BTreeMap;

use ballast_contract::NODE_CHECK;

use crate::state::{Answer, Health, State};

/// What Consul shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The service whose health the checks are; without one they are the node's.
    pub(crate) service: Option<String>,
    /// Checks by id.
    pub(crate) checks: BTreeMap<String, WantedCheck>,
}

/// A check that Consul shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedCheck {
    /// For people.
    pub(crate) name: String,
    /// The last answer; a check that has none is registered as critical, and its time to live runs.
    pub(crate) answer: Option<Answer>,
}

/// What the local Consul agent holds of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Ids of the services that bear our mark.
    pub(crate) services: Vec<String>,
    /// Our checks by id, with the service they belong to.
    pub(crate) checks: BTreeMap<String, Option<String>>,
}

/// One thing to tell Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    ForgetCheck(String),
    ForgetService(String),
    /// Registers the service with all its checks, each critical, in one request.
    RegisterService(String),
    /// Registers a check of the node, critical.
    RegisterCheck(String),
    /// Says what a check's answer is; also keeps it alive.
    Tell(String, Answer),
}

impl Wanted {
    /// What Consul shall hold of a node in this state.
    pub(crate) fn new<'a>(
        service: Option<String>,
        role: &str,
        started: &str,
        state: State,
        checks: impl IntoIterator<Item = (&'a str, Option<&'a Answer>)>,
    ) -> Self {
        let output = match state {
            State::Stopping => "the node is stopping".to_owned(),
            state => format!("role {role} is {state} ({started})"),
        };
        let mut all: BTreeMap<String, WantedCheck> = checks
            .into_iter()
            .map(|(name, answer)| {
                let check = WantedCheck { name: name.to_owned(), answer: answer.cloned() };
                (format!("{NODE_CHECK}:{name}"), check)
            })
            .collect();
        // An agent that was started again knows nothing yet. Consul holds critical since the boot, or what the agent
        // before this one said, whose time to live runs: a restarted agent is no news about the role.
        let answer = (state != State::Starting).then(|| Answer { health: state.health(), output });
        let check = WantedCheck { name: format!("role {role}"), answer };
        all.insert(NODE_CHECK.to_owned(), check);
        Self { service, checks: all }
    }
}

/// Whether a check's id is one of ours.
pub(crate) fn is_ours(id: &str) -> bool {
    id.strip_prefix(NODE_CHECK).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// What to tell Consul, in order: what is worse goes first and the node as a whole last, so that no prefix of the list
/// makes Consul believe more good than there is.
pub(crate) fn changes(wanted: &Wanted, seen: &Seen) -> Vec<Change> {
    let mut list = Vec::new();
    let in_place = |id: &String| seen.checks.get(id) == Some(&wanted.service);

    // A check that hangs on another service is made anew; the node as a whole, which sorts first, goes first.
    for id in seen.checks.keys() {
        if wanted.checks.contains_key(id) && !in_place(id) {
            list.push(Change::ForgetCheck(id.clone()));
        }
    }

    match &wanted.service {
        Some(service) => {
            if !seen.services.contains(service) || !wanted.checks.keys().all(in_place) {
                list.push(Change::RegisterService(service.clone()));
            }
        }
        None => {
            let missing = wanted.checks.keys().filter(|id| !in_place(id));
            list.extend(missing.cloned().map(Change::RegisterCheck));
        }
    }

    let mut answers: Vec<(Health, bool, &String, &Answer)> = wanted
        .checks
        .iter()
        .filter_map(|(id, check)| {
            let answer = check.answer.as_ref()?;
            Some((answer.health, id == NODE_CHECK, id, answer))
        })
        .collect();
    answers.sort_by_key(|(health, whole, id, _)| (std::cmp::Reverse(*health), *whole, *id));
    list.extend(answers.into_iter().map(|(_, _, id, a)| Change::Tell(id.clone(), a.clone())));

    // Leftovers go when the truth is told, and stay while it is not known: one that is critical may be all that keeps
    // the node from looking well.
    if wanted.checks.get(NODE_CHECK).is_some_and(|c| c.answer.is_some()) {
        let checks = seen.checks.keys().filter(|id| !wanted.checks.contains_key(*id));
        list.extend(checks.cloned().map(Change::ForgetCheck));
        let services = seen.services.iter().filter(|id| Some(*id) != wanted.service.as_ref());
        list.extend(services.cloned().map(Change::ForgetService));
    }
    list
}

#[cfg(test)]
mod tests;
