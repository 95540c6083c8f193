//! Thousands of simulated sites: a network that loses and delays, a Consul that comes and goes, primaries that die, freeze
//! and are only slow. A seed that fails is printed; `BALLAST_SEED=<seed>` runs it alone.

mod site;

use site::{Given, Site, rules_of};

/// Nodes by number: the primary, its replicas, and Consul's servers.
const P1: usize = 0;
const NODES: usize = 6;
const MAJORITY: usize = 4;

/// Runs a scenario with many seeds, or with the one that is asked for.
fn with_seeds(count: u64, scenario: impl Fn(&mut Site, u64)) {
    let only = std::env::var("BALLAST_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        let mut site = Site::new(seed);
        site.run_for(2_000);
        scenario(&mut site, seed);
    }
}

fn assert_kept(site: &Site, what: &str) {
    let first = site.given_up.first();
    assert!(first.is_none(), "seed {}: {what}, and {first:?}", site.seed);
}

/// The primary was given up soon enough after this moment, and nobody else.
fn assert_given_up(site: &Site, since: u64, what: &str) {
    let Some(Given { at, member, .. }) = site.given_up.first() else {
        panic!("seed {}: {what}, and the primary was kept", site.seed)
    };
    let bound = site.detection_ms() + 500;
    assert_eq!(*member, P1, "seed {}", site.seed);
    assert!(
        at.saturating_sub(since) <= bound,
        "seed {}: {what}, given up after {} ms, not within {bound}",
        site.seed,
        at.saturating_sub(since)
    );
}

#[test]
fn an_overloaded_but_living_primary_is_never_given_up() {
    with_seeds(400, |site, _| {
        site.loss_percent = 5;
        // Any single answer may take as long as patience lasts; a stall of the whole machine nearly so.
        let limit = site.limit_ms();
        site.nodes[P1].slowness = limit - 20;
        for _ in 0..8 {
            let stall = site.random.below(limit - 2 * site.interval_ms());
            site.pause(P1, stall);
            // Observers share the overload.
            let observer = 1 + site.random.index(NODES - 1);
            let pause = site.random.below(3_000);
            site.pause(observer, pause);
            let quiet = site.random.below(4_000);
            site.run_for(quiet + stall);
        }
        assert_kept(site, "the primary was slow, and lived");
    });
}

#[test]
fn a_dead_primary_is_given_up_in_time_and_only_once_every_living_member_has_fenced_it() {
    with_seeds(400, |site, _| {
        site.loss_percent = site.random.below(6);
        let phase = site.random.below(1_000);
        site.run_for(phase);
        // Any one other node may be gone already.
        let gone = site.random.index(NODES);
        if gone != P1 && site.random.one_in(2) {
            site.nodes[gone].dead = true;
            site.run_for(3_000);
        }
        let since = site.now;
        site.nodes[P1].dead = true;
        site.run_for(site.detection_ms() + 500);
        assert_given_up(site, since, "the primary died");
    });
}

#[test]
fn a_frozen_primary_is_given_up_and_talked_to_again_once_it_is_back_and_another_leads() {
    with_seeds(400, |site, _| {
        let since = site.now;
        site.nodes[P1].frozen = true;
        site.run_for(site.detection_ms() + 500);
        assert_given_up(site, since, "the primary froze");
        assert!(site.fences() > 0, "seed {}", site.seed);
        site.run_for(5_000);
        site.nodes[P1].frozen = false;
        site.run_for(site.limit_ms() + site.hold_ms() + 1_000);
        assert_eq!(site.fences(), 0, "seed {}: a fence stands", site.seed);
        assert_eq!(site.votes(), 0, "seed {}: a vote stands", site.seed);
        assert_eq!(site.given_up.len(), 1, "seed {}: {:?}", site.seed, site.given_up);
    });
}

#[test]
fn one_observer_that_is_cut_off_gives_nobody_up() {
    with_seeds(400, |site, _| {
        let observer = 1 + site.random.index(NODES - 1);
        for other in 0..NODES {
            // From everyone, from the members alone, or from the primary alone; Consul may still hear it.
            if other == P1 || site.random.one_in(2) {
                site.cut(observer, other);
            }
        }
        site.consul_hears_all = site.random.one_in(2);
        site.run_for(8_000);
        assert_kept(site, "one observer alone could not see the primary");
    });
}

#[test]
fn an_observer_that_reaches_no_majority_does_not_even_vote() {
    with_seeds(100, |site, seed| {
        // Consul hears it, so that nothing but its own judgement keeps it from voting.
        site.consul_hears_all = true;
        let observer = 1 + site.random.index(NODES - 1);
        for other in (0..NODES).filter(|other| *other != observer) {
            site.cut(observer, other);
        }
        for _ in 0..60 {
            site.run_for(50);
            assert_eq!(site.votes(), 0, "seed {seed}: a node that is cut off voted");
        }
        assert!(site.suspects(observer, P1), "seed {seed}: nothing was suspected");
    });
}

#[test]
fn a_minority_that_cannot_see_the_primary_gives_nobody_up() {
    with_seeds(400, |site, _| {
        site.consul_hears_all = true;
        for _ in 0..NODES - MAJORITY + 1 {
            let observer = 1 + site.random.index(NODES - 1);
            site.cut(observer, P1);
        }
        site.run_for(8_000);
        assert_kept(site, "three observers of six could not see the primary");
    });
}

#[test]
fn a_living_member_that_still_hears_the_primary_has_a_veto() {
    with_seeds(300, |site, _| {
        let loyal = 1 + site.random.index(2);
        site.consul_hears_all = true;
        for observer in (1..NODES).filter(|node| *node != loyal) {
            site.cut(observer, P1);
        }
        site.run_for(8_000);
        assert_kept(site, "a replica still heard the primary");
    });
}

