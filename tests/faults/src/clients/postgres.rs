//! One session with one PostgreSQL node: TLS, a password, statements made ready; and what a write was told.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::REACHING;
use crate::access::{Node, Postgres};
use crate::ledger::Told;

/// Where PostgreSQL listens.
pub const PORT: u16 = 5432;

/// The table of the run's rows. A row stands in it as often as it was taken: nothing makes it unique.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS ballast_faults (id bigint NOT NULL, at timestamptz NOT NULL DEFAULT now()); \
                     CREATE INDEX IF NOT EXISTS ballast_faults_id ON ballast_faults (id)";
/// The timeline stands in the name of the file that the write goes to.
const WRITE: &str = "INSERT INTO ballast_faults (id) VALUES ($1) \
                     RETURNING substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
const READ: &str = "SELECT count(*) FROM ballast_faults WHERE id = $1";
const ALL: &str = "SELECT id, count(*) FROM ballast_faults WHERE id >= $1 GROUP BY id";
const IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";

/// A session.
pub struct Session {
    client: Client,
    write: Statement,
    read: Statement,
    /// A warning came, which says of an acknowledged write that it has not reached a replica.
    warned: Arc<AtomicBool>,
    driver: JoinHandle<()>,
}

impl Session {
    /// Connects to a node, be it primary or replica, of whose database the table is there.
    pub async fn open(
        door: &Postgres,
        tls: &MakeRustlsConnect,
        node: &Node,
    ) -> Result<Self, String> {
        let (client, warned, driver) = connect(door, tls, node).await?;
        let session = async { Ok((client.prepare(WRITE).await?, client.prepare(READ).await?)) };
        match session.await.map_err(|error: tokio_postgres::Error| words(&error)) {
            Ok((write, read)) => Ok(Self { client, write, read, warned, driver }),
            Err(why) => {
                driver.abort();
                Err(why)
            }
        }
    }

    /// Whether the node takes writes, as it says itself.
    pub async fn is_primary(&self) -> Result<bool, String> {
        let row = self.client.query_one(IN_RECOVERY, &[]).await.map_err(|error| words(&error))?;
        row.try_get(0).map(|recovering: bool| !recovering).map_err(|error| words(&error))
    }

    /// Writes a row.
    pub async fn write(&self, id: u64) -> (Told, Option<u32>) {
        self.warned.store(false, Ordering::Relaxed);
        let Ok(id) = i64::try_from(id) else { return (Told::Refused, None) };
        match self.client.query_one(&self.write, &[&id]).await {
            Ok(row) => {
                let file: Result<String, _> = row.try_get(0);
                let term = file.ok().and_then(|file| u32::from_str_radix(&file, 16).ok());
                let warned = self.warned.load(Ordering::Relaxed);
                (if warned { Told::Unknown } else { Told::Acknowledged }, term)
            }
            // An error of the statement undid it; one that ended the session may have come after the commit.
            Err(error) => {
                let severity = error.as_db_error().and_then(|said| said.parsed_severity());
                let told =
                    if severity == Some(Severity::Error) { Told::Refused } else { Told::Unknown };
                (told, None)
            }
        }
    }

    /// Whether a row is there.
    pub async fn read(&self, id: u64) -> Result<bool, String> {
        let id = i64::try_from(id).map_err(|error| error.to_string())?;
        let row = self.client.query_one(&self.read, &[&id]).await.map_err(|error| words(&error))?;
        row.try_get(0).map(|count: i64| count > 0).map_err(|error| words(&error))
    }

    /// The rows from `first` on, and how often each is there.
    pub async fn all(&self, first: u64) -> Result<Vec<(u64, u32)>, String> {
        let first = i64::try_from(first).map_err(|error| error.to_string())?;
        let rows = self.client.query(ALL, &[&first]).await.map_err(|error| words(&error))?;
        let numbers = rows.iter().map(|row| {
            let (id, count): (i64, i64) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
            Some((u64::try_from(id).ok()?, u32::try_from(count).ok()?))
        });
        numbers.collect::<Option<_>>().ok_or_else(|| "rows that nobody wrote".to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Makes the table, on the primary.
pub async fn make_table(
    door: &Postgres,
    tls: &MakeRustlsConnect,
    node: &Node,
) -> Result<(), String> {
    let (client, _, driver) = connect(door, tls, node).await?;
    let made = client.batch_execute(TABLE).await.map_err(|error| words(&error));
    driver.abort();
    made
}

async fn connect(
    door: &Postgres,
    tls: &MakeRustlsConnect,
    node: &Node,
) -> Result<(Client, Arc<AtomicBool>, JoinHandle<()>), String> {
    let reaching = TcpStream::connect(SocketAddr::new(node.address, PORT));
    let stream = timeout(REACHING, reaching)
        .await
        .map_err(|_| "no connection is taken".to_owned())?
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let host = node.address.to_string();
    let mut tls = tls.clone();
    let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, &host)
        .map_err(|error| error.to_string())?;
    let mut config = Config::new();
    config
        .user(&door.owner)
        .password(&door.password)
        .dbname(&door.database)
        .application_name("ballast-faults")
        .ssl_mode(SslMode::Require);
    let (client, mut connection) =
        config.connect_raw(stream, tls).await.map_err(|error| words(&error))?;
    let warned = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&warned);
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                if notice.parsed_severity() == Some(Severity::Warning) {
                    seen.store(true, Ordering::Relaxed);
                }
            }
        }
    });
    Ok((client, warned, driver))
}

/// The library's own text leaves out what the server said.
fn words(error: &tokio_postgres::Error) -> String {
    ballast_machines::error::chain(error)
}
