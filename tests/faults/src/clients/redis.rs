//! One session with one Redis node: TLS, the application's account; and what a write was told.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, cmd,
};

use super::{PATIENCE, REACHING};
use crate::access::{Node, Redis};
use crate::ledger::Told;

/// Where Redis listens, with TLS.
pub const PORT: u16 = 6379;
/// Where Sentinel listens, with TLS.
pub const SENTINEL_PORT: u16 = 26379;

/// How many replicas must have a write for it to be called acknowledged.
const REPLICAS: u8 = 1;
const PREFIX: &str = "ballast-faults";
/// Keys asked for at once when all are read back.
const CHUNK: usize = 500;

/// A session.
pub struct Session {
    connection: MultiplexedConnection,
}

impl Session {
    /// Connects to a node, be it master or replica.
    pub async fn open(door: &Redis, authority: &[u8], node: &Node) -> Result<Self, String> {
        open(node, PORT, "app", &door.password, authority)
            .await
            .map(|connection| Self { connection })
            .map_err(|error| error.to_string())
    }

    /// Whether the node takes writes, as it says itself.
    pub async fn is_primary(&mut self) -> Result<bool, String> {
        let info: String = cmd("INFO")
            .arg("replication")
            .query_async(&mut self.connection)
            .await
            .map_err(|error| error.to_string())?;
        Ok(info.lines().any(|line| line.trim() == "role:master"))
    }

    /// Writes a key, and waits until a replica has it: only then it is acknowledged.
    pub async fn write(&mut self, id: u64) -> Told {
        let set: Result<(), RedisError> =
            cmd("SET").arg(key(id)).arg(id).query_async(&mut self.connection).await;
        match set {
            Ok(()) => {}
            // The server's own words: it has not taken it.
            Err(error) if error.code().is_some() => return Told::Refused,
            Err(_) => return Told::Unknown,
        }
        match self.replicas(REPLICAS, PATIENCE).await {
            Ok(replicas) if replicas >= REPLICAS => Told::Acknowledged,
            _ => Told::Unknown,
        }
    }

    /// How many replicas have all that this session wrote, within this time.
    pub async fn replicas(&mut self, wanted: u8, limit: Duration) -> Result<u8, String> {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        cmd("WAIT")
            .arg(wanted)
            .arg(limit)
            .query_async(&mut self.connection)
            .await
            .map_err(|error| error.to_string())
    }

    /// Whether a key is there.
    pub async fn read(&mut self, id: u64) -> Result<bool, String> {
        cmd("EXISTS")
            .arg(key(id))
            .query_async(&mut self.connection)
            .await
            .map_err(|error| error.to_string())
    }

    /// Which of these keys are there, with what was written.
    pub async fn all(&mut self, ids: &[u64]) -> Result<Vec<(u64, u32)>, String> {
        let mut found = Vec::new();
        for ids in ids.chunks(CHUNK) {
            let mut ask = cmd("MGET");
            for id in ids {
                ask.arg(key(*id));
            }
            let values: Vec<Option<u64>> =
                ask.query_async(&mut self.connection).await.map_err(|error| error.to_string())?;
            let there = ids.iter().zip(values).filter(|(id, value)| *value == Some(**id));
            found.extend(there.map(|(id, _)| (*id, 1)));
        }
        Ok(found)
    }

    /// Fills the memory with values of this size until the node refuses or `limit` are written.
    pub async fn fill(&mut self, bytes: usize, limit: u32) -> Result<u32, String> {
        let value = vec![b'x'; bytes];
        for number in 0..limit {
            let set: Result<(), RedisError> = cmd("SET")
                .arg(format!("{PREFIX}-fill:{number}"))
                .arg(&value)
                .query_async(&mut self.connection)
                .await;
            match set {
                Ok(()) => {}
                Err(error) if error.code() == Some("OOM") => return Ok(number),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(limit)
    }

    /// Takes away what filled the memory.
    pub async fn drain(&mut self, limit: u32) -> Result<(), String> {
        for number in 0..limit {
            let _: () = cmd("DEL")
                .arg(format!("{PREFIX}-fill:{number}"))
                .query_async(&mut self.connection)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// What is wrong with the Sentinel of a node, by its own word (`SENTINEL CKQUORUM`).
pub async fn quorum(door: &Redis, authority: &[u8], node: &Node) -> Result<(), String> {
    let mut connection = open(node, SENTINEL_PORT, "ballast", &door.monitor, authority)
        .await
        .map_err(|error| error.to_string())?;
    let said: Result<String, RedisError> =
        cmd("SENTINEL").arg("CKQUORUM").arg(&door.cluster).query_async(&mut connection).await;
    said.map(drop).map_err(|error| error.to_string())
}

async fn open(
    node: &Node,
    port: u16,
    user: &str,
    password: &str,
    authority: &[u8],
) -> Result<MultiplexedConnection, RedisError> {
    let address = ConnectionAddr::TcpTls {
        host: node.address.to_string(),
        port,
        insecure: false,
        tls_params: None,
    };
    let account = RedisConnectionInfo::default().set_username(user).set_password(password);
    let info = address.into_connection_info()?.set_redis_settings(account);
    let trust = TlsCertificates { client_tls: None, root_cert: Some(authority.to_vec()) };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(2 * REACHING))
        .set_response_timeout(Some(2 * PATIENCE));
    let client = Client::build_with_tls(info, trust)?;
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn key(id: u64) -> String {
    format!("{PREFIX}:{id}")
}
