//! What the checks of a Redis node answer: pure readings of a [`Snapshot`], each with what is wrong and what to do.

use std::time::Duration;

use super::facts::{Info, Named, Role};
use super::primary::Verdict;
use super::{Peer, Snapshot};
use crate::state::{Answer, Health};

/// How old a snapshot may be: Redis and Sentinel are asked several times a second, each with a deadline of one.
const FRESH: Duration = Duration::from_secs(10);

/// Asks a question of what is known.
pub(crate) fn ask(snapshot: &Snapshot, question: impl Fn(&Snapshot) -> Answer) -> Answer {
    let age = snapshot.at.elapsed();
    if age > FRESH {
        return Answer::critical(format!("Redis was last asked {} s ago", age.as_secs()));
    }
    question(snapshot)
}

fn warning(output: String) -> Answer {
    Answer { health: Health::Warning, output }
}

/// This node's Redis, or what to say where it does not answer.
fn own(snapshot: &Snapshot) -> Result<&Info, Answer> {
    snapshot.redis.as_ref().map_err(|why| {
        let remedy = if why.contains("AuthenticationFailed") || why.contains("NOAUTH") {
            "it runs with another bundle's passwords: restart redis.service"
        } else {
            "`journalctl -u redis` says why"
        };
        Answer::critical(format!("{why}; {remedy}"))
    })
}

/// Is this node what its Sentinels say it is?
pub(crate) fn role(snapshot: &Snapshot) -> Answer {
    let info = match own(snapshot) {
        Ok(info) => info,
        Err(answer) => return answer,
    };
    if let Some(why) = &snapshot.waiting {
        return Answer::critical(why.clone());
    }
    match (&snapshot.verdict, &info.role) {
        (Verdict::Primary, _) => Answer::passing("this node is the primary"),
        (Verdict::Replica, Role::Replica { of, .. }) => {
            let named = snapshot.newest().map(|n| n.address.to_string());
            match named {
                Some(named) if named != *of => warning(format!(
                    "this node follows {of}, and the Sentinels call {named} the primary: they correct it within 10 s"
                )),
                _ => Answer::passing(format!("this node is a replica of {of}")),
            }
        }
        (Verdict::Stale(named), _) => Answer::critical(format!(
            "Redis calls itself primary, and the Sentinels call {named} so: they make it a replica, and what it alone took is lost"
        )),
        (Verdict::Unsure(why), _) => Answer::critical(why.clone()),
        (Verdict::Replica, Role::Primary { .. }) => Answer::critical("Redis was just promoted"),
    }
}

/// Do replicas hear their primary?
pub(crate) fn replication(snapshot: &Snapshot) -> Answer {
    let info = match own(snapshot) {
        Ok(info) => info,
        Err(answer) => return answer,
    };
    match &info.role {
        Role::Primary { replicas } => {
            let heard = |peer: &&Peer| {
                let address = peer.address.to_string();
                replicas.iter().any(|r| {
                    r.address == address
                        && r.state == "online"
                        && r.lag_secs <= snapshot.patience.as_secs()
                })
            };
            let (all, missing) =
                (snapshot.peers.len(), snapshot.peers.iter().filter(|p| !heard(p)));
            let missing: Vec<&str> = missing.map(|p| p.name.as_str()).collect();
            let names = missing.join(" and ");
            if missing.is_empty() {
                Answer::passing(format!("all {all} replicas hear this primary"))
            } else if missing.len() == all {
                Answer::critical(format!(
                    "no replica hears this primary, so it refuses writes: see {names}"
                ))
            } else {
                warning(format!(
                    "{} of {all} replicas hear this primary: see {names}",
                    all - missing.len()
                ))
            }
        }
        Role::Replica { of, cut: Some(cut), .. } => {
            let since =
                cut.secs.map_or("since it started".to_owned(), |secs| format!("for {secs} s"));
            let patient = cut.secs.is_some_and(|secs| secs <= snapshot.patience.as_secs());
            if cut.receiving {
                warning(format!("receiving everything from {of}"))
            } else if patient {
                warning(format!("not heard {of} {since}"))
            } else {
                Answer::critical(format!(
                    "not heard {of} {since}; `journalctl -u redis` says why, and bundles of different age may differ in passwords"
                ))
            }
        }
        Role::Replica { of, cut: None, .. } => match snapshot.lag_bytes() {
            Some(lag) => Answer::passing(format!("follows {of}, {lag} bytes behind")),
            None => Answer::passing(format!("follows {of}")),
        },
    }
}

