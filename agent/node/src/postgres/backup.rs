//! Backups, as the agent deals with them: on the primary it keeps the repository ready and the timers running, says in
//! Consul what backups there are, and makes one when the operator asks for it there.
//!
//! Three keys below `ballast/backup/<cluster>/`: `state`, which the primary's agent writes; `request`, which the operator
//! writes; `answer`, which the primary's agent writes when it has done what was asked. pgBackRest's own units make the
//! backups, so that one goes on when the agent is started again.

use std::io;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ballast_bundle::Postgres;
use nix::unistd::User;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::consul::{Consul, Index};
use crate::log;
use crate::plan::postgres::backup::{KINDS, PROGRAM, unit};
use crate::role::{PRIMARY, RoleView};
use crate::state::Answer;

/// Between two looks at the repository.
const ROUND: Duration = Duration::from_secs(60);
/// The same while something is wrong with it.
const BAD_ROUND: Duration = Duration::from_secs(15);
/// How long pgBackRest may take to look, or to make a repository ready: a store that is gone takes its own time-outs.
const DEADLINE: Duration = Duration::from_secs(120);
/// Between two tries at the first backup of a repository that has none.
const FIRST_BACKUP_RETRY: Duration = Duration::from_secs(600);
/// How long Consul holds the question whether something is asked for.
const REQUEST_WAIT: Duration = Duration::from_secs(300);
/// A request that found no primary for so long is not done any more: whoever asked has gone.
const REQUEST_LIFE: Duration = Duration::from_secs(600);
/// How long a write to Consul may take.
const WRITE: Duration = Duration::from_secs(10);

/// What is known of a cluster's backups: the value of the key `state`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The primary that says so.
    pub(crate) node: String,
    /// When, in seconds since 1970.
    pub(crate) at: u64,
    /// What is wrong with the repository or the timers.
    pub(crate) error: Option<String>,
    /// The oldest first.
    pub(crate) backups: Vec<Made>,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// pgBackRest's name for it.
    pub(crate) label: String,
    /// `full` or `incr`.
    pub(crate) kind: String,
    /// When it was begun and done, in seconds since 1970. A restore reaches no time before `stop`.
    pub(crate) start: u64,
    pub(crate) stop: u64,
    /// What of the database it holds, and what it took in the repository, with those it builds on.
    pub(crate) database_bytes: u64,
    pub(crate) repository_bytes: u64,
}

/// What an operator asks for: the value of the key `request`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Request {
    id: String,
    /// When, in seconds since 1970.
    at: u64,
    kind: String,
}

/// What became of it: the value of the key `answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reply {
    id: String,
    node: String,
    error: Option<String>,
}

/// Whose backups they are, and who is told.
#[derive(Clone)]
pub(super) struct Backups {
    node: String,
    cluster: String,
    consul: Consul,
    roles: watch::Receiver<RoleView>,
    /// Told when there may be another backup.
    news: Arc<Notify>,
}

/// Starts the duties, where the cluster is backed up; what they know is for the check.
pub(super) fn start(
    node: &str,
    postgres: &Postgres,
    consul: Consul,
    roles: watch::Receiver<RoleView>,
) -> Option<watch::Receiver<Option<State>>> {
    postgres.backup.as_ref()?;
    let backups = Backups {
        node: node.to_owned(),
        cluster: postgres.cluster.clone(),
        consul,
        roles,
        news: Arc::default(),
    };
    let (publish, states) = watch::channel(None);
    tokio::spawn(look(backups.clone(), publish));
    tokio::spawn(answer(backups));
    Some(states)
}

impl Backups {
    fn key(&self, name: &str) -> String {
        format!("ballast/backup/{}/{name}", self.cluster)
    }

    fn is_primary(&self) -> bool {
        self.roles.borrow().tags.iter().any(|tag| tag == PRIMARY)
    }

    async fn until_primary(&mut self) -> Option<()> {
        let is_primary = |role: &RoleView| role.tags.iter().any(|tag| tag == PRIMARY);
        self.roles.wait_for(is_primary).await.ok().map(|_| ())
    }
}

