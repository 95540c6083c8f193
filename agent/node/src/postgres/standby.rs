//! A primary's standbys: that one which follows is named as synchronous, and soon.
//!
//! Patroni looks once in a round, and takes a standby for one that follows until its connection has ended, which takes a
//! minute when its machine stands still. Until then every write waits; and a primary of which no standby is named has
//! nobody who may take its place. So the primary's agent ends the connection of a standby that gives no sign of life,
//! where another one follows, and wakes Patroni as long as none that follows is named. What is named where, and in which
//! order, is Patroni's alone.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use super::patroni::Patroni;
use super::sql::{Error, Sql};
use crate::consul::{Consul, Index};
use crate::error::chain;
use crate::log;
use crate::peers::PeerView;
use crate::role::{PRIMARY, RoleView};

/// How long PostgreSQL may take to answer.
const DEADLINE: Duration = Duration::from_secs(1);
/// Between two wakings: Patroni waits two seconds for a standby that it has just named.
const AGAIN: Duration = Duration::from_secs(1);
/// How long Consul holds a question about who is named while it stays the same.
const WAIT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// Keeps a standby named.
pub(crate) struct Guard {
    pub(super) node: String,
    /// The cluster's members: others may take the log as well, for a backup.
    pub(super) members: BTreeSet<String>,
    pub(super) cluster: String,
    pub(super) patroni: Patroni,
    pub(super) consul: Consul,
    pub(super) sql: Sql,
    /// Between two looks.
    pub(super) interval: Duration,
    pub(super) ttl_secs: u16,
}

/// A connection over which a member takes the primary's log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stream {
    pid: i32,
    member: String,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    /// Connections to be ended.
    end: Vec<Stream>,
    /// Whether Patroni has somebody to name.
    wake: bool,
}

/// What is to be done on a primary with these streams, of whose standbys these are named, while these members give no
/// sign of life. A stream is ended only where another one can take its place.
fn due(streams: &[Stream], named: &BTreeSet<String>, silent: &BTreeSet<String>) -> Due {
    let well = |stream: &&Stream| !silent.contains(&stream.member);
    let mut follow = streams.iter().filter(well).peekable();
    if follow.peek().is_none() || follow.any(|stream| named.contains(&stream.member)) {
        return Due::default();
    }
    let is_stuck = |s: &&Stream| named.contains(&s.member) && silent.contains(&s.member);
    Due { end: streams.iter().filter(is_stuck).cloned().collect(), wake: true }
}

impl Guard {
    /// Looks again and again while this node is the primary.
    pub(crate) async fn keep(
        self,
        mut roles: watch::Receiver<RoleView>,
        peers: watch::Receiver<Vec<PeerView>>,
    ) {
        let (named, names) = watch::channel(BTreeSet::new());
        let key = format!("service/{}/sync", self.cluster);
        tokio::spawn(follow_named(self.consul.clone(), key, self.node.clone(), named));
        let mut client = None;
        let mut woken: Option<Instant> = None;
        let mut was_due = false;
        loop {
            let is_primary = |role: &RoleView| role.tags.iter().any(|tag| tag == PRIMARY);
            if roles.wait_for(is_primary).await.is_err() {
                return;
            }
            let silent: BTreeSet<String> = peers
                .borrow()
                .iter()
                .filter(|peer| peer.suspect)
                .map(|peer| peer.member.clone())
                .collect();
            match self.streams(&mut client).await {
                Ok(streams) => {
                    let due = due(&streams, &names.borrow(), &silent);
                    for stream in &due.end {
                        log::warn(&format!(
                            "the standby {} gives no sign of life and every write waits for it: its connection is ended, so that another is named",
                            stream.member
                        ));
                        self.end(&client, stream.pid).await;
                    }
                    let rested = woken.is_none_or(|at| at.elapsed() >= AGAIN);
                    if due.wake && (rested || !due.end.is_empty()) {
                        if !was_due {
                            log::info("no standby that follows is named: waking Patroni");
                        }
                        woken = Some(Instant::now());
                        if let Err(error) = self.patroni.wake(self.ttl_secs).await {
                            log::warn(&format!("Patroni was not woken: {}", chain(&error)));
                        }
                    }
                    was_due = due.wake;
                }
                // The checks say what is wrong with PostgreSQL.
                Err(_) => client = None,
            }
            sleep(self.interval).await;
        }
    }

