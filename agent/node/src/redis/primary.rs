//! What this node is in its group: a pure decision, without I/O or clock.
//!
//! A node is the primary if its Redis says so and the newest word of a majority of the Sentinels agrees: the one with the
//! highest epoch. A Redis that was frozen or cut off while another was promoted still calls itself primary; it is stale.
//! A Redis that was promoted a moment ago is believed before the Sentinels have published it, while one of them still
//! leads the failover: clients would wait for nothing else.

use std::net::IpAddr;

use super::facts::{Cut, Info, Named, Role};
use crate::plan::redis::quorum;

/// What is known, all of it asked after the last moment at which this node may have missed something.
pub(super) struct Known<'a> {
    pub(super) me: IpAddr,
    pub(super) members: usize,
    pub(super) redis: &'a Info,
    /// What each Sentinel that answered says, this node's own among them.
    pub(super) sentinels: Vec<Option<&'a Named>>,
    /// The highest epoch known when this node's Redis was seen to turn from a replica into a primary, while it is one.
    pub(super) promoted_at: Option<u64>,
    /// How long a replica may be cut off and still be one, seconds.
    pub(super) patience_secs: u64,
}

/// What this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Primary,
    Replica,
    /// It calls itself primary, and this one is.
    Stale(IpAddr),
    /// It is neither, or it cannot be told: why.
    Unsure(String),
}

/// The newest word on who the primary is.
pub(super) fn newest<'a>(
    sentinels: impl IntoIterator<Item = Option<&'a Named>>,
) -> Option<&'a Named> {
    sentinels.into_iter().flatten().max_by_key(|named| named.epoch)
}

/// Decides what this node is.
pub(super) fn judge(known: &Known<'_>) -> Verdict {
    let newest = newest(known.sentinels.iter().copied());
    match &known.redis.role {
        Role::Replica { of, cut, whole } => judge_replica(known, newest, of, cut.as_ref(), *whole),
        Role::Primary { .. } if known.redis.loading => unsure("Redis is still reading its data"),
        Role::Primary { .. } => judge_primary(known, newest),
    }
}

fn judge_replica(
    known: &Known<'_>,
    newest: Option<&Named>,
    of: &str,
    cut: Option<&Cut>,
    whole: bool,
) -> Verdict {
    let Some(newest) = newest else { return unsure("no Sentinel knows a primary yet") };
    if newest.address == known.me && newest.failover.is_none() {
        return unsure(format!("the Sentinels call this node the primary, and it follows {of}"));
    }
    match cut {
        Some(Cut { receiving: true, .. }) => {
            unsure(format!("it is receiving everything from {of}"))
        }
        Some(cut) if !whole || cut.secs.is_none_or(|secs| secs > known.patience_secs) => {
            unsure(format!("it does not hear its primary {of}"))
        }
        _ => Verdict::Replica,
    }
}

fn judge_primary(known: &Known<'_>, newest: Option<&Named>) -> Verdict {
    let (answered, needed) = (known.sentinels.len(), quorum(known.members));
    if answered < needed {
        return unsure(format!(
            "{answered} of {} Sentinels answer and {needed} must: the others may have chosen another primary",
            known.members
        ));
    }
    let Some(newest) = newest else {
        return unsure("Redis calls itself primary, and no Sentinel knows one");
    };
    let leads = known.sentinels.iter().flatten().any(|n| n.failover.is_some());
    if newest.address != known.me {
        return match known.promoted_at {
            Some(epoch) if newest.epoch <= epoch && leads => Verdict::Primary,
            _ => Verdict::Stale(newest.address),
        };
    }
    let replaces =
        |n: &&Named| n.address == known.me && n.failover.as_deref().is_some_and(is_promoting);
    if known.sentinels.iter().flatten().any(replaces) {
        return unsure("the Sentinels are promoting another node");
    }
    Verdict::Primary
}

fn unsure(why: impl Into<String>) -> Verdict {
    Verdict::Unsure(why.into())
}

