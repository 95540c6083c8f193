//! A site of Consul servers, described and bundled as an operator would: `cluster.toml`, then `ballast bundle`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::programs::output;

/// How long silence is borne; a table of the product's own.
#[derive(Debug, Clone, Copy)]
pub enum Availability {
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
#[derive(Debug, Clone)]
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
    /// Describes a site of that many Consul servers in `dir` and makes its bundles.
    ///
    /// # Errors
    /// When `ballast` fails.
    pub fn make(
        ballast: &Path,
        dir: &Path,
        servers: u8,
        availability: Availability,
    ) -> Result<Self> {
        Self::make_at(ballast, dir, servers, availability, None)
    }

    /// The same, as if it were made at another time (RFC 3339): certificates run from then.
    ///
    /// # Errors
    /// When `ballast` fails.
    pub fn make_at(
        ballast: &Path,
        dir: &Path,
        servers: u8,
        availability: Availability,
        now: Option<&str>,
    ) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::file("making", dir))?;
        let nodes: Vec<Node> = (1..=servers)
            .map(|number| Node {
                name: format!("consul-{number}"),
                number,
                role: "consul-server".into(),
                address: format!("10.83.0.{}", 10 + number),
            })
            .collect();
        let file = dir.join("cluster.toml");
        fs::write(&file, describe(&nodes, availability)).map_err(Error::file("writing", &file))?;
        let cluster = Self { dir: dir.to_path_buf(), nodes };
        let mut command = Command::new(ballast);
        command.arg("bundle").arg(&file).arg("--out").arg(dir.join("bundles"));
        command.args(now.map(|now| format!("--now={now}")));
        output(&mut command)?;
        Ok(cluster)
    }

    /// A node's bundle.
    pub fn bundle(&self, node: &str) -> PathBuf {
        self.dir.join("bundles").join(format!("{node}.bundle.tar"))
    }
}

fn describe(nodes: &[Node], availability: Availability) -> String {
    let availability = match availability {
        Availability::Normal => "normal",
        Availability::Wide => "wide",
    };
    let mut text = format!(
        "[site]\nname = \"lab\"\navailability = \"{availability}\"\n\n\
         [[datacenter]]\nname = \"dc1\"\nnetwork = \"10.83.0.0/24\"\n"
    );
    for Node { name, role, address, .. } in nodes {
        text.push_str(&format!(
            "\n[[node]]\nname = \"{name}\"\nrole = \"{role}\"\ndatacenter = \"dc1\"\naddress = \"{address}\"\n"
        ));
    }
    text
}