#[test]
fn of_a_parted_site_only_the_side_with_the_majority_acts() {
    with_seeds(400, |site, _| {
        site.loss_percent = site.random.below(3);
        let side: Vec<bool> = (0..NODES).map(|node| node == P1 || site.random.one_in(2)).collect();
        let others = side.iter().filter(|with_primary| !**with_primary).count();
        let since = site.now;
        for a in 0..NODES {
            for b in (0..a).filter(|b| side[a] != side[*b]) {
                site.cut(a, b);
            }
        }
        site.run_for(site.detection_ms() + 500);
        if others >= MAJORITY {
            assert_given_up(site, since, "the primary is on the smaller side");
        } else {
            site.run_for(6_000);
            assert_kept(site, "the other side is no majority");
        }
    });
}

#[test]
fn without_consul_nobody_acts_and_with_it_again_they_do() {
    with_seeds(300, |site, _| {
        site.consul_down = true;
        site.nodes[P1].dead = true;
        site.run_for(8_000);
        assert_kept(site, "Consul was down");
        assert_eq!(site.fences(), 0, "seed {}", site.seed);
        site.consul_down = false;
        let since = site.now;
        // Whoever lost sight of Consul asks again after half a second.
        site.run_for(site.detection_ms() + 1_000);
        assert_given_up(site, since + 500, "Consul came back");
    });
}

#[test]
fn while_the_cluster_is_left_alone_nobody_is_given_up_and_afterwards_they_are() {
    with_seeds(300, |site, _| {
        site.pause_all(true);
        site.run_for(500);
        site.nodes[P1].dead = true;
        site.run_for(8_000);
        assert_kept(site, "the operator has the cluster left alone");
        assert_eq!(site.votes(), 0, "seed {}: a vote stands", site.seed);
        assert_eq!(site.fences(), 0, "seed {}: a fence stands", site.seed);
        site.pause_all(false);
        let since = site.now;
        site.run_for(site.detection_ms() + 500);
        assert_given_up(site, since, "the pause is over");
    });
}

#[test]
fn a_pause_in_the_middle_of_giving_up_ends_with_neither_votes_nor_fences() {
    with_seeds(300, |site, _| {
        let limit = site.limit_ms();
        site.nodes[P1].frozen = true;
        let while_voting = limit + site.random.below(limit);
        site.run_for(while_voting);
        let given_up = site.given_up.len();
        site.pause_all(true);
        site.run_for(200);
        // What was under way when the pause came may still end.
        let ended = site.given_up.len();
        assert!(ended <= given_up + 1, "seed {}", site.seed);
        site.nodes[P1].frozen = false;
        site.run_for(limit + site.hold_ms() + 2_000);
        assert_eq!(site.given_up.len(), ended, "seed {}", site.seed);
        assert_eq!(site.votes(), 0, "seed {}: a vote stands", site.seed);
        assert_eq!(site.fences(), 0, "seed {}: a fence stands", site.seed);
    });
}

#[test]
fn a_false_alarm_leaves_neither_votes_nor_fences() {
    with_seeds(300, |site, _| {
        // As long as it takes to be nearly given up.
        let pause = site.limit_ms() + site.random.below(2 * site.interval_ms());
        site.pause(P1, pause);
        site.run_for(pause + 4 * site.limit_ms() + site.hold_ms() + 2_000);
        assert_eq!(site.fences(), 0, "seed {}: a fence stands", site.seed);
        assert_eq!(site.votes(), 0, "seed {}: a vote stands", site.seed);
    });
}

/// Everything at once; the site itself judges every giving-up (see [`Site`]).
#[test]
fn whatever_happens_nobody_is_given_up_whom_a_majority_heard_or_a_member_follows() {
    with_seeds(700, |site, _| {
        site.loss_percent = site.random.below(10);
        for _ in 0..25 {
            let (a, b) = (site.random.index(NODES), site.random.index(NODES));
            match site.random.below(9) {
                0 => site.cut(a, b),
                1 => site.mend(),
                2 => site.nodes[a].frozen = !site.nodes[a].frozen,
                3 => {
                    let pause = site.random.below(2_500);
                    site.pause(a, pause);
                }
                4 => site.consul_down = !site.consul_down,
                5 => site.nodes[a].slowness = site.random.below(800),
                6 => site.restart(a),
                7 => site.consul_hears_all = !site.consul_hears_all,
                _ => {}
            }
            let quiet = site.random.below(1_500);
            site.run_for(quiet);
        }
        // Peace, in which everything comes to its end.
        site.calm();
        site.run_for(6_000 + site.hold_ms());
        assert_eq!(site.fences(), 0, "seed {}: a fence stands", site.seed);
        assert_eq!(site.votes(), 0, "seed {}: a vote stands", site.seed);
        assert!(site.has_leader(), "seed {}: nobody leads", site.seed);
    });
}

#[test]
fn a_dead_replica_is_suspect_and_nobody_votes_against_it() {
    with_seeds(100, |site, _| {
        site.nodes[1].dead = true;
        site.run_for(5_000);
        assert!((2..NODES).all(|node| site.suspects(node, 1)), "seed {}", site.seed);
        assert_eq!(site.votes(), 0);
        assert_kept(site, "a replica died");
    });
}

#[test]
fn the_rules_name_every_other_server_and_no_observer_twice() {
    let rules = rules_of(3);
    assert_eq!(rules.servers.len(), 2);
    assert_eq!(rules.observers.len(), NODES);
}
