//! Following what a node is in its cluster: asked of Patroni again and again, and at once when the leader key changes.
//!
//! What makes a primary is decided in [`judge`], without I/O or clock: Patroni holds the leader key and PostgreSQL says
//! that it is one. While Patroni doesn't answer, what was proven last is believed for a while, unless Consul names
//! another leader: an overloaded machine is no reason to take the one primary out of DNS.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::PORT;
use super::patroni::{Error, Patroni, Status};
use crate::consul::{Consul, Index};
use crate::error::chain;
use crate::log;
use crate::role::{PRIMARY, REPLICA, RoleView};
use crate::root::Root;
use crate::state::{Answer, Health};

/// How long Consul holds a question about the leader key while it stays the same.
const LEADER_WAIT: Duration = Duration::from_secs(300);
/// How long one answer of Patroni's may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// How often Patroni is asked after the leader key has changed, and how long: a promotion takes a tenth of a second, a
/// rejoining replica longer.
const EAGER: Duration = Duration::from_millis(50);
const EAGER_FOR: Duration = Duration::from_secs(5);

/// Who asks whom, and how patiently.
pub(super) struct Follower {
    pub(super) node: String,
    pub(super) cluster: String,
    pub(super) patroni: Patroni,
    /// Between two questions.
    pub(super) interval: Duration,
    /// How long what was proven is believed while Patroni doesn't answer.
    pub(super) patience: Duration,
}

/// Asks Patroni again and again, and publishes what the node is.
pub(super) async fn follow_role(
    follower: Follower,
    mut leaders: watch::Receiver<Option<String>>,
    lag: watch::Receiver<Option<u64>>,
    publish: watch::Sender<RoleView>,
) {
    let Follower { node, cluster, patroni, interval, patience } = follower;
    let mut proven: Option<(RoleView, Instant)> = None;
    let mut eager_until = Instant::now();
    loop {
        let asked = patroni.status(DEADLINE).await;
        let leader = leaders.borrow_and_update().clone();
        let view = match asked {
            Ok(status) => {
                let view = judge(&cluster, &status);
                let known = view.answer.health == Health::Passing;
                proven = known.then(|| (view.clone(), Instant::now()));
                view
            }
            Err(error) => {
                let known = proven.as_ref().filter(|(_, at)| at.elapsed() <= patience);
                let known = known.map(|(view, _)| view);
                unanswered(&cluster, &node, known, leader.as_deref(), &error)
            }
        };
        let view = with_lag(view, *lag.borrow());
        let is_primary = view.tags.iter().any(|t| t == PRIMARY);
        let settled = !view.tags.is_empty() && is_primary == (leader.as_ref() == Some(&node));
        publish.send_if_modified(|before| {
            if before.tags != view.tags || before.answer.health != view.answer.health {
                log_change(&view);
            }
            let changed = *before != view;
            *before = view;
            changed
        });
        let pause = if settled || Instant::now() > eager_until { interval } else { EAGER };
        if let Ok(changed) = timeout(pause, leaders.changed()).await {
            // Nobody follows the key any more: go on by asking alone.
            if changed.is_err() {
                sleep(pause).await;
            }
            eager_until = Instant::now() + EAGER_FOR;
        }
    }
}

fn log_change(view: &RoleView) {
    let role = view.tags.first().map_or("without a role", String::as_str);
    let line = format!("in cluster {} this node is {role}: {}", view.service, view.answer.output);
    match view.answer.health {
        Health::Passing => log::info(&line),
        _ => log::warn(&line),
    }
}

/// How often a replica is asked how far it is behind: what people are shown, not what anything hangs on.
const LAG_ROUND: Duration = Duration::from_secs(2);

/// Follows how far a replica is behind; none while it isn't one, or doesn't say.
pub(super) async fn follow_lag(
    root: Root,
    mut roles: watch::Receiver<RoleView>,
    publish: watch::Sender<Option<u64>>,
) {
    loop {
        let is_replica = roles.borrow_and_update().tags.iter().any(|t| t == REPLICA);
        let lag = if is_replica { super::probe::lag(&root).await } else { None };
        publish.send_if_modified(|held| std::mem::replace(held, lag) != lag);
        if is_replica {
            sleep(LAG_ROUND).await;
        } else if roles.changed().await.is_err() {
            return;
        }
    }
}

