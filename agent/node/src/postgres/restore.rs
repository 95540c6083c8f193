//! `ballast-agent restore`: puts a backup where Patroni wants the data of a cluster that is not there yet.
//!
//! Patroni tries again as long as there is no cluster, and each try may copy all there is. So a try that came to nothing says
//! why, for the journal and for the check of the data, and the next one waits. Nothing but the empty place for the data is
//! written to.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::error::Error;
use crate::log;
use crate::plan::postgres::backup::PROGRAM;
use crate::root::Root;

/// Why there are no data though they should have been restored; or [`TRIED`]. Below the directory that is Patroni's while
/// the machine is on.
const NOTE: &str = "/run/patroni/restore";
/// Before a reason that holds only if PostgreSQL makes no cluster of the backup that was put back.
const TRIED: &str = "tried: ";
/// After a repository that gave nothing: it may have been away.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// After a backup that PostgreSQL could do nothing with, which cost all of the copying.
const USELESS_PAUSE: Duration = Duration::from_secs(600);

/// Restores `cluster` as it was at `to`.
///
/// # Errors
/// It came to nothing, after the pause that keeps the next try away.
pub(crate) fn restore(root: &Root, cluster: &str, to: &str) -> Result<(), Error> {
    restore_with(root, cluster, to, sleep)
}

fn restore_with(
    root: &Root,
    cluster: &str,
    to: &str,
    pause: impl Fn(Duration),
) -> Result<(), Error> {
    let remedy = "correct [postgres.restore] in the cluster file, for which `ballast backup restore` knows what the repository reaches";
    let tried = load_note(root).and_then(|note| note.strip_prefix(TRIED).map(str::to_owned));
    let (reason, wait) = match tried {
        Some(reason) => (reason, USELESS_PAUSE),
        None => match put_back(root, cluster, to) {
            Ok(()) => {
                let reason = format!(
                    "PostgreSQL came to no end with the data of {cluster} for {to}: the log in the repository ends before that time or is damaged; `journalctl -u patroni.service` on this node says where; {remedy}"
                );
                return save_note(root, &format!("{TRIED}{reason}"));
            }
            Err(reason) => {
                let reason =
                    format!("the data of {cluster} cannot be restored to {to}: {reason}; {remedy}");
                (reason, REFUSED_PAUSE)
            }
        },
    };
    let reason = format!("{reason}; tried again in {} s", wait.as_secs());
    log::error(&reason);
    save_note(root, &reason)?;
    pause(wait);
    Err(Error::NotRestored { cluster: cluster.to_owned() })
}

/// Why the data are not there, where they are not, though they should have been restored.
pub(super) fn failure(root: &Root) -> Option<String> {
    // What was put back and is away again came to nothing.
    load_note(root).map(|note| note.strip_prefix(TRIED).unwrap_or(&note).to_owned())
}

fn load_note(root: &Root) -> Option<String> {
    let bytes = root.load(NOTE).ok().flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn save_note(root: &Root, note: &str) -> Result<(), Error> {
    let path = root.at(NOTE);
    // Not by a rename: whoever reads half of it reads it again.
    fs::write(&path, note).map_err(|source| Error::Io { doing: "writing", path, source })
}

fn put_back(root: &Root, cluster: &str, to: &str) -> Result<(), String> {
    let output = Command::new(root.at(PROGRAM))
        .arg(format!("--stanza={cluster}"))
        .args(["--type=time", &format!("--target={to}"), "--target-action=promote", "restore"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("starting {PROGRAM}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("pgBackRest says {:?}", super::backup::first_error(&output)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Where the shell is: not every place that runs these tests has one in `/bin`.
    fn shell() -> std::path::PathBuf {
        let path = std::env::var_os("PATH").unwrap();
        std::env::split_paths(&path).map(|dir| dir.join("sh")).find(|sh| sh.exists()).unwrap()
    }

    /// A machine whose pgBackRest does this.
    fn machine(script: &str) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        for place in ["/usr/bin", "/run/patroni"] {
            fs::create_dir_all(root.at(place)).unwrap();
        }
        fs::write(
            root.at(PROGRAM),
            format!(
                "#!{}\necho \"$@\" >>{}/asked\n{script}\n",
                shell().display(),
                directory.path().display()
            ),
        )
        .unwrap();
        fs::set_permissions(root.at(PROGRAM), fs::Permissions::from_mode(0o755)).unwrap();
        (directory, root)
    }

    fn tried(root: &Root) -> (bool, Duration) {
        let waited = Cell::new(Duration::ZERO);
        let done = restore_with(root, "old", "2026-01-31 12:00:00+00", |pause| waited.set(pause));
        (done.is_ok(), waited.get())
    }

    #[test]
    fn a_time_that_no_backup_reaches_is_said_and_waited_for() {
        let (_directory, root) = machine("echo 'P00  ERROR: [075]: no backup set'; exit 75");
        assert_eq!(tried(&root), (false, REFUSED_PAUSE));
        let said = failure(&root).unwrap();
        assert!(said.contains("of old cannot be restored to 2026-01-31"), "{said}");
        assert!(said.contains("\"[075]: no backup set\""), "{said}");
        // It may reach it later.
        assert_eq!(tried(&root), (false, REFUSED_PAUSE));
        let asked = fs::read_to_string(root.at("/asked")).unwrap();
        assert_eq!(asked.lines().count(), 2);
    }

    #[test]
    fn a_backup_that_made_no_cluster_is_not_copied_again_at_once() {
        let (_directory, root) = machine("exit 0");
        assert_eq!(tried(&root), (true, Duration::ZERO));
        // Holds once the data are away again.
        assert!(failure(&root).unwrap().contains("ends before that time or is damaged"));
        // Patroni asks again: nothing came of it.
        assert_eq!(tried(&root), (false, USELESS_PAUSE));
        assert!(failure(&root).unwrap().ends_with("tried again in 600 s"));
        let asked = fs::read_to_string(root.at("/asked")).unwrap();
        assert_eq!(asked.lines().count(), 1, "{asked}");
        // And once more after the pause, because the repository may have got more.
        assert_eq!(tried(&root), (true, Duration::ZERO));
    }
}
