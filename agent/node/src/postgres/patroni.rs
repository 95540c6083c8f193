//! Patroni's own interface on this node, over TLS (its REST API, version 4.0).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde::Deserialize;

use super::PATRONI_PORT;
use crate::http::{self, Tls};

/// Why Patroni did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("asking Patroni for {what}")]
    Exchange { what: String, source: http::Error },
    #[error("Patroni did not answer {what} within {} ms", deadline.as_millis())]
    Deadline { what: String, deadline: Duration },
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
}

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
    pub(crate) fn new(address: IpAddr, tls: Tls) -> Self {
        let loopback: IpAddr = match address {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        Self { address: SocketAddr::new(loopback, PATRONI_PORT), name: address, tls }
    }

    /// What Patroni knows of its node, and whether it holds the leader key.
    pub(crate) async fn status(&self, deadline: Duration) -> Result<Status, Error> {
        let what = || "GET /primary".to_owned();
        let failed = |source| Error::Exchange { what: what(), source };
        let request = Request::get("/primary")
            .body(Full::default())
            .map_err(|_| failed(http::Error::Url { url: "/primary".to_owned() }))?;
        let exchange = http::send_tls(self.address, self.name, &self.tls, request);
        let reply = tokio::time::timeout(deadline, exchange)
            .await
            .map_err(|_| Error::Deadline { what: what(), deadline })?
            .map_err(failed)?;
        let status: Status = serde_json::from_slice(&reply.body)
            .map_err(|source| Error::Json { what: what(), source })?;
        // 503 from everyone but the holder of the key, with the same document.
        Ok(Status { leads: reply.status == StatusCode::OK, ..status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
