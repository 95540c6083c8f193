//! `ballast backup`: which backups a site's PostgreSQL has, one more of them, and how the data becomes what it was.
//!
//! Asked through Consul: the primary's agent says there what is in the repository, and does there what is asked for.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use ballast_bundle::Postgres;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::servers::{Servers, request_id};

/// Between two looks for an answer.
const LOOK: Duration = Duration::from_secs(2);
/// What the primary's agent said longer ago than this is not what is.
const STALE_SECS: u64 = 300;

/// The backups of a cluster, as its primary's agent says: the key `state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    /// The primary that says so.
    pub node: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// What is wrong with the repository or the timers.
    pub error: Option<String>,
    /// The oldest first.
    pub backups: Vec<Made>,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub label: String,
    /// `full` or `incr`.
    pub kind: String,
    /// In seconds since 1970. A restore reaches no time before `stop`.
    pub start: u64,
    pub stop: u64,
    pub database_bytes: u64,
    pub repository_bytes: u64,
}

/// What is asked of the primary's agent: the key `request`.
#[derive(Serialize)]
struct Request<'a> {
    id: &'a str,
    at: u64,
    kind: &'a str,
}

/// What it answers: the key `answer`.
#[derive(Deserialize)]
struct Reply {
    id: String,
    node: String,
    error: Option<String>,
}

/// A site whose PostgreSQL is backed up.
pub struct Site<'a> {
    postgres: &'a Postgres,
    servers: Servers,
}

impl<'a> Site<'a> {
    /// Reads who the operator is from the state folder.
    pub fn open(cluster: &'a Cluster, state: &Path, timeout: Duration) -> Result<Self, Error> {
        let postgres = cluster.postgres.as_ref().filter(|p| p.backup.is_some());
        let postgres = postgres.ok_or(Error::NoBackups)?;
        let servers = Servers::open(cluster, &postgres.members, state, timeout)?;
        Ok(Self { postgres, servers })
    }

    /// What the primary's agent says of the repository.
    pub fn list(&self) -> Result<Backups, Error> {
        let text = self.servers.key(&self.key("state"))?;
        let text = text.ok_or(Error::NothingSaid)?;
        serde_json::from_slice(&text).map_err(|_| Error::NothingSaid)
    }

    /// Asks for a backup, and waits until it is made.
    pub fn back_up(&self, kind: &str, now: u64, patience: Duration) -> Result<String, Error> {
        let id = request_id()?;
        let request = serde_json::json!(Request { id: &id, at: now, kind }).to_string();
        self.servers.put_key(&self.key("request"), request.as_bytes())?;
        let asked = Instant::now();
        while asked.elapsed() < patience {
            std::thread::sleep(LOOK);
            // A server that is silent now may answer the next time.
            let answer = self.servers.key(&self.key("answer"));
            let reply = answer.ok().flatten();
            let reply = reply.and_then(|text| serde_json::from_slice::<Reply>(&text).ok());
            match reply.filter(|reply| reply.id == id) {
                None => {}
                Some(Reply { node, error: Some(reason), .. }) => {
                    return Err(Error::Backup { node, reason });
                }
                Some(Reply { node, error: None, .. }) => return Ok(node),
            }
        }
        Err(Error::Unanswered { secs: patience.as_secs() })
    }

    /// How the data becomes what it was at a time.
    pub fn plan_restore(
        &self,
        backups: &Backups,
        to: OffsetDateTime,
        now: u64,
    ) -> Result<String, Error> {
        plan_restore(self.postgres, backups, to, now)
    }

    fn key(&self, name: &str) -> String {
        format!("ballast/backup/{}/{name}", self.postgres.cluster)
    }
}

/// What to write into the cluster file so that fresh machines begin with the data of a time; nothing is changed.
///
/// # Errors
/// The time is outside of what the repository reaches.
fn plan_restore(
    postgres: &Postgres,
    backups: &Backups,
    to: OffsetDateTime,
    now: u64,
) -> Result<String, Error> {
    let wanted = u64::try_from(to.unix_timestamp()).unwrap_or(0);
    let Some(first) = backups.backups.iter().map(|b| b.stop).min() else {
        return Err(Error::Outside {
            to: rfc3339(wanted),
            reason: "there is no backup".to_owned(),
        });
    };
    let latest = match backups.error {
        // What was written since may not be in the repository.
        Some(_) => backups.backups.iter().map(|b| b.stop).max().unwrap_or(first),
        None => now,
    };
    if wanted < first || wanted > latest {
        let reason =
            format!("the repository reaches from {} to {}", rfc3339(first), rfc3339(latest));
        return Err(Error::Outside { to: rfc3339(wanted), reason });
    }
    let name = &postgres.cluster;
    let from = backups.backups.iter().filter(|b| b.stop <= wanted).map(|b| &b.label).next_back();
    let from = from.map_or("", String::as_str);
    let to = rfc3339(wanted);
    Ok(format!(
        "\
The data of cluster {name} as it was at {to}, from backup {from} and the log after it.
It is restored into a new cluster on machines with empty disks; {name} is left as it is. In the cluster file:

  [postgres]
  cluster = \"{name}-restored\"
  # … with all that stands under [postgres] now, [postgres.backup] among it, and

  [postgres.restore]
  cluster = \"{name}\"
  to = \"{to}\"

Then `ballast bundle`; give the Consul servers their new bundles, for the new cluster's access rules, and start the machines
of role \"postgres\" with theirs and empty disks. Once there is a
primary, take [postgres.restore] out; PostgreSQL asks for one restart, to leave what it was restored by. What is restored has {name}'s accounts; passwords become what the bundles say.
"
    ))
}

