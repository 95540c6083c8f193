//! `ballast switchover redis`: asks the primary's agent what would happen, shows it, and has it done.
//!
//! Asked through Consul: the operator writes the key `request` below `ballast/redis/<group>/`, and the primary's agent, which
//! alone knows how far each replica is, answers beside it. It judges twice: when it is asked, and when it is told to go on.

use std::path::Path;
use std::time::{Duration, Instant};

use ballast_bundle::Redis;
use serde::{Deserialize, Serialize};

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::operations::confirm;
use crate::servers::{Servers, request_id};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two looks for an answer.
const LOOK: Duration = Duration::from_millis(100);
/// How long a primary may take to say what would happen, and to do it: it gives up by itself before that.
const PLANNING: Duration = Duration::from_secs(10);
const DOING: Duration = Duration::from_secs(60);

/// What is asked of the primary's agent: the key `request`.
#[derive(Serialize)]
struct Request<'a> {
    id: &'a str,
    to: Option<&'a str>,
    go: bool,
}

/// What it answers: the key `answer`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Reply {
    id: String,
    node: String,
    #[serde(flatten)]
    said: Said,
}

/// What is said of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
enum Said {
    /// It is so already.
    Nothing { says: String },
    /// This will happen, or has happened.
    Plan { to: String, says: Vec<String> },
    /// It would cost what is promised.
    Refused { reason: String, hint: String },
    /// It was begun, and did not succeed.
    Failed { reason: String },
}

/// Makes another member of the site's Redis group its primary.
pub fn switch_over(
    cluster: &Cluster,
    state: &Path,
    to: Option<&str>,
    yes: bool,
) -> Result<String, Error> {
    let Some(redis) = &cluster.redis else {
        return Err(Error::NoRole { role: cluster::REDIS });
    };
    check_member(redis, to)?;
    let servers = Servers::open(cluster, &redis.members, state, SILENCE)?;
    let (chosen, says) = match ask(&servers, redis, to, false)? {
        Answer::Nothing(says) => return Ok(format!("{says}\n")),
        Answer::Plan { to, says } => (to, says),
    };
    if !yes {
        confirm(&says)?;
    }
    let start = Instant::now();
    Ok(match ask(&servers, redis, Some(&chosen), true)? {
        Answer::Nothing(says) => format!("{says}\n"),
        Answer::Plan { to, .. } => format!(
            "{to} is the primary of {} after {:.1} s\n",
            redis.cluster,
            start.elapsed().as_secs_f64()
        ),
    })
}

fn check_member(redis: &Redis, to: Option<&str>) -> Result<(), Error> {
    match to {
        Some(node) if !redis.members.iter().any(|m| m.name == node) => {
            let known: Vec<_> = redis.members.iter().map(|m| m.name.as_str()).collect();
            Err(Error::NoMember {
                node: node.to_owned(),
                cluster: redis.cluster.clone(),
                known: format!("its members are {}", known.join(", ")),
            })
        }
        _ => Ok(()),
    }
}

/// What is no refusal.
enum Answer {
    Nothing(String),
    Plan { to: String, says: Vec<String> },
}

/// Leaves a request, and waits for the answer to it.
fn ask(servers: &Servers, redis: &Redis, to: Option<&str>, go: bool) -> Result<Answer, Error> {
    let id = request_id()?;
    let key = |name: &str| format!("ballast/redis/{}/{name}", redis.cluster);
    let request = serde_json::json!(Request { id: &id, to, go }).to_string();
    servers.put_key(&key("request"), request.as_bytes())?;
    let patience = if go { DOING } else { PLANNING };
    let asked = Instant::now();
    while asked.elapsed() < patience {
        std::thread::sleep(LOOK);
        // A server that is silent now may answer the next time.
        let answer = servers.key(&key("answer")).ok().flatten();
        let reply = answer.and_then(|text| serde_json::from_slice::<Reply>(&text).ok());
        let Some(Reply { node, said, .. }) = reply.filter(|reply| reply.id == id) else { continue };
        return match said {
            Said::Nothing { says } => Ok(Answer::Nothing(says)),
            Said::Plan { to, says } => Ok(Answer::Plan { to, says }),
            Said::Refused { reason, hint } => Err(Error::Unsafe { reason, hint }),
            Said::Failed { reason } => Err(Error::Redis { node, reason }),
        };
    }
    Err(Error::NoPrimaryAnswers { cluster: redis.cluster.clone(), secs: patience.as_secs() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_answers_are_read_as_it_writes_them() {
        let read = |text: &str| serde_json::from_str::<Reply>(text).unwrap().said;
        let plan = r#"{"id":"x","node":"n4","outcome":"plan","to":"n5","says":["a"]}"#;
        assert_eq!(read(plan), Said::Plan { to: "n5".into(), says: vec!["a".into()] });
        let refused = r#"{"id":"x","node":"n4","outcome":"refused","reason":"a","hint":"b"}"#;
        assert_eq!(read(refused), Said::Refused { reason: "a".into(), hint: "b".into() });
        let failed = r#"{"id":"x","node":"n4","outcome":"failed","reason":"a"}"#;
        assert_eq!(read(failed), Said::Failed { reason: "a".into() });
        let nothing = r#"{"id":"x","node":"n4","outcome":"nothing","says":"a"}"#;
        assert_eq!(read(nothing), Said::Nothing { says: "a".into() });
    }

    #[test]
    fn a_node_that_is_no_member_is_wrong_input_and_nobody_is_asked() {
        let text = include_bytes!("../tests/fixtures/databases.toml");
        let cluster = cluster::read_cluster("cluster.toml", text).unwrap();
        let state = Path::new("there-is-no-such-folder");
        let error = switch_over(&cluster, state, Some("postgres-1"), true).unwrap_err();
        assert_eq!(error.to_string(), "postgres-1 is not a member of redis");
        assert_eq!(error.exit_status(), 2);
    }
}
