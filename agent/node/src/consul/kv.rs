//! `/v1/kv`: single keys, followed with blocking queries.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};

use super::{Consul, Error, Index, escape};

impl Consul {
    /// A key's value as text, once it differs from what it was at `index` or `wait` has passed; none where there is no
    /// such key.
    pub(crate) async fn key(
        &self,
        key: &str,
        index: Index,
        wait: Duration,
    ) -> Result<(Option<String>, Index), Error> {
        let escaped: Vec<String> = key.split('/').map(escape).collect();
        let path =
            format!("/v1/kv/{}?raw&index={}&wait={}s", escaped.join("/"), index.0, wait.as_secs());
        // Consul adds up to a sixteenth of the wait, so that not all wake at once.
        let deadline = wait + wait / 16 + super::DEADLINE;
        let reply = self.ask_any(Method::GET, &path, Bytes::new(), deadline).await?;
        let next = if reply.index < index.0 { Index::default() } else { Index(reply.index) };
        if reply.status == StatusCode::NOT_FOUND {
            return Ok((None, next));
        }
        let reply = reply.successful()?;
        Ok((Some(String::from_utf8_lossy(&reply.body).into_owned()), next))
    }
}
