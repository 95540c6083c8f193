//! Who makes a cluster that is not there yet: one member at a time, and another where that one was lost.
//!
//! Patroni marks in Consul, with an empty key `initialize`, that one of the members makes the cluster, and all others wait for
//! it. The mark outlives the member: one that loses power or is switched off meanwhile would be waited for without end. It is
//! taken back here once no member has been at work for a while, so that another begins.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::consul::{Consul, Entry, Index, Keys};
use crate::error::chain;
use crate::log;

/// Between two looks: a member at work says so in Consul every few seconds.
const ROUND: Duration = Duration::from_secs(5);
/// For how long nobody must have been at work.
const PATIENCE: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(5);

/// What a member shows of itself (Patroni's `members/<name>`).
#[derive(Deserialize)]
struct Shown {
    state: String,
}

/// A mark that nobody stands behind: the place of its last change in Consul's history.
fn abandoned(cluster: &str, entries: &[Entry]) -> Option<u64> {
    let find = |name: &str| {
        let key = format!("service/{cluster}/{name}");
        entries.iter().find(move |entry| entry.key == key)
    };
    let mark = find("initialize").filter(|mark| mark.value.is_empty())?;
    let members = format!("service/{cluster}/members/");
    let members = entries.iter().filter(|entry| entry.key.starts_with(&members));
    // Whatever else a member does may be the making of the cluster.
    let idle = |entry: &Entry| {
        let shown = serde_json::from_slice::<Shown>(&entry.value);
        shown.is_ok_and(|shown| ["stopped", "uninitialized"].contains(&shown.state.as_str()))
    };
    let nobody = find("leader").is_none() && members.into_iter().all(idle);
    nobody.then_some(mark.index)
}

/// Takes marks back that nobody stands behind, until the cluster is there.
pub(super) async fn follow_making(consul: Consul, cluster: String) {
    let below = format!("service/{cluster}/");
    let mut since: Option<(u64, Instant)> = None;
    loop {
        sleep(ROUND).await;
        let asked =
            consul.entries(Keys::Below(&below), Index::default(), Duration::ZERO, DEADLINE).await;
        let Ok((entries, _)) = asked else {
            since = None;
            continue;
        };
        if entries.iter().any(|e| e.key == format!("{below}initialize") && !e.value.is_empty()) {
            // The cluster has a name of its own now, and keeps it.
            return;
        }
        let Some(index) = abandoned(&cluster, &entries) else {
            since = None;
            continue;
        };
        match since {
            Some((seen, at)) if seen == index && at.elapsed() >= PATIENCE => {}
            Some((seen, _)) if seen == index => continue,
            _ => {
                since = Some((index, Instant::now()));
                continue;
            }
        }
        since = None;
        let mark = format!("{below}initialize");
        match consul.take_key((&mark, index), &[], DEADLINE).await {
            Ok(true) => log::warn(&format!(
                "the member that was making the cluster {cluster} is gone, and has not made it: another may begin"
            )),
            // Another was quicker.
            Ok(false) => {}
            Err(error) => {
                log::warn(&format!(
                    "the mark of {cluster} cannot be taken back: {}",
                    chain(&error)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(mark: &str, leader: bool, states: &[&str]) -> Vec<Entry> {
        let entry = |name: &str, value: &str| Entry {
            key: format!("service/main/{name}"),
            value: value.as_bytes().to_vec(),
            index: 7,
        };
        let mut all = vec![entry("initialize", mark)];
        if leader {
            all.push(entry("leader", "n4"));
        }
        for state in states {
            all.push(entry("members/n4", &format!(r#"{{"state":"{state}","conn_url":"x"}}"#)));
        }
        all
    }

    #[test]
    fn a_mark_that_no_member_stands_behind_is_abandoned() {
        assert_eq!(abandoned("main", &entries("", false, &[])), Some(7));
        assert_eq!(abandoned("main", &entries("", false, &["stopped", "uninitialized"])), Some(7));
    }

    #[test]
    fn a_member_at_work_a_leader_or_a_made_cluster_keeps_the_mark() {
        for state in ["running custom bootstrap script", "initializing new cluster", "starting"] {
            assert_eq!(
                abandoned("main", &entries("", false, &["stopped", state])),
                None,
                "{state}"
            );
        }
        assert_eq!(abandoned("main", &entries("", true, &["stopped"])), None);
        assert_eq!(abandoned("main", &entries("7575", false, &["stopped"])), None);
        // Who cannot be understood may be at work.
        let mut unknown = entries("", false, &["stopped"]);
        unknown.iter_mut().for_each(|entry| {
            if entry.key.ends_with("n4") {
                entry.value = b"{".to_vec()
            }
        });
        assert_eq!(abandoned("main", &unknown), None);
    }
}
