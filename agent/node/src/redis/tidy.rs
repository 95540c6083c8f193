//! What a running Sentinel should forget: a pure decision, without I/O or clock.
//!
//! A Sentinel remembers every replica and Sentinel it ever heard of. Members are declared and keep their ids, so most
//! replacements leave nothing behind; a node that was given another address does. Forgetting (`SENTINEL RESET`) is done by
//! one Sentinel at a time, in the members' order, and only while the group is well: a Sentinel that has just forgotten
//! everything must have found the others again before the next one does.

use super::facts::Named;

/// A member's Sentinel; none where it is silent.
pub(super) struct Counted<'a> {
    pub(super) name: &'a str,
    pub(super) named: Option<&'a Named>,
}

/// The member whose Sentinel is the next to forget, if one has to and all are well.
pub(super) fn next<'a>(members: &[Counted<'a>]) -> Option<&'a str> {
    let others = members.len().saturating_sub(1);
    let named: Vec<&Named> = members.iter().filter_map(|m| m.named).collect();
    let first = named.first()?;
    let agreed = named.len() == members.len()
        && named.iter().all(|n| n.address == first.address && n.failover.is_none());
    let short = named.iter().any(|n| n.replicas < others || n.other_sentinels < others);
    if !agreed || short {
        return None;
    }
    let exceeds = |n: &Named| n.replicas > others || n.other_sentinels > others;
    members.iter().find(|m| m.named.is_some_and(exceeds)).map(|m| m.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(replicas: usize, other_sentinels: usize) -> Named {
        Named { address: [10, 0, 0, 4].into(), epoch: 2, failover: None, replicas, other_sentinels }
    }

    fn next_of(sentinels: [Option<&Named>; 3]) -> Option<String> {
        let names = ["n4", "n5", "n6"];
        let members: Vec<Counted> =
            names.into_iter().zip(sentinels).map(|(name, named)| Counted { name, named }).collect();
        next(&members).map(str::to_owned)
    }

    #[test]
    fn one_sentinel_at_a_time_forgets_in_the_members_order() {
        let (right, more) = (named(2, 2), named(3, 2));
        assert_eq!(next_of([Some(&right), Some(&right), Some(&right)]), None);
        assert_eq!(next_of([Some(&right), Some(&more), Some(&more)]), Some("n5".into()));
        assert_eq!(next_of([Some(&named(2, 3)), Some(&more), Some(&more)]), Some("n4".into()));
    }

    #[test]
    fn nothing_is_forgotten_while_the_group_is_not_well() {
        let (right, more) = (named(2, 2), named(3, 2));
        assert_eq!(next_of([Some(&more), Some(&right), None]), None, "one is silent");
        assert_eq!(
            next_of([Some(&more), Some(&named(2, 1)), Some(&right)]),
            None,
            "one has just forgotten"
        );
        let failing = Named { failover: Some("wait_start".into()), ..right.clone() };
        assert_eq!(next_of([Some(&more), Some(&failing), Some(&right)]), None);
        let elsewhere = Named { address: [10, 0, 0, 5].into(), ..right.clone() };
        assert_eq!(next_of([Some(&more), Some(&elsewhere), Some(&right)]), None);
    }
}
