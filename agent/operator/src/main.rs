//! `ballast`, the operator's command: from a site's `cluster.toml` to bundles, and from a running site to a table.

mod access;
mod authority;
mod backup;
mod bounds;
mod bundles;
mod cluster;
mod connect;
mod consul;
mod disk;
mod error;
mod https;
mod init;
mod operations;
mod patroni;
mod report;
mod secret;
mod servers;
mod state;
mod status;
mod switchover;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::Error;
use crate::operations::Wish;
use crate::patroni::Patroni;
use crate::state::State;

/// Describe a site once, and give every machine its bundle.
///
/// A site is one file, cluster.toml. Start with `ballast init`, edit it, and run `ballast bundle cluster.toml`: each
/// node gets one bundle with its name, address, certificate and tokens, which it takes at boot.
#[derive(Parser)]
#[command(name = "ballast", version, arg_required_else_help = true, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The time to work at instead of now (RFC 3339), to try what expiry does.
    #[arg(long, global = true, hide = true, value_parser = time_of)]
    now: Option<OffsetDateTime>,
}

const EXAMPLES: &str = "\
Examples:
  ballast init my-site                     write my-site/cluster.toml
  ballast bundle my-site/cluster.toml      write my-site/bundles/<node>.bundle.tar
  ballast status my-site/cluster.toml      show every node of the running site
  ballast connect my-site/cluster.toml     show how psql and redis-cli reach it

Exit status: 0 done, 1 failed or not all passing, 2 wrong usage or input";

