//! Backups of PostgreSQL, tried to their end: a new cluster is made from them and has what was there at a time, no more.
//!
//! The repository is a directory that the machines share, and access rules are at deny, as in every site.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use serde_json::Value;

use super::database::Database;
use super::{ensure, run, until};
use crate::error::{Error, Result};
use crate::machine::SHARED;
use crate::poll::Seen;
use crate::programs::tail;
use crate::trial::{Group, Trial};

/// The group.
pub const GROUP: Group = Group {
    name: "backups",
    promises: &[
        "a_new_cluster_is_backed_up_by_itself",
        "a_backup_that_is_asked_for_is_made",
        "a_backup_is_made_when_its_time_comes",
        "backups_beyond_those_to_be_kept_expire",
        "what_is_written_is_in_the_repository_within_minutes",
        "a_repository_that_is_gone_is_said_and_postgresql_goes_on",
        "a_time_outside_of_the_archive_is_refused_when_it_is_asked_for",
        "a_time_outside_of_the_archive_makes_no_cluster_and_is_said",
        "a_restored_cluster_has_what_was_there_at_its_time_and_no_more",
    ],
    containers: true,
    run: try_backups,
};

/// The account that owns the repository, by its number in the image.
const ACCOUNT: u32 = 910;

/// A site with backups, as its operator has it.
struct Site {
    repository: PathBuf,
    database: Database,
}

fn try_backups(trial: &mut Trial) -> Result<()> {
    let mut site = Site::make(trial)?;
    site.wait_for_backups("a first backup", |made| !made.is_empty())?;
    trial.holds("a_new_cluster_is_backed_up_by_itself")?;

    site.database
        .sql("CREATE TABLE told (id int, word text); INSERT INTO told VALUES (1, 'before')")?;
    let before = site.backups()?;
    site.must(&["now"])?;
    let after = site.backups()?;
    ensure(after.len() > before.len(), || format!("{before:?} became {after:?}"))?;
    trial.holds("a_backup_that_is_asked_for_is_made")?;

    // Nobody asks any more: what comes now, the timer made.
    let asked = after.len();
    site.wait_for_backups("one more backup", |made| made.len() > asked)?;
    trial.holds("a_backup_is_made_when_its_time_comes")?;

    site.must(&["now", "--full"])?;
    let first = after.first().cloned().unwrap_or_default();
    site.wait_for_backups("the first backup to expire", |made| {
        !made.contains(&first) && made.iter().filter(|label| label.ends_with('F')).count() == 1
    })?;
    trial.holds("backups_beyond_those_to_be_kept_expire")?;

    site.database.sql("INSERT INTO told SELECT n, 'before' FROM generate_series(2, 100) n")?;
    let time = site.database.sql(
        "SELECT pg_sleep(1.2); \
         SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'); \
         SELECT pg_sleep(1.2)",
    )?;
    let time = time.trim().to_owned();
    site.database.sql("INSERT INTO told SELECT n, 'after' FROM generate_series(101, 150) n")?;
    site.wait_until_archived()?;
    trial.holds("what_is_written_is_in_the_repository_within_minutes")?;

    site.try_lost_repository()?;
    trial.holds("a_repository_that_is_gone_is_said_and_postgresql_goes_on")?;

    for outside in ["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"] {
        let (status, said) = site.ask(&["restore", "--to", outside])?;
        let refused = status == Some(2) && said.contains("the repository reaches from");
        ensure(refused, || format!("status {status:?} of a restore to {outside}: {said}"))?;
    }
    trial.holds("a_time_outside_of_the_archive_is_refused_when_it_is_asked_for")?;

    let plan = site.must(&["restore", "--to", &time])?;
    site.try_impossible_times(&plan)?;
    trial.holds("a_time_outside_of_the_archive_makes_no_cluster_and_is_said")?;

    site.database.begin_anew(&tables(&restored(&plan)))?;
    site.database.wait_for_primary()?;
    let told =
        site.database.sql("SELECT count(*), count(*) FILTER (WHERE word = 'after') FROM told")?;
    ensure(told.trim() == "100|0", || format!("restored to {time}, the table has {told}"))?;
    site.wait_for_backups("the restored cluster's own backup", |made| !made.is_empty())?;
    site.database.sql("INSERT INTO told VALUES (1000, 'anew')")?;
    trial.holds("a_restored_cluster_has_what_was_there_at_its_time_and_no_more")
}

/// The lines that a plan tells to write into the cluster file.
fn restored(plan: &str) -> String {
    plan.lines().filter_map(|line| line.strip_prefix("  ")).fold(String::new(), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    })
}

/// The cluster file's tables: a backup each minute, and one full one that is kept.
fn tables(postgres: &str) -> String {
    format!(
        "{postgres}\n[postgres.parameters]\nshared_buffers = \"32MB\"\n\n[postgres.backup]\n\
         repository = {{ type = \"path\", path = \"{SHARED}/repository\" }}\n\
         full = \"yearly\"\nincremental = \"minutely\"\nkeep_full = 1\n\n"
    )
}

