//! `/v1/kv` and `/v1/txn`: keys, followed with blocking queries, written, and taken only if they are as they were.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, json};

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

/// A key as Consul holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// The place of its last change in Consul's history (`ModifyIndex`).
    pub(crate) index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    key: String,
    modify_index: u64,
    /// In base64; null where it is empty.
    #[serde(deserialize_with = "bytes")]
    value: Vec<u8>,
}

fn bytes<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(source)?.unwrap_or_default();
    BASE64_STANDARD.decode(text).map_err(de::Error::custom)
}

/// Which keys are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys<'a> {
    /// This one.
    One(&'a str),
    /// All that begin with this.
    Below(&'a str),
}

impl Consul {
    /// Keys with their values and places in history, once they differ from what they were at `index` or `wait` has
    /// passed; an answer that is later than that by `late` is none.
    pub(crate) async fn entries(
        &self,
        keys: Keys<'_>,
        index: Index,
        wait: Duration,
        late: Duration,
    ) -> Result<(Vec<Entry>, Index), Error> {
        let (key, recurse) = match keys {
            Keys::One(key) => (key, ""),
            Keys::Below(prefix) => (prefix, "recurse&"),
        };
        let (key, millis) = (escape_key(key), wait.as_millis());
        let path = format!("/v1/kv/{key}?{recurse}index={}&wait={millis}ms", index.0);
        // Consul adds up to a sixteenth of the wait, so that not all wake at once.
        let deadline = wait + wait / 16 + late;
        let reply = self.ask_any(Method::GET, &path, Bytes::new(), deadline).await?;
        let next = if reply.index < index.0 { Index::default() } else { Index(reply.index) };
        if reply.status == StatusCode::NOT_FOUND {
            return Ok((Vec::new(), next));
        }
        let stored: Vec<Stored> = reply.successful()?.json()?;
        let entries = stored.into_iter().map(|entry| Entry {
            key: entry.key,
            value: entry.value,
            index: entry.modify_index,
        });
        Ok((entries.collect(), next))
    }

    /// Writes a key.
    pub(crate) async fn put_key(
        &self,
        key: &str,
        value: Vec<u8>,
        deadline: Duration,
    ) -> Result<(), Error> {
        let path = format!("/v1/kv/{}", escape_key(key));
        self.ask(Method::PUT, &path, value.into(), deadline).await.map(|_| ())
    }

    /// Removes a key, which need not be there.
    pub(crate) async fn delete_key(&self, key: &str, deadline: Duration) -> Result<(), Error> {
        let path = format!("/v1/kv/{}", escape_key(key));
        self.ask(Method::DELETE, &path, Bytes::new(), deadline).await.map(|_| ())
    }

    /// Removes a key if it was last changed at this place in history, and each of the others too (`/v1/txn`); false when
    /// one of them has changed since.
    pub(crate) async fn take_key(
        &self,
        key: (&str, u64),
        others: &[(String, u64)],
        deadline: Duration,
    ) -> Result<bool, Error> {
        let operation = |verb: &str, key: &str, index: u64| json!({ "KV": { "Verb": verb, "Key": key, "Index": index } });
        let mut operations: Vec<Value> =
            others.iter().map(|(key, index)| operation("check-index", key, *index)).collect();
        operations.push(operation("delete-cas", key.0, key.1));
        let body = Value::from(operations).to_string();
        let reply = self.ask_any(Method::PUT, "/v1/txn", body.into(), deadline).await?;
        // A transaction that is not permitted is a conflict as well, and says so.
        if reply.status == StatusCode::CONFLICT
            && !String::from_utf8_lossy(&reply.body).contains("ermission denied")
        {
            return Ok(false);
        }
        reply.successful().map(|_| true)
    }
}

fn escape_key(key: &str) -> String {
    key.split('/').map(escape).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_consul_writes_it() {
        let stored = |value: &str| {
            let text = format!(
                r#"{{"Key":"a/b","ModifyIndex":7,"LockIndex":0,"Flags":0,"Value":{value}}}"#
            );
            serde_json::from_str(&text).map(|stored: Stored| stored.value)
        };
        assert_eq!(stored(r#""cDE=""#).unwrap(), b"p1");
        assert_eq!(stored("null").unwrap(), b"");
        let refused = stored(r#""p1""#).unwrap_err().to_string();
        assert!(refused.starts_with("Invalid padding"), "{refused}");
    }
}
