//! The program on the node: it learns who the node is, applies its role, checks its health and keeps Consul informed.
//!
//! Invariant: writes only below `/run` and `/var`, and asks nobody but this machine whether a boot is good.

mod acl;
mod agree;
mod app;
mod boot;
mod bootloader;
mod consul;
mod database;
mod error;
#[cfg(test)]
mod fixture;
mod gate;
mod http;
mod log;
mod metrics;
mod peers;
mod plan;
mod postgres;
mod probe;
mod redis;
mod role;
mod root;
mod router;
mod run;
mod serve;
mod slot;
mod spawn;
mod state;
mod status;
mod systemd;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use error::{Error, chain};
use root::Root;
use run::Places;

/// The local Consul agent's HTTP API.
const CONSUL: ([u8; 4], u16) = ([127, 0, 0, 1], 8500);
/// Where this agent listens: the contract's `STATUS_ADDRESS`.
const STATUS: ([u8; 4], u16) = ([127, 0, 0, 1], 8510);

const USAGE: &str = "\
ballast-agent: learns who this node is, applies its role, checks its health and keeps Consul informed

usage: ballast-agent <command> [options]

  boot             before the network: find, verify and unpack the bundle, and write what it says
  fetch            with the network: take the bundle from the URL on the kernel command line
  run              ask the checks and keep Consul informed, until told to stop
  gate             wait until every check that gates the boot is passing
  status [--json]  show what the running agent knows of this node
  primary          end with 0 where this node is its database cluster's primary, and with 1 where it isn't
  release          for systemd, when Patroni has died: give up the leader key if it is this node's
  restore CLUSTER TIME
                   for Patroni: make the data of a cluster that is not there yet from another's backups
  states           print the diagram of a node's states
  route            lead an application's sessions to the one true primary, and to replicas, until told to stop
  app -- COMMAND   be a container's first process: route, and run the application once what it needs can be reached

  --config FILE    what `route` and `app` do; `route --example` prints a file with every key
  --root DIR       work below DIR instead of / (for tests: tells the kernel nothing)
";

/// What was asked for on the command line.
struct Arguments {
    command: Command,
    root: PathBuf,
    json: bool,
    config: Option<PathBuf>,
    example: bool,
    /// What stands behind `--`.
    application: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Command {
    Boot,
    Fetch,
    Run,
    Gate,
    Status,
    Primary,
    Release,
    Restore { cluster: String, to: String },
    States,
    Route,
    App,
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
    match run_command(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            log::error(&chain(&error));
            if let Some(hint) = error.hint() {
                log::error(&format!("hint: {hint}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_app(arguments: &Arguments) -> Result<u8, Error> {
    let settings = match &arguments.config {
        Some(path) => router::load(path).map_err(Error::Router)?,
        None => router::Settings::none(),
    };
    let app = settings.app().with_command(arguments.application.clone());
    if !app.has_command() {
        return Err(Error::NoApplication);
    }
    runtime()?.block_on(app::run(settings, app))
}

/// Does it; the exit status is 0, or the application's.
fn run_command(arguments: &Arguments) -> Result<u8, Error> {
    let root = Root::new(&arguments.root);
    let status = SocketAddr::from(STATUS);
    let done = match &arguments.command {
        Command::Boot => boot::boot(&root, boot::find::credentials().as_deref()),
        Command::Fetch => boot::fetch::fetch(&root, boot::find::credentials().as_deref()),
        Command::Run => {
            let places = Places { root, consul: SocketAddr::from(CONSUL), status };
            runtime()?.block_on(async { run::run(places, told_to_stop()?).await })
        }
        Command::Gate => runtime()?.block_on(gate::gate(&root, status)),
        Command::Status => runtime()?.block_on(status::print(status, arguments.json)),
        Command::Primary => runtime()?.block_on(status::demand_primary(status)),
        Command::Release => {
            runtime()?.block_on(postgres::release::release(&root, SocketAddr::from(CONSUL)))
        }
        Command::Restore { cluster, to } => postgres::restore::restore(&root, cluster, to),
        Command::States => {
            print!("{}", state::diagram());
            Ok(())
        }
        Command::App => return run_app(arguments),
        Command::Route if arguments.example => {
            print!("{}", router::EXAMPLE);
            Ok(())
        }
        Command::Route => {
            let settings = router::load(&arguments.config.clone().unwrap_or_default())
                .map_err(Error::Router)?;
            runtime()?.block_on(async { router::run(settings, told_to_stop()?).await })
        }
    };
    done.map(|()| 0)
}

/// One thread: the agent waits nearly always, and a second thread would only cost memory.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)
}

/// Resolves at SIGTERM, which is systemd's, or SIGINT, which is a terminal's.
fn told_to_stop() -> Result<impl Future<Output = ()>, Error> {
    let mut term = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Reads the arguments; none means that help was asked for.
fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut command = None;
    let mut root = PathBuf::from("/");
    let mut json = false;
    let mut config = None;
    let mut example = false;
    let mut application = Vec::new();
    while let Some(word) = words.next() {
        let named = match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--root" => {
                root = words.next().ok_or("--root needs a directory")?.into();
                continue;
            }
            "--json" => {
                json = true;
                continue;
            }
            "--config" => {
                config = Some(words.next().ok_or("--config needs a file")?.into());
                continue;
            }
            "--example" => {
                example = true;
                continue;
            }
            "--" => {
                application.extend(words.by_ref());
                continue;
            }
            "boot" => Command::Boot,
            "fetch" => Command::Fetch,
            "run" => Command::Run,
            "gate" => Command::Gate,
            "status" => Command::Status,
            "primary" => Command::Primary,
            "release" => Command::Release,
            "restore" => {
                let mut value = || words.next().ok_or("restore needs a cluster and a time");
                Command::Restore { cluster: value()?, to: value()? }
            }
            "states" => Command::States,
            "route" => Command::Route,
            "app" => Command::App,
            other => return Err(format!("{other:?} is no command or option here")),
        };
        if command.replace(named).is_some() {
            return Err(format!("{word:?} is a second command"));
        }
    }
    let command = command.ok_or("no command is given")?;
    if json && command != Command::Status {
        return Err("--json belongs to status".to_owned());
    }
    if config.is_some() && !matches!(command, Command::Route | Command::App) {
        return Err("--config belongs to route and app".to_owned());
    }
    if example && command != Command::Route {
        return Err("--example belongs to route".to_owned());
    }
    if !application.is_empty() && command != Command::App {
        return Err("a command behind -- belongs to app".to_owned());
    }
    if command == Command::Route && config.is_none() && !example {
        return Err("route needs --config FILE".to_owned());
    }
    Ok(Some(Arguments { command, root, json, config, example, application }))
}
