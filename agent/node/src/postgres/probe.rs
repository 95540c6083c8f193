//! PostgreSQL's checks: each asks this node's PostgreSQL one question over its socket, and says what to do about a bad
//! answer. What an answer means is decided without I/O.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio_postgres::Row;

use super::sql::{Error, Sql};
use crate::error::chain;
use crate::plan::postgres::DATA;
use crate::root::Root;
use crate::state::Answer;

/// The account that watches (a member of `pg_monitor`), and the database it is in.
const ACCOUNT: &str = "ballast";
const DATABASE: &str = "postgres";
/// Where people find out more.
const JOURNAL: &str = "`journalctl -u patroni.service` on this node says why";

/// Asks one question; the row of its answer, if there is one.
async fn ask(root: &Root, question: &str) -> Result<Vec<Row>, Error> {
    let client = Sql::new(root).connect(ACCOUNT, DATABASE).await?;
    client.query(question, &[]).await.map_err(Error::query("asking PostgreSQL"))
}

/// A value of a row; none where it is null, or not of this type.
fn value<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, name: &str) -> Option<T> {
    row.try_get::<_, Option<T>>(name).ok().flatten()
}

fn unanswered(error: &Error) -> Answer {
    Answer::critical(format!("{}; {JOURNAL}", chain(error)))
}

/// Whether the data can be this image's: asked of the files, because a PostgreSQL that can't start says nothing.
pub(crate) fn data(root: &Root) -> Answer {
    let wanted = DATA.split('/').rev().nth(1).unwrap_or_default();
    let found = match root.load(&format!("{DATA}/PG_VERSION")) {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Ok(None) => {
            return match super::restore::failure(root) {
                Some(reason) => Answer::critical(reason),
                None => Answer::passing(format!("there is no data in {DATA} yet")),
            };
        }
        Err(error) => return Answer::critical(chain(&error)),
    };
    if found != wanted {
        return Answer::critical(format!(
            "the data in {DATA} is of PostgreSQL {found} and this image has {wanted}: nothing touches it; start the image that has {found}, or move the data away to have it made anew from the primary"
        ));
    }
    match std::fs::metadata(root.at(DATA)) {
        // PostgreSQL refuses a directory that others may write to.
        Ok(found) if found.mode() & 0o027 != 0 => Answer::critical(format!(
            "{DATA} has mode {:o}, and PostgreSQL takes 700 or 750: `chmod 700 {DATA}`",
            found.mode() & 0o7777
        )),
        Ok(_) => Answer::passing(format!("the data is of PostgreSQL {found}")),
        Err(error) => Answer::critical(format!("looking at {DATA}: {error}")),
    }
}

/// On a replica, how it follows; on a primary, who follows.
pub(crate) async fn replication(root: &Root, lag_warning_bytes: u64) -> Answer {
    // One question for both, so that the node can't change its role in between.
    let question = "SELECT pg_is_in_recovery() AS replica, \
            r.status, host(r.sender_host::inet) AS sender, r.received_tli AS timeline, \
            CASE WHEN pg_is_in_recovery() THEN greatest(pg_wal_lsn_diff(r.latest_end_lsn, pg_last_wal_replay_lsn()), 0)::int8 END AS lag, \
            (SELECT timeline_id FROM pg_control_checkpoint()) AS own_timeline, \
            (SELECT string_agg(application_name, ', ' ORDER BY application_name) FROM pg_stat_replication \
                WHERE state = 'streaming') AS following, \
            (SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots \
                WHERE slot_type = 'physical' AND NOT active AND NOT temporary) AS away, \
            (SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots \
                WHERE wal_status = 'lost') AS lost \
        FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver r ON true";
    match ask(root, question).await {
        Err(error) => unanswered(&error),
        Ok(rows) => match rows.first() {
            None => Answer::critical("PostgreSQL gave no answer about its replication"),
            Some(row) if value(row, "replica") == Some(true) => judge_replica(
                &Receiver {
                    status: value(row, "status"),
                    sender: value(row, "sender"),
                    timeline: value(row, "timeline"),
                    lag: value::<i64>(row, "lag").and_then(|lag| u64::try_from(lag).ok()),
                },
                lag_warning_bytes,
            ),
            Some(row) => judge_primary(
                value(row, "own_timeline").unwrap_or(0),
                value(row, "following"),
                value(row, "away"),
                value(row, "lost"),
            ),
        },
    }
}