impl Backups {
    /// A table for people.
    pub fn table(&self, now: u64) -> String {
        let mut text = String::new();
        if let Some(error) = &self.error {
            text.push_str(&format!("warning: {error}\n"));
        }
        if now.saturating_sub(self.at) > STALE_SECS {
            let at = rfc3339(self.at);
            text.push_str(&format!("warning: no primary has said so since {at}\n"));
        }
        text.push_str(&self.to_string());
        text
    }

    /// Whether all is as it should be.
    pub fn is_well(&self, now: u64) -> bool {
        self.error.is_none()
            && !self.backups.is_empty()
            && now.saturating_sub(self.at) <= STALE_SECS
    }
}

impl fmt::Display for Backups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.backups.is_empty() {
            return writeln!(f, "there is no backup yet");
        }
        let width =
            self.backups.iter().map(|b| b.label.len()).max().unwrap_or(0).max("BACKUP".len());
        writeln!(f, "{:<width$}  KIND  DONE                  DATABASE  REPOSITORY", "BACKUP")?;
        for Made { label, kind, stop, database_bytes, repository_bytes, .. } in &self.backups {
            let (stop, database, repository) =
                (rfc3339(*stop), mib(*database_bytes), mib(*repository_bytes));
            writeln!(f, "{label:<width$}  {kind:<4}  {stop}  {database:>8}  {repository:>10}")?;
        }
        Ok(())
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn rfc3339(seconds: u64) -> String {
    let time =
        i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::read_cluster;

    const T: u64 = 1_795_374_746;

    fn backups(error: Option<&str>) -> Backups {
        let made = |label: &str, stop| Made {
            label: label.to_owned(),
            kind: "full".to_owned(),
            start: stop - 10,
            stop,
            database_bytes: 31_093_010,
            repository_bytes: 2_888_124,
        };
        Backups {
            node: "n4".to_owned(),
            at: T + 3600,
            error: error.map(str::to_owned),
            backups: vec![made("A", T), made("B", T + 1800)],
        }
    }

    fn plan(error: Option<&str>, to: u64) -> Result<String, Error> {
        let text = include_bytes!("../tests/fixtures/databases.toml");
        let cluster = read_cluster("cluster.toml", text).unwrap();
        let to = OffsetDateTime::from_unix_timestamp(to.try_into().unwrap()).unwrap();
        plan_restore(&cluster.postgres.unwrap(), &backups(error), to, T + 3600)
    }

    #[test]
    fn a_time_outside_of_the_archive_is_refused_with_what_it_reaches() {
        for outside in [T - 1, T + 3601] {
            let error = plan(None, outside).unwrap_err();
            assert_eq!(error.exit_status(), 2);
            assert!(
                error.to_string().contains("2026-11-22T19:12:26Z to 2026-11-22T20:12:26Z"),
                "{error}"
            );
        }
        // With a repository that takes nothing, no later than the last backup.
        assert!(plan(Some("gone"), T + 1801).is_err());
        assert!(plan(Some("gone"), T + 1800).is_ok());
    }

    #[test]
    fn a_restore_names_the_last_backup_before_its_time_and_another_cluster() {
        let text = plan(None, T + 60).unwrap();
        assert!(text.contains("from backup A and"), "{text}");
        assert!(text.contains("cluster = \"postgres-restored\"\n"), "{text}");
        assert!(text.contains("to = \"2026-11-22T19:13:26Z\"\n"), "{text}");
        assert!(plan(None, T + 1800).unwrap().contains("from backup B and"));
    }

    #[test]
    fn a_list_that_nobody_renews_says_so() {
        assert!(backups(None).is_well(T + 3600));
        assert!(!backups(Some("gone")).is_well(T + 3600));
        assert!(!backups(None).is_well(T + 3600 + STALE_SECS + 1));
        let expected = "\
BACKUP  KIND  DONE                  DATABASE  REPOSITORY
A       full  2026-11-22T19:12:26Z    30 MiB       3 MiB
B       full  2026-11-22T19:42:26Z    30 MiB       3 MiB
";
        assert_eq!(backups(None).table(T + 3600), expected);
        assert!(backups(None).table(T + 7200).starts_with("warning: no primary has said so since"));
    }
}
