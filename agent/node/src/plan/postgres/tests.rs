//! What Patroni's configuration promises.

use ballast_bundle::{Backup, Repository, Restore};

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

/// The files of a node whose cluster is backed up.
fn backed_up(repository: Repository, restore: Option<Restore>) -> (Vec<File>, Value) {
    let mut contents = fixture::Site::new().postgres("n4");
    let postgres = contents.node.postgres.as_mut().unwrap();
    postgres.backup = Some(Backup {
        repository,
        full: "Sun 02:00".to_owned(),
        incremental: "Mon..Sat 02:00".to_owned(),
        keep_full: 2,
    });
    postgres.restore = restore;
    let postgres = postgres.clone();
    let mut secrets = contents.secrets.postgres.unwrap();
    secrets.backup_store = Some(["key".to_owned(), "secret".to_owned()]);
    let files = backup::files(&postgres, &secrets, &MACHINE);
    (files, patroni(&contents.node, &postgres, &secrets, &MACHINE))
}

fn store() -> Repository {
    Repository::S3 {
        endpoint: "s3.example.org:9000".to_owned(),
        bucket: "backups".to_owned(),
        region: "eu-1".to_owned(),
        path: "/example".to_owned(),
    }
}

#[test]
fn the_stores_secret_is_postgres_own_and_in_no_other_file() {
    let (files, patroni) = backed_up(store(), None);
    let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("secret=secret");
    let with: Vec<_> = files.iter().filter(|f| holds(&f.bytes)).collect();
    assert_eq!(with.len(), 1);
    assert_eq!((with[0].path.as_str(), with[0].mode), (backup::CONFIGURATION, 0o600));
    assert_eq!(with[0].owner, POSTGRES);
    assert!(!holds(patroni.to_string().as_bytes()));
    let text = String::from_utf8_lossy(&with[0].bytes);
    for line in [
        "repo1-s3-endpoint=s3.example.org",
        "repo1-storage-port=9000",
        "repo1-storage-verify-tls=y",
        "[main]",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
}

#[test]
fn a_cluster_archives_where_it_is_backed_up_and_nowhere_else() {
    let parameters =
        |config: &Value| config["bootstrap"]["dcs"]["postgresql"]["parameters"].clone();
    let with = parameters(&backed_up(store(), None).1);
    assert_eq!(with["archive_mode"], json!("on"));
    assert_eq!(with["archive_command"], json!("/usr/bin/pgbackrest --stanza=main archive-push %p"));
    let without = parameters(&config("n4", |_| {}));
    assert_eq!((&without["archive_mode"], without.get("archive_command")), (&json!("off"), None));
}

#[test]
fn a_restored_cluster_reads_the_others_stanza_and_archives_to_its_own() {
    let to = "2026-01-31 12:00:00.000000+00".to_owned();
    let restore = Restore { cluster: "old".to_owned(), to };
    let (files, patroni) = backed_up(store(), Some(restore));
    let command = patroni["bootstrap"]["restore"]["command"].as_str().unwrap();
    assert_eq!(command, "/usr/bin/ballast-agent restore old '2026-01-31 12:00:00.000000+00'");
    let archive = &patroni["bootstrap"]["dcs"]["postgresql"]["parameters"]["archive_command"];
    assert!(archive.as_str().unwrap().contains("--stanza=main "), "{archive}");
    let text = String::from_utf8_lossy(&files[0].bytes);
    assert!(text.contains("[main]\n") && text.contains("[old]\n"), "{text}");
    assert_eq!(config("n4", |_| {})["bootstrap"].get("method"), None);
}
