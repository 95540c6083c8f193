//! One connection to one Redis or Sentinel, made when it is needed and made anew when it broke. Every question has a deadline.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError,
    TlsCertificates,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::facts::{Info, Named};
use crate::error::chain;

/// The account of the agent, in Redis and in Sentinel.
const ACCOUNT: &str = "ballast";

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("connecting to {server}")]
    Connect { server: String, source: RedisError },
    #[error("{server} did not answer within {} ms", deadline.as_millis())]
    Deadline { server: String, deadline: Duration },
    /// The question's first words: the rest may hold a password.
    #[error("asking {server} for {question}")]
    Ask { server: String, question: String, source: RedisError },
    #[error("{server}'s answer to {question} makes no sense: {reason}")]
    Text { server: String, question: &'static str, reason: String },
}

impl Error {
    /// Whether there was no answer in time, rather than none to be had.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Deadline { .. } => true,
            Self::Connect { source, .. } | Self::Ask { source, .. } => source.is_timeout(),
            Self::Text { .. } => false,
        }
    }
}

/// One Redis or Sentinel.
pub(super) struct Server {
    /// For people: `Redis of n4`.
    name: String,
    client: Client,
    deadline: Duration,
    /// A question put on every new connection: what the server does not keep over a restart.
    greeting: Vec<String>,
    connection: Option<MultiplexedConnection>,
}

impl Server {
    /// A server of this machine, on its socket.
    pub(super) fn local(
        name: &str,
        socket: &str,
        password: &str,
        deadline: Duration,
    ) -> Result<Self, RedisError> {
        let address = ConnectionAddr::Unix(socket.into());
        let client = Client::open(account(address.into_connection_info()?, ACCOUNT, password))?;
        Ok(Self { name: name.to_owned(), client, deadline, greeting: Vec::new(), connection: None })
    }

    /// A server of another member, over TLS; its certificate must be of this authority and bear the address.
    pub(super) fn remote(
        name: &str,
        place: (IpAddr, u16),
        ca_pem: &str,
        password: &str,
        deadline: Duration,
    ) -> Result<Self, RedisError> {
        Self::remote_as(ACCOUNT, name, place, ca_pem, password, deadline)
    }

    /// The same, asked by any account.
    pub(super) fn remote_as(
        user: &str,
        name: &str,
        (address, port): (IpAddr, u16),
        ca_pem: &str,
        password: &str,
        deadline: Duration,
    ) -> Result<Self, RedisError> {
        let host = address.to_string();
        let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        let tls = TlsCertificates { client_tls: None, root_cert: Some(ca_pem.as_bytes().to_vec()) };
        let info = account(address.into_connection_info()?, user, password);
        let client = Client::build_with_tls(info, tls)?;
        Ok(Self { name: name.to_owned(), client, deadline, greeting: Vec::new(), connection: None })
    }

    /// Has every new connection begin with this question.
    pub(super) fn greeted_with(mut self, question: &[&str]) -> Self {
        self.greeting = question.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why there is no answer, or what the server refused.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, question: &[&str]) -> Result<T, Error> {
        self.ask_within(question, self.deadline).await
    }