/// The view of a replica with how far it is behind, roughly: each other value is a write for every Consul server.
fn with_lag(mut view: RoleView, lag: Option<u64>) -> RoleView {
    /// Less is none: what a replica has not yet replayed of the last milliseconds.
    const LEAST: u64 = 64 * 1024;
    if let Some(lag) = lag.filter(|_| view.tags.iter().any(|t| t == REPLICA)) {
        let rough = if lag < LEAST { 0 } else { lag.checked_next_power_of_two().unwrap_or(lag) };
        view.meta.insert("lag_bytes".to_owned(), rough.to_string());
    }
    view
}

/// Follows who holds the leader key, with blocking queries.
pub(super) async fn follow_leader(
    consul: Consul,
    cluster: String,
    leader: watch::Sender<Option<String>>,
) {
    let key = format!("service/{cluster}/leader");
    let mut index = Index::default();
    loop {
        match consul.key(&key, index, LEADER_WAIT).await {
            Ok((value, next)) => {
                index = next;
                leader.send_if_modified(|held| {
                    let changed = *held != value;
                    *held = value;
                    changed
                });
                // Consul wakes a question early when anything near changes; never spin on it.
                sleep(Duration::from_millis(20)).await;
            }
            // What was known stays: without Consul no other can have become the leader by it.
            Err(_) => {
                index = Index::default();
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// What a node is that Patroni says this of.
fn judge(cluster: &str, status: &Status) -> RoleView {
    let mut meta = BTreeMap::new();
    if let Some(timeline) = status.timeline {
        meta.insert("timeline".to_owned(), timeline.to_string());
    }
    meta.insert(
        "state".to_owned(),
        status.replication_state.clone().unwrap_or(status.state.clone()),
    );
    let running = status.state == "running";
    let (tag, output) = match (status.role.as_str(), status.leads) {
        ("primary", true) if running => {
            (PRIMARY, "Patroni holds the leader key, and PostgreSQL takes writes".to_owned())
        }
        ("replica", false) if running => {
            let sync = match (status.sync_standby, status.quorum_standby) {
                (true, _) => "sync",
                (_, true) => "quorum",
                _ => "async",
            };
            meta.insert("sync".to_owned(), sync.to_owned());
            let how = status.replication_state.as_deref().unwrap_or("not streaming");
            (REPLICA, format!("PostgreSQL follows a primary: {how}"))
        }
        ("replica", true) if running => {
            return unsure(
                cluster,
                meta,
                "Patroni holds the leader key and PostgreSQL is being promoted",
            );
        }
        ("primary", false) if running => {
            return unsure(
                cluster,
                meta,
                "PostgreSQL calls itself primary and Patroni does not hold the leader key",
            );
        }
        _ => return unsure(cluster, meta, &not_running(&status.state)),
    };
    RoleView {
        tags: vec![tag.to_owned()],
        meta,
        answer: Answer::passing(output),
        ..RoleView::unknown(cluster, PORT, "")
    }
}

/// What to do about a PostgreSQL that Patroni can't start: it tries again each round, and touches no data.
fn not_running(state: &str) -> String {
    let text = format!("PostgreSQL is {state}");
    if !(state.ends_with("failed") || ["crashed", "stopped"].contains(&state)) {
        return text;
    }
    format!(
        "{text}: the journal of patroni.service says why; where the disk is full make room, and where the data is damaged have Patroni reinitialise this node from the primary"
    )
}

fn unsure(cluster: &str, meta: BTreeMap<String, String>, why: &str) -> RoleView {
    RoleView { meta, ..RoleView::unknown(cluster, PORT, why) }
}

/// What a node is whose Patroni doesn't answer: what was proven last, as long as Consul doesn't know better.
fn unanswered(
    cluster: &str,
    node: &str,
    proven: Option<&RoleView>,
    leader: Option<&str>,
    error: &Error,
) -> RoleView {
    let Some(view) = proven else { return RoleView::unknown(cluster, PORT, chain(error)) };
    let is_primary = view.tags.iter().any(|tag| tag == PRIMARY);
    if is_primary != (leader == Some(node)) {
        return RoleView::unknown(
            cluster,
            PORT,
            format!("the leader key has changed, and {}", chain(error)),
        );
    }
    let tag = if is_primary { PRIMARY } else { REPLICA };
    let output = format!("still {tag} by the leader key; {}", chain(error));
    RoleView { answer: Answer::passing(output), ..view.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(role: &str, leads: bool) -> Status {
        Status {
            state: "running".to_owned(),
            role: role.to_owned(),
            leads,
            timeline: Some(2),
            replication_state: (role == "replica").then(|| "streaming".to_owned()),
            sync_standby: false,
            quorum_standby: false,
            pause: false,
        }
    }

    fn silent() -> Error {
        Error::Deadline { what: "GET /primary".to_owned(), deadline: DEADLINE }
    }

    #[test]
    fn a_primary_holds_the_leader_key_and_says_it_is_one() {
        let view = judge("main", &status("primary", true));
        assert_eq!(view.tags, [PRIMARY]);
        assert_eq!(view.answer.health, Health::Passing);
        assert_eq!(view.meta["timeline"], "2");
    }

    #[test]
    fn a_replica_says_how_it_is_counted() {
        let quorum = Status { quorum_standby: true, ..status("replica", false) };
        assert_eq!(judge("main", &quorum).meta["sync"], "quorum");
        assert_eq!(judge("main", &status("replica", false)).meta["sync"], "async");
        assert_eq!(judge("main", &quorum).tags, [REPLICA]);
    }

    #[test]
    fn lag_is_shown_roughly_and_of_replicas_alone() {
        let lag = |role, leads, lag| {
            let view = with_lag(judge("main", &status(role, leads)), lag);
            view.meta.get("lag_bytes").cloned()
        };
        assert_eq!(lag("replica", false, Some(2_000)).as_deref(), Some("0"));
        assert_eq!(lag("replica", false, Some(100_000)).as_deref(), Some("131072"));
        assert_eq!(lag("replica", false, None), None);
        assert_eq!(lag("primary", true, Some(5)), None);
    }

    #[test]
    fn a_postgresql_that_does_not_start_says_what_to_do() {
        let failed = Status { state: "start failed".to_owned(), ..status("replica", false) };
        assert!(judge("main", &failed).answer.output.contains("reinitialise"));
        let starting = Status { state: "starting".to_owned(), ..failed };
        assert_eq!(judge("main", &starting).answer.output, "PostgreSQL is starting");
    }

    #[test]
    fn a_node_that_is_not_sure_has_neither_tag() {
        let unsure = [
            status("primary", false),
            status("replica", true),
            Status { state: "starting".to_owned(), ..status("replica", false) },
            Status { state: "stopped".to_owned(), ..status("primary", true) },
            Status { state: "creating replica".to_owned(), ..status("uninitialized", false) },
        ];
        for status in unsure {
            let view = judge("main", &status);
            assert!(view.tags.is_empty(), "{status:?}");
            assert_eq!(view.answer.health, Health::Critical, "{status:?}");
        }
    }

    #[test]
    fn a_silent_patroni_costs_nothing_while_the_leader_key_says_the_same() {
        let primary = judge("main", &status("primary", true));
        let view = unanswered("main", "p1", Some(&primary), Some("p1"), &silent());
        assert_eq!((view.tags, view.answer.health), (primary.tags.clone(), Health::Passing));
        let replica = judge("main", &status("replica", false));
        let view = unanswered("main", "p1", Some(&replica), Some("p2"), &silent());
        assert_eq!(view.tags, [REPLICA]);
    }

    #[test]
    fn a_silent_node_that_consul_knows_better_about_has_neither_tag() {
        let primary = judge("main", &status("primary", true));
        let replica = judge("main", &status("replica", false));
        for (proven, leader) in [
            (Some(&primary), Some("p2")),
            (Some(&primary), None),
            (Some(&replica), Some("p1")),
            (None, Some("p1")),
        ] {
            let view = unanswered("main", "p1", proven, leader, &silent());
            assert!(view.tags.is_empty(), "{leader:?}");
        }
    }
}
