//! The passes: each does to the tree what a maintainer script, a trigger or a first boot would do to a disk.
//!
//! Invariant: a pass reads the tree, the packages and the spec, and nothing else.

mod accounts;
mod alternatives;
mod byte_code;
mod ca_bundle;
mod defaults;
mod dpkg_status;
mod identity;
mod ld_cache;
mod leave_out;
mod modules;
mod pam;
mod spec_files;
mod state;
mod sysusers;
mod tmpfiles;
mod units;

use std::path::Path;

use ballast_contract::Spec;

use crate::error::AssembleError;
use crate::read::Package;
use crate::tree::Tree;

pub use modules::{initrd_modules, release};

/// What a pass may look at.
#[derive(Debug)]
pub struct Context<'a> {
    pub spec: &'a Spec,
    pub packages: &'a [Package],
    /// The time every file carries, in seconds since 1970: the packages' newest.
    pub epoch: u64,
    /// The agent's program.
    pub agent: &'a Path,
    /// A directory for what a pass's tool needs while it runs.
    pub scratch: &'a Path,
}

type Pass = fn(&mut Tree, &Context<'_>) -> Result<(), AssembleError>;

/// In this order: what the author left out is gone before anything is derived from what is there.
const LINE: [(&str, Pass); 15] = [
    ("leave out", leave_out::pass),
    ("kernel modules", modules::pass),
    ("spec files", spec_files::pass),
    ("accounts", accounts::pass),
    ("default files", defaults::pass),
    ("alternatives", alternatives::pass),
    ("PAM", pam::pass),
    ("CA bundle", ca_bundle::pass),
    ("ld.so cache", ld_cache::pass),
    ("byte code", byte_code::pass),
    ("dpkg status", dpkg_status::pass),
    ("tmpfiles", tmpfiles::pass),
    ("units", units::pass),
    ("state", state::pass),
    ("identity", identity::pass),
];

/// Runs every pass, telling `done` after each.
///
/// # Errors
/// The first pass that can't do its work.
pub fn apply(
    tree: &mut Tree,
    context: &Context<'_>,
    mut done: impl FnMut(&'static str),
) -> Result<(), AssembleError> {
    for (name, pass) in LINE {
        pass(tree, context)?;
        done(name);
    }
    Ok(())
}