/// Could a failover be authorised, and do the Sentinels know the members and no others?
pub(crate) fn sentinel(snapshot: &Snapshot) -> Answer {
    let named = match &snapshot.sentinel {
        Ok(Some(named)) => named,
        Ok(None) => {
            let why =
                snapshot.waiting.as_deref().unwrap_or("this node's Sentinel knows no primary yet");
            return Answer::critical(why);
        }
        Err(why) => {
            return Answer::critical(format!("{why}; `journalctl -u redis-sentinel` says why"));
        }
    };
    if let Err(why) = &snapshot.quorum {
        return Answer::critical(format!("no failover could be authorised: {why}"));
    }
    for peer in &snapshot.peers {
        match &peer.sentinel {
            Ok(Some(theirs)) if theirs.address != named.address => {
                return warning(format!(
                    "{}'s Sentinel calls {} the primary, and this node's {}",
                    peer.name, theirs.address, named.address
                ));
            }
            Ok(Some(_)) => {}
            Ok(None) => return warning(format!("{}'s Sentinel knows no primary", peer.name)),
            Err(why) => return warning(format!("{}'s Sentinel: {why}", peer.name)),
        }
    }
    counts(named, snapshot.peers.len())
}

fn counts(named: &Named, others: usize) -> Answer {
    let Named { replicas, other_sentinels, .. } = named;
    if (*replicas, *other_sentinels) == (others, others) {
        return Answer::passing(format!(
            "a failover can be authorised by {} Sentinels",
            others + 1
        ));
    }
    let remedy = if *replicas > others || *other_sentinels > others {
        "those that left are forgotten within minutes, once all others are well"
    } else {
        "it finds the others within half a minute of their start"
    };
    warning(format!(
        "this node's Sentinel knows {replicas} replicas and {other_sentinels} other Sentinels, and {others} of each are members: {remedy}"
    ))
}

/// Is the append-only log written?
pub(crate) fn persistence(snapshot: &Snapshot) -> Answer {
    let log = match own(snapshot) {
        Ok(info) => &info.append_only,
        Err(answer) => return answer,
    };
    if !log.enabled {
        Answer::critical(
            "the append-only log is off: a restart would lose everything; restart redis.service",
        )
    } else if !log.written {
        Answer::critical(
            "the append-only log could not be written, so Redis refuses writes: make room on the disk",
        )
    } else if !log.rewritten {
        warning("the append-only log could not be rewritten and grows: see `journalctl -u redis`, and whether the disk is full".to_owned())
    } else if !log.saved {
        warning("a snapshot for a replica could not be made: see `journalctl -u redis`, and whether memory is short".to_owned())
    } else {
        Answer::passing("the append-only log is written")
    }
}

