//! Placeholder until this room is built.

fn main() {}
