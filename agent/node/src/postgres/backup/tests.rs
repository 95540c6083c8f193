//! What the agent makes of pgBackRest's words, and what the check says of them.

use super::*;
use crate::state::Health;

fn made(label: &str, stop: u64) -> Made {
    Made {
        label: label.to_owned(),
        kind: "full".to_owned(),
        start: stop - 10,
        stop,
        database_bytes: 1,
        repository_bytes: 1,
    }
}

fn state(error: Option<&str>, backups: Vec<Made>) -> State {
    State { node: "n4".to_owned(), at: 0, error: error.map(str::to_owned), backups }
}

const HOUR: u64 = 3600;

#[test]
fn a_backup_that_is_too_old_is_a_warning_that_says_what_to_do() {
    let fresh = state(None, vec![made("A", HOUR)]);
    assert_eq!(judge(Some(&fresh), 26, 26 * HOUR).health, Health::Passing);
    let old = judge(Some(&fresh), 26, 29 * HOUR);
    assert_eq!(old.health, Health::Warning);
    assert!(old.output.contains("ballast backup now"), "{}", old.output);
}

#[test]
fn a_repository_that_is_not_there_is_told_and_backups_of_before_do_not_hide_it() {
    let answer = judge(Some(&state(Some("no such bucket"), vec![made("A", HOUR)])), 26, HOUR);
    assert_eq!((answer.health, answer.output.as_str()), (Health::Warning, "no such bucket"));
    assert_eq!(judge(Some(&state(None, vec![])), 26, HOUR).health, Health::Warning);
    assert_eq!(judge(None, 26, HOUR).health, Health::Passing);
}

#[test]
fn what_pgbackrest_says_of_a_repository_is_read() {
    // As pgBackRest 2.55.1 printed it, of a repository with one backup, and of one without.
    let info = include_bytes!("info.json");
    let backups = read_info(info).unwrap();
    let found: Vec<_> = backups.iter().map(|b| (b.kind.as_str(), b.stop >= b.start)).collect();
    assert_eq!(found, [("full", true), ("incr", true)]);
    assert!(backups.iter().all(|b| b.database_bytes > b.repository_bytes));
    let none = br#"[{"backup":[],"db":[],"name":"main","status":{"code":2,"message":"no valid backups"}}]"#;
    assert_eq!(read_info(none).unwrap(), []);
    assert!(read_info(b"ERROR").is_err());
}

#[test]
fn a_repository_that_went_away_is_an_error_and_no_empty_repository() {
    // As pgBackRest 2.55.1 says it, successfully, where the repository's directory is not there.
    let gone = br#"[{"backup":[],"db":[],"name":"main","status":{"code":1,"message":"missing stanza path"}}]"#;
    let error = read_info(gone).unwrap_err();
    assert!(error.contains("missing stanza path"), "{error}");
    assert!(read_info(b"[]").is_err());
}