/// Looks at the repository again and again while this node is primary, and makes it ready.
async fn look(mut backups: Backups, publish: watch::Sender<Option<State>>) {
    let mut is_ready = false;
    let mut first_backup: Option<Instant> = None;
    let mut said: Option<String> = None;
    loop {
        if !backups.is_primary() {
            // Another primary's word counts now, and what it did to the repository is not known here.
            publish.send_replace(None);
            is_ready = false;
            if backups.until_primary().await.is_none() {
                return;
            }
        }
        let looked = match make_ready(&backups.cluster, &mut is_ready).await {
            Ok(()) => list(&backups.cluster).await,
            Err(error) => Err(error),
        };
        let (error, made) = match looked {
            Ok(made) => (start_timers().await.err(), made),
            // What was known of them is still there, as far as anyone can tell.
            Err(error) => {
                is_ready = false;
                (
                    Some(error),
                    publish.borrow().as_ref().map(|s| s.backups.clone()).unwrap_or_default(),
                )
            }
        };
        if said != error {
            match &error {
                Some(error) => log::warn(&format!("backups of {}: {error}", backups.cluster)),
                None => {
                    log::info(&format!("backups of {}: the repository is ready", backups.cluster))
                }
            }
            said = error.clone();
        }
        let round = if error.is_some() { BAD_ROUND } else { ROUND };
        let state = State { node: backups.node.clone(), at: now(), error, backups: made };
        let is_due = first_backup.is_none_or(|at| at.elapsed() > FIRST_BACKUP_RETRY);
        if state.error.is_none() && state.backups.is_empty() && is_due {
            // The log alone restores nothing.
            log::info("the repository has no backup yet: making the first");
            first_backup = Some(Instant::now());
            let news = backups.news.clone();
            tokio::spawn(async move {
                if let Err(error) = back_up("full").await {
                    log::warn(&format!("the first backup: {error}"));
                }
                news.notify_one();
            });
        }
        if backups.is_primary() {
            let text = serde_json::to_vec(&state).unwrap_or_default();
            // Said again in the next round.
            backups.consul.put_key(&backups.key("state"), text, WRITE).await.ok();
            publish.send_replace(Some(state));
        }
        let _ = timeout(round, backups.news.notified()).await;
    }
}

/// Does what operators ask for, while this node is primary: one thing after the other.
async fn answer(mut backups: Backups) {
    let mut index = Index::default();
    loop {
        if !backups.is_primary() && backups.until_primary().await.is_none() {
            return;
        }
        let asked = match backups.consul.key(&backups.key("request"), index, REQUEST_WAIT).await {
            Ok((value, next)) => {
                index = next;
                value
            }
            Err(_) => {
                index = Index::default();
                sleep(Duration::from_secs(2)).await;
                continue;
            }
        };
        let request = asked.and_then(|text| serde_json::from_str::<Request>(&text).ok());
        if let Some(request) = request.filter(|_| backups.is_primary()) {
            do_request(&backups, request).await;
        }
        // Consul wakes a question early when anything near changes; never spin on it.
        sleep(Duration::from_millis(100)).await;
    }
}

async fn do_request(backups: &Backups, request: Request) {
    let place = backups.key("answer");
    // Whether it is done already, Consul must say: a backup too many costs hours of the disk.
    let Ok((given, _)) = backups.consul.key(&place, Index::default(), Duration::ZERO).await else {
        return;
    };
    let given = given.and_then(|text| serde_json::from_str::<Reply>(&text).ok());
    let is_old = now().saturating_sub(request.at) > REQUEST_LIFE.as_secs();
    if is_old || given.is_some_and(|reply| reply.id == request.id) {
        return;
    }
    let error = if KINDS.contains(&request.kind.as_str()) {
        log::info(&format!("making a backup ({}): an operator asks for it", request.kind));
        back_up(&request.kind).await.err()
    } else {
        Some(format!("there is no kind of backup called {:?}", request.kind))
    };
    if let Some(error) = &error {
        log::warn(error);
    }
    backups.news.notify_one();
    let reply = Reply { id: request.id, node: backups.node.clone(), error };
    let text = serde_json::to_vec(&reply).unwrap_or_default();
    if let Err(error) = backups.consul.put_key(&place, text, WRITE).await {
        log::warn(&format!("the operator could not be answered: {}", crate::error::chain(&error)));
    }
}

/// Makes a backup, or waits for the one that is being made.
async fn back_up(kind: &str) -> Result<(), String> {
    let unit = unit(kind, "service");
    let output = Command::new("/usr/bin/systemctl")
        .args(["start", &unit])
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("starting {unit}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{unit} failed: `journalctl -u {unit}` on this node says why")),
    }
}

/// Starts the timers, which is nothing where they run.
async fn start_timers() -> Result<(), String> {
    let timers = KINDS.map(|kind| unit(kind, "timer"));
    let output = Command::new("/usr/bin/systemctl")
        .arg("start")
        .args(&timers)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("starting the timers of backups: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err("the timers of backups do not start: see that `full` and `incremental` of [postgres.backup] are calendar events (`systemd-analyze calendar` explains one)".to_owned()),
    }
}

