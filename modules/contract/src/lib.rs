//! The contract between what an image author says and what the assembler and the agent do: one `spec.json` per image.
//!
//! Invariant: depends on serde alone, reads no file, and knows neither the assembler nor the agent.

mod availability;
mod check;
mod image;
pub mod paths;
mod refuse;
pub mod roles;

pub use availability::{Availability, Durability, Timings};
pub use check::{Check, CheckKind, NODE_CHECK, NODE_SERVICE};
pub use image::{
    File, Group, Image, Kernel, Link, Opened, Partitions, Port, Protocol, Role, Spec, Units, User,
};
pub use refuse::Refused;

/// The version of `spec.json` this crate reads and writes; any other is refused by [`Spec::validate`].
pub const SPEC_VERSION: u32 = 1;
