//! The bundle of a site that has one Consul server: what a measured machine of ours is given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::timed;

/// The node's name.
pub const NODE: &str = "consul-1";

const LIMIT: Duration = Duration::from_secs(60);

const CLUSTER: &str = r#"[site]
name = "bench"
availability = "normal"

[[datacenter]]
name = "dc1"
network = "10.0.0.0/24"

[[node]]
name = "consul-1"
role = "consul-server"
datacenter = "dc1"
address = "10.0.0.11"
"#;

/// Lets the operator's command make the bundle in `dir`.
///
/// # Errors
/// When it does not.
pub fn save(ballast: &Path, dir: &Path) -> Result<PathBuf> {
    let cluster = dir.join("cluster.toml");
    fs::write(&cluster, CLUSTER).map_err(Error::file("writing", &cluster))?;
    let out = dir.join("bundles");
    let mut command = Command::new(ballast);
    command.arg("bundle").arg(&cluster).arg("--out").arg(&out);
    timed::run("ballast bundle", &mut command, dir, LIMIT)?;
    let entries = fs::read_dir(&out).map_err(Error::file("listing", &out))?;
    entries
        .filter_map(std::io::Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(NODE)))
        .ok_or_else(|| Error::Lacking(format!("`ballast bundle` left no bundle of {NODE}")))
}
