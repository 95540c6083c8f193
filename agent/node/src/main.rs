//! The program on the node: it learns who the node is, applies its role, checks its health and keeps Consul informed.
//!
//! Invariant: writes only below `/run` and `/var`, and asks nobody but this machine whether a boot is good.

mod boot;
mod error;
#[cfg(test)]
mod fixture;
mod log;
mod plan;
mod root;
mod spawn;

use std::path::PathBuf;
use std::process::ExitCode;

use error::{Error, chain};
use root::Root;

const USAGE: &str = "\
ballast-agent: learns who this node is, applies its role, checks its health and keeps Consul informed

usage: ballast-agent <command> [--root DIR]

  boot    before the network: find, verify and unpack the bundle, and write what it says

  --root DIR  work below DIR instead of / (for tests: tells the kernel nothing)
";

/// What was asked for on the command line.
struct Arguments {
    command: String,
    root: PathBuf,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            log::error(&format!("{reason}; `ballast-agent --help` says what there is"));
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(&chain(&error));
            if let Some(hint) = error.hint() {
                log::error(&format!("hint: {hint}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let root = Root::new(&arguments.root);
    match arguments.command.as_str() {
        "boot" => boot::boot(&root, boot::find::credentials().as_deref()),
        _ => Ok(()),
    }
}

/// Reads the arguments; none means that help was asked for.
fn parse(words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    const COMMANDS: [&str; 1] = ["boot"];
    let mut words = words;
    let mut command = None;
    let mut root = PathBuf::from("/");
    while let Some(word) = words.next() {
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--root" => root = words.next().ok_or("--root needs a directory")?.into(),
            name if COMMANDS.contains(&name) && command.is_none() => command = Some(word),
            other => return Err(format!("{other:?} is no command or option here")),
        }
    }
    let command = command.ok_or("no command is given")?;
    Ok(Some(Arguments { command, root }))
}
