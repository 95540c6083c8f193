//! pgBackRest's configuration (2.55), the timers of its backups, and how PostgreSQL archives to it and is restored from it.
//!
//! Only a primary archives and backs up, each time from its own data. A replica never asks the repository for its log: a
//! promotion would wait for a store that may be far away, or gone.

use ballast_bundle::{Backup, Postgres, PostgresSecrets, Repository, Restore};
use serde_json::{Value, json};

use super::{DATA, File, Machine, PORT, POSTGRES, SOCKET};

/// pgBackRest's configuration: the image's `/etc/pgbackrest.conf` links here.
pub(crate) const CONFIGURATION: &str = "/run/ballast/postgres/pgbackrest.conf";
/// The environment of `ballast-backup@.service`.
const ENVIRONMENT: &str = "/run/ballast/postgres/pgbackrest.env";
/// pgBackRest's program.
pub(crate) const PROGRAM: &str = "/usr/bin/pgbackrest";
/// The agent, which starts it for a restore.
const AGENT: &str = "/usr/bin/ballast-agent";
/// A backup's kind, as pgBackRest and the units are told: everything, or what has changed since the last one.
pub(crate) const KINDS: [&str; 2] = ["full", "incr"];

/// The unit that makes a backup.
pub(crate) fn unit(kind: &str, suffix: &str) -> String {
    match suffix {
        "timer" => format!("ballast-backup-{kind}.timer"),
        _ => format!("ballast-backup@{kind}.service"),
    }
}

/// What pgBackRest and systemd read; nothing where there are no backups.
pub(super) fn files(
    postgres: &Postgres,
    secrets: &PostgresSecrets,
    machine: &Machine,
) -> Vec<File> {
    let Some(backup) = &postgres.backup else { return Vec::new() };
    let text = configuration(postgres, backup, secrets, machine);
    let timer = |kind: &str, event: &str| {
        let path = format!("/run/systemd/system/{}", unit(kind, "timer"));
        let service = unit(kind, "service");
        let text = format!(
            "[Unit]\nDescription=When {service} backs PostgreSQL up\n\n\
             [Timer]\nOnCalendar={event}\n# What the machine was off for is made up for.\nPersistent=yes\nUnit={service}\n"
        );
        File::public(&path, text)
    };
    let [full, incremental] = KINDS;
    vec![
        File::secret_of(POSTGRES, CONFIGURATION, text.into_bytes()),
        File::public(ENVIRONMENT, format!("PGBACKREST_STANZA={}\n", postgres.cluster)),
        timer(full, &backup.full),
        timer(incremental, &backup.incremental),
    ]
}

fn configuration(
    postgres: &Postgres,
    backup: &Backup,
    secrets: &PostgresSecrets,
    machine: &Machine,
) -> String {
    let mut lines = vec!["[global]".to_owned()];
    let mut say = |name: &str, value: &str| lines.push(format!("{name}={value}"));
    match &backup.repository {
        Repository::Path { path } => say("repo1-path", path),
        Repository::S3 { endpoint, bucket, region, path } => {
            let (host, port) = match endpoint.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
                _ => (endpoint.as_str(), "443"),
            };
            say("repo1-type", "s3");
            say("repo1-path", path);
            say("repo1-s3-endpoint", host);
            say("repo1-storage-port", port);
            say("repo1-s3-bucket", bucket);
            say("repo1-s3-region", region);
            // Stores beside Amazon's own need no name per bucket for it.
            say("repo1-s3-uri-style", "path");
            say("repo1-storage-verify-tls", "y");
            if let Some([key, secret]) = &secrets.backup_store {
                say("repo1-s3-key", key);
                say("repo1-s3-key-secret", secret);
            }
        }
    }
    say("repo1-retention-full", &backup.keep_full.to_string());
    say("repo1-bundle", "y");
    say("compress-type", "zst");
    say("start-fast", "y");
    // A log that the repository doesn't take must not fill the disk of a primary that is well: beyond this it is given
    // up, and a restore reaches no time between then and the next backup.
    say("archive-push-queue-max", &format!("{}MB", machine.log_kept_mib()));
    say("lock-path", "/run/pgbackrest");
    // To the journal, which knows the time.
    say("log-level-file", "off");
    say("log-level-console", "warn");
    say("log-level-stderr", "off");
    say("log-timestamp", "n");
    let restored = postgres.restore.as_ref().map(|r| &r.cluster);
    for stanza in std::iter::once(&postgres.cluster).chain(restored) {
        lines.push(format!(
            "\n[{stanza}]\npg1-path={DATA}\npg1-port={PORT}\npg1-socket-path={SOCKET}\npg1-user=postgres"
        ));
    }
    lines.join("\n") + "\n"
}

/// PostgreSQL's parameters about its archive. Turning it on or off asks for a restart of PostgreSQL.
pub(super) fn parameters(postgres: &Postgres) -> Vec<(&'static str, String)> {
    if postgres.backup.is_none() {
        return vec![("archive_mode", "off".to_owned())];
    }
    let stanza = &postgres.cluster;
    vec![
        ("archive_mode", "on".to_owned()),
        ("archive_command", format!("{PROGRAM} --stanza={stanza} archive-push %p")),
        // What is written is in the repository within a minute, however little it is.
        ("archive_timeout", "60".to_owned()),
    ]
}

/// How a cluster that is not there yet is made from another one's backup (Patroni's `bootstrap`).
pub(super) fn restored(restore: &Restore) -> Value {
    let Restore { cluster, to } = restore;
    json!({
        // Patroni splits this as a shell would, and starts no shell. It moves the data directory away when nothing comes of this.
        "command": format!("{AGENT} restore {cluster} '{to}'"),
        // What it is told beside is not for the agent.
        "no_params": true,
        // pgBackRest writes what PostgreSQL recovers by.
        "keep_existing_recovery_conf": true,
    })
}
