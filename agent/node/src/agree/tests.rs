//! Thousands of simulated lives: checks that flap, a Consul that goes away, forgets and comes back, rounds cut short, an
//! agent that starts again. A seed that fails is to be kept here as a test of its own.

use super::*;
use crate::state::event;

/// Virtual seconds for which Consul believes an answer.
const TTL: u64 = 30;
const CHECKS: [&str; 3] = ["a", "b", "c"];

/// Numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What the local Consul agent does, as far as it matters here.
#[derive(Default)]
struct FakeConsul {
    up: bool,
    services: Vec<String>,
    /// Status, service, and until when it is believed.
    checks: BTreeMap<String, (Health, Option<String>, u64)>,
}

impl FakeConsul {
    fn seen(&self) -> Seen {
        Seen {
            services: self.services.clone(),
            checks: self.checks.iter().map(|(id, (_, s, _))| (id.clone(), s.clone())).collect(),
        }
    }

    fn hear(&mut self, wanted: &Wanted, change: &Change, now: u64) {
        match change {
            Change::ForgetCheck(id) => {
                self.checks.remove(id);
            }
            Change::ForgetService(id) => {
                self.services.retain(|s| s != id);
                self.checks.retain(|_, (_, service, _)| service.as_ref() != Some(id));
            }
            Change::RegisterService(id) => {
                if !self.services.contains(id) {
                    self.services.push(id.clone());
                }
                for check in wanted.checks.keys() {
                    // Consul keeps the status of a check that it has.
                    let new = (Health::Critical, Some(id.clone()), now + TTL);
                    self.checks.entry(check.clone()).or_insert(new);
                }
            }
            Change::RegisterCheck(id) => {
                self.checks.insert(id.clone(), (Health::Critical, None, now + TTL));
            }
            Change::Tell(id, answer) => {
                let check = self.checks.get_mut(id).expect("told only of what is registered");
                (check.0, check.2) = (answer.health, now + TTL);
            }
        }
    }

    fn expire(&mut self, now: u64) {
        for (health, _, until) in self.checks.values_mut() {
            if now >= *until {
                *health = Health::Critical;
            }
        }
    }

    /// What others see of the node.
    fn is_passing(&self) -> bool {
        self.checks.contains_key(NODE_CHECK)
            && self.checks.values().all(|(health, _, _)| *health == Health::Passing)
    }
}

/// A node: its checks' true health, what its agent knows, and its agent's state.
struct Node {
    truth: [Health; 3],
    answers: [Option<Answer>; 3],
    state: State,
    service: Option<String>,
}

impl Node {
    fn wanted(&self) -> Wanted {
        let answers = CHECKS.into_iter().zip(self.answers.iter().map(Option::as_ref));
        Wanted::new(self.service.clone(), "r", "image 1, slot a", self.state, answers)
    }

    fn probe(&mut self, check: usize) {
        let health = self.truth[check];
        self.answers[check] = Some(Answer { health, output: String::new() });
        if let Some(event) = event(self.answers.iter().map(Option::as_ref)) {
            self.state = self.state.after(event);
        }
    }

    fn restart(&mut self) {
        self.answers = [None, None, None];
        self.state = State::Starting;
    }
}

fn health(random: &mut Random) -> Health {
    [Health::Passing, Health::Passing, Health::Warning, Health::Critical]
        [usize::try_from(random.below(4)).unwrap()]
}

