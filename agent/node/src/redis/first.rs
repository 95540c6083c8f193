//! Who the first primary is, and how a node finds its group again: a pure decision, without I/O or clock.
//!
//! The rule, where this node's Sentinel knows no primary:
//!
//! - If any member's Sentinel knows one, it is that one: this node's Sentinel watches it, and its Redis follows it. If it is
//!   this very node, its disk was lost: it stays a replica, and has a Sentinel fail over to a node that holds the data.
//! - If a member is silent, nothing is done: it may be the one that knows.
//! - If every member answers, no Sentinel knows a primary, and nobody holds data, the group is new: its first member is made
//!   the primary. If exactly one holds data (it was being made the primary, or its Sentinel lost its file), it is that one.
//! - If several hold data and no Sentinel knows whose is right, nothing is done: a person must say.
//!
//! Only the node that is to become the primary acts on its own Redis, so there is one writer; the others find its Sentinel's
//! word and follow. No answer of Consul's is needed.

use std::net::IpAddr;

use super::facts::Named;
use super::primary::newest;

/// A member, as far as it answers.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) address: IpAddr,
    /// What its Sentinel knows; none where it is silent.
    pub(super) sentinel: Option<Option<Named>>,
    /// What its Redis holds; none where it is silent.
    pub(super) redis: Option<Held>,
}

/// What a member's Redis is and holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// It takes writes.
    Primary,
    /// It follows, and holds what the group held.
    Data,
    /// It follows, and never held anything.
    Nothing,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// All is as it should be, or the Sentinels' affair.
    Nothing,
    /// Have this node's Sentinel watch this primary, and its Redis follow it unless it is this node.
    Adopt(IpAddr),
    /// Make this node the primary of its new group.
    Found,
    /// Have a Sentinel choose another primary: this node is called so and holds nothing.
    FailOver,
    /// Nothing can be done yet: why, and what would help.
    Wait(String),
}

/// Decides what this node does. Members stand in the bundle's order, this node among them.
pub(super) fn step(me: &str, members: &[Seen]) -> Step {
    let Some(own) = members.iter().find(|m| m.name == me) else { return Step::Nothing };
    match &own.sentinel {
        // Without its Sentinel this node can't take part.
        None => return Step::Nothing,
        Some(Some(named)) => {
            let newest = newest(members.iter().map(|m| m.sentinel.as_ref()?.as_ref()));
            let called = newest.is_some_and(|n| n.address == own.address);
            let follows = own.redis.as_ref().is_some_and(|held| *held != Held::Primary);
            let idle = members
                .iter()
                .filter_map(|m| m.sentinel.as_ref()?.as_ref())
                .all(|n| n.failover.is_none());
            let lost = named.address == own.address && called && follows && idle;
            return if lost { Step::FailOver } else { Step::Nothing };
        }
        Some(None) => {}
    }
    if let Some(named) = newest(members.iter().map(|m| m.sentinel.as_ref()?.as_ref())) {
        return Step::Adopt(named.address);
    }
    let silent: Vec<&str> = members
        .iter()
        .filter(|m| m.sentinel.is_none() || m.redis.is_none())
        .map(|m| m.name.as_str())
        .collect();
    if !silent.is_empty() {
        return Step::Wait(format!(
            "no member that answers knows a primary, and {} may: waiting for all members",
            list(&silent)
        ));
    }
    let holders: Vec<&Seen> = members.iter().filter(|m| m.redis != Some(Held::Nothing)).collect();
    match (holders.as_slice(), members.first()) {
        ([], Some(first)) => found(me, first),
        ([holder], _) => found(me, holder),
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|m| m.name.as_str()).collect();
            Step::Wait(format!(
                "{} hold data and no Sentinel knows whose is right: empty the disk of all but one",
                list(&names)
            ))
        }
    }
}

fn found(me: &str, chosen: &Seen) -> Step {
    if chosen.name == me {
        Step::Found
    } else {
        Step::Wait(format!("{} is about to become the first primary", chosen.name))
    }
}