#[derive(Subcommand)]
enum Command {
    /// Write a commented cluster.toml to start from
    Init {
        /// Where to write it
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
    /// Check a cluster file and say what its timings come to; changes nothing
    Validate {
        /// The cluster file
        #[arg(default_value = "cluster.toml")]
        cluster: PathBuf,
    },
    /// Write one bundle per node, keeping authority, keys and tokens in the state folder
    ///
    /// Run it again after every change of the cluster file: what did not change stays the same to the byte.
    /// Certificates live for two years and are issued anew when a node's name, address or role changes, or when less
    /// than 90 days are left; the authority lives for ten years. A node that left the cluster file loses its bundle.
    ///
    /// The state folder is the site's identity: keep it secret, and back it up.
    Bundle {
        /// The cluster file
        #[arg(default_value = "cluster.toml")]
        cluster: PathBuf,
        /// Where the bundles go [default: `bundles` beside the cluster file]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// The state folder [default: `state` beside the cluster file]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Issue every certificate anew
        #[arg(long)]
        renew: bool,
    },
    /// Show how a client outside the site reaches its databases: names, ports, accounts, and the authority's file
    Connect {
        /// The cluster file
        #[arg(default_value = "cluster.toml")]
        cluster: PathBuf,
        /// The state folder [default: `state` beside the cluster file]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print one password from the state folder, by its name: `postgres.owner`, `redis.app`
    ///
    /// Prints it to standard output, for a client outside the site: `PGPASSWORD=$(ballast secret postgres.owner)`.
    Secret {
        /// Its name; a wrong one is answered with those that there are
        name: String,
        /// The cluster file
        #[arg(default_value = "cluster.toml")]
        cluster: PathBuf,
        /// The state folder [default: `state` beside the cluster file]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Make another node the primary of a database, without losing a write
    ///
    /// Shows what will happen and asks first. Refused where no replica has every acknowledged write.
    Switchover {
        /// Which database
        database: Database,
        /// The node that shall be the primary [default: the replica that is nearest]
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        #[command(flatten)]
        site: Running,
    },
    /// Remove the data of a PostgreSQL replica, and copy it anew from the primary
    ///
    /// Shows what will happen and asks first. Refused for the primary, and for the last replica that follows it.
    Reinit {
        /// The node
        node: String,
        #[command(flatten)]
        site: Running,
    },
    /// Keep the PostgreSQL cluster from choosing another primary by itself, or let it again
    Maintenance {
        /// `on` or `off`
        maintenance: OnOrOff,
        #[command(flatten)]
        site: Running,
    },
    /// Show PostgreSQL's backups, make one now, or plan a restore to a time
    ///
    /// Asks through the site's Consul servers, as `status` does; the primary's agent answers there.
    Backup {
        #[command(subcommand)]
        action: BackupAction,
        /// The cluster file
        #[arg(long, global = true, value_name = "FILE", default_value = "cluster.toml")]
        cluster: PathBuf,
        /// The state folder [default: `state` beside the cluster file]
        #[arg(long, global = true, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Ask the site's Consul servers how every node is; exit with 1 unless all are passing
    ///
    /// Shows its health, whether it is primary or replica and how far behind, how it is counted (SYNC), whether the
    /// Sentinels could agree (QUORUM), and the versions of Consul and of the image with its slot; below the table, what
    /// is wrong with a cluster as a whole.
    ///
    /// Asks over HTTPS (port 8501), with the operator's certificate and a token that may read and nothing else, both
    /// from the state folder. A node that cannot be reached is a row of the table.
    Status {
        /// The cluster file
        #[arg(default_value = "cluster.toml")]
        cluster: PathBuf,
        /// The state folder [default: `state` beside the cluster file]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Seconds until a server that is silent counts as unreachable
        #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
        timeout: u64,
    },
}

/// A database whose primary can be changed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Database {
    Postgres,
    Redis,
}

/// A switch.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOrOff {
    On,
    Off,
}

/// A running site.
#[derive(Args)]
struct Running {
    /// The cluster file
    #[arg(default_value = "cluster.toml")]
    cluster: PathBuf,
    /// The state folder [default: `state` beside the cluster file]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Go on without being asked
    #[arg(long)]
    yes: bool,
}

#[derive(Subcommand)]
enum BackupAction {
    /// Show the backups that there are; exit with 1 unless there is one and the repository is well
    List {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a backup, and wait until it is made
    Now {
        /// Everything, instead of what has changed since the last backup
        #[arg(long)]
        full: bool,
        /// Seconds to wait; the backup goes on when they are over
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        timeout: u64,
    },
    /// Say how fresh machines begin with the data of a time: checks the time, and changes nothing
    Restore {
        /// The time, with its offset (RFC 3339): 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = time_of)]
        to: OffsetDateTime,
    },
}

/// How long a server may be silent that is asked about backups.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(5);

fn back_up(
    action: BackupAction,
    path: &Path,
    state: Option<PathBuf>,
    now: OffsetDateTime,
) -> Result<Outcome, Error> {
    let cluster = cluster::load_cluster(path)?;
    let state = state.unwrap_or_else(|| beside(path, "state"));
    let site = backup::Site::open(&cluster, &state, BACKUP_TIMEOUT)?;
    let now = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    match action {
        BackupAction::List { json } => {
            let backups = site.list()?;
            let text = if json {
                format!("{:#}\n", serde_json::json!(backups))
            } else {
                backups.table(now)
            };
            Ok(Outcome { text, done: backups.is_well(now) })
        }
        BackupAction::Now { full, timeout } => {
            let kind = if full { "full" } else { "incr" };
            let node = site.back_up(kind, now, Duration::from_secs(timeout))?;
            Ok(Outcome { text: format!("made a backup of {node}\n"), done: true })
        }
        BackupAction::Restore { to } => {
            let text = site.plan_restore(&site.list()?, to, now)?;
            Ok(Outcome { text, done: true })
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(Outcome { text, done }) => {
            // Whoever reads the output may have seen enough and be gone; that is no failure of ours.
            let _ = std::io::stdout().write_all(text.as_bytes());
            if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = std::io::stderr().write_all(explain(&error).as_bytes());
            ExitCode::from(error.exit_status())
        }
    }
}

/// What a command prints, and whether all is as it should be.
struct Outcome {
    text: String,
    done: bool,
}

fn run(cli: Cli) -> Result<Outcome, Error> {
    let now = cli.now.unwrap_or_else(OffsetDateTime::now_utc);
    let done = |text| Ok(Outcome { text, done: true });
    match cli.command {
        Command::Init { directory } => {
            let path = init::init(&directory)?;
            let path = path.display();
            done(format!("created  {path}\nedit it, then run `ballast bundle {path}`\n"))
        }
        Command::Validate { cluster: path } => {
            let cluster = cluster::load_cluster(&path)?;
            bundles::load_credentials(&cluster)?;
            let bounds = bounds::bounds(&cluster);
            done(format!("{}: good: {cluster}\n{bounds}", path.display()))
        }
        Command::Bundle { cluster: path, out, state, renew } => {
            let cluster = cluster::load_cluster(&path)?;
            let out = out.unwrap_or_else(|| beside(&path, "bundles"));
            let state = state.unwrap_or_else(|| beside(&path, "state"));
            let report = bundles::make_bundles(&cluster, &state, &out, renew, now)?;
            done(report.to_string())
        }
        Command::Connect { cluster: path, state, json } => {
            let cluster = cluster::load_cluster(&path)?;
            let state = state.unwrap_or_else(|| beside(&path, "state"));
            let connections = connect::connections(&cluster, &state);
            done(if json {
                format!("{:#}\n", serde_json::json!(connections))
            } else {
                connections.to_string()
            })
        }
        Command::Switchover { database: Database::Postgres, to, site } => {
            operate(&Wish::Switchover { to }, site)
        }
        Command::Switchover {
            database: Database::Redis,
            to,
            site: Running { cluster, state, yes },
        } => {
            let folder = state.unwrap_or_else(|| beside(&cluster, "state"));
            let cluster = cluster::load_cluster(&cluster)?;
            done(switchover::switch_over(&cluster, &folder, to.as_deref(), yes)?)
        }
        Command::Reinit { node, site } => operate(&Wish::Reinit { node }, site),
        Command::Maintenance { maintenance, site } => {
            operate(&Wish::Maintenance { on: maintenance == OnOrOff::On }, site)
        }
        Command::Secret { name, cluster: path, state } => {
            let cluster = cluster::load_cluster(&path)?;
            let folder = state.unwrap_or_else(|| beside(&path, "state"));
            let state = State::open_existing(&folder)?;
            // Another site's password would be taken for this one's.
            state.load_site(&cluster.site)?;
            done(format!("{}\n", state.load_password(&name)?))
        }
        Command::Backup { action, cluster: path, state } => back_up(action, &path, state, now),
        Command::Status { cluster: path, state, json, timeout } => {
            let cluster = cluster::load_cluster(&path)?;
            let state = state.unwrap_or_else(|| beside(&path, "state"));
            let status = status::ask(&cluster, &state, Duration::from_secs(timeout))?;
            let text = if json {
                format!("{:#}\n", serde_json::json!(status))
            } else {
                status.to_string()
            };
            Ok(Outcome { text, done: status.passing })
        }
    }
}

/// Asks something of the site's PostgreSQL cluster.
fn operate(wish: &Wish, site: Running) -> Result<Outcome, Error> {
    let cluster = cluster::load_cluster(&site.cluster)?;
    let folder = site.state.unwrap_or_else(|| beside(&site.cluster, "state"));
    let state = State::open_existing(&folder)?;
    state.load_site(&cluster.site)?;
    let Some(postgres) = &cluster.postgres else {
        return Err(Error::NoRole { role: cluster::POSTGRES });
    };
    let (operator, ca_pem) = state.load_operator()?;
    let patroni = Patroni::new(&operator, &ca_pem, state.load_password("postgres.api")?, postgres)
        .map_err(|_| Error::Damaged { path: folder })?;
    let text = operations::carry_out(wish, postgres, &patroni, site.yes)?;
    Ok(Outcome { text, done: true })
}

/// A folder beside a file.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

fn time_of(text: &str) -> Result<OffsetDateTime, time::error::Parse> {
    OffsetDateTime::parse(text, &Rfc3339)
}

/// An error with its whole chain of causes, and the remedy below it.
fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    match error.hint() {
        Some(hint) => format!("{text}\nhint: {hint}\n"),
        None => format!("{text}\n"),
    }
}