/// One life under faults, then peace.
fn live(seed: u64) {
    let random = &mut Random::new(seed);
    let service = random.one_in(2).then(|| "thing".to_owned());
    let mut node = Node {
        truth: [Health::Critical; 3],
        answers: [None, None, None],
        state: State::Starting,
        service,
    };
    let mut consul = FakeConsul::default();
    // The last moment at which the agent knew every check to be passing.
    let mut last_passing = None;

    for now in 0..120 {
        if random.one_in(6) {
            let check = usize::try_from(random.below(3)).unwrap();
            node.truth[check] = health(random);
        }
        for check in 0..3 {
            if random.one_in(2) {
                node.probe(check);
            }
        }
        if random.one_in(40) {
            node.restart();
        }
        if random.one_in(50) {
            node.service = if node.service.is_some() { None } else { Some("other".to_owned()) };
        }
        trouble(&mut consul, random, now);
        consul.expire(now);
        if node.state == State::Passing {
            last_passing = Some(now);
        }
        if consul.up && random.one_in(2) {
            let cut = if random.one_in(3) { random.below(8) } else { u64::MAX };
            round(&node, &mut consul, now, cut, seed);
        }
        if consul.is_passing() {
            let since = last_passing.map(|then| now - then);
            assert!(
                since.is_some_and(|s| s <= TTL),
                "seed {seed}, second {now}: Consul says passing, and the role was not for {since:?} s"
            );
        }
    }

    // Peace: Consul is there, every check is asked, and one round is enough.
    consul.up = true;
    for check in 0..3 {
        node.probe(check);
    }
    round(&node, &mut consul, 1000, u64::MAX, seed);
    let wanted = node.wanted();
    let held: BTreeMap<_, _> =
        consul.checks.iter().map(|(id, (h, s, _))| (id.clone(), (*h, s.clone()))).collect();
    let expected: BTreeMap<_, _> = wanted
        .checks
        .iter()
        .map(|(id, c)| (id.clone(), (c.answer.as_ref().unwrap().health, wanted.service.clone())))
        .collect();
    assert_eq!(held, expected, "seed {seed}");
    assert_eq!(consul.services, Vec::from_iter(wanted.service), "seed {seed}");
    assert_eq!(consul.is_passing(), node.state == State::Passing, "seed {seed}");
}

/// What can happen to Consul.
fn trouble(consul: &mut FakeConsul, random: &mut Random, now: u64) {
    if random.one_in(15) {
        consul.up = !consul.up;
    }
    if random.one_in(30) {
        // It starts again with what it kept on disk: answers that are still believed count.
        consul.expire(now);
    }
    if random.one_in(40) {
        *consul = FakeConsul { up: consul.up, ..FakeConsul::default() };
    }
    if random.one_in(40) {
        // One registration is lost, by someone's hand.
        let id = consul.checks.keys().next().cloned();
        id.map(|id| consul.checks.remove(&id));
    }
    if random.one_in(60) {
        let leftover = (Health::Critical, None, now + TTL);
        consul.checks.insert("ballast:of-another-image".to_owned(), leftover);
    }
}

/// One round, of which only the first `cut` requests arrive.
fn round(node: &Node, consul: &mut FakeConsul, now: u64, cut: u64, seed: u64) {
    let wanted = node.wanted();
    let changes = changes(&wanted, &consul.seen());
    for (change, _) in changes.iter().zip(0..cut) {
        let before = consul.is_passing();
        consul.hear(&wanted, change, now);
        assert!(
            before || !consul.is_passing() || node.state == State::Passing,
            "seed {seed}, second {now}: {change:?} made a node passing that is {}",
            node.state
        );
    }
}

#[test]
fn consul_never_believes_more_good_than_there_is_and_always_comes_to_agree() {
    for seed in 0..5000 {
        live(seed);
    }
}

#[test]
fn a_fresh_node_is_registered_as_critical_before_anything_is_said() {
    let passing = Answer::passing("");
    let wanted = Wanted::new(None, "r", "image 1, slot a", State::Passing, [("a", Some(&passing))]);
    let list = changes(&wanted, &Seen::default());
    let registers = |c: &Change| matches!(c, Change::RegisterCheck(_));
    assert_eq!(list.iter().take_while(|c| registers(c)).count(), 2);
    assert!(list.iter().skip(2).all(|c| !registers(c)));
    assert!(matches!(list.last(), Some(Change::Tell(id, _)) if id == NODE_CHECK));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    assert!(is_ours("ballast") && is_ours("ballast:disk"));
    assert!(!is_ours("serfHealth") && !is_ours("ballastic") && !is_ours("patroni:ballast"));
}

#[test]
fn a_stopping_node_is_critical_whatever_its_checks_say() {
    let passing = Answer::passing("");
    let wanted =
        Wanted::new(None, "r", "image 1, slot a", State::Stopping, [("a", Some(&passing))]);
    assert_eq!(wanted.checks[NODE_CHECK].answer.as_ref().unwrap().health, Health::Critical);
}
