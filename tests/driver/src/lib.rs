//! Machines from our images: the library behind `ballast-machines`, for other programs of the workspace that boot them.

pub mod backend;
pub mod boot;
pub mod cluster;
pub mod consul;
pub mod error;
pub mod fleet;
pub mod given;
pub mod helper;
pub mod hub;
pub mod images;
pub mod lab;
pub mod machine;
pub mod network;
pub mod nspawn;
pub mod overlay;
pub mod poll;
pub mod process;
pub mod programs;
pub mod qemu;
pub mod scenarios;
pub mod transcript;
pub mod trial;
pub mod workspace;
