//! The accounts of a cluster and the application's database: made once, and their passwords what the bundle says.
//!
//! Done on the primary, over its socket, and again after every promotion: each step looks first, so that doing it twice
//! changes nothing. Nothing here is taken away.

use ballast_bundle::{Postgres, PostgresSecrets};
use tokio_postgres::Client;

use super::sql::{Error, Sql};
use crate::log;

/// The functions that pg_rewind calls on the server it copies from (its manual page, "Notes").
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// An account that shall be there.
struct Account<'a> {
    name: &'a str,
    /// What it may beside logging in.
    attributes: &'static str,
    /// Without one it is used over the socket alone, by the machine's account.
    password: Option<&'a str>,
}

/// Makes the accounts and the database what the bundle says.
///
/// # Errors
/// The first step that PostgreSQL did not take; another try starts from what is then there.
pub(super) async fn keep(
    sql: &Sql,
    postgres: &Postgres,
    secrets: &PostgresSecrets,
) -> Result<(), Error> {
    let client = sql.connect("postgres", "postgres").await?;
    // A password must not come into the journal, and none of this waits for a replica: it is done again on the next
    // primary. Two primaries never do it at once, and a loser of a race between two agents tries again.
    let quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1; \
        SET log_min_error_statement = 'panic'; SET synchronous_commit = 'local'; \
        SET lock_timeout = '5s'; SET statement_timeout = '30s'";
    client.batch_execute(quiet).await.map_err(Error::query("setting a session up"))?;

    let accounts = [
        Account {
            name: "replicator",
            attributes: "REPLICATION",
            password: Some(&secrets.replication),
        },
        Account { name: "rewinder", attributes: "", password: Some(&secrets.rewind) },
        Account { name: "ballast", attributes: "", password: None },
        Account { name: &postgres.owner, attributes: "", password: Some(&secrets.owner) },
    ];
    for account in &accounts {
        keep_account(sql, &client, account).await?;
    }
    grant(&client).await?;
    keep_database(&client, postgres).await
}

async fn keep_account(sql: &Sql, client: &Client, account: &Account<'_>) -> Result<(), Error> {
    let Account { name, attributes, password } = account;
    let found = client
        .query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[name])
        .await
        .map_err(Error::query(format!("looking for the account {name}")))?;
    if found.is_none() {
        // Names are plain identifiers and passwords letters and digits: the bundle refuses others.
        let with = password.map_or(String::new(), |p| format!("PASSWORD '{p}'"));
        let statement = format!("CREATE ROLE {name} LOGIN {attributes} {with}");
        client
            .batch_execute(&statement)
            .await
            .map_err(Error::query(format!("making the account {name}")))?;
        log::info(&format!("made PostgreSQL's account {name}"));
        return Ok(());
    }
    let Some(password) = password else { return Ok(()) };
    // Whether the password is the bundle's is PostgreSQL's to say: it keeps no password, and a new one each time would
    // be a write each time.
    match sql.connect_with(name, Some(password), "postgres").await {
        Err(error) if error.is_refusal() => {
            client
                .batch_execute(&format!("ALTER ROLE {name} LOGIN PASSWORD '{password}'"))
                .await
                .map_err(Error::query(format!("changing the password of {name}")))?;
            log::info(&format!("changed the password of PostgreSQL's account {name}"));
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// What the agent's checks and pg_rewind may.
async fn grant(client: &Client) -> Result<(), Error> {
    // It watches, and ends the connection of a standby that is silent.
    for role in ["pg_monitor", "pg_signal_backend"] {
        let may = client
            .query_one("SELECT pg_has_role('ballast', $1, 'member')", &[&role])
            .await
            .map_err(Error::query("looking at what ballast may"))?;
        if !may.get::<_, bool>(0) {
            client
                .batch_execute(&format!("GRANT {role} TO ballast"))
                .await
                .map_err(Error::query(format!("letting ballast do what {role} may")))?;
        }
    }
    for function in REWIND_FUNCTIONS {
        let may = client
            .query_one(
                "SELECT has_function_privilege('rewinder', $1::text, 'EXECUTE')",
                &[&function],
            )
            .await
            .map_err(Error::query("looking at what rewinder may"))?;
        if !may.get::<_, bool>(0) {
            client
                .batch_execute(&format!(
                    "GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO rewinder"
                ))
                .await
                .map_err(Error::query(format!("letting rewinder use {function}")))?;
        }
    }
    // A rewind takes as long as it takes: a time limit that the operator sets for all would break every one.
    let unlimited = client
        .query_one(
            "SELECT coalesce('statement_timeout=0' = ANY(rolconfig), false) FROM pg_roles WHERE rolname = 'rewinder'",
            &[],
        )
        .await
        .map_err(Error::query("looking at the settings of rewinder"))?;
    if !unlimited.get::<_, bool>(0) {
        client
            .batch_execute("ALTER ROLE rewinder SET statement_timeout = 0")
            .await
            .map_err(Error::query("freeing rewinder of time limits"))?;
    }
    Ok(())
}

async fn keep_database(client: &Client, postgres: &Postgres) -> Result<(), Error> {
    let Postgres { database, owner, .. } = postgres;
    let found = client
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[database])
        .await
        .map_err(Error::query(format!("looking for the database {database}")))?;
    if found.is_some() {
        return Ok(());
    }
    // Not within a transaction, each: PostgreSQL makes no database in one.
    for statement in [
        format!("CREATE DATABASE {database} OWNER {owner}"),
        // By default everyone who may log in may connect.
        format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
    ] {
        client
            .batch_execute(&statement)
            .await
            .map_err(Error::query(format!("making the database {database}")))?;
    }
    log::info(&format!("made the database {database}, which {owner} owns"));
    Ok(())
}