/// How far a replica is behind its primary, bytes; none where it is none, or doesn't say.
pub(super) async fn lag(root: &Root) -> Option<u64> {
    let question = "SELECT greatest(pg_wal_lsn_diff(latest_end_lsn, pg_last_wal_replay_lsn()), 0)::int8 AS lag \
        FROM pg_stat_wal_receiver WHERE pg_is_in_recovery()";
    let rows = tokio::time::timeout(LAG_DEADLINE, ask(root, question)).await.ok()?.ok()?;
    value::<i64>(rows.first()?, "lag").and_then(|lag| u64::try_from(lag).ok())
}

/// How long that may take: it is asked again and again.
const LAG_DEADLINE: Duration = Duration::from_secs(2);

/// What a replica's receiver says (`pg_stat_wal_receiver`).
struct Receiver {
    status: Option<String>,
    sender: Option<String>,
    timeline: Option<i32>,
    /// Bytes that the primary has and this node has not replayed.
    lag: Option<u64>,
}

fn judge_replica(receiver: &Receiver, lag_warning_bytes: u64) -> Answer {
    let Receiver { status, sender, timeline, lag } = receiver;
    if status.as_deref() != Some("streaming") {
        let status = status.as_deref().unwrap_or("not connected to one");
        return Answer::critical(format!(
            "this replica does not follow a primary ({status}): there is none, the way to it is cut, or it refuses the password or certificate of this node's bundle; {JOURNAL}"
        ));
    }
    let sender = sender.as_deref().unwrap_or("its primary");
    let timeline = timeline.unwrap_or(0);
    let lag = lag.unwrap_or(0);
    let output = format!("follows {sender} on timeline {timeline}, {lag} bytes behind");
    if lag > lag_warning_bytes {
        return Answer::warning(format!(
            "{output}, more than {lag_warning_bytes}: see whether this node's disk or network keeps up, or a long query holds it back"
        ));
    }
    Answer::passing(output)
}

fn judge_primary(
    timeline: i32,
    following: Option<String>,
    away: Option<String>,
    lost: Option<String>,
) -> Answer {
    let following = following.unwrap_or_else(|| "nobody".to_owned());
    let output = format!("primary on timeline {timeline}, followed by {following}");
    if let Some(lost) = lost {
        return Answer::warning(format!(
            "{output}; {lost} was away for longer than its log is kept: have Patroni reinitialise it from this node"
        ));
    }
    match away {
        None => Answer::passing(output),
        Some(away) => Answer::warning(format!(
            "{output}; not by {away}, whose log is kept until max_slot_wal_keep_size: bring it back, or take it out of the cluster file"
        )),
    }
}

/// Whether a write reaches a synchronous replica, where it must.
pub(crate) async fn synchronous(root: &Root) -> Answer {
    let question = "SELECT pg_is_in_recovery() AS replica, \
            current_setting('synchronous_standby_names') AS names, \
            (SELECT string_agg(application_name, ', ' ORDER BY application_name) FROM pg_stat_replication \
                WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming') AS synchronous";
    match ask(root, question).await {
        Err(error) => unanswered(&error),
        Ok(rows) => match rows.first() {
            None => Answer::critical("PostgreSQL gave no answer about its synchronous replicas"),
            Some(row) => judge_synchronous(
                value(row, "replica").unwrap_or(false),
                &value::<String>(row, "names").unwrap_or_default(),
                value(row, "synchronous"),
            ),
        },
    }
}

fn judge_synchronous(replica: bool, names: &str, synchronous: Option<String>) -> Answer {
    if replica {
        return Answer::passing("the primary's to say");
    }
    match synchronous {
        _ if names.is_empty() => Answer::passing("writes wait for no replica"),
        // Patroni's word for: whoever follows. Writes go on, and nobody may take the primary's place.
        Some(synchronous) if names.contains('*') => Answer::warning(format!(
            "writes wait for any of {synchronous} and none is named yet, so that none may be promoted: Patroni names one in its next rounds; {JOURNAL} if it doesn't"
        )),
        Some(synchronous) => Answer::passing(format!("writes wait for one of {synchronous}")),
        None => Answer::warning(
            "no synchronous replica follows, so that every write waits: bring a replica back (`ballast status` shows which is away), or choose the durability `asynchronous` for as long",
        ),
    }
}

/// Whether the write-ahead log is archived, where it shall be.
pub(crate) async fn archiver(root: &Root) -> Answer {
    let question = "SELECT current_setting('archive_mode') <> 'off' AND NOT pg_is_in_recovery() AS archives, \
            last_archived_wal, last_failed_wal, failed_count, \
            coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL) AS failing \
        FROM pg_stat_archiver";
    match ask(root, question).await {
        Err(error) => unanswered(&error),
        Ok(rows) => match rows.first() {
            None => Answer::critical("PostgreSQL gave no answer about its archive"),
            Some(row) if value(row, "archives") != Some(true) => {
                Answer::passing("this node archives nothing")
            }
            Some(row) => judge_archiver(
                value(row, "failing").unwrap_or(false),
                value(row, "last_archived_wal"),
                value(row, "last_failed_wal"),
                value::<i64>(row, "failed_count").unwrap_or(0),
            ),
        },
    }
}

