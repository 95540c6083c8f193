//! Where things stand on a node. The root is read-only: the agent writes only under `/run` and `/var`.

/// The image's own spec, put there by the assembler and read by the agent.
pub const SPEC: &str = "/usr/lib/ballast/spec.json";
/// The agent's program.
pub const AGENT: &str = "/usr/bin/ballast-agent";
/// Bundle generations, one directory each, named by the digest of the bundle's manifest; `current` links to one.
pub const BUNDLES: &str = "/var/lib/ballast/bundles";
/// The accepted bundle: a link made anew, atomically, when another generation is taken.
pub const CURRENT_BUNDLE: &str = "/var/lib/ballast/bundles/current";
/// The site key that the first accepted bundle pinned (hexadecimal Ed25519 public key, RFC 8032).
pub const SITE_KEY: &str = "/var/lib/ballast/site-key";
/// Everything the agent writes for other programs during this boot.
pub const RUN: &str = "/run/ballast";
/// The directory given to Consul as `-config-dir`.
pub const CONSUL_CONFIG: &str = "/run/ballast/consul";
/// The ruleset `nft -f` loads.
pub const FIREWALL: &str = "/run/ballast/firewall.nft";
/// The systemd credential that may hold the bundle, and the one that may name the site's key.
pub const BUNDLE_CREDENTIAL: &str = "ballast.bundle";
/// The systemd credential that may hold the site's public key.
pub const SITE_KEY_CREDENTIAL: &str = "ballast.site-key";
/// The file-system label of a volume that may hold the bundle, as the file [`BUNDLE_FILE`] in its root.
pub const BUNDLE_VOLUME: &str = "BALLAST";
/// The bundle's file name on that volume.
pub const BUNDLE_FILE: &str = "bundle.tar";
/// Where the agent serves `/status` (JSON) and `/metrics` (Prometheus text format).
pub const STATUS_ADDRESS: &str = "127.0.0.1:8510";
