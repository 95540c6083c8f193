//! Probes: asking one check's question once, within its deadline. A question without an answer is an answer: critical.
//!
//! To add a kind, add it to the contract's `CheckKind` and its arm to [`ask`].

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use ballast_contract::{Check, CheckKind};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;

use crate::consul::Consul;
use crate::http;
use crate::postgres;
use crate::redis;
use crate::role::RoleView;
use crate::root::Root;
use crate::state::{Answer, Health};
use crate::systemd;

/// What probes ask with.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) root: Root,
    pub(crate) consul: Consul,
    /// What is known of this node's Redis group, where it is a member of one.
    pub(crate) redis: Option<watch::Receiver<redis::Snapshot>>,
    /// What the node's database is, where it has one.
    pub(crate) role: Option<watch::Receiver<RoleView>>,
    /// What is known of the PostgreSQL cluster's backups, where it is backed up.
    pub(crate) backups: Option<watch::Receiver<Option<postgres::backup::State>>>,
}

/// How much of a command's output Consul and people are shown.
const OUTPUT_CHARS: usize = 200;

/// Asks a check's question once.
pub(crate) async fn probe(asker: &Asker, check: &Check) -> Answer {
    let deadline = Duration::from_secs(check.timeout_secs);
    tokio::time::timeout(deadline, ask(asker, &check.kind))
        .await
        .unwrap_or_else(|_| Answer::critical(format!("no answer within {} s", check.timeout_secs)))
}

async fn ask(asker: &Asker, kind: &CheckKind) -> Answer {
    match kind {
        CheckKind::Unit { unit } => unit_is_active(unit).await,
        CheckKind::Http { url } => http_answers(url).await,
        CheckKind::Tcp { address } => tcp_accepts(address).await,
        CheckKind::Command { argv } => command_exits(argv).await,
        CheckKind::Disk { path, warning_percent, critical_percent } => {
            disk_has_room(asker, path, *warning_percent, *critical_percent)
        }
        CheckKind::Memory { warning_percent, critical_percent } => {
            memory_has_room(*warning_percent, *critical_percent)
        }
        CheckKind::RedisRole {} => redis_is(asker, redis::check::role),
        CheckKind::RedisReplication {} => redis_is(asker, redis::check::replication),
        CheckKind::RedisSentinel {} => redis_is(asker, redis::check::sentinel),
        CheckKind::RedisPersistence {} => redis_is(asker, redis::check::persistence),
        CheckKind::RedisMemory { warning_percent, critical_percent } => redis_is(asker, |known| {
            redis::check::memory(known, *warning_percent, *critical_percent)
        }),
        CheckKind::PostgresBackup { age_warning_hours } => match &asker.backups {
            Some(known) => {
                let now = postgres::backup::now();
                postgres::backup::judge(known.borrow().as_ref(), *age_warning_hours, now)
            }
            None => Answer::passing("the cluster file asks for no backups"),
        },
        CheckKind::ConsulAgent {} => match asker.consul.answers().await {
            Ok(()) => Answer::passing("the Consul agent answers"),
            Err(error) => Answer::critical(crate::error::chain(&error)),
        },
        CheckKind::ConsulLeader {} => match asker.consul.leader().await {
            Ok(Some(leader)) => Answer::passing(format!("the Consul leader is {leader}")),
            Ok(None) => Answer::critical("Consul has no leader"),
            Err(error) => Answer::critical(crate::error::chain(&error)),
        },
        CheckKind::Clock {} => clock_is_kept(&asker.root),
        CheckKind::DatabaseRole {} => match &asker.role {
            Some(role) => role.borrow().answer.clone(),
            None => Answer::critical("the bundle names no database for this node"),
        },
        CheckKind::PostgresData {} => postgres::probe::data(&asker.root),
        CheckKind::PostgresReplication { lag_warning_bytes } => {
            postgres::probe::replication(&asker.root, *lag_warning_bytes).await
        }
        CheckKind::PostgresSynchronous {} => postgres::probe::synchronous(&asker.root).await,
        CheckKind::PostgresArchiver {} => postgres::probe::archiver(&asker.root).await,
        CheckKind::PostgresSettings {} => postgres::probe::settings(&asker.root).await,
    }
}

/// Never waits: a Redis that hangs costs the duty that follows it its deadline, and no check.
fn redis_is(asker: &Asker, question: impl Fn(&redis::Snapshot) -> Answer) -> Answer {
    match &asker.redis {
        Some(known) => redis::check::ask(&known.borrow(), question),
        None => Answer::critical("the bundle names no Redis group that this node is a member of"),
    }
}

