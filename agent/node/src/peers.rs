//! Failure detection by the agents: the members of a PostgreSQL cluster and the Consul servers watch each member, and a
//! majority of them together gives up a silent primary long before its leader key would expire.
//!
//! The decisions are pure and are simulated. Without a majority, without Consul, or against a living member's word nobody
//! acts, and the key's plain time to live decides.

pub(crate) mod agreement;
pub(crate) mod suspicion;
pub(crate) mod watch;
