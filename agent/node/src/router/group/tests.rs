//! What the choice of a node promises: scenes with a name, and random histories under the same rules.

use proptest::prelude::*;

use super::*;

const A: usize = 1;
const B: usize = 2;
const C: usize = 3;

fn at(ms: u64) -> At {
    At::from_millis(ms)
}

fn node(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], 5432))
}

fn rules() -> Rules {
    Rules {
        proof: true,
        replicas: true,
        interval: at(1_000),
        eager: at(250),
        fresh: at(1_000),
        patience: at(3_000),
        max_lag_bytes: 1_000,
    }
}

fn listed(n: usize, tagged: bool) -> Listed {
    Listed {
        address: node(n),
        name: format!("n{n}"),
        tagged,
        health: Health::Passing,
        lag_bytes: None,
    }
}

/// Three nodes, of which one may have the tag.
fn list(tagged: Option<usize>) -> Vec<Listed> {
    [A, B, C].map(|n| listed(n, tagged == Some(n))).to_vec()
}

fn primary(term: u64) -> Answer {
    Answer::Primary { term, position: Some(10_000) }
}

fn replica() -> Answer {
    Answer::Replica { position: Some(10_000), following: true }
}

fn silent() -> Answer {
    Answer::Silent("no answer".to_owned())
}

/// A is the primary, and everybody has said what it is.
fn settled(tagged: Option<usize>) -> Group {
    let mut group = Group::new(rules());
    group.list(at(0), list(tagged), "");
    group.answered(at(10), node(A), primary(0));
    group.answered(at(10), node(B), replica());
    group.answered(at(10), node(C), replica());
    group
}

fn kept(group: &Group, now: u64, n: usize) -> bool {
    group.keeps(at(now), Use::Primary, node(n)).is_ok()
}

#[test]
fn nobody_gets_a_session_before_it_has_proven_itself() {
    let mut group = Group::new(rules());
    assert!(matches!(group.pick(at(0), Use::Primary), Pick::Wait(_)));
    group.list(at(0), list(Some(A)), "");
    assert!(matches!(group.pick(at(0), Use::Primary), Pick::Wait(_)));
    assert_eq!(group.ask(at(0)).len(), 3);
    group.answered(at(5), node(A), primary(0));
    assert_eq!(group.pick(at(5), Use::Primary), Pick::To(node(A)));
}

#[test]
fn an_old_proof_is_renewed_before_a_session_gets_through() {
    let mut group = settled(None);
    group.ask(at(10));
    assert_eq!(group.pick(at(1_500), Use::Primary), Pick::Ask(node(A)));
    assert!(group.ask(at(1_500)).contains(&node(A)));
    group.answered(at(1_510), node(A), primary(0));
    assert_eq!(group.pick(at(1_520), Use::Primary), Pick::To(node(A)));
}

#[test]
fn waiting_sessions_never_make_a_silent_node_be_asked_without_pause() {
    let mut group = settled(None);
    let mut asked = 0;
    for now in 2_000..4_000 {
        let _ = group.pick(at(now), Use::Primary);
        for address in group.ask(at(now)) {
            asked += usize::from(address == node(A));
            let answer = if address == node(A) { silent() } else { replica() };
            group.answered(at(now), address, answer);
        }
    }
    assert!((4..=9).contains(&asked), "asked {asked} times in 2 s");
}

#[test]
fn a_promotion_that_was_seen_needs_no_word_of_consul() {
    let mut group = settled(Some(A));
    group.answered(at(5_000), node(A), silent());
    group.answered(at(5_000), node(B), primary(0));
    assert!(!kept(&group, 5_000, A));
    assert_eq!(group.pick(at(5_000), Use::Primary), Pick::To(node(B)));
}

#[test]
fn a_frozen_primary_that_wakes_up_gets_no_session_back() {
    let mut group = settled(None);
    group.answered(at(5_000), node(A), silent());
    group.answered(at(5_100), node(B), primary(0));
    // It still believes what it believed.
    group.answered(at(6_000), node(A), primary(0));
    assert_eq!(group.pick(at(6_000), Use::Primary), Pick::To(node(B)));
    // Not even when the new one is silent for longer than patience lasts.
    group.answered(at(10_000), node(A), primary(0));
    group.answered(at(10_000), node(B), silent());
    assert!(matches!(group.pick(at(10_000), Use::Primary), Pick::Wait(_)));
    // Until it was a replica, and is promoted again.
    group.answered(at(11_000), node(A), replica());
    group.answered(at(12_000), node(A), primary(0));
    assert_eq!(group.pick(at(12_000), Use::Primary), Pick::To(node(A)));
}

