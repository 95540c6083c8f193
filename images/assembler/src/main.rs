//! Assembles Debian packages into machine images: no root, no network, no clock, no maintainer script.

mod assemble;
mod elf;
mod error;
mod merge;
mod passes;
mod progress;
mod read;
mod scripts;
mod tool;
mod tree;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::AssembleError;

/// Assembles Debian packages into machine images.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a disk, a netboot image, the manifest and the SBOM of one image.
    Image(Inputs),
    /// Shows what is left of maintainer scripts that no pass covers, for whoever reads them.
    Scripts {
        /// The whole closure, as for `image`.
        #[arg(long)]
        packages: PathBuf,
    },
}

/// What one image is made from, and where it goes.
#[derive(Debug, clap::Args)]
pub struct Inputs {
    /// The image's spec, as the modules lower it.
    #[arg(long)]
    spec: PathBuf,
    /// The whole closure: a JSON list of name, version, architecture and path of a .deb.
    #[arg(long)]
    packages: PathBuf,
    /// The agent's static program.
    #[arg(long)]
    agent: PathBuf,
    /// The initrd's static program.
    #[arg(long)]
    init: PathBuf,
    /// What is shipped goes here.
    #[arg(long)]
    out: PathBuf,
    /// What tests and containers need goes here: kernel, initrd, root, hash tree, command line, root hash.
    #[arg(long)]
    parts: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Image(inputs) => assemble::image(&inputs),
        Command::Scripts { packages } => show_scripts(&packages),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn show_scripts(list: &std::path::Path) -> Result<(), AssembleError> {
    for package in read::load_packages(list)? {
        for found in scripts::uncovered(&package) {
            println!("{} {} {}\n{}\n", found.package, found.what, found.digest, found.rest);
        }
    }
    Ok(())
}

/// Prints the whole chain of causes, once.
fn report(error: &AssembleError) -> ExitCode {
    eprint!("ballast-assemble: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        eprint!(": {source}");
        cause = source.source();
    }
    eprintln!();
    ExitCode::from(if error.is_bad_input() { 2 } else { 1 })
}
