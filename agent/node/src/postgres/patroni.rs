//! Patroni's own interface on this node, over TLS (its REST API, version 4.0).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::PATRONI_PORT;
use super::room::Cluster;
use crate::http::{self, Reply, Tls};

/// Why Patroni did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("asking Patroni for {what}")]
    Exchange { what: String, source: http::Error },
    #[error("Patroni did not answer {what} within {} ms", deadline.as_millis())]
    Deadline { what: String, deadline: Duration },
    #[error("Patroni answered {what} with {status}: {text}")]
    Status { what: String, status: StatusCode, text: String },
    #[error("reading Patroni's answer to {what}")]
    Json { what: String, source: serde_json::Error },
}

/// The Patroni of this node.
#[derive(Clone)]
pub(crate) struct Patroni {
    /// Asked on loopback, which is there whatever becomes of the network card.
    address: SocketAddr,
    /// Whom its certificate must name.
    name: IpAddr,
    tls: Tls,
    /// What shows that a request may change something (RFC 7617).
    authorization: String,
}

/// The account of Patroni's interface, beside the password that the bundle has.
const ACCOUNT: &str = "ballast";
/// How long an answer may take that isn't waited for again and again.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a switchover may take: Patroni itself watches it for twice ten seconds or two of its rounds.
const SWITCHOVER: Duration = Duration::from_secs(90);

/// What Patroni knows of its node: the answer to `GET /primary`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Status {
    /// Patroni's word for what PostgreSQL does: `running`, `starting`, `creating replica`, …
    pub(crate) state: String,
    /// `primary`, `replica` or another, by PostgreSQL's own answer where it runs.
    pub(crate) role: String,
    /// Whether Patroni holds the leader key.
    #[serde(skip)]
    pub(crate) leads: bool,
    #[serde(default)]
    pub(crate) timeline: Option<u64>,
    /// `streaming`, `in archive recovery`, or nothing.
    #[serde(default)]
    pub(crate) replication_state: Option<String>,
    /// Whether it is a synchronous standby.
    #[serde(default)]
    pub(crate) sync_standby: bool,
    /// Whether it is one of a quorum.
    #[serde(default)]
    pub(crate) quorum_standby: bool,
    /// Whether Patroni is told to let things be.
    #[serde(default)]
    pub(crate) pause: bool,
}

impl Patroni {
    pub(crate) fn new(address: IpAddr, tls: Tls, password: &str) -> Self {
        let loopback: IpAddr = match address {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        let authorization = basic(ACCOUNT, password);
        Self { address: SocketAddr::new(loopback, PATRONI_PORT), name: address, tls, authorization }
    }

    /// What Patroni knows of its node, and whether it holds the leader key.
    pub(crate) async fn status(&self, deadline: Duration) -> Result<Status, Error> {
        let (what, reply) = self.ask(Method::GET, "/primary", Bytes::new(), deadline).await?;
        let status: Status = read(what, &reply.body)?;
        // 503 from everyone but the holder of the key, with the same document.
        Ok(Status { leads: reply.status == StatusCode::OK, ..status })
    }

    /// The cluster's dynamic configuration.
    pub(crate) async fn configuration(&self) -> Result<Value, Error> {
        let (what, reply) = self.ask(Method::GET, "/config", Bytes::new(), DEADLINE).await?;
        let reply = successful(what.clone(), reply)?;
        read(what, &reply.body)
    }

    /// Changes the cluster's dynamic configuration; null takes a value away.
    pub(crate) async fn patch_configuration(&self, patch: &Value) -> Result<(), Error> {
        let body = patch.to_string().into();
        let (what, reply) = self.ask(Method::PATCH, "/config", body, DEADLINE).await?;
        successful(what, reply).map(|_| ())
    }

    /// Has it run its next round at once. It does so when its dynamic configuration is patched, also with what that holds
    /// already, which changes nothing.
    pub(crate) async fn wake(&self, ttl_secs: u16) -> Result<(), Error> {
        self.patch_configuration(&json!({ "ttl": ttl_secs })).await
    }

    /// What the cluster's members are.
    pub(super) async fn cluster(&self) -> Result<Cluster, Error> {
        let (what, reply) = self.ask(Method::GET, "/cluster", Bytes::new(), DEADLINE).await?;
        let reply = successful(what.clone(), reply)?;
        read(what, &reply.body)
    }

    /// Makes another node the primary in place of this one, without losing a write, and waits for it.
    pub(super) async fn switch_over(&self, leader: &str, candidate: &str) -> Result<(), Error> {
        let body = json!({ "leader": leader, "candidate": candidate }).to_string().into();
        let (what, reply) = self.ask(Method::POST, "/switchover", body, SWITCHOVER).await?;
        successful(what, reply).map(|_| ())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<(String, Reply), Error> {
        let what = format!("{method} {path}");
        let failed = |source| Error::Exchange { what: what.clone(), source };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, &self.authorization)
            .body(Full::new(body))
            .map_err(|_| failed(http::Error::Url { url: path.to_owned() }))?;
        let exchange = http::send_tls(self.address, self.name, &self.tls, request);
        let reply = tokio::time::timeout(deadline, exchange)
            .await
            .map_err(|_| Error::Deadline { what: what.clone(), deadline })?
            .map_err(failed)?;
        Ok((what, reply))
    }
}

fn successful(what: String, reply: Reply) -> Result<Reply, Error> {
    if reply.status.is_success() {
        return Ok(reply);
    }
    let text = String::from_utf8_lossy(&reply.body).trim().chars().take(200).collect();
    Err(Error::Status { what, status: reply.status, text })
}

fn read<T: DeserializeOwned>(what: String, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Json { what, source })
}

/// Who asks, as a header says it (RFC 7617).
fn basic(account: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{account}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_written_as_the_standard_shows_them() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn what_patroni_answers_is_read() {
        let replica = br#"{"state":"running","postmaster_start_time":"2026-01-01 00:00:00.000000+00:00","role":"replica",
            "server_version":170006,"xlog":{"received_location":1,"replayed_location":1,"replayed_timestamp":null,
            "paused":false},"sync_standby":true,"timeline":3,"replication_state":"streaming","dcs_last_seen":1,
            "database_system_identifier":"7","patroni":{"version":"4.0.7","scope":"main","name":"p2"}}"#;
        let status: Status = serde_json::from_slice(replica).unwrap();
        assert_eq!((status.role.as_str(), status.sync_standby), ("replica", true));
        assert_eq!(status.timeline, Some(3));
        let starting: Status = serde_json::from_slice(
            br#"{"state":"starting","role":"replica","cluster_unlocked":true,"dcs_last_seen":0}"#,
        )
        .unwrap();
        assert_eq!(starting.timeline, None);
    }
}