/// How much of `maxmemory` is in use?
pub(crate) fn memory(snapshot: &Snapshot, warning_percent: u8, critical_percent: u8) -> Answer {
    let memory = match own(snapshot) {
        Ok(info) => &info.memory,
        Err(answer) => return answer,
    };
    if memory.limit_bytes == 0 {
        return warning(
            "maxmemory is not set: Redis may take all of the machine's memory".to_owned(),
        );
    }
    let percent = memory.used_bytes.saturating_mul(100) / memory.limit_bytes;
    let said = format!("{percent} % of maxmemory ({} MiB) is in use", memory.limit_bytes >> 20);
    let remedy = "at 100 % every write is refused; raise max_memory_bytes in the cluster file, or remove keys";
    if percent >= u64::from(critical_percent) {
        Answer::critical(format!("{said}: {remedy}"))
    } else if percent >= u64::from(warning_percent) {
        warning(format!("{said}: {remedy}"))
    } else {
        Answer::passing(said)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::IpAddr;

    use tokio::time::Instant;

    use super::*;
    use crate::redis::facts::{Cut, tests as words};

    fn address(n: u8) -> IpAddr {
        [127, 0, 1, n].into()
    }

    fn named(n: u8) -> Named {
        let address = address(n);
        Named { address, epoch: 2, failover: None, replicas: 2, other_sentinels: 2 }
    }

    /// A group that is well, seen from its primary, 127.0.1.1.
    pub(in crate::redis) fn well() -> Snapshot {
        let peer = |n: u8| Peer {
            name: format!("n{n}"),
            address: address(n),
            asked: Instant::now(),
            redis: Ok(words::replica()),
            sentinel: Ok(Some(named(1))),
        };
        Snapshot {
            at: Instant::now(),
            redis: Ok(words::primary()),
            sentinel: Ok(Some(named(1))),
            quorum: Ok(()),
            peers: vec![peer(2), peer(3)],
            verdict: Verdict::Primary,
            waiting: None,
            patience: Duration::from_secs(10),
        }
    }

    /// The same, seen from a replica that is cut off like this.
    pub(in crate::redis) fn replica(cut: Option<Cut>) -> Snapshot {
        let role = Role::Replica { of: "127.0.1.1".into(), cut, whole: true };
        let verdict = Verdict::Replica;
        Snapshot { redis: Ok(Info { role, ..words::replica() }), verdict, ..well() }
    }

    fn says(answer: &Answer, health: Health, words: &str) {
        assert_eq!(answer.health, health, "{}", answer.output);
        assert!(answer.output.contains(words), "{}", answer.output);
    }

    const ALL: [fn(&Snapshot) -> Answer; 5] =
        [role, replication, sentinel, persistence, |s| memory(s, 85, 98)];

    #[test]
    fn a_group_that_is_well_passes_everywhere() {
        for question in ALL {
            for snapshot in [well(), replica(None)] {
                let answer = question(&snapshot);
                assert_eq!(answer.health, Health::Passing, "{}", answer.output);
            }
        }
    }

    #[test]
    fn a_redis_that_does_not_answer_is_critical_with_its_remedy() {
        for (why, remedy) in [
            ("connecting to this node's Redis: refused", "journalctl"),
            ("connecting to this node's Redis: AuthenticationFailed", "restart redis.service"),
        ] {
            let snapshot = Snapshot { redis: Err(why.into()), ..well() };
            for question in [role, replication, persistence] {
                says(&question(&snapshot), Health::Critical, remedy);
            }
        }
    }

    #[test]
    fn an_old_answer_is_none() {
        let at = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        says(&ask(&Snapshot { at, ..well() }, role), Health::Critical, "60 s ago");
    }

    #[test]
    fn a_stale_primary_is_critical_and_says_who_the_primary_is() {
        let snapshot = Snapshot { verdict: Verdict::Stale(address(2)), ..well() };
        says(&role(&snapshot), Health::Critical, "127.0.1.2");
    }

    #[test]
    fn a_replica_that_is_missing_is_a_warning_and_all_of_them_mean_refused_writes() {
        let mut snapshot = well();
        let Ok(Info { role: Role::Primary { replicas }, .. }) = &mut snapshot.redis else {
            panic!()
        };
        replicas.retain(|r| r.address == "127.0.1.2");
        says(&replication(&snapshot), Health::Warning, "n3");
        let Ok(Info { role: Role::Primary { replicas }, .. }) = &mut snapshot.redis else {
            panic!()
        };
        replicas[0].lag_secs = 60;
        says(&replication(&snapshot), Health::Critical, "refuses writes: see n2 and n3");
    }

    #[test]
    fn a_replica_that_hears_nothing_is_warning_and_then_critical() {
        let cut = |secs, receiving| replication(&replica(Some(Cut { secs, receiving })));
        says(&cut(Some(3), false), Health::Warning, "for 3 s");
        says(&cut(Some(11), false), Health::Critical, "for 11 s");
        says(&cut(None, false), Health::Critical, "since it started");
        says(&cut(None, true), Health::Warning, "receiving");
    }

    #[test]
    fn a_quorum_that_cannot_be_reached_is_critical_and_a_stranger_a_warning() {
        let lost = Snapshot { quorum: Err("1 usable Sentinels".into()), ..well() };
        says(&sentinel(&lost), Health::Critical, "1 usable Sentinels");
        let more = Named { replicas: 3, ..named(1) };
        let stranger = Snapshot { sentinel: Ok(Some(more)), ..well() };
        says(&sentinel(&stranger), Health::Warning, "knows 3 replicas");
        let mut other = well();
        other.peers[1].sentinel = Ok(Some(named(2)));
        says(&sentinel(&other), Health::Warning, "n3's Sentinel calls 127.0.1.2");
        other.peers[1].sentinel = Err("no answer".into());
        says(&sentinel(&other), Health::Warning, "n3's Sentinel: no answer");
    }

    #[test]
    fn a_log_that_is_not_written_is_critical() {
        let with = |change: fn(&mut Info)| {
            let mut info = words::primary();
            change(&mut info);
            persistence(&Snapshot { redis: Ok(info), ..well() })
        };
        says(&with(|i| i.append_only.written = false), Health::Critical, "make room");
        says(&with(|i| i.append_only.enabled = false), Health::Critical, "is off");
        says(&with(|i| i.append_only.rewritten = false), Health::Warning, "grows");
    }

    #[test]
    fn memory_is_counted_as_maxmemory_counts_it() {
        let with = |used_bytes, limit_bytes| {
            let memory = crate::redis::facts::Memory { used_bytes, limit_bytes };
            super::memory(
                &Snapshot { redis: Ok(Info { memory, ..words::primary() }), ..well() },
                85,
                98,
            )
        };
        assert_eq!(with(84, 100).health, Health::Passing);
        says(&with(85, 100), Health::Warning, "raise max_memory_bytes");
        says(&with(98, 100), Health::Critical, "every write is refused");
        says(&with(1, 0), Health::Warning, "not set");
    }
}
