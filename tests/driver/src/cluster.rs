//! A site, described and bundled as an operator would: `cluster.toml`, then `ballast bundle`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use ballast_contract::roles::{CONSUL_SERVER, POSTGRES, REDIS};

use crate::error::{Error, Result};
use crate::programs::output;

/// The clients' own address in the site's network, with its prefix length.
pub const CLIENTS_ADDRESS: &str = "10.83.0.1/24";
const NETWORK: &str = "10.83.0.0/24";

/// What a site consists of: what an operator would write down.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Its nodes, in the order of their numbers.
    pub nodes: Vec<Node>,
    /// How long silence is borne.
    pub availability: Availability,
    /// Further lines of the `[site]` table.
    pub site: String,
    /// Further tables of `cluster.toml`.
    pub tables: String,
    /// The time from which certificates run (RFC 3339), if not now.
    pub now: Option<String>,
    /// The size of the disks of a role's machines in containers, bytes.
    pub disks: Option<(String, u64)>,
}

impl Layout {
    /// That many nodes of each role, `postgres-1` and so on, at most nine of each, with what an operator gets who says
    /// nothing more.
    pub fn new(roles: &[(&str, u8)]) -> Self {
        let mut nodes = Vec::new();
        for (place, (role, count)) in (1u8..).zip(roles) {
            for index in 1..=*count {
                nodes.push(Node {
                    name: format!("{}-{index}", role.split('-').next().unwrap_or(role)),
                    number: u8::try_from(nodes.len() + 1).unwrap_or(u8::MAX),
                    role: (*role).to_owned(),
                    address: format!("10.83.0.{place}{index}"),
                });
            }
        }
        Self {
            nodes,
            availability: Availability::Normal,
            site: String::new(),
            tables: String::new(),
            now: None,
            disks: None,
        }
    }

    /// The same with this availability.
    pub fn with(self, availability: Availability) -> Self {
        Self { availability, ..self }
    }

    /// The size of the disks of a role's machines in containers, where it is bounded.
    pub fn disk_bytes(&self, role: &str) -> Option<u64> {
        self.disks.as_ref().filter(|(of, _)| of == role).map(|(_, bytes)| *bytes)
    }

    fn describe(&self) -> String {
        let availability = match self.availability {
            Availability::Fast => "fast",
            Availability::Normal => "normal",
            Availability::Wide => "wide",
        };
        let mut text = format!(
            "[site]\nname = \"lab\"\navailability = \"{availability}\"\n{}\n\
             [[datacenter]]\nname = \"dc1\"\nnetwork = \"{NETWORK}\"\n\n{}",
            self.site, self.tables
        );
        for Node { name, role, address, .. } in &self.nodes {
            text.push_str(&format!(
                "\n[[node]]\nname = \"{name}\"\nrole = \"{role}\"\ndatacenter = \"dc1\"\n\
                 address = \"{address}\"\n"
            ));
        }
        text
    }
}

/// How long silence is borne; a table of the product's own.
#[derive(Debug, Clone, Copy)]
pub enum Availability {
    /// For machines that are near each other and have time for one another.
    Fast,
    /// What an operator gets who says nothing.
    Normal,
    /// For machines whose instructions are translated: a pause of seconds is no failure.
    Wide,
}

/// A site and its bundles.
pub struct Cluster {
    dir: PathBuf,
    /// Its nodes, in the order of their numbers.
    pub nodes: Vec<Node>,
}

/// One node of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// From 1 on.
    pub number: u8,
    /// What it is for.
    pub role: String,
    /// Its address, without prefix length.
    pub address: String,
}

impl Cluster {
    /// Describes the site in `dir` and makes its bundles.
    ///
    /// # Errors
    /// When `ballast` fails.
    pub fn make(ballast: &Path, dir: &Path, layout: &Layout) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::file("making", dir))?;
        let file = dir.join("cluster.toml");
        fs::write(&file, layout.describe()).map_err(Error::file("writing", &file))?;
        let cluster = Self { dir: dir.to_path_buf(), nodes: layout.nodes.clone() };
        let mut command = Command::new(ballast);
        command.arg("bundle").arg(&file).arg("--out").arg(dir.join("bundles"));
        command.args(layout.now.iter().map(|now| format!("--now={now}")));
        output(&mut command)?;
        Ok(cluster)
    }

    /// The directory that holds `cluster.toml`, `state` and `bundles`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node's bundle.
    pub fn bundle(&self, node: &str) -> PathBuf {
        self.dir.join("bundles").join(format!("{node}.bundle.tar"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_all_roles_have_names_numbers_and_addresses_of_their_own() {
        let layout = Layout::new(&[(CONSUL_SERVER, 3), (POSTGRES, 3), (REDIS, 3)]);
        let names: Vec<&str> = layout.nodes.iter().map(|node| node.name.as_str()).collect();
        let all =
            "consul-1 consul-2 consul-3 postgres-1 postgres-2 postgres-3 redis-1 redis-2 redis-3";
        assert_eq!(names.join(" "), all);
        let numbers: Vec<u8> = layout.nodes.iter().map(|node| node.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let addresses: Vec<&str> = layout.nodes.iter().map(|node| node.address.as_str()).collect();
        assert_eq!(addresses.first().copied(), Some("10.83.0.11"));
        assert_eq!(addresses.get(3).copied(), Some("10.83.0.21"));
        assert_eq!(addresses.last().copied(), Some("10.83.0.33"));
    }

    #[test]
    fn what_is_added_stands_in_its_table() {
        let mut layout = Layout::new(&[("redis", 1)]);
        layout.site = "durability = \"quorum\"\n".into();
        layout.tables = "[redis]\nport = 1\n".into();
        let text = layout.describe();
        let tables: Vec<&str> = text.split("\n[").collect();
        let [site, _datacenter, redis, node] = tables.as_slice() else { panic!("{text}") };
        assert!(site.starts_with("[site]") && site.contains("durability"), "{text}");
        assert_eq!(*redis, "redis]\nport = 1\n");
        assert!(node.contains("role = \"redis\""), "{text}");
    }
}
