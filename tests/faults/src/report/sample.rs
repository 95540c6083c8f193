//! A scenario that ran, for the tests of its report.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Outcome, Report, Seen};
use crate::clients::{Record, Store};
use crate::ledger::{Findings, Ledger, Told, Write};
use crate::timeline::{Event, State};

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn write(id: u64, node: &str, term: u32, ended: u64) -> Write {
    Write {
        id,
        node: node.into(),
        by_name: true,
        term: Some(term),
        began: ms(ended - 5),
        ended: ms(ended),
        told: Told::Acknowledged,
    }
}

/// A primary killed at 1 s, and another from 2.4 s on.
pub fn outcome(bound_ms: u64, lost: Vec<u64>) -> Outcome {
    let mut ledger = Ledger::default();
    for id in 1..=10 {
        ledger.record(write(id, "postgres-1", 1, id * 100));
    }
    for id in 11..=26 {
        ledger.record(write(id, "postgres-2", 2, 1_300 + id * 100));
    }
    let record = Record { ledger, by_name: 2, ..Record::default() };
    let findings = Findings { lost, ..Findings::default() };
    let seen = Seen::new(&record, findings, ms(1_000), ms(4_000), Some(ms(bound_ms)));
    let event = |at, state, what: &str| Event {
        at: ms(at),
        node: "postgres-1".into(),
        state,
        what: what.into(),
    };
    Outcome {
        name: "primary-killed".into(),
        turn: 1,
        tells: "the power of PostgreSQL's primary is cut".into(),
        load: 1.25,
        fault: ms(1_000),
        whole: Some(ms(700)),
        end: ms(4_000),
        events: vec![event(1_000, State::Off, "power cut"), event(3_000, State::Well, "power on")],
        broken: seen.broken(Store::Postgres, false),
        late: seen.late(Store::Postgres).into_iter().collect(),
        stores: BTreeMap::from([(Store::Postgres, seen)]),
    }
}

/// A run of it alone.
pub fn report(outcome: Outcome) -> Report {
    Report {
        seed: 7,
        availability: "fast".into(),
        stock: false,
        ready: ms(15_000),
        memory: BTreeMap::from([("redis".into(), 4_096)]),
        host: "2 cores".into(),
        peer_detection: true,
        scenarios: vec![outcome],
    }
}