impl Site {
    fn make(trial: &mut Trial) -> Result<Self> {
        let shared = trial.dir().join("shared");
        let repository = shared.join("repository");
        fs::create_dir_all(&repository).map_err(Error::file("making", &repository))?;
        chown(&repository, Some(ACCOUNT), Some(ACCOUNT))
            .map_err(Error::file("handing over", &repository))?;
        let database = Database::start(trial, &tables("[postgres]"), Some(&shared))?;
        Ok(Self { repository, database })
    }

    /// What `ballast backup` answers, and its exit status.
    fn ask(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let file = self.database.file();
        self.database.ask(&[&["backup"], arguments, &["--cluster", &file]].concat())
    }

    fn must(&self, arguments: &[&str]) -> Result<String> {
        let (status, said) = self.ask(arguments)?;
        ensure(status == Some(0), || {
            format!("`ballast backup {arguments:?}`: {status:?}: {said}")
        })?;
        Ok(said)
    }

    /// The names of the backups, or none where there is no answer.
    fn backups(&self) -> Result<Vec<String>> {
        Ok(labels(&self.ask(&["list", "--json"])?.1))
    }

    fn wait_for_backups(&self, what: &str, fits: impl Fn(&[String]) -> bool) -> Result<()> {
        until(what, || {
            let (status, said) = self.ask(&["list", "--json"])?;
            let made = labels(&said);
            Ok(if status == Some(0) && fits(&made) {
                Seen::Ready(())
            } else {
                Seen::NotYet(format!("{status:?}: {}", tail(&said, 12)))
            })
        })
    }

    /// Waits until a log that was begun after now is in the repository: all that is written now is before it.
    fn wait_until_archived(&mut self) -> Result<()> {
        let file = self.database.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")?;
        let question =
            format!("SELECT last_archived_wal >= '{}' FROM pg_stat_archiver", file.trim());
        until("the log to be archived", || {
            let seen = self.database.sql(&question)?;
            Ok(if seen.trim() == "t" { Seen::Ready(()) } else { Seen::NotYet(seen) })
        })
    }

    /// The repository goes and comes back under a running cluster.
    fn try_lost_repository(&mut self) -> Result<()> {
        let away = self.repository.with_extension("away");
        let moved = |from: &PathBuf, to: &PathBuf| {
            fs::rename(from, to).map_err(Error::file("moving", from))
        };
        moved(&self.repository, &away)?;
        until("the loss of the repository to be said", || {
            let (status, said) = self.ask(&["list"])?;
            let warned = status == Some(1) && said.contains("see that `repository`");
            Ok(if warned { Seen::Ready(()) } else { Seen::NotYet(said) })
        })?;
        let said = "see that `repository` of [postgres.backup] is there";
        self.database.wait_until_said("postgres-backup", "warning", said, said)?;
        self.database.sql("INSERT INTO told VALUES (151, 'after')")?;
        // What was made anew at its place in the meantime is not what was there.
        if self.repository.exists() {
            fs::remove_dir_all(&self.repository)
                .map_err(Error::file("removing", &self.repository))?;
        }
        moved(&away, &self.repository)?;
        self.wait_for_backups("the repository to be well again", |made| !made.is_empty())
    }

    /// Cluster files by hand, with times that nothing reaches: before the first backup, and after the end of the log.
    fn try_impossible_times(&mut self, plan: &str) -> Result<()> {
        let info = self.repository.join("backup/postgres/backup.info");
        let load = || fs::read(&info).map_err(Error::file("reading", &info));
        let before = load()?;
        for (time, said) in [
            ("2020-01-01T00:00:00Z", "cannot be restored to 2020-01-01"),
            ("2037-01-01T00:00:00Z", "ends before that time"),
        ] {
            let line = format!("to = \"{time}\"");
            let plan = restored(plan)
                .lines()
                .map(|old| if old.starts_with("to = ") { &line } else { old })
                .fold(String::new(), |text, line| text + line + "\n");
            self.database.begin_anew(&tables(&plan))?;
            let member = self.database.wait_until_said("postgres-data", "critical", said, said)?;
            // It waits before it tries again.
            let restarts = "systemctl show --property=NRestarts patroni.service";
            let looks = run(member, &format!("{restarts}; sleep 10; {restarts}"))?;
            let mut looks = looks.lines();
            ensure(looks.next() == looks.next(), || format!("Patroni goes round: {looks:?}"))?;
            ensure(self.database.primary()?.is_none(), || {
                format!("there is a primary as of {time}")
            })?;
        }
        let after = load()?;
        ensure(before == after, || "the repository was written to by a restore".into())
    }
}

fn labels(json: &str) -> Vec<String> {
    let state: Value = serde_json::from_str(json).unwrap_or_default();
    let made = state["backups"].as_array().into_iter().flatten();
    made.filter_map(|backup| Some(backup["label"].as_str()?.to_owned())).collect()
}
