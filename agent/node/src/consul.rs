//! A thin client of Consul's HTTP API (1.8), of this machine's agent or of a server: one module per group of endpoints.
//!
//! To add an endpoint, write it where its group is, with the fields that are used and no others.

mod acl;
mod agent;
mod health;
mod kv;
mod status;

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use health::{Index, Instance};
pub(crate) use kv::{Entry, Keys};

use crate::http::{self, Tls};

/// How long an answer may take that Consul does not hold back on purpose.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why Consul did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("asking Consul for {what}")]
    Exchange { what: String, source: http::Error },
    #[error("Consul did not answer {what} within {} s", deadline.as_secs())]
    Deadline { what: String, deadline: Duration },
    #[error("Consul answered {what} with {status}: {text}")]
    Status { what: String, status: StatusCode, text: String },
    #[error("reading Consul's answer to {what}")]
    Json { what: String, source: serde_json::Error },
}

/// The local Consul agent, asked with one token. Holds a secret, hence no `Debug`.
#[derive(Clone)]
pub(crate) struct Consul {
    /// Host and port.
    address: String,
    token: Option<String>,
    /// How another machine's Consul is asked, and the name in its certificate.
    tls: Option<(Tls, ServerName<'static>)>,
}

/// An answer's body and its index (`X-Consul-Index`), for blocking queries.
struct Reply {
    what: String,
    status: StatusCode,
    body: Bytes,
    index: u64,
}

impl Reply {
    fn successful(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.body).trim().chars().take(200).collect();
        Err(Error::Status { what: self.what, status: self.status, text })
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|source| Error::Json { what: self.what.clone(), source })
    }
}

impl Consul {
    pub(crate) fn new(address: SocketAddr, token: Option<String>) -> Self {
        Self { address: address.to_string(), token, tls: None }
    }

    /// Any Consul at `host:port`, over TLS where that is said.
    pub(crate) fn at(
        address: String,
        token: Option<String>,
        tls: Option<(Tls, ServerName<'static>)>,
    ) -> Self {
        Self { address, token, tls }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the agent answers at all: true without any other node, and without a token.
    pub(crate) async fn answers(&self) -> Result<(), Error> {
        self.get("/").await.map(|_| ())
    }

    async fn get(&self, path: &str) -> Result<Reply, Error> {
        self.ask(Method::GET, path, Bytes::new(), DEADLINE).await
    }

    async fn put(&self, path: &str, body: &impl Serialize) -> Result<Reply, Error> {
        let what = || format!("PUT {path}");
        let body =
            serde_json::to_vec(body).map_err(|source| Error::Json { what: what(), source })?;
        self.ask(Method::PUT, path, body.into(), DEADLINE).await
    }

    async fn delete(&self, path: &str) -> Result<Reply, Error> {
        self.ask(Method::DELETE, path, Bytes::new(), DEADLINE).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Reply, Error> {
        self.ask_any(method, path, body, deadline).await?.successful()
    }

    /// Asks, and takes any answer for one.
    async fn ask_any(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Reply, Error> {
        let what = format!("{method} {path}");
        match tokio::time::timeout(deadline, self.exchange(method, path, body, &what)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline { what, deadline }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        what: &str,
    ) -> Result<Reply, Error> {
        let failed = |source| Error::Exchange { what: what.to_owned(), source };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        let url = || http::Error::Url { url: path.to_owned() };
        let request = request.body(Full::new(body)).map_err(|_| failed(url()))?;
        let reply = match &self.tls {
            Some((tls, name)) => http::send_tls_to(&self.address, name.clone(), tls, request).await,
            None => http::send(&self.address, request).await,
        };
        let reply = reply.map_err(failed)?;
        let index = reply.headers.get("X-Consul-Index").and_then(|v| v.to_str().ok()?.parse().ok());
        Ok(Reply {
            what: what.to_owned(),
            status: reply.status,
            body: reply.body,
            index: index.unwrap_or(0),
        })
    }
}

/// A path component with everything but unreserved characters escaped (RFC 3986, 2.3).
fn escape(component: &str) -> String {
    let mut text = String::new();
    for byte in component.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
