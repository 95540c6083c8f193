//! Data and passwords that are not as they should be: said, left alone, and mended without harm.

use std::time::Duration;

use super::database::Database;
use super::{ANSWER, ensure, run, until};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::poll::Seen;
use crate::trial::{Group, Trial};

/// The group.
pub const GROUP: Group = Group {
    name: "data",
    promises: &[
        "a_wrong_password_is_said_and_put_right",
        "data_of_another_major_version_is_said_and_left_alone",
        "a_replica_whose_log_is_damaged_reads_it_from_its_primary",
        "data_that_are_damaged_are_said_and_left_alone",
        "a_replica_whose_data_are_damaged_is_copied_anew_when_its_operator_says_so",
    ],
    containers: true,
    run: try_data,
};

const DATA: &str = "/var/lib/postgresql/17/main";
/// Long enough for a unit that goes round to be started again.
const WATCHED_SECS: u64 = 15;

fn try_data(trial: &mut Trial) -> Result<()> {
    let tables = "[postgres]\n[postgres.parameters]\nshared_buffers = \"32MB\"\n\n";
    let mut site = Database::start(trial, tables, None)?;
    site.wait_for_primary()?;
    wait_until_followed(&mut site)?;
    site.sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")?;

    // Not through a replica, which is to lose its way in.
    site.sql(
        "SET synchronous_commit = local; ALTER ROLE replicator PASSWORD 'another'; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_replication",
    )?;
    let refused = "it refuses the password or certificate of this node's bundle";
    site.wait_until_said("postgres-replication", "critical", refused, refused)?;
    wait_until_followed(&mut site)?;
    trial.holds("a_wrong_password_is_said_and_put_right")?;

    let place = replica(&mut site)?;
    let machine = member(&mut site, place)?;
    run(
        machine,
        &format!("systemctl stop patroni; echo 16 >{DATA}/PG_VERSION; systemctl start patroni"),
    )?;
    let other = "is of PostgreSQL 16 and this image has 17";
    site.wait_until_said("postgres-data", "critical", other, other)?;
    ensure_left_alone(&mut site, place)?;
    let machine = member(&mut site, place)?;
    run(
        machine,
        &format!("systemctl stop patroni; echo 17 >{DATA}/PG_VERSION; systemctl start patroni"),
    )?;
    wait_until_followed(&mut site)?;
    trial.holds("data_of_another_major_version_is_said_and_left_alone")?;

    let place = replica(&mut site)?;
    let machine = member(&mut site, place)?;
    run(
        machine,
        &format!(
            "systemctl stop patroni; cd {DATA}/pg_wal || exit; for file in 0000*; do test -f $file && \
         dd if=/dev/zero of=$file bs=1M count=16 conv=notrunc 2>/dev/null; done; systemctl start patroni"
        ),
    )?;
    site.sql("INSERT INTO kept VALUES (2)")?;
    wait_until_followed(&mut site)?;
    trial.holds("a_replica_whose_log_is_damaged_reads_it_from_its_primary")?;

    let place = replica(&mut site)?;
    let machine = member(&mut site, place)?;
    run(
        machine,
        &format!(
            "systemctl stop patroni; dd if=/dev/zero of={DATA}/global/pg_control bs=8k count=1 conv=notrunc 2>&1; \
             systemctl start patroni"
        ),
    )?;
    site.wait_until_said(
        "postgres-role",
        "critical",
        "reinitialise",
        "postgres-replication is critical",
    )?;
    ensure_left_alone(&mut site, place)?;
    trial.holds("data_that_are_damaged_are_said_and_left_alone")?;

    let file = site.file();
    let name = member(&mut site, place)?.name().to_owned();
    let (status, said) = site.ask(&["reinit", &name, "--yes", &file])?;
    ensure(status == Some(0), || format!("`ballast reinit {name}`: {status:?}: {said}"))?;
    wait_until_followed(&mut site)?;
    let kept = site.sql("SELECT count(*) FROM kept")?;
    ensure(kept.trim() == "2", || format!("the table has {kept} rows"))?;
    trial.holds("a_replica_whose_data_are_damaged_is_copied_anew_when_its_operator_says_so")
}

/// Waits until the primary has a synchronous replica, and neither finds anything wrong: what comes then is news.
fn wait_until_followed(site: &mut Database) -> Result<()> {
    until("a synchronous replica, and two members that are passing", || {
        let question = "SELECT application_name, state, sync_state FROM pg_stat_replication";
        let mut seen = match site.sql(question) {
            Ok(seen) => seen,
            Err(Error::Broken(why)) => why,
            Err(error) => return Err(error),
        };
        let mut is_well = seen.contains("|streaming|sync");
        for machine in &mut site.members {
            let ran = machine.run("ballast-agent status --json", ANSWER)?;
            let passing = ran.text.contains("\"state\": \"passing\"");
            is_well &= passing;
            seen.push_str(&format!("; {} passing: {passing}", machine.name()));
        }
        Ok(if is_well { Seen::Ready(()) } else { Seen::NotYet(seen) })
    })
}

/// The member that is not the primary.
fn replica(site: &mut Database) -> Result<usize> {
    let primary = site.primary()?.map(|machine| machine.name().to_owned());
    let place = site.members.iter().position(|machine| Some(machine.name()) != primary.as_deref());
    place.ok_or_else(|| Error::Broken("there is no replica".into()))
}

fn member(site: &mut Database, place: usize) -> Result<&mut dyn Machine> {
    let member = site.members.get_mut(place).map(|machine| machine.as_mut() as &mut dyn Machine);
    member.ok_or_else(|| Error::Broken("there is no such member".into()))
}

/// Watches a member for a while: its data stay the bytes that they are, its Patroni does not go round, and the other member
/// is the primary.
fn ensure_left_alone(site: &mut Database, place: usize) -> Result<()> {
    let look = format!(
        "cd {DATA} && cat PG_VERSION global/pg_control pg_wal/0000* | sha256sum; ls base/*/* | sha256sum; \
         systemctl show --property=NRestarts patroni.service"
    );
    let machine = member(site, place)?;
    let before = run(machine, &look)?;
    crate::poll::nap(Duration::from_secs(WATCHED_SECS));
    let after = run(machine, &look)?;
    ensure(before == after, || format!("{before}\nbecame\n{after}"))?;
    let name = machine.name().to_owned();
    let primary = site.primary()?.map(|machine| machine.name().to_owned());
    ensure(primary.is_some_and(|primary| primary != name), || "there is no primary".into())
}
