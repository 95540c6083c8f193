//! A primary whose disk is full hands over, while it still can, to a replica that has every write and room for more.
//!
//! PostgreSQL refuses a write for which there is no room and lives on, as the primary that takes none: nothing else would end
//! that. Where no replica has room either, nothing is gained, and the check of the disk says what is wrong.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::patroni::Patroni;
use crate::consul::Consul;
use crate::error::chain;
use crate::log;
use crate::plan::postgres::DATA;
use crate::role::{PRIMARY, RoleView};
use crate::root::Root;
use crate::state::Health;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);
/// With less than this the next file of the log, 16 MiB, is not sure to fit, nor what an orderly stop writes.
const LEAST_BYTES: u64 = 48 << 20;
/// Between two tries: a cluster whose disks are all full must not go round.
const PAUSE: Duration = Duration::from_secs(30);

/// What a cluster's members are (`GET /cluster`).
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Cluster {
    members: Vec<Member>,
    #[serde(default)]
    pause: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Member {
    name: String,
    role: String,
    state: String,
}

/// Who may take over, the surest first: Patroni refuses one that has not every acknowledged write.
fn candidates(cluster: &Cluster) -> Vec<&str> {
    if cluster.pause {
        return Vec::new();
    }
    let of = |role: &'static str| {
        let streams = move |m: &&Member| m.role == role && m.state == "streaming";
        cluster.members.iter().filter(streams).map(|m| m.name.as_str())
    };
    of("sync_standby").chain(of("quorum_standby")).chain(of("replica")).collect()
}

/// Bytes that PostgreSQL may still write; none where the disk doesn't say.
fn room(root: &Root) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(&root.at(DATA)).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Hands over whenever there is no room on a primary.
pub(super) async fn keep_room(
    root: Root,
    node: String,
    patroni: Patroni,
    consul: Consul,
    mut roles: watch::Receiver<RoleView>,
) {
    let mut tried: Option<Instant> = None;
    loop {
        let is_primary = |role: &RoleView| role.tags.iter().any(|tag| tag == PRIMARY);
        if roles.wait_for(is_primary).await.is_err() {
            return;
        }
        let is_full = room(&root).is_some_and(|bytes| bytes < LEAST_BYTES);
        if is_full && tried.is_none_or(|at| at.elapsed() > PAUSE) {
            tried = Some(Instant::now());
            match hand_over(&node, &patroni, &consul).await {
                Ok(next) => log::warn(&format!(
                    "the disk of this primary is full: {next}, which has room, takes over"
                )),
                Err(reason) => log::error(&format!(
                    "the disk of this primary is full, and no one takes over: {reason}; make room on this node"
                )),
            }
        }
        sleep(ROUND).await;
    }
}

async fn hand_over(node: &str, patroni: &Patroni, consul: &Consul) -> Result<String, String> {
    let cluster = patroni.cluster().await.map_err(|error| chain(&error))?;
    let mut reasons = Vec::new();
    for name in candidates(&cluster) {
        match consul.node_check(name, "ballast:disk").await {
            Ok(Some(Health::Critical)) => reasons.push(format!("{name} has no room either")),
            Err(error) => reasons.push(format!("{name}: {}", chain(&error))),
            Ok(_) => match patroni.switch_over(node, name).await {
                Ok(()) => return Ok(name.to_owned()),
                Err(error) => reasons.push(format!("{name}: {}", chain(&error))),
            },
        }
    }
    if reasons.is_empty() {
        reasons.push("no replica follows, or the cluster is in maintenance".to_owned());
    }
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_every_write_is_asked_first_and_nobody_in_maintenance() {
        let text = |pause: bool| {
            format!(
                r#"{{"members":[{{"name":"a","role":"leader","state":"running","timeline":1}},
                {{"name":"b","role":"replica","state":"streaming","lag":0}},
                {{"name":"c","role":"sync_standby","state":"streaming","lag":0}},
                {{"name":"d","role":"replica","state":"start failed"}}],"scope":"main","pause":{pause}}}"#
            )
        };
        let read = |pause| serde_json::from_str::<Cluster>(&text(pause)).unwrap();
        assert_eq!(candidates(&read(false)), ["c", "b"]);
        assert!(candidates(&read(true)).is_empty());
    }

    #[test]
    fn a_place_that_is_not_there_is_not_full() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(room(&Root::new(directory.path())), None);
    }
}