#[test]
fn a_tag_that_moves_ends_the_sessions_of_the_old_primary_at_once() {
    let mut group = settled(Some(A));
    assert!(kept(&group, 1_000, A));
    group.list(at(1_000), list(Some(B)), "");
    assert!(!kept(&group, 1_000, A));
    // And all are asked at once.
    assert_eq!(group.ask(at(1_000)).len(), 3);
    group.answered(at(1_005), node(A), primary(0));
    assert!(matches!(group.pick(at(1_005), Use::Primary), Pick::Wait(_)));
    group.answered(at(1_010), node(B), primary(0));
    assert_eq!(group.pick(at(1_010), Use::Primary), Pick::To(node(B)));
}

#[test]
fn a_tag_that_is_gone_takes_nothing_from_a_primary_that_proves_itself() {
    let mut group = settled(Some(A));
    group.list(at(1_000), list(None), "");
    group.answered(at(1_010), node(A), primary(0));
    assert!(kept(&group, 1_010, A));
}

#[test]
fn the_later_timeline_wins_over_a_tag_from_before() {
    let mut group = Group::new(rules());
    group.list(at(0), list(Some(A)), "");
    group.answered(at(10), node(A), primary(3));
    group.answered(at(10), node(B), primary(4));
    assert_eq!(group.pick(at(20), Use::Primary), Pick::To(node(B)));
}

#[test]
fn of_two_primaries_that_nothing_tells_apart_none_is_taken() {
    let mut group = Group::new(rules());
    group.list(at(0), list(None), "");
    group.answered(at(10), node(A), primary(0));
    group.answered(at(10), node(B), primary(0));
    let Pick::Wait(why) = group.pick(at(10), Use::Primary) else { panic!("one was taken") };
    assert_eq!(why, "n2 and n1 both say that they are the primary, or were a moment ago");
}

#[test]
fn a_silent_primary_keeps_its_sessions_for_as_long_as_patience_lasts_and_gets_no_new_ones() {
    let mut group = settled(None);
    group.answered(at(2_000), node(A), silent());
    assert!(kept(&group, 2_000, A));
    assert_eq!(group.pick(at(2_000), Use::Primary), Pick::Ask(node(A)));
    group.answered(at(3_100), node(A), silent());
    assert!(!kept(&group, 3_100, A));
}

#[test]
fn a_primary_that_says_it_is_none_loses_its_sessions_at_once() {
    for answer in [replica(), Answer::Neither("starting".to_owned())] {
        let mut group = settled(Some(A));
        group.answered(at(100), node(A), answer);
        assert!(!kept(&group, 100, A));
    }
}

#[test]
fn a_primary_that_restarted_is_taken_again() {
    let mut group = settled(None);
    group.answered(at(100), node(A), Answer::Neither("starting".to_owned()));
    group.answered(at(900), node(A), primary(0));
    assert_eq!(group.pick(at(900), Use::Primary), Pick::To(node(A)));
}

#[test]
fn replicas_share_the_sessions_and_a_late_one_gets_none() {
    let mut group = settled(None);
    for _ in 0..10 {
        let Pick::To(address) = group.pick(at(20), Use::Replicas) else { panic!("nobody") };
        group.opened(address);
    }
    let sessions = [A, B, C].map(|n| group.nodes[&node(n)].sessions);
    assert_eq!(sessions, [0, 5, 5]);
    let late = Answer::Replica { position: Some(8_999), following: true };
    group.answered(at(30), node(B), late);
    for _ in 0..3 {
        assert_eq!(group.pick(at(30), Use::Replicas), Pick::To(node(C)));
    }
    // What it has, it keeps: late is not dead.
    assert!(group.keeps(at(30), Use::Replicas, node(B)).is_ok());
}

#[test]
fn without_a_replica_the_primary_is_read_from() {
    let mut group = settled(None);
    for n in [B, C] {
        let cut = Answer::Replica { position: Some(10_000), following: false };
        group.answered(at(20), node(n), cut);
    }
    assert_eq!(group.pick(at(20), Use::Replicas), Pick::To(node(A)));
}

#[test]
fn a_replica_that_could_not_be_reached_is_left_alone_for_a_while() {
    let mut group = settled(None);
    group.broke(at(20), node(B));
    for _ in 0..4 {
        assert_eq!(group.pick(at(30), Use::Replicas), Pick::To(node(C)));
    }
}

#[test]
fn an_empty_list_says_what_its_source_says() {
    let mut group = settled(Some(A));
    group.list(at(100), Vec::new(), "Consul knows no service \"main\"");
    assert_eq!(
        group.pick(at(100), Use::Primary),
        Pick::Wait("Consul knows no service \"main\"".to_owned())
    );
    assert!(!kept(&group, 100, A));
}

