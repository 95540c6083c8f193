//! The table a lab ends in: one line per node.

use std::time::Duration;

use ballast_contract::{Spec, paths};

use crate::cluster::{CONSUL_SERVER, Node};
use crate::consul::{Health, View};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::programs::tail;

/// Which versions the machine runs: of the image, and of Consul.
///
/// # Errors
/// When the machine does not say.
pub fn versions(machine: &mut dyn Machine) -> Result<String> {
    let spec = machine.run(&format!("cat {}", paths::SPEC), Duration::from_secs(60))?.text;
    let consul = machine.run("consul version", Duration::from_secs(60))?.text;
    let read = |answer: &str| Error::Answer { what: "a version".into(), answer: tail(answer, 3) };
    let spec: Spec = serde_json::from_str(&spec).map_err(|_| read(&spec))?;
    let consul = consul.lines().next().and_then(|line| line.strip_prefix("Consul v"));
    let consul = consul.ok_or_else(|| read("no version of Consul"))?;
    Ok(format!("{}, Consul {consul}", spec.image.version))
}

/// The table.
pub fn table(nodes: &[Node], view: &View, versions: &[String]) -> String {
    let mut rows =
        vec![["NODE", "ROLE", "ADDRESS", "HEALTH", "CONSUL", "VERSION"].map(str::to_owned)];
    for (node, version) in nodes.iter().zip(versions) {
        let health = view.health(&node.name).unwrap_or(Health::Critical);
        let leads = view.leader.as_ref().is_some_and(|leader| {
            leader.rsplit_once(':').is_some_and(|(address, _)| address == node.address)
        });
        let part = match (leads, node.role.as_str()) {
            (true, _) => "leader",
            (false, CONSUL_SERVER) => "follower",
            (false, _) => "client",
        };
        rows.push([
            node.name.clone(),
            node.role.clone(),
            node.address.clone(),
            health.to_string(),
            part.to_owned(),
            version.clone(),
        ]);
    }
    align(&rows)
}

fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_the_node_whose_whole_address_it_is_and_only_servers_follow() {
        let node = |name: &str, role: &str, address: &str| Node {
            name: name.into(),
            number: 1,
            role: role.into(),
            address: address.into(),
        };
        let nodes = [
            node("consul-1", CONSUL_SERVER, "10.83.0.1"),
            node("consul-2", CONSUL_SERVER, "10.83.0.11"),
            node("redis-1", "redis", "10.83.0.31"),
        ];
        let view = View { leader: Some("10.83.0.11:8300".into()), checks: Vec::new() };
        let table = table(&nodes, &view, &["0.1.0".into(), "0.1.1".into(), "0.1.0".into()]);
        assert_eq!(
            table.lines().collect::<Vec<_>>(),
            [
                "NODE      ROLE           ADDRESS     HEALTH    CONSUL    VERSION",
                "consul-1  consul-server  10.83.0.1   critical  follower  0.1.0",
                "consul-2  consul-server  10.83.0.11  critical  leader    0.1.1",
                "redis-1   redis          10.83.0.31  critical  client    0.1.0",
            ]
        );
    }
}