async fn unit_is_active(unit: &str) -> Answer {
    match systemd::active_state(unit).await {
        Ok(state) => {
            let active = state == "active" || state == "reloading";
            let health = if active { Health::Passing } else { Health::Critical };
            Answer { health, output: format!("{unit} is {state}") }
        }
        Err(error) => Answer::critical(format!("asking systemd about {unit}: {error}")),
    }
}

pub(crate) async fn http_answers(url: &str) -> Answer {
    match http::get(url).await {
        Ok(reply) if reply.status.is_success() => {
            Answer::passing(format!("{url} answers {}", reply.status))
        }
        // A redirect is not followed: it could lead anywhere.
        Ok(reply) => Answer::critical(format!("{url} answers {}", reply.status)),
        Err(error) => Answer::critical(crate::error::chain(&error)),
    }
}

pub(crate) async fn tcp_accepts(address: &str) -> Answer {
    let Ok(socket) = address.parse::<SocketAddr>() else {
        return Answer::critical(format!("{address:?} is not an IP address and a port"));
    };
    match TcpStream::connect(socket).await {
        Ok(_) => Answer::passing(format!("{address} accepts connections")),
        Err(error) => Answer::critical(format!("connecting to {address}: {error}")),
    }
}

async fn command_exits(argv: &[String]) -> Answer {
    let [program, arguments @ ..] = argv else {
        return Answer::critical("the check has no command");
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own process group, so that what it started goes with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return Answer::critical(format!("starting {program}: {error}")),
    };
    let mut group = Group(child.id());
    let output = child.wait_with_output().await;
    group.0 = None;
    let output = match output {
        Ok(output) => output,
        Err(error) => return Answer::critical(format!("waiting for {program}: {error}")),
    };
    let said = if output.stdout.trim_ascii().is_empty() { output.stderr } else { output.stdout };
    let said: String = String::from_utf8_lossy(&said).trim().chars().take(OUTPUT_CHARS).collect();
    let health = match output.status.code() {
        Some(0) => Health::Passing,
        Some(1) => Health::Warning,
        _ => Health::Critical,
    };
    let output =
        if said.is_empty() { format!("{program} ended with {}", output.status) } else { said };
    Answer { health, output }
}

/// A process group that is killed when nobody waits for it any more.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // It may be gone this moment, which is what is wanted.
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(id),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

fn disk_has_room(asker: &Asker, path: &str, warning: u8, critical: u8) -> Answer {
    match nix::sys::statvfs::statvfs(&asker.root.at(path)) {
        Ok(found) => {
            // As df(1) counts: what is kept for root is neither used nor free.
            let used = found.blocks().saturating_sub(found.blocks_free());
            let percent = percent(used, used.saturating_add(found.blocks_available()));
            Answer {
                health: grade(percent, warning, critical),
                output: format!("{percent} % of {path} is in use"),
            }
        }
        Err(error) => Answer::critical(format!("asking how full {path} is: {error}")),
    }
}

fn memory_has_room(warning: u8, critical: u8) -> Answer {
    let mut system = sysinfo::System::new();
    system.refresh_memory_specifics(sysinfo::MemoryRefreshKind::nothing().with_ram());
    let percent = percent(system.used_memory(), system.total_memory());
    Answer {
        health: grade(percent, warning, critical),
        output: format!("{percent} % of memory is in use"),
    }
}

/// systemd-timesyncd leaves this file once it has set the clock (its manual page, "Files").
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

fn clock_is_kept(root: &Root) -> Answer {
    if root.at("/run/systemd/container").exists() {
        return Answer::passing("the clock is the host's");
    }
    if root.at(SYNCHRONIZED).exists() {
        return Answer::passing("the clock was set by network time");
    }
    Answer::warning(
        "no time server has answered yet: name some that this node reaches as `ntp` of its data centre, and see the journal of systemd-timesyncd.service",
    )
}

/// Used percent, rounded up: full is 100 and never 99.
fn percent(used: u64, total: u64) -> u64 {
    let percent = (u128::from(used) * 100).div_ceil(u128::from(total.max(1)));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

fn grade(percent: u64, warning: u8, critical: u8) -> Health {
    if percent >= u64::from(critical) {
        Health::Critical
    } else if percent >= u64::from(warning) {
        Health::Warning
    } else {
        Health::Passing
    }
}

#[cfg(test)]
mod tests;
