//! What Patroni's configuration promises.

use super::*;
use crate::fixture;

const MACHINE: Machine = Machine { memory_bytes: 8 << 30, disk_bytes: 40 << 30 };

fn config(name: &str, change: impl FnOnce(&mut Postgres)) -> Value {
    let mut contents = fixture::Site::new().postgres(name);
    let mut postgres = contents.node.postgres.take().unwrap();
    change(&mut postgres);
    patroni(&contents.node, &postgres, &contents.secrets.postgres.unwrap(), &MACHINE)
}

#[test]
fn the_file_is_the_one_kept_beside_this_test() {
    let text = serde_json::to_string_pretty(&config("n4", |_| {})).unwrap() + "\n";
    let kept = include_str!("patroni.json");
    assert_eq!(text, kept, "if this is what is meant, keep it:\n{text}");
}

#[test]
fn nobody_connects_from_elsewhere_without_tls_or_as_superuser() {
    let lines = hba(&fixture::Site::new().postgres("n4").node.postgres.unwrap());
    let accepted = |l: &&String| !l.starts_with("local") && !l.ends_with(" reject");
    assert!(
        lines
            .iter()
            .filter(accepted)
            .all(|l| l.starts_with("hostssl ") && l.ends_with(" scram-sha-256"))
    );
    // The first line that matches decides: a client's network comes after the refusal of our own accounts.
    let refusal = lines.iter().position(|l| l.ends_with("0.0.0.0/0 reject")).unwrap();
    let clients = lines.iter().position(|l| l.contains(" app all ")).unwrap();
    assert!(refusal < clients, "{lines:#?}");
    assert!(lines.iter().filter(accepted).all(|l| !l.contains("postgres,")), "{lines:#?}");
}

#[test]
fn each_durability_means_what_it_says() {
    let timings = ballast_contract::Availability::Fast.timings();
    let of = |durability| {
        let mut postgres = fixture::Site::new().postgres("n4").node.postgres.unwrap();
        postgres.durability = durability;
        let dynamic = dynamic(&timings, &postgres);
        (dynamic["synchronous_mode"].clone(), dynamic["synchronous_mode_strict"].clone())
    };
    assert_eq!(of(Durability::Synchronous), (json!(true), json!(true)));
    assert_eq!(of(Durability::Quorum), (json!("quorum"), json!(true)));
    assert_eq!(of(Durability::Asynchronous), (json!(false), json!(false)));
}

#[test]
fn what_the_operator_sets_holds_on_every_member_and_takes_no_protection_away() {
    let config = config("n4", |postgres| {
        for (name, value) in [("shared_buffers", "1GB"), ("max_connections", "500"), ("ssl", "off")]
        {
            postgres.parameters.insert(name.to_owned(), value.to_owned());
        }
    });
    let shared = &config["bootstrap"]["dcs"]["postgresql"]["parameters"];
    let own = &config["postgresql"]["parameters"];
    assert_eq!((&shared["shared_buffers"], own.get("shared_buffers")), (&json!("1GB"), None));
    assert_eq!((&shared["max_connections"], own.get("max_connections")), (&json!("500"), None));
    // Patroni lets the member's own file win.
    assert_eq!(own["ssl"], json!("on"));
}

#[test]
fn a_primary_that_lost_its_key_is_stopped_before_the_next_one_can_have_it() {
    for availability in ballast_contract::Availability::ALL {
        let t = availability.timings();
        assert!(
            t.loop_wait_secs + t.retry_timeout_secs + stop_timeout(&t) <= t.ttl_secs,
            "{availability:?}"
        );
    }
}
