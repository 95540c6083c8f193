//! The reader of cluster files never panics, and what it takes keeps to the rules.

use std::collections::HashSet;

use ballast_bundle::is_label;
use ballast_contract::{Availability, Durability};
use proptest::prelude::*;

use super::*;
use crate::init::EXAMPLE;

/// What every cluster keeps to, whatever it was read from.
fn check(cluster: &Cluster) {
    let names: HashSet<_> = cluster.nodes.iter().map(|n| &n.name).collect();
    let addresses: HashSet<_> = cluster.nodes.iter().map(|n| n.address.addr()).collect();
    assert_eq!((names.len(), addresses.len()), (cluster.nodes.len(), cluster.nodes.len()));
    for node in &cluster.nodes {
        let datacenter = cluster.datacenters.iter().find(|d| d.name == node.datacenter).unwrap();
        assert!(datacenter.network.contains(&node.address));
        assert!(is_label(&node.name) && is_label(&node.role));
    }
    assert_eq!(cluster.timings.validate(), Ok(()));
    if let Some(postgres) = &cluster.postgres {
        assert!(postgres.members.len() > 1 || postgres.durability == Durability::Asynchronous);
    }
    if let Some(redis) = &cluster.redis {
        assert!(redis.members.len() > 2 && redis.members.len() % 2 == 1);
    }
    for datacenter in &cluster.datacenters {
        assert_eq!(cluster.servers(&datacenter.name).count() % 2, 1);
    }
}

/// A piece of a cluster file, right or wrong.
fn line() -> impl Strategy<Value = String> {
    let table = prop::sample::select(vec![
        "[site]",
        "[[datacenter]]",
        "[[node]]",
        "[[role]]",
        "[node.settings]",
        "[timings]",
        "[postgres]",
        "[postgres.backup]",
        "[postgres.parameters]",
        "[redis]",
    ]);
    let key = prop::sample::select(vec![
        "name",
        "role",
        "datacenter",
        "address",
        "network",
        "gateway",
        "dns",
        "ntp",
        "availability",
        "interface",
        "services",
        "domain",
        "settings",
        "cluster",
        "durability",
        "owner",
        "clients",
        "peer_detection",
        "repository",
        "max_memory",
        "ttl_secs",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "\"dc1\"",
            "\"consul-server\"",
            "\"10.0.0.1\"",
            "\"10.0.0.0/24\"",
            "[]",
            "{}",
            "1",
            "\"fast\"",
            "\"postgres\"",
            "\"redis\"",
            "\"quorum\"",
            "\"1GB\"",
            "true",
            "30",
            "{ type = \"path\", path = \"/\" }",
            "\"\"",
            "\"::1\"",
            "\"::/0\"",
            "\"0.0.0.0/0\"",
            "\"10.0.0.0/31\"",
            "\"10.0.0.0/32\"",
        ])
        .prop_map(str::to_owned),
        any::<String>().prop_map(|text| format!("{text:?}")),
    ];
    prop_oneof![
        table.prop_map(str::to_owned),
        (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

#[test]
fn the_example_is_a_site() {
    let cluster = read_cluster("cluster.toml", EXAMPLE.as_bytes()).unwrap();
    check(&cluster);
    let of_role = |role| cluster.nodes.iter().filter(|n| n.role == role).count();
    assert_eq!([CONSUL_SERVER, POSTGRES, REDIS].map(of_role), [3, 3, 3]);
    assert_eq!(cluster.nodes.len(), 9);
    assert_eq!(cluster.primary(), "dc1");
    assert_eq!(cluster.timings, Availability::Normal.timings());
    assert_eq!(cluster.observers().len(), 6);
}

#[test]
fn the_example_is_a_site_with_every_line_that_is_commented_out() {
    let every: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let cluster = read_cluster("cluster.toml", every.as_bytes()).unwrap();
    assert_eq!(cluster.nodes.len(), 10);
    assert_eq!(cluster.nodes[9].services, ["metrics"]);
    assert_eq!(cluster.timings.ttl_secs, 40);
    let postgres = cluster.postgres.unwrap();
    assert_eq!(cluster.clients.len(), 1);
    assert_eq!(postgres.clients.len(), 2);
    assert_eq!(postgres.parameters["max_connections"], "200");
    assert_eq!(postgres.backup.unwrap().keep_full, 2);
    assert_eq!(cluster.redis.unwrap().max_memory_bytes, Some(512 << 20));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = read_cluster("cluster.toml", &bytes).map(|c| check(&c));
    }

    #[test]
    fn an_edited_example_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_cluster("cluster.toml", &bytes).map(|c| check(&c));
    }

    #[test]
    fn shuffled_lines_never_panic(lines in prop::collection::vec(line(), 0..40)) {
        let refused = read_cluster("cluster.toml", lines.join("\n").as_bytes());
        if let Err(error) = refused.map(|c| check(&c)) {
            prop_assert!(error.line <= lines.len().max(1) && !error.hint.is_empty(), "{error}");
            prop_assert!(!error.reason.contains('\n'), "{error}");
        }
    }
}
