//! Asking a node what it is: Patroni's interface, PostgreSQL itself, or Redis's `ROLE`. Every question has a deadline.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::group::Answer;
use super::reach::{Patience, Stream, reach};
use super::settings::{Proof, Service};
use crate::error::chain;
use crate::http::{self, Reply};

/// Asks the nodes of one service.
pub(super) struct Asker {
    service: Service,
    patience: Patience,
    /// Connections to Redis, which are kept from one question to the next.
    kept: Mutex<HashMap<SocketAddr, Stream>>,
}

/// Why there is no answer, or none that is worth anything.
type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Asker {
    pub(super) fn new(service: Service, patience: Patience) -> Self {
        Self { service, patience, kept: Mutex::default() }
    }

    /// Asks one node.
    pub(super) async fn ask(&self, address: SocketAddr) -> Answer {
        let deadline = self.patience.connect;
        let asking = async {
            match &self.service.proof {
                Proof::None => Ok(Answer::Neither("nobody asks it".to_owned())),
                Proof::Patroni { port } => self.ask_patroni(address, *port).await,
                Proof::Sql { user, password, database } => {
                    self.ask_sql(address, user, password.as_deref(), database).await
                }
                Proof::Role { user, password } => {
                    self.ask_redis(address, user.as_deref(), password.as_deref()).await
                }
            }
        };
        match timeout(deadline, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Silent(chain(&*error)),
            Err(_) => Answer::Silent(format!("no answer within {} ms", deadline.as_millis())),
        }
    }

    async fn ask_patroni(&self, address: SocketAddr, port: u16) -> Result<Answer, Failed> {
        let request = Request::get("/primary").body(Full::default())?;
        let place = SocketAddr::new(address.ip(), port).to_string();
        let Reply { status, body, .. } = match &self.service.encryption {
            Some(encryption) => {
                let name = encryption.name(address);
                http::send_tls_to(&place, name, &encryption.tls, request).await?
            }
            None => http::send(&place, request).await?,
        };
        let document: Patroni = serde_json::from_slice(&body)
            .map_err(|_| format!("{place} answers {status}, and not as Patroni does"))?;
        Ok(document.judge(status == StatusCode::OK))
    }

    async fn ask_sql(
        &self,
        address: SocketAddr,
        user: &str,
        password: Option<&str>,
        database: &str,
    ) -> Result<Answer, Failed> {
        const QUESTION: &str = "SELECT pg_is_in_recovery() AS replica, \
            CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') \
                ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') END::int8 AS position, \
            CASE WHEN NOT pg_is_in_recovery() \
                THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8 END AS timeline, \
            EXISTS (SELECT FROM pg_stat_wal_receiver) AS following";
        let Service { kind, encryption, .. } = &self.service;
        let stream = reach(address, *kind, encryption.as_ref(), self.patience).await?;
        let mut config = tokio_postgres::Config::new();
        config.user(user).dbname(database).application_name("ballast-router");
        // The stream is encrypted already, where it should be.
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        if let Some(password) = password {
            config.password(password);
        }
        let (client, connection) = match config.connect_raw(stream, NoTls).await {
            Ok(connected) => connected,
            Err(error) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                return Ok(Answer::Neither("PostgreSQL is starting or stopping".to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        let connection = tokio::spawn(connection);
        let row = client.query_one(QUESTION, &[]).await;
        drop(client);
        connection.abort();
        let row = row?;
        let position = row.try_get::<_, Option<i64>>("position")?.and_then(|p| p.try_into().ok());
        if row.try_get("replica")? {
            return Ok(Answer::Replica { position, following: row.try_get("following")? });
        }
        let timeline: Option<i64> = row.try_get("timeline")?;
        let term = timeline.and_then(|t| t.try_into().ok()).unwrap_or(0);
        Ok(Answer::Primary { term, position })
    }

    async fn ask_redis(
        &self,
        address: SocketAddr,
        user: Option<&str>,
        password: Option<&str>,
    ) -> Result<Answer, Failed> {
        let kept = self.lock().remove(&address);
        if let Some(mut stream) = kept {
            // One that broke since is made anew.
            if let Ok(answer) = ask_role(&mut stream).await {
                self.lock().insert(address, stream);
                return Ok(answer);
            }
        }
        let Service { kind, encryption, .. } = &self.service;
        let mut stream = reach(address, *kind, encryption.as_ref(), self.patience).await?;
        if let Some(password) = password {
            let words = ["AUTH"].into_iter().chain(user).chain([password]);
            stream.write_all(&command(words)).await?;
            if let Some(refused) = refusal(read_value(&mut stream).await?) {
                return Err(format!("Redis refuses the password: {refused}").into());
            }
        }
        let answer = ask_role(&mut stream).await?;
        self.lock().insert(address, stream);
        Ok(answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Stream>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets connections to nodes that are gone.
    pub(super) fn retain(&self, known: impl Fn(SocketAddr) -> bool) {
        self.lock().retain(|address, _| known(*address));
    }
}

/// What Patroni says of its node (its REST API, version 4.0).
#[derive(Deserialize)]
struct Patroni {
    state: String,
    role: String,
    #[serde(default)]
    timeline: Option<u64>,
    #[serde(default)]
    replication_state: Option<String>,
    #[serde(default)]
    xlog: Xlog,
    #[serde(default)]
    tags: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize, Default)]
struct Xlog {
    #[serde(default)]
    location: Option<u64>,
    #[serde(default)]
    replayed_location: Option<u64>,
}

impl Patroni {
    /// What the node is; `leads` is whether Patroni holds the leader key.
    fn judge(self, leads: bool) -> Answer {
        if self.state != "running" {
            return Answer::Neither(format!("PostgreSQL is {:?}", self.state));
        }
        match (self.role.as_str(), leads) {
            ("primary" | "master", true) => {
                Answer::Primary { term: self.timeline.unwrap_or(0), position: self.xlog.location }
            }
            ("primary" | "master", false) => {
                Answer::Neither("PostgreSQL takes writes without the leader key".to_owned())
            }
            ("replica", true) => Answer::Neither("PostgreSQL is being promoted".to_owned()),
            ("replica", false) => {
                let spared = self.tags.get("noloadbalance").and_then(|tag| tag.as_bool());
                Answer::Replica {
                    position: self.xlog.replayed_location,
                    following: self.replication_state.as_deref() == Some("streaming")
                        && spared != Some(true),
                }
            }
            (other, _) => Answer::Neither(format!("PostgreSQL is a {other}")),
        }
    }
}

/// A value of Redis's protocol (RESP 2), as far as it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(i64),
    Refused(String),
    List(Vec<Value>),
    Nothing,
}

fn refusal(value: Value) -> Option<String> {
    match value {
        Value::Refused(why) => Some(why),
        _ => None,
    }
}

fn command<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.clone().count());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text.into_bytes()
}

async fn ask_role(stream: &mut Stream) -> Result<Answer, Failed> {
    stream.write_all(&command(["ROLE"].into_iter())).await?;
    judge_role(read_value(stream).await?)
}

/// What Redis is, by its `ROLE`.
fn judge_role(value: Value) -> Result<Answer, Failed> {
    let fields = match value {
        Value::List(fields) => fields,
        Value::Refused(why) if why.starts_with("LOADING") => return Ok(Answer::Neither(why)),
        Value::Refused(why) => return Err(format!("Redis refuses ROLE: {why}").into()),
        _ => return Err("Redis answers ROLE with something else".into()),
    };
    let offset = |value: Option<&Value>| match value {
        Some(Value::Number(n)) => u64::try_from(*n).ok(),
        _ => None,
    };
    let text = |value: Option<&Value>| match value {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    };
    match text(fields.first()).as_str() {
        "master" => Ok(Answer::Primary { term: 0, position: offset(fields.get(1)) }),
        "slave" => Ok(Answer::Replica {
            position: offset(fields.get(4)),
            following: text(fields.get(3)) == "connected",
        }),
        other => Err(format!("Redis is a {other:?}").into()),
    }
}

/// The longest line, text or list that is read: `ROLE` is far shorter.
const LONGEST: usize = 4_096;

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, Failed> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
        if line.len() > LONGEST {
            return Err("the answer is not one of Redis".into());
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Reads one value, and the values in it, without recursion deeper than `ROLE` needs.
async fn read_value(stream: &mut Stream) -> Result<Value, Failed> {
    // Nothing is read ahead: Redis speaks when it is asked.
    let mut stream = BufReader::with_capacity(512, stream);
    let mut open: Vec<(usize, Vec<Value>)> = Vec::new();
    loop {
        let line = read_line(&mut stream).await?;
        let (kind, rest) = line.split_at_checked(1).ok_or("the answer is empty")?;
        let mut value = match kind {
            "+" => Value::Text(rest.to_owned()),
            "-" => Value::Refused(rest.to_owned()),
            ":" => Value::Number(rest.parse()?),
            "$" if rest == "-1" => Value::Nothing,
            "$" => {
                let length = rest.parse::<usize>().ok().filter(|l| *l <= LONGEST);
                let Some(length) = length else { return Err("the answer is too long".into()) };
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).await?;
                Value::Text(String::from_utf8_lossy(&bytes).trim_end().to_owned())
            }
            "*" if rest == "0" || rest == "-1" => Value::List(Vec::new()),
            "*" => {
                let count = rest.parse::<usize>().ok().filter(|c| *c <= LONGEST && open.len() < 4);
                let Some(count) = count else { return Err("the answer is too long".into()) };
                open.push((count, Vec::new()));
                continue;
            }
            _ => return Err("the answer is not one of Redis".into()),
        };
        loop {
            let Some((wanted, mut values)) = open.pop() else { return Ok(value) };
            values.push(value);
            if values.len() < wanted {
                open.push((wanted, values));
                break;
            }
            value = Value::List(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patroni(text: &str, leads: bool) -> Answer {
        serde_json::from_str::<Patroni>(text).unwrap().judge(leads)
    }

    #[test]
    fn a_primary_without_the_leader_key_is_none() {
        let primary = r#"{"state":"running","role":"primary","timeline":4,"xlog":{"location":7}}"#;
        assert_eq!(patroni(primary, true), Answer::Primary { term: 4, position: Some(7) });
        assert!(matches!(patroni(primary, false), Answer::Neither(_)));
        let starting = r#"{"state":"starting","role":"primary"}"#;
        assert!(matches!(patroni(starting, true), Answer::Neither(_)));
    }

    #[test]
    fn a_replica_that_does_not_stream_follows_nobody() {
        let text = |how: &str| {
            format!(
                r#"{{"state":"running","role":"replica","xlog":{{"replayed_location":5}}{how}}}"#
            )
        };
        let streaming = text(r#","replication_state":"streaming""#);
        let following = |following| Answer::Replica { position: Some(5), following };
        assert_eq!(patroni(&streaming, false), following(true));
        assert_eq!(patroni(&text(""), false), following(false));
        let spared = text(r#","replication_state":"streaming","tags":{"noloadbalance":true}"#);
        assert_eq!(patroni(&spared, false), following(false));
    }

    #[test]
    fn what_redis_answers_is_read() {
        let text = |text: &str| Value::Text(text.to_owned());
        let master = Value::List(vec![text("master"), Value::Number(9), Value::List(vec![])]);
        assert_eq!(judge_role(master).unwrap(), Answer::Primary { term: 0, position: Some(9) });
        let words = [text("slave"), text("10.0.0.1"), Value::Number(6379), text("sync")];
        let replica = Value::List([&words[..], &[Value::Number(-1)]].concat());
        assert_eq!(
            judge_role(replica).unwrap(),
            Answer::Replica { position: None, following: false }
        );
        let loading = Value::Refused("LOADING Redis is loading".to_owned());
        assert!(matches!(judge_role(loading), Ok(Answer::Neither(_))));
        let refused = judge_role(Value::Refused("NOAUTH".to_owned())).unwrap_err();
        assert_eq!(refused.to_string(), "Redis refuses ROLE: NOAUTH");
    }
}
