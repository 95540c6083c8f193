//! `/v1/kv` and `/v1/txn`: keys, followed with blocking queries, written, and taken only if they are as they were.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
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
    value: Option<String>,
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
    /// passed.
    pub(crate) async fn entries(
        &self,
        keys: Keys<'_>,
        index: Index,
        wait: Duration,
    ) -> Result<(Vec<Entry>, Index), Error> {
        let (key, recurse) = match keys {
            Keys::One(key) => (key, ""),
            Keys::Below(prefix) => (prefix, "recurse&"),
        };
        let (key, wait_secs) = (escape_key(key), wait.as_secs());
        let path = format!("/v1/kv/{key}?{recurse}index={}&wait={wait_secs}s", index.0);
        // Consul adds up to a sixteenth of the wait, so that not all wake at once.
        let deadline = wait + wait / 16 + super::DEADLINE;
        let reply = self.ask_any(Method::GET, &path, Bytes::new(), deadline).await?;
        let next = if reply.index < index.0 { Index::default() } else { Index(reply.index) };
        if reply.status == StatusCode::NOT_FOUND {
            return Ok((Vec::new(), next));
        }
        let stored: Vec<Stored> = reply.successful()?.json()?;
        let entries = stored.into_iter().map(|entry| Entry {
            key: entry.key,
            value: decode_base64(&entry.value.unwrap_or_default()),
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

/// Bytes from base64 (RFC 4648, 4), which Consul writes; what is not of its alphabet is passed over.
fn decode_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.extend(u8::try_from((bits >> held) & 0xFF));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_is_read() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("cDE=", "p1")]
        {
            assert_eq!(decode_base64(text), bytes.as_bytes());
        }
        assert_eq!(decode_base64("//79/A=="), [0xFF, 0xFE, 0xFD, 0xFC]);
    }
}