/// Makes the repository ready for this cluster, where it is not known to be: what is there already stays.
async fn make_ready(cluster: &str, is_ready: &mut bool) -> Result<(), String> {
    if *is_ready {
        return Ok(());
    }
    let output = pgbackrest(cluster, &["stanza-create"]).await?;
    *is_ready = output.status.success();
    match *is_ready {
        true => Ok(()),
        false => Err(refusal("the repository cannot be made ready", &output)),
    }
}

async fn list(cluster: &str) -> Result<Vec<Made>, String> {
    let output = pgbackrest(cluster, &["--output=json", "info"]).await?;
    if !output.status.success() {
        return Err(refusal("the repository cannot be read", &output));
    }
    read_info(&output.stdout)
}

/// What pgBackRest says is wrong: its first error, which begins with its number.
pub(super) fn first_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let line =
        text.lines().find_map(|line| line.split_once("ERROR: ").map(|(_, rest)| rest.trim()));
    line.unwrap_or_else(|| text.trim()).chars().take(200).collect()
}

fn refusal(what: &str, output: &Output) -> String {
    let line = first_error(output);
    format!(
        "{what}: pgBackRest says {line:?}: see that `repository` of [postgres.backup] is there, and takes this site's key"
    )
}

/// Runs pgBackRest as PostgreSQL's account.
async fn pgbackrest(cluster: &str, arguments: &[&str]) -> Result<Output, String> {
    let failed = |error: io::Error| format!("starting {PROGRAM}: {error}");
    let mut command = Command::new(PROGRAM);
    command.arg(format!("--stanza={cluster}")).args(arguments).stdin(Stdio::null());
    if let Ok(Some(user)) = User::from_name("postgres") {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    // It starts no process that outlives it.
    let running = command.current_dir("/").kill_on_drop(true).output();
    match timeout(DEADLINE, running).await {
        Ok(output) => output.map_err(failed),
        Err(_) => Err(format!(
            "the repository does not answer: pgBackRest took longer than {} s",
            DEADLINE.as_secs()
        )),
    }
}

#[derive(Deserialize)]
struct Stanza {
    #[serde(default)]
    backup: Vec<Backup>,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    code: u64,
    message: String,
}

/// That all is well with a repository, and that it has no backup yet (pgBackRest's `info`, "status").
const WELL: [u64; 2] = [0, 2];

#[derive(Deserialize)]
struct Backup {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    timestamp: Span,
    info: Sizes,
}

#[derive(Deserialize)]
struct Span {
    start: u64,
    stop: u64,
}

#[derive(Deserialize)]
struct Sizes {
    size: u64,
    repository: InRepository,
}

#[derive(Deserialize)]
struct InRepository {
    #[serde(default)]
    delta: u64,
}

/// Reads what `pgbackrest info --output=json` says (its user guide, "Information").
fn read_info(bytes: &[u8]) -> Result<Vec<Made>, String> {
    let stanzas: Vec<Stanza> = serde_json::from_slice(bytes)
        .map_err(|error| format!("reading what pgBackRest says of its repository: {error}"))?;
    // A directory that is gone is no failure to pgBackRest, but a repository without this cluster; ours was made ready.
    let lost = match stanzas.iter().find(|stanza| !WELL.contains(&stanza.status.code)) {
        Some(stanza) => Some(stanza.status.message.as_str()),
        None => stanzas.is_empty().then_some("no stanza"),
    };
    if let Some(message) = lost {
        return Err(format!(
            "the repository has nothing of this cluster any more ({message}): see that `repository` of [postgres.backup] is there"
        ));
    }
    let made = stanzas.into_iter().flat_map(|stanza| stanza.backup).map(|backup| Made {
        label: backup.label,
        kind: backup.kind,
        start: backup.timestamp.start,
        stop: backup.timestamp.stop,
        database_bytes: backup.info.size,
        repository_bytes: backup.info.repository.delta,
    });
    Ok(made.collect())
}

/// What the check of a cluster's backups says.
pub(crate) fn judge(state: Option<&State>, age_warning_hours: u64, now: u64) -> Answer {
    let Some(state) = state else { return Answer::passing("the primary's to say") };
    if let Some(error) = &state.error {
        return Answer::warning(error.clone());
    }
    let Some(last) = state.backups.last() else {
        return Answer::warning(
            "nothing is backed up yet: the first backup is being made, or `journalctl -u 'ballast-backup@*'` says why not",
        );
    };
    let hours = now.saturating_sub(last.stop) / 3600;
    let output =
        format!("{} backups, the last {} of {hours} h ago", state.backups.len(), last.label);
    if hours > age_warning_hours {
        return Answer::warning(format!(
            "{output}, more than {age_warning_hours}: `journalctl -u 'ballast-backup@*'` on the primary says why there is none since, and `ballast backup now` makes one"
        ));
    }
    Answer::passing(output)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