fn list(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    /// A member of a group of n4, n5 and n6: what its Sentinel names, and what its Redis holds.
    fn seen(n: u8, sentinel: Option<Option<(u8, u64)>>, redis: Option<Held>) -> Seen {
        let named = |(n, epoch)| Named {
            address: address(n),
            epoch,
            failover: None,
            replicas: 2,
            other_sentinels: 2,
        };
        Seen {
            name: format!("n{n}"),
            address: address(n),
            sentinel: sentinel.map(|s| s.map(named)),
            redis,
        }
    }

    fn empty(n: u8) -> Seen {
        seen(n, Some(None), Some(Held::Nothing))
    }

    fn silent(n: u8) -> Seen {
        seen(n, None, None)
    }

    fn waits(step: &Step) -> bool {
        matches!(step, Step::Wait(_))
    }

    #[test]
    fn a_new_group_is_founded_by_its_first_member_alone() {
        let group = [empty(4), empty(5), empty(6)];
        assert_eq!(step("n4", &group), Step::Found);
        assert!(waits(&step("n5", &group)) && waits(&step("n6", &group)));
    }

    #[test]
    fn while_one_member_is_silent_nobody_founds_anything() {
        for group in [[empty(4), empty(5), silent(6)], [empty(4), silent(5), silent(6)]] {
            for me in ["n4", "n5", "n6"] {
                assert!(!matches!(step(me, &group), Step::Found), "{me}");
            }
            let Step::Wait(why) = step("n4", &group) else { panic!() };
            assert!(why.contains("n6"), "{why}");
        }
        // It answers for its Sentinel and not yet for its data.
        let half = [empty(4), empty(5), seen(6, Some(None), None)];
        assert!(waits(&step("n4", &half)));
    }

    #[test]
    fn a_founder_that_was_interrupted_goes_on_and_no_other_begins() {
        for held in [Held::Primary, Held::Data] {
            let group = [empty(4), seen(5, Some(None), Some(held)), empty(6)];
            assert_eq!(step("n5", &group), Step::Found);
            assert!(waits(&step("n4", &group)));
        }
    }

    #[test]
    fn a_node_with_an_empty_disk_follows_whom_any_sentinel_knows() {
        let knows = seen(5, Some(Some((6, 2))), Some(Held::Data));
        assert_eq!(step("n4", &[empty(4), knows.clone(), silent(6)]), Step::Adopt(address(6)));
        // Of two that differ, the one with the higher epoch.
        let newer = seen(6, Some(Some((5, 3))), Some(Held::Data));
        assert_eq!(step("n4", &[empty(4), knows, newer]), Step::Adopt(address(5)));
    }

    #[test]
    fn a_primary_whose_disk_was_lost_never_comes_back_as_one() {
        // It boots first, and nobody answers.
        assert!(waits(&step("n4", &[empty(4), silent(5), silent(6)])));
        // The others answer, and call it the primary: it watches itself, and asks for another.
        let other = |n| seen(n, Some(Some((4, 2))), Some(Held::Data));
        assert_eq!(step("n4", &[empty(4), other(5), other(6)]), Step::Adopt(address(4)));
        let watching = seen(4, Some(Some((4, 2))), Some(Held::Nothing));
        assert_eq!(step("n4", &[watching.clone(), other(5), other(6)]), Step::FailOver);
        // The failover is under way, or has happened.
        let mut leads = other(5);
        if let Some(Some(named)) = &mut leads.sentinel {
            named.failover = Some("wait_promotion".into());
        }
        assert_eq!(step("n4", &[watching.clone(), leads, other(6)]), Step::Nothing);
        let switched = seen(5, Some(Some((5, 3))), Some(Held::Primary));
        assert_eq!(step("n4", &[watching, switched, other(6)]), Step::Nothing);
    }

    #[test]
    fn several_with_data_and_no_sentinel_that_knows_are_a_persons_affair() {
        let data = |n| seen(n, Some(None), Some(Held::Data));
        let group = [data(4), data(5), empty(6)];
        for me in ["n4", "n5", "n6"] {
            let Step::Wait(why) = step(me, &group) else { panic!("{me}") };
            assert!(why.starts_with("n4 and n5 hold data"), "{why}");
        }
    }

    #[test]
    fn a_group_at_work_is_the_sentinels_affair() {
        let replica = |n| seen(n, Some(Some((4, 2))), Some(Held::Data));
        let group = [seen(4, Some(Some((4, 2))), Some(Held::Primary)), replica(5), silent(6)];
        for me in ["n4", "n5", "n6"] {
            assert_eq!(step(me, &group), Step::Nothing, "{me}");
        }
    }

    /// Whatever the members answer, at most one of them founds, and none that a Sentinel could contradict.
    #[test]
    fn of_all_possible_answers_none_makes_two_primaries() {
        let sentinels = [None, Some(None), Some(Some((4, 1))), Some(Some((5, 2)))];
        let held = [None, Some(Held::Nothing), Some(Held::Data), Some(Held::Primary)];
        let one = |n: u8, case: usize| seen(n, sentinels[case / 4], held[case % 4].clone());
        for (a, b, c) in (0..16 * 16 * 16).map(|i| (i % 16, i / 16 % 16, i / 256)) {
            let group = [one(4, a), one(5, b), one(6, c)];
            let founders =
                ["n4", "n5", "n6"].iter().filter(|me| step(me, &group) == Step::Found).count();
            let knows = group.iter().any(|m| matches!(m.sentinel, Some(Some(_)) | None));
            assert!(founders <= usize::from(!knows), "{group:?}");
        }
    }
}
