//! Machines from our images: the library behind `ballast-machines`, for other programs of the workspace that boot them.

pub mod base64;
pub mod error;
pub mod given;
pub mod helper;
pub mod hub;
pub mod machine;
pub mod nspawn;
pub mod overlay;
pub mod poll;
pub mod programs;
pub mod qemu;
pub mod transcript;
pub mod workspace;
