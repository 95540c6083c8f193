//! Every wrong cluster file gets one sentence with its place and one with the remedy, and changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is a test's failure report")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// What each fixture is refused with: line, sentence, and remedy.
const REFUSALS: &[(&str, u32, &str, &str)] = &[
    (
        "address-outside-network",
        25,
        "node \"consul-3\": address 10.0.1.13 is outside network 10.0.0.0/24 of data centre \"dc1\"",
        "correct the address, the network, or the data centre",
    ),
    (
        "bad-domain",
        3,
        "domain \"my consul\" is not a domain name",
        "write labels of letters, digits and hyphens joined by dots",
    ),
    (
        "bad-interface",
        20,
        "node \"consul-2\": \"eth0\\n[Network]\" is neither an interface's name nor a MAC address",
        "write it as `ip link` shows it, \"enp1s0\" or \"52:54:00:12:34:56\"",
    ),
    (
        "bad-name",
        16,
        "node \"Consul_2\" is not a name that a host can have (RFC 1123)",
        "use lower-case letters, digits and inner hyphens, 63 at most",
    ),
    (
        "bad-site-name",
        2,
        "site \"-example\" is not a name that a host can have (RFC 1123)",
        "use lower-case letters, digits and inner hyphens, 63 at most",
    ),
    ("blank", 1, "the file is empty", "start from the example that `ballast init` writes"),
    (
        "broadcast-address",
        25,
        "node \"consul-3\": address 10.0.0.255 is the broadcast address of network 10.0.0.0/24",
        "choose one between the two ends of the network: they belong to no host",
    ),
    (
        "duplicate-address",
        25,
        "address \"10.0.0.11\" stands in line 13 already",
        "give each its own, or take one out",
    ),
    (
        "duplicate-datacenter",
        10,
        "data centre \"dc1\" stands in line 5 already",
        "give each its own, or take one out",
    ),
    ("duplicate-key", 12, "`role`: duplicate key", "take one of the two out"),
    (
        "duplicate-node",
        22,
        "node \"consul-1\" stands in line 10 already",
        "give each its own, or take one out",
    ),
    ("empty", 1, "the file is empty", "start from the example that `ballast init` writes"),
    (
        "four-servers",
        5,
        "data centre \"dc1\" has 4 Consul servers, which is not an odd number",
        "have three, or five: an even number bears no more losses than the odd one below it",
    ),
    (
        "gateway-address",
        25,
        "node \"consul-3\": address 10.0.0.1 is the data centre's gateway",
        "give the node an address of its own",
    ),
    (
        "gateway-outside-network",
        7,
        "gateway: address 10.0.9.1 is outside network 10.0.0.0/24 of data centre \"dc1\"",
        "correct the address, the network, or the data centre",
    ),
    (
        "time-server-with-port",
        7,
        "data centre \"dc1\": time server \"10.0.0.1:123\" is neither an address nor a host's name",
        "write \"10.0.0.1\" or \"time.example.net\"",
    ),
    ("missing-key", 15, "`[[node]]`: missing field `address`", "add the missing key"),
    ("missing-site", 1, "missing field `site`", "add the missing key"),
    (
        "network-address",
        25,
        "node \"consul-3\": address 10.0.0.0 is the first address of network 10.0.0.0/24",
        "choose one between the two ends of the network: they belong to no host",
    ),
    (
        "network-with-host-bits",
        6,
        "data centre \"dc1\": network 10.0.0.7/24 has bits set beyond its prefix",
        "write 10.0.0.0/24",
    ),
    (
        "no-nodes",
        7,
        "data centre \"dc1\" has 0 Consul servers, which is not an odd number",
        "have three, or five: an even number bears no more losses than the odd one below it",
    ),
    (
        "no-servers",
        5,
        "data centre \"dc1\" has 0 Consul servers, which is not an odd number",
        "have three, or five: an even number bears no more losses than the odd one below it",
    ),
    (
        "not-toml",
        4,
        "`[[datacenter]`: unclosed array table, expected `]`",
        "the example that `ballast init` writes shows every key with a value",
    ),
    ("not-utf-8", 16, "the text is not UTF-8", "save the file as UTF-8 text"),
    (
        "overlapping-networks",
        11,
        "data centre \"dc2\": network 10.0.0.0/16 overlaps that of \"dc1\"",
        "give each data centre a network of its own",
    ),
    (
        "role-known-already",
        10,
        "role \"consul-server\" exists already",
        "take it out, or give it another name",
    ),
    (
        "two-servers",
        5,
        "data centre \"dc1\" has 2 Consul servers, which is not an odd number",
        "have three, or five: an even number bears no more losses than the odd one below it",
    ),
    (
        "unknown-availability",
        3,
        "`availability`: unknown variant `high`, expected one of `fast`, `normal`, `wide`",
        "the example that `ballast init` writes shows every key with a value",
    ),
    (
        "unknown-datacenter",
        12,
        "node \"consul-1\": data centre \"dc2\" is unknown",
        "known is \"dc1\"; add one with [[datacenter]]",
    ),
    (
        "unknown-key",
        7,
        "unknown field `gatway`, expected one of `name`, `network`, `gateway`, `dns`, `ntp`",
        "correct the key's spelling, or take it out",
    ),
    (
        "unknown-role",
        11,
        "node \"consul-1\": role \"consul-sever\" is unknown",
        "known is \"consul-server\", \"postgres\", \"redis\"; declare a role of your own images with [[role]]",
    ),
    (
        "unknown-table",
        4,
        "unknown field `sites`, expected one of `site`, `datacenter`, `node`, `role`, `timings`, `postgres`, `redis`",
        "correct the key's spelling, or take it out",
    ),
    (
        "wrong-address",
        19,
        "`address`: invalid IP address syntax",
        "write an address such as 10.0.0.11, and a network such as 10.0.0.0/24",
    ),
    (
        "wrong-network",
        6,
        "`network`: invalid IP address syntax",
        "write an address such as 10.0.0.11, and a network such as 10.0.0.0/24",
    ),
    (
        "clients-outside",
        28,
        "postgres.clients: 10.8.0.0/16 is outside the site's networks, and the firewall keeps it out",
        "name it under [site] as well: clients = [\"…\"]",
    ),
    (
        "cluster-named-consul",
        28,
        "redis.cluster \"consul\" is the service of Consul itself as well",
        "give it a name of its own",
    ),
    (
        "cluster-named-like-another",
        28,
        "postgres.cluster \"redis\" is the service of role \"redis\" as well",
        "give it a name of its own",
    ),
    (
        "four-redis",
        29,
        "there are 4 nodes of role \"redis\", which is not an odd number of three or more",
        "have three, or five: a Sentinel runs beside each, and most of them must agree",
    ),
    (
        "no-size",
        28,
        "redis.max_memory \"lots\" is not a size",
        "write a number with kB, MB, GB or TB: \"512MB\"",
    ),
    (
        "one-postgres",
        28,
        "a synchronous durability needs 2 or more nodes of role \"postgres\", and there is 1",
        "have three, which bear the loss of one, or set `durability = \"asynchronous\"` under [postgres]",
    ),
    (
        "one-postgres-unsaid",
        29,
        "a synchronous durability needs 2 or more nodes of role \"postgres\", and there is 1",
        "have three, which bear the loss of one, or set `durability = \"asynchronous\"` under [postgres]",
    ),
    (
        "own-account",
        28,
        "postgres.owner \"replicator\" is PostgreSQL's or the role's own",
        "choose another: a lower-case letter, then letters, digits and underscores, 63 at most",
    ),
    (
        "own-parameter",
        29,
        "postgres.parameters: fsync is set by the role itself",
        "take it out, or correct it",
    ),
    (
        "postgres-in-two-data-centres",
        51,
        "node \"postgres-3\": data centre \"south\" is not \"north\", where \"postgres-1\" of the same postgres cluster is",
        "put all of them into one: Consul's sessions and keys end at its border",
    ),
    (
        "postgres-without-nodes",
        27,
        "[postgres] describes a cluster without nodes",
        "add nodes of role \"postgres\", or take the table out",
    ),
    (
        "redis-without-nodes",
        27,
        "[redis] describes a cluster without nodes",
        "add nodes of role \"redis\", or take the table out",
    ),
    (
        "relative-repository",
        28,
        "postgres.backup: path \"backup\" is not an absolute path",
        "correct it, or take it out",
    ),
    (
        "wrong-schedule",
        29,
        "postgres.backup: incremental \"Mon..Sat 25:00\" is not a calendar event: hour \"25\" is not a number from 0 to 23",
        "write weekdays, a date or a time in UTC as systemd.time(7) has them: \"Sun 02:00\", \"daily\", \"*-*-01 04:30\"",
    ),
    (
        "store-without-credentials",
        28,
        "postgres.backup: `credentials` belongs to a store, and a store needs it",
        "name a file beside this one with access_key and secret_key, for `type = \"s3\"` alone",
    ),
    (
        "timings-out-of-order",
        29,
        "timings.ttl_secs: loop_wait 15 s + 2 x retry_timeout 10 s is more than 30 s: a primary would lose its key while it still waits for Consul",
        "keep to the limit, or take the key out: the availability's own value fits",
    ),
    (
        "two-redis",
        29,
        "there are 2 nodes of role \"redis\", which is not an odd number of three or more",
        "have three, or five: a Sentinel runs beside each, and most of them must agree",
    ),
    (
        "unknown-durability",
        28,
        "`durability`: unknown variant `safe`, expected one of `synchronous`, `quorum`, `asynchronous`",
        "the example that `ballast init` writes shows every key with a value",
    ),
    (
        "unknown-timing",
        28,
        "unknown field `patience_secs`, expected one of `dns_max_stale_secs`, `loop_wait_secs`, `min_replicas_max_lag_secs`, `peer_interval_ms`, `peer_misses`, `peer_window_ms`, `primary_start_timeout_secs`, `raft_multiplier`, `retry_timeout_secs`, `role_interval_ms`, `sentinel_ask_period_ms`, `sentinel_down_after_ms`, `sentinel_failover_timeout_ms`, `ttl_secs`, `watchdog_margin_secs`",
        "correct the key or its value, or take it out",
    ),
    (
        "watched-asynchronous",
        29,
        "postgres.peer_detection asks for a synchronous durability: each failover can lose acknowledged writes",
        "take it out, or set durability to \"synchronous\" or \"quorum\"",
    ),
    (
        "wrong-database",
        28,
        "postgres.database \"my-app\" is not an SQL identifier that needs no quoting",
        "choose another: a lower-case letter, then letters, digits and underscores, 63 at most",
    ),
    (
        "wrong-type",
        19,
        "`address`: invalid type: integer `12`, expected IP address",
        "write an address such as 10.0.0.11, and a network such as 10.0.0.0/24",
    ),
];

