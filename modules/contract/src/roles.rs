//! The roles that images are built for here, by the names that spec, bundle and cluster file give them.

/// Nodes that hold Consul's catalogue.
pub const CONSUL_SERVER: &str = "consul-server";
/// Nodes that run PostgreSQL under Patroni.
pub const POSTGRES: &str = "postgres";
/// Nodes that run Redis with Sentinel.
pub const REDIS: &str = "redis";