#[test]
fn where_nodes_cannot_be_asked_the_tag_decides() {
    let mut group = Group::new(Rules { proof: false, ..rules() });
    group.list(at(0), list(Some(B)), "");
    assert_eq!(group.pick(at(0), Use::Primary), Pick::To(node(B)));
    assert_eq!(group.ask(at(0)), Vec::new());
    assert_eq!(group.next_due(), None);
}

/// What may happen to a site, and what the router may learn of it.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    /// A node answers what it is, or believes to be.
    Answer(usize),
    /// A node is promoted; the old primary, if it is frozen, does not know.
    Promote(usize),
    Freeze(usize),
    Wake(usize),
    /// Consul's word arrives, as it is now.
    Tag,
    Session,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let n = 1..=3usize;
    let event = prop_oneof![
        4 => (1..1_500u64).prop_map(Event::Pass),
        8 => n.clone().prop_map(Event::Answer),
        1 => n.clone().prop_map(Event::Promote),
        1 => n.clone().prop_map(Event::Freeze),
        1 => n.prop_map(Event::Wake),
        2 => Just(Event::Tag),
        4 => Just(Event::Session),
    ];
    proptest::collection::vec(event, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whatever happens: a session goes only to who said within a second that it is the primary, and never back to one
    /// whose successor was seen, unless that one was seen as a replica, bears the tag anew, or all is long forgotten.
    #[test]
    fn no_history_leads_a_session_back_to_an_old_primary(counted in any::<bool>(), events in events()) {
        let mut group = Group::new(rules());
        let mut now = 0;
        // The truth: who is primary in which term, and what each node believes of itself.
        let (mut leader, mut term) = (A, 1);
        let mut believes = [0, 1, 0, 0];
        let mut frozen = [false; 4];
        // What the router could see: the newest term that it saw come, and when it last had a sign of it.
        let mut seen: (u64, u64) = (0, 0);
        let mut said: [Option<(u64, u64)>; 4] = [None; 4];
        let mut tagged = A;
        group.list(at(0), list(Some(A)), "");
        for event in events {
            match event {
                Event::Pass(ms) => now += ms,
                Event::Answer(n) if frozen[n] => group.answered(at(now), node(n), silent()),
                Event::Answer(n) => {
                    // Who is awake and no longer the leader learns it by being asked often enough: here, never by itself.
                    let answer = match believes[n] {
                        0 => replica(),
                        own => primary(if counted { own } else { 0 }),
                    };
                    said[n] = (believes[n] > 0).then_some((believes[n], now));
                    if believes[n] >= seen.0 && believes[n] > 0 {
                        seen = (believes[n], now);
                    }
                    group.answered(at(now), node(n), answer);
                }
                Event::Promote(n) if n != leader && !frozen[n] => {
                    // One that believes to be primary already is not promoted; it has to be told first that it is none.
                    if believes[n] == 0 {
                        // The router has seen it as a replica.
                        group.answered(at(now), node(n), replica());
                        said[n] = None;
                        if !frozen[leader] {
                            believes[leader] = 0;
                        }
                        (leader, term) = (n, term + 1);
                        believes[n] = term;
                        now += 1;
                    }
                }
                Event::Freeze(n) => frozen[n] = true,
                Event::Wake(n) => frozen[n] = false,
                Event::Tag => {
                    group.list(at(now), list(Some(leader)), "");
                    // A tag that never moved, as far as was seen, is no news.
                    if std::mem::replace(&mut tagged, leader) != leader {
                        seen = (term, now);
                    }
                }
                Event::Session => {
                    let picked = group.pick(at(now), Use::Primary);
                    if let Pick::To(address) = picked {
                        let n = [A, B, C].into_iter().find(|n| node(*n) == address).unwrap();
                        let (own, when) = said[n].expect("it said that it is the primary");
                        prop_assert!(now - when <= 1_000, "proven {} ms ago", now - when);
                        let remembered = now - seen.1 <= 30_000;
                        prop_assert!(
                            own >= seen.0 || !remembered,
                            "n{n} of term {own} got a session, and term {} was seen", seen.0
                        );
                        prop_assert!(group.keeps(at(now), Use::Primary, address).is_ok());
                    }
                    let kept = [A, B, C].into_iter().filter(|n| kept(&group, now, *n)).count();
                    prop_assert!(kept <= 1, "{kept} nodes keep their sessions");
                }
                Event::Promote(_) => {}
            }
        }
        // Once all is well it is found: at once, or where nothing told two promotions apart, when the older is forgotten.
        for _ in 0..12 {
            now += 3_000;
            for n in [A, B, C] {
                let own = if counted { term } else { 0 };
                let answer = if n == leader { primary(own) } else { replica() };
                group.answered(at(now), node(n), answer);
            }
        }
        prop_assert_eq!(group.pick(at(now), Use::Primary), Pick::To(node(leader)));
    }
}