/// Runs a command in an empty directory with this cluster file beside nothing else.
fn refused(command: &str, content: &[u8]) -> String {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cluster.toml"), content).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ballast"))
        .current_dir(root.path())
        .args([command, "cluster.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{command}");
    assert!(output.stdout.is_empty(), "{command}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "{command} wrote something");
    String::from_utf8(output.stderr).unwrap()
}

fn fixtures() -> impl Iterator<Item = PathBuf> {
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|e| e == "toml");
    fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path()).filter(is_toml)
}

#[test]
fn every_wrong_file_gets_its_sentence_and_changes_nothing() {
    for (name, line, reason, hint) in REFUSALS {
        let content = fs::read(Path::new(FIXTURES).join(format!("{name}.toml"))).unwrap();
        for command in ["validate", "bundle", "status"] {
            let text = refused(command, &content);
            assert_eq!(text, format!("cluster.toml:{line}: {reason}\nhint: {hint}\n"), "{name}");
        }
    }
}

#[test]
fn every_fixture_is_either_refused_or_good() {
    for path in fixtures() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let good = ["good", "two-data-centres", "databases"].contains(&name.as_str());
        let listed = REFUSALS.iter().any(|(refused, ..)| *refused == name);
        assert!(good != listed, "{name}");
        let output = Command::new(env!("CARGO_BIN_EXE_ballast"))
            .arg("validate")
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(output.status.success(), good, "{name}");
    }
}

#[test]
fn a_file_of_100_mb_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cluster.toml");
    fs::File::create(&path).unwrap().set_len(100_000_000).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ballast"))
        .current_dir(root.path())
        .args(["bundle", "cluster.toml"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("cluster.toml:1: the file is larger than 1 MiB\nhint: "), "{text}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "something was written");
}

#[test]
fn no_more_than_the_limit_is_read() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ballast"))
        .args(["validate", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let block = [b'#'; 1 << 16];
    // Taken until nobody reads any more.
    let taken = (0..1600).take_while(|_| pipe.write_all(&block).is_ok()).count() * block.len();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    // The limit, and what a pipe holds.
    assert!(taken <= (1 << 20) + 3 * block.len(), "{taken} bytes were read");
}

#[test]
fn what_is_no_file_is_refused() {
    for path in ["nothing.toml", "."] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_ballast")).args(["bundle", path]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with(&format!("reading {path}: ")), "{text}");
        assert!(
            text.ends_with("hint: `ballast init` writes a cluster.toml to start from\n"),
            "{text}"
        );
    }
}
