//! PostgreSQL on this node, asked over its local socket.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::plan::postgres::SOCKET;
use crate::root::Root;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Why PostgreSQL did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("connecting to PostgreSQL as {account}")]
    Connect { account: String, source: tokio_postgres::Error },
    #[error("PostgreSQL did not take a connection within {} s", CONNECT.as_secs())]
    Deadline,
    #[error("{doing}")]
    Query { doing: String, source: tokio_postgres::Error },
}

impl Error {
    pub(super) fn query(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Query { doing, source }
    }

    /// Whether PostgreSQL refused the password, or the account (class 28 of SQLSTATE).
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Connect { source, .. } => {
                source.code().is_some_and(|code| code.code().starts_with("28"))
            }
            _ => false,
        }
    }
}

/// Where this node's PostgreSQL is.
#[derive(Clone)]
pub(crate) struct Sql {
    socket: PathBuf,
}

impl Sql {
    pub(crate) fn new(root: &Root) -> Self {
        Self { socket: root.at(SOCKET) }
    }

    /// Connects as an account that the agent may be without a password.
    pub(crate) async fn connect(&self, account: &str, database: &str) -> Result<Client, Error> {
        self.connect_with(account, None, database).await
    }

    /// Connects with a password, where there is one. The connection ends with the client.
    pub(crate) async fn connect_with(
        &self,
        account: &str,
        password: Option<&str>,
        database: &str,
    ) -> Result<Client, Error> {
        let mut config = Config::new();
        config
            .host_path(&self.socket)
            .user(account)
            .dbname(database)
            .application_name("ballast-agent")
            .connect_timeout(CONNECT);
        if let Some(password) = password {
            config.password(password);
        }
        let connecting = tokio::time::timeout(CONNECT, config.connect(NoTls));
        let (client, connection) = connecting
            .await
            .map_err(|_| Error::Deadline)?
            .map_err(|source| Error::Connect { account: account.to_owned(), source })?;
        // What becomes of it, the client is told.
        tokio::spawn(async move { connection.await.ok() });
        Ok(client)
    }
}
