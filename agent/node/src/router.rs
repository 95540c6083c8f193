//! The router beside an application: endpoints on loopback that lead to the one true primary, or to replicas.
//!
//! Who is primary is asked of the nodes themselves; Consul, or a list in the configuration, says whom to ask. What follows
//! from the answers is decided in [`group`] without I/O or clock. Nothing of it runs on a database's node.

mod group;
