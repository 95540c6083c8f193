//! Patroni's own interface, as its members offer it to the operator: the cluster as it knows it, and what can be asked of it.
//!
//! Specification: Patroni 4.0, "Patroni REST API".

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use ureq::Agent;

use ballast_bundle::{Member as Address, Postgres};

use crate::authority::Identity;
use crate::error::Error;
use crate::https::{self, Silence};

/// Where Patroni listens on every member.
const PORT: u16 = 8008;
/// The account that may change something, with the password `postgres.api`.
const ACCOUNT: &str = "ballast";
/// Within which a member says what it knows.
const LOOK: Duration = Duration::from_secs(5);
/// Within which it does what it is asked: a switchover is watched by Patroni itself for twice ten seconds or two of its rounds.
const ACT: Duration = Duration::from_secs(90);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// A client for the members of a cluster.
pub struct Patroni<'a> {
    agent: Agent,
    password: String,
    postgres: &'a Postgres,
}

/// A cluster, as one of its members knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct View {
    pub members: Vec<Member>,
    /// Whether it is in maintenance: no failover by itself.
    #[serde(default)]
    pub pause: bool,
}

/// A member, as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    pub name: String,
    /// `leader`, `sync_standby`, `quorum_standby`, `replica`, `standby_leader`.
    pub role: String,
    /// `running` on a primary, `streaming` on a replica that follows it, and words for what is wrong.
    pub state: String,
    #[serde(default)]
    pub timeline: Option<u64>,
    /// Bytes behind the primary; none where Patroni does not know.
    #[serde(default, deserialize_with = "number_or_none")]
    pub lag: Option<u64>,
}

/// Patroni writes "unknown" for a number that it does not know.
fn number_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(Value::deserialize(from)?.as_u64())
}

impl View {
    /// A member by its name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.name == name)
    }
}

impl<'a> Patroni<'a> {
    /// A client that shows the operator's certificate, and knows the password of Patroni's interface.
    pub fn new(
        operator: &Identity,
        ca_pem: &str,
        password: String,
        postgres: &'a Postgres,
    ) -> Result<Self, ureq::Error> {
        Ok(Self { agent: https::agent(operator, ca_pem, ACT)?, password, postgres })
    }

    /// The cluster, from the first member that answers.
    pub fn look(&self) -> Result<View, Error> {
        look(&self.agent, &self.postgres.members, LOOK).map_err(|silences| Error::Silent {
            cluster: self.postgres.cluster.clone(),
            reasons: silences.join("; "),
        })
    }

    /// Asks a member to change something, and returns what it answers; what it refuses is an error with its own words.
    pub fn ask(&self, node: &str, method: &str, path: &str, body: &Value) -> Result<String, Error> {
        let refused = |reason: String| Error::Patroni { node: node.to_owned(), reason };
        let member = self.postgres.members.iter().find(|m| m.name == node);
        let member = member.ok_or_else(|| refused("is not a member".to_owned()))?;
        let account = BASE64_STANDARD.encode(format!("{ACCOUNT}:{}", self.password));
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url(member, path))
            .header("Authorization", format!("Basic {account}"))
            .header("Content-Type", "application/json")
            .body(body.to_string())
            .map_err(|error| refused(error.to_string()))?;
        let request = self.agent.configure_request(request).http_status_as_error(false).build();
        let mut answer = self.agent.run(request).map_err(|e| refused(https::reason(&e)))?;
        let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        let text = text.map_err(|error| refused(https::reason(&error)))?;
        if answer.status().is_success() { Ok(text) } else { Err(refused(text)) }
    }
}

/// The cluster, from the first of its members that answers; else why each of them does not.
pub fn look(agent: &Agent, members: &[Address], timeout: Duration) -> Result<View, Vec<Silence>> {
    let ask = |member: &Address| -> Result<View, Silence> {
        let request = agent.get(url(member, "cluster"));
        let answer = request.config().timeout_global(Some(timeout)).build().call();
        let mut answer = answer.map_err(|error| https::reason(&error))?;
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| https::reason(&error))?;
        serde_json::from_slice(&body).map_err(|_| "did not answer as Patroni does".to_owned())
    };
    // All at once: silent members cost one time-out, and not one after another.
    let answers = thread::scope(|scope| {
        let asked: Vec<_> = members.iter().map(|m| (m, scope.spawn(|| ask(m)))).collect();
        let silence = || Err("was not asked".to_owned());
        asked
            .into_iter()
            .map(|(m, answer)| {
                let answer = answer.join().unwrap_or_else(|_| silence());
                answer.map_err(|silence| format!("{}: {silence}", m.name))
            })
            .collect::<Vec<_>>()
    });
    let mut silences = Vec::new();
    for answer in answers {
        match answer {
            Ok(view) => return Ok(view),
            Err(silence) => silences.push(silence),
        }
    }
    Err(silences)
}

fn url(member: &Address, path: &str) -> String {
    format!("https://{}/{path}", SocketAddr::new(member.address, PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Patroni 4.0.7 answered it.
    const ANSWER: &str = r#"{"members": [
        {"name": "postgres-1", "role": "leader", "state": "running", "api_url": "https://10.0.0.21:8008/patroni",
         "host": "10.0.0.21", "port": 5432, "timeline": 2},
        {"name": "postgres-2", "role": "sync_standby", "state": "streaming", "api_url": "https://10.0.0.22:8008/patroni",
         "host": "10.0.0.22", "port": 5432, "timeline": 2, "lag": 24},
        {"name": "postgres-3", "role": "replica", "state": "starting", "api_url": "https://10.0.0.23:8008/patroni",
         "host": "10.0.0.23", "port": 5432, "lag": "unknown"}], "pause": true, "scope": "postgres"}"#;

    #[test]
    fn a_cluster_is_read_as_patroni_writes_it() {
        let view: View = serde_json::from_str(ANSWER).unwrap();
        assert!(view.pause);
        let lags: Vec<_> = view.members.iter().map(|m| m.lag).collect();
        assert_eq!(lags, [None, Some(24), None]);
        assert_eq!(view.members[1].role, "sync_standby");
    }
}