    /// The members' streams.
    async fn streams(&self, client: &mut Option<Client>) -> Result<Vec<Stream>, Error> {
        const QUESTION: &str =
            "SELECT pid, application_name FROM pg_stat_replication WHERE state = 'streaming'";
        let client = match client {
            Some(client) => client,
            None => client.insert(self.sql.connect("ballast", "postgres").await?),
        };
        let rows = timeout(DEADLINE, client.query(QUESTION, &[])).await;
        let rows =
            rows.map_err(|_| Error::Deadline)?.map_err(Error::query("asking who follows"))?;
        let streams = rows.iter().filter_map(|row| {
            Some(Stream { pid: row.try_get(0).ok()?, member: row.try_get(1).ok()? })
        });
        Ok(streams.filter(|stream| self.members.contains(&stream.member)).collect())
    }

    async fn end(&self, client: &Option<Client>, pid: i32) {
        let Some(client) = client else { return };
        let statement = format!("SELECT pg_terminate_backend({pid}, 500)");
        match timeout(DEADLINE, client.batch_execute(&statement)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn(&format!("it was not ended: {}", chain(&error))),
            Err(_) => log::warn("it has not ended yet"),
        }
    }
}

/// Patroni's key of who is named (4.0): by whom, and whom, with commas between them.
#[derive(Deserialize)]
struct Key {
    leader: Option<String>,
    sync_standby: Option<String>,
}

/// Whom this node has named, by Patroni's key.
fn read_named(text: &str, node: &str) -> BTreeSet<String> {
    let key = serde_json::from_str::<Key>(text).ok();
    let own = key.filter(|key| key.leader.as_deref() == Some(node));
    let names = own.and_then(|key| key.sync_standby).unwrap_or_default();
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

async fn follow_named(
    consul: Consul,
    key: String,
    node: String,
    named: watch::Sender<BTreeSet<String>>,
) {
    let mut index = Index::default();
    loop {
        match consul.key(&key, index, WAIT).await {
            Ok((text, next)) => {
                index = next;
                let now = read_named(&text.unwrap_or_default(), &node);
                named.send_if_modified(|held| std::mem::replace(held, now.clone()) != now);
                // Consul wakes a question early when anything near changes; never spin on it.
                sleep(Duration::from_millis(20)).await;
            }
            // What was known stays: Patroni names nobody without Consul.
            Err(_) => {
                index = Index::default();
                sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(members: &[&str]) -> Vec<Stream> {
        let stream = |(pid, member): (i32, &&str)| Stream { pid, member: (*member).to_owned() };
        (1..).zip(members).map(stream).collect()
    }

    fn names(members: &[&str]) -> BTreeSet<String> {
        members.iter().map(|member| (*member).to_owned()).collect()
    }

    #[test]
    fn a_standby_that_is_named_and_follows_is_let_alone() {
        let both = streams(&["p2", "p3"]);
        assert_eq!(due(&both, &names(&["p2"]), &names(&[])), Due::default());
        assert_eq!(due(&both, &names(&["p2"]), &names(&["p3"])), Due::default());
        // Of a quorum, one is enough.
        assert_eq!(due(&both, &names(&["p2", "p3"]), &names(&["p2"])), Due::default());
    }

    #[test]
    fn a_standby_that_follows_is_to_be_named_where_none_is() {
        let one = streams(&["p3"]);
        assert_eq!(due(&one, &names(&[]), &names(&[])), Due { end: vec![], wake: true });
        assert_eq!(due(&one, &names(&["p2"]), &names(&[])), Due { end: vec![], wake: true });
    }

    #[test]
    fn a_silent_standby_is_let_go_of_only_where_another_follows() {
        let both = streams(&["p2", "p3"]);
        let done = due(&both, &names(&["p2"]), &names(&["p2"]));
        assert_eq!(done, Due { end: streams(&["p2"]), wake: true });
        let alone = due(&streams(&["p2"]), &names(&["p2"]), &names(&["p2"]));
        assert_eq!(alone, Due::default());
        let all_silent = due(&both, &names(&["p2"]), &names(&["p2", "p3"]));
        assert_eq!(all_silent, Due::default());
    }

    #[test]
    fn who_is_named_by_another_is_not_named() {
        let text = r#"{"leader":"p1","sync_standby":"p2,p3","quorum":1}"#;
        assert_eq!(read_named(text, "p1"), names(&["p2", "p3"]));
        assert_eq!(read_named(text, "p2"), names(&[]));
        assert_eq!(read_named(r#"{"leader":"p1","sync_standby":null}"#, "p1"), names(&[]));
        assert_eq!(read_named("", "p1"), names(&[]));
    }
}