fn judge_archiver(
    failing: bool,
    archived: Option<String>,
    failed: Option<String>,
    count: i64,
) -> Answer {
    let archived = archived.unwrap_or_else(|| "nothing yet".to_owned());
    if failing {
        let failed = failed.unwrap_or_default();
        return Answer::warning(format!(
            "archiving {failed} fails ({count} failures so far; last archived: {archived}): the log fills this disk until the backup's repository takes it; {JOURNAL}"
        ));
    }
    Answer::passing(format!("archived {archived}"))
}

/// Whether all parameters hold.
pub(crate) async fn settings(root: &Root) -> Answer {
    let question = "SELECT string_agg(name, ', ' ORDER BY name) AS waiting FROM pg_settings WHERE pending_restart";
    match ask(root, question).await {
        Err(error) => unanswered(&error),
        Ok(rows) => judge_settings(rows.first().and_then(|row| value(row, "waiting"))),
    }
}

fn judge_settings(waiting: Option<String>) -> Answer {
    match waiting {
        None => Answer::passing("every parameter holds"),
        Some(waiting) => Answer::warning(format!(
            "{waiting} waits for a restart of PostgreSQL: restart replicas first, then the primary after a switchover"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::state::Health;

    fn data_of(version: &str, mode: u32) -> Answer {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir_all(root.at(DATA)).unwrap();
        fs::set_permissions(root.at(DATA), Permissions::from_mode(mode)).unwrap();
        fs::write(root.at(&format!("{DATA}/PG_VERSION")), version).unwrap();
        data(&root)
    }

    #[test]
    fn data_of_another_major_version_is_critical_and_says_what_to_do() {
        let answer = data_of("16\n", 0o700);
        assert_eq!(answer.health, Health::Critical);
        assert!(answer.output.contains("PostgreSQL 16 and this image has 17"), "{}", answer.output);
        assert_eq!(data_of("17\n", 0o700).health, Health::Passing);
        assert_eq!(data_of("17\n", 0o755).health, Health::Critical);
    }

    #[test]
    fn a_disk_without_data_is_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(data(&Root::new(directory.path())).health, Health::Passing);
    }

    #[test]
    fn a_replica_that_follows_is_passing_until_it_is_too_far_behind() {
        let receiver = |status: &str, lag| Receiver {
            status: Some(status.to_owned()),
            sender: Some("10.0.0.4".to_owned()),
            timeline: Some(3),
            lag: Some(lag),
        };
        assert_eq!(judge_replica(&receiver("streaming", 10), 100).health, Health::Passing);
        assert_eq!(judge_replica(&receiver("streaming", 101), 100).health, Health::Warning);
        assert_eq!(judge_replica(&receiver("waiting", 0), 100).health, Health::Critical);
        let alone = Receiver { status: None, sender: None, timeline: None, lag: None };
        assert_eq!(judge_replica(&alone, 100).health, Health::Critical);
    }

    #[test]
    fn a_primary_names_the_replicas_that_are_away() {
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(judge_primary(1, text("n5, n6"), None, None).health, Health::Passing);
        let answer = judge_primary(1, text("n5"), text("n6"), None);
        assert_eq!(answer.health, Health::Warning);
        assert!(answer.output.contains("not by n6"), "{}", answer.output);
        assert!(judge_primary(1, None, None, text("n6")).output.contains("reinitialise"));
    }

    #[test]
    fn a_synchronous_primary_without_a_replica_warns_that_writes_wait() {
        assert_eq!(judge_synchronous(false, "*", None).health, Health::Warning);
        assert_eq!(judge_synchronous(false, "*", Some("n5".to_owned())).health, Health::Warning);
        assert_eq!(judge_synchronous(false, "n5", Some("n5".to_owned())).health, Health::Passing);
        assert_eq!(judge_synchronous(false, "", None).health, Health::Passing);
        assert_eq!(judge_synchronous(true, "*", None).health, Health::Passing);
    }

    #[test]
    fn an_archive_that_takes_nothing_any_more_is_a_warning() {
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(judge_archiver(true, text("1"), text("2"), 3).health, Health::Warning);
        assert_eq!(judge_archiver(false, text("2"), text("1"), 3).health, Health::Passing);
        assert_eq!(judge_settings(text("max_connections")).health, Health::Warning);
    }
}