    /// Asks once more, at once, where the connection turned out to be cut, as it is when a server changes its role. For what
    /// may be said twice.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub(super) async fn ask_surely<T: FromRedisValue>(
        &mut self,
        question: &[&str],
    ) -> Result<T, Error> {
        self.ask_surely_within(question, self.deadline).await
    }

    async fn ask_surely_within<T: FromRedisValue>(
        &mut self,
        question: &[&str],
        deadline: Duration,
    ) -> Result<T, Error> {
        let was_connected = self.connection.is_some();
        match self.ask_within(question, deadline).await {
            Err(Error::Ask { source, .. })
                if was_connected && source.is_unrecoverable_error() && !source.is_timeout() =>
            {
                self.ask_within(question, deadline).await
            }
            answer => answer,
        }
    }

    async fn ask_within<T: FromRedisValue>(
        &mut self,
        question: &[&str],
        deadline: Duration,
    ) -> Result<T, Error> {
        // A connection in an unknown state is not used again; dropping it closes it.
        let connection = self.connection.take();
        let exchange = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let result = command(question).query_async(&mut connection).await;
            let sound = result.as_ref().err().is_none_or(|e| !e.is_unrecoverable_error());
            Ok((result, sound.then_some(connection)))
        };
        let (result, connection) = match timeout(deadline, exchange).await {
            Ok(exchanged) => exchanged?,
            Err(_) => return Err(Error::Deadline { server: self.name.clone(), deadline }),
        };
        self.connection = connection;
        result.map_err(|source| self.failed(question, source))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&settings).await;
        let mut connection =
            connecting.map_err(|source| Error::Connect { server: self.name.clone(), source })?;
        if !self.greeting.is_empty() {
            let question: Vec<&str> = self.greeting.iter().map(String::as_str).collect();
            let greeted = command(&question).query_async::<()>(&mut connection).await;
            greeted.map_err(|source| self.failed(&question, source))?;
        }
        Ok(connection)
    }

    fn failed(&self, question: &[&str], source: RedisError) -> Error {
        let question = question.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        Error::Ask { server: self.name.clone(), question, source }
    }

    /// What this Redis says of itself, within this time or its usual one if that is shorter.
    pub(super) async fn info(&mut self, deadline: Duration) -> Result<Info, Error> {
        let question = ["INFO", "server", "replication", "persistence", "memory"];
        let text: String = self.ask_surely_within(&question, deadline.min(self.deadline)).await?;
        Info::read(&text).map_err(|reason| self.senseless("INFO", reason))
    }

    /// The primary of this name, as this Sentinel knows it; none where it knows none.
    pub(super) async fn named(&mut self, group: &str) -> Result<Option<Named>, Error> {
        let question = "SENTINEL MASTER";
        let fields: HashMap<String, String> = match self
            .ask_surely(&["SENTINEL", "MASTER", group])
            .await
        {
            Ok(fields) => fields,
            Err(Error::Ask { source, .. }) if says(&source, "No such master") => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut named = Named::read(&fields).map_err(|reason| self.senseless(question, reason))?;
        if named.failover.is_some() {
            // The one that leads a failover counts it in its epoch before it names the new primary here; there it does.
            let question = "SENTINEL GET-MASTER-ADDR-BY-NAME";
            let place: Option<(String, u16)> =
                self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", group]).await?;
            let Some((address, _)) = place else { return Ok(None) };
            named.address =
                address.parse().map_err(|_| self.senseless(question, format!("{address:?}")))?;
        }
        Ok(Some(named))
    }

    /// Whom this Sentinel knows of a kind, `REPLICAS` or `SENTINELS`: each with its address, and whether it is down.
    pub(super) async fn listed(
        &mut self,
        kind: &str,
        group: &str,
    ) -> Result<Vec<(String, bool)>, Error> {
        let all: Vec<HashMap<String, String>> = self.ask(&["SENTINEL", kind, group]).await?;
        let field =
            |one: &HashMap<String, String>, name: &str| one.get(name).cloned().unwrap_or_default();
        Ok(all.iter().map(|one| (field(one, "ip"), field(one, "flags").contains("down"))).collect())
    }

    /// The `replica-priority` of the replica at this address, as this Sentinel knows it; none where it knows no such replica.
    pub(super) async fn priority(
        &mut self,
        group: &str,
        address: IpAddr,
    ) -> Result<Option<String>, Error> {
        let all: Vec<HashMap<String, String>> = self.ask(&["SENTINEL", "REPLICAS", group]).await?;
        let address = address.to_string();
        let mut ours = all.into_iter().filter(|one| one.get("ip") == Some(&address));
        Ok(ours.next().and_then(|mut one| one.remove("slave-priority")))
    }

    /// Whether this Redis is a primary, and whether it is handing over (`INFO replication`).
    pub(super) async fn failover(&mut self) -> Result<(bool, bool), Error> {
        let text: String = self.ask(&["INFO", "replication"]).await?;
        let is = |line: &str| text.lines().any(|l| l.trim_end() == line);
        Ok((is("role:master"), !is("master_failover_state:no-failover")))
    }

    fn senseless(&self, question: &'static str, reason: String) -> Error {
        Error::Text { server: self.name.clone(), question, reason }
    }

    /// Tells of every event of this Sentinel, until the connection breaks.
    pub(super) async fn events(&self, tell: mpsc::Sender<()>) -> Result<(), Error> {
        let (broken, mut breaks) = mpsc::channel::<()>(1);
        let listener = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                let _ = broken.try_send(());
            }
            // One that is waiting to be heard speaks for all.
            let _ = tell.try_send(());
            Ok::<(), ::redis::aio::SendError>(())
        };
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline))
            .set_push_sender(listener);
        let info = self.client.get_connection_info().clone();
        let settings_of = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let failed = |source| Error::Connect { server: self.name.clone(), source };
        let client = Client::open(info.set_redis_settings(settings_of)).map_err(failed)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&settings).await;
        let mut connection = connecting.map_err(failed)?;
        connection.psubscribe("*").await.map_err(|e| self.failed(&["PSUBSCRIBE"], e))?;
        breaks.recv().await;
        Ok(())
    }
}

/// Whether a server's refusal holds these words.
pub(super) fn says(error: &RedisError, words: &str) -> bool {
    error.detail().is_some_and(|text| text.contains(words)) || error.to_string().contains(words)
}

/// An answer, or why there is none, as text for people.
pub(super) fn or_text<T>(result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|error| chain(&error))
}

fn account(info: ConnectionInfo, user: &str, password: &str) -> ConnectionInfo {
    let settings = RedisConnectionInfo::default().set_username(user).set_password(password);
    info.set_redis_settings(settings)
}

fn command(words: &[&str]) -> ::redis::Cmd {
    let mut command = ::redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}