/// Whether a failover in this state is making another node the primary at this moment.
fn is_promoting(state: &str) -> bool {
    ["send_slaveof_noone", "wait_promotion"].contains(&state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::facts::tests as words;

    const ME: [u8; 4] = [10, 0, 0, 4];
    const OTHER: [u8; 4] = [10, 0, 0, 5];

    fn named(address: [u8; 4], epoch: u64) -> Named {
        Named { address: address.into(), epoch, failover: None, replicas: 2, other_sentinels: 2 }
    }

    fn judged(redis: &Info, sentinels: &[Option<&Named>], promoted_at: Option<u64>) -> Verdict {
        judge(&Known {
            me: ME.into(),
            members: 3,
            redis,
            sentinels: sentinels.to_vec(),
            promoted_at,
            patience_secs: 5,
        })
    }

    fn is_unsure(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Unsure(_))
    }

    #[test]
    fn the_primary_is_the_one_that_a_majority_of_sentinels_answers_for() {
        let (primary, me) = (words::primary(), named(ME, 3));
        assert_eq!(judged(&primary, &[Some(&me), Some(&me), Some(&me)], None), Verdict::Primary);
        assert_eq!(judged(&primary, &[Some(&me), Some(&me)], None), Verdict::Primary);
        assert_eq!(judged(&primary, &[Some(&me), None], None), Verdict::Primary, "one forgot");
    }

    #[test]
    fn a_primary_that_is_cut_off_from_the_majority_is_none() {
        let (primary, me) = (words::primary(), named(ME, 3));
        assert!(is_unsure(&judged(&primary, &[Some(&me)], None)));
        assert!(is_unsure(&judged(&primary, &[], None)));
    }

    #[test]
    fn of_two_that_call_themselves_primary_the_one_with_the_older_epoch_is_stale() {
        let primary = words::primary();
        let (old, new) = (named(ME, 3), named(OTHER, 4));
        for sentinels in [[Some(&old), Some(&new)], [Some(&new), Some(&old)], [Some(&new), None]] {
            assert_eq!(judged(&primary, &sentinels, None), Verdict::Stale(OTHER.into()));
            assert_eq!(judged(&primary, &sentinels, Some(3)), Verdict::Stale(OTHER.into()));
        }
    }

    #[test]
    fn a_promoted_node_is_the_primary_before_the_sentinels_say_so() {
        let primary = words::primary();
        let old = named(OTHER, 3);
        let leading = Named { failover: Some("wait_promotion".into()), ..old.clone() };
        let sentinels = [Some(&old), Some(&leading)];
        assert_eq!(judged(&primary, &sentinels, Some(3)), Verdict::Primary);
        assert_eq!(judged(&primary, &sentinels, None), Verdict::Stale(OTHER.into()));
        // The one that leads is the first to name it, and still has the replicas to see to.
        let leading = Named { failover: Some("reconf_slaves".into()), ..named(ME, 4) };
        for promoted_at in [None, Some(3)] {
            let verdict = judged(&primary, &[Some(&old), Some(&leading)], promoted_at);
            assert_eq!(verdict, Verdict::Primary);
        }
    }

    #[test]
    fn a_node_made_primary_by_hand_is_stale() {
        let old = named(OTHER, 3);
        let verdict = judged(&words::primary(), &[Some(&old), Some(&old)], Some(3));
        assert_eq!(verdict, Verdict::Stale(OTHER.into()));
    }

    #[test]
    fn the_old_primary_of_a_switchover_gives_up_before_the_sentinels_say_so() {
        let primary = words::primary();
        let me = named(ME, 3);
        let state = |state: &str| Named { failover: Some(state.into()), ..me.clone() };
        let (early, late) = (state("wait_start"), state("wait_promotion"));
        assert_eq!(judged(&primary, &[Some(&me), Some(&early)], None), Verdict::Primary);
        assert!(is_unsure(&judged(&primary, &[Some(&me), Some(&late)], None)));
    }

    #[test]
    fn a_primary_that_still_reads_its_data_is_none() {
        let loading = Info { loading: true, ..words::primary() };
        let me = named(ME, 3);
        assert!(is_unsure(&judged(&loading, &[Some(&me), Some(&me)], None)));
    }

    #[test]
    fn a_replica_is_one_while_it_hears_its_primary_or_did_a_moment_ago() {
        let other = named(OTHER, 3);
        let with = |cut: Option<Cut>, whole: bool| {
            let role = Role::Replica { of: "10.0.0.5".into(), cut, whole };
            judged(&Info { role, ..words::replica() }, &[Some(&other)], None)
        };
        let cut = |secs, receiving| Some(Cut { secs, receiving });
        assert_eq!(with(None, true), Verdict::Replica);
        assert_eq!(with(cut(Some(3), false), true), Verdict::Replica);
        for (cut, whole) in [
            (cut(Some(6), false), true),
            (cut(None, false), true),
            (cut(Some(1), true), true),
            (cut(Some(1), false), false),
        ] {
            assert!(is_unsure(&with(cut.clone(), whole)), "{cut:?} {whole}");
        }
    }

    #[test]
    fn a_replica_that_the_sentinels_call_the_primary_is_neither() {
        let me = named(ME, 3);
        assert!(is_unsure(&judged(&words::replica(), &[Some(&me), Some(&me)], None)));
        assert!(is_unsure(&judged(&words::replica(), &[None, None], None)));
    }
}
