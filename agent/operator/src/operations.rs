//! What the operator asks of a running PostgreSQL cluster: shown first, and refused where it would cost what is promised.
//!
//! The decision is pure: a plan, made from what Patroni knows, says what will happen and what is then asked of whom.

#[cfg(test)]
mod tests;

use std::io::{BufRead, IsTerminal, Write};
use std::time::Instant;

use ballast_bundle::Postgres;
use ballast_contract::Durability;
use serde_json::{Value, json};

use crate::error::Error;
use crate::patroni::{Member, Patroni, View};

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Another primary, this one or the best.
    Switchover { to: Option<String> },
    /// A replica's data made anew.
    Reinit { node: String },
    /// No failover by itself, or that again.
    Maintenance { on: bool },
}

/// What will happen, and what is asked of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It is so already.
    Nothing(String),
    /// One request.
    Ask { says: Vec<String>, node: String, method: &'static str, path: &'static str, body: Value },
}

/// Why it is not done, and what to do about it.
type Refusal = Error;

/// What a wish comes to.
pub fn plan(wish: &Wish, postgres: &Postgres, view: &View) -> Result<Plan, Refusal> {
    let cluster = &postgres.cluster;
    let Some(leader) = view.members.iter().find(|m| m.role == "leader") else {
        return Err(refuse(
            format!("{cluster} has no primary"),
            "`ballast status` shows what its members say",
        ));
    };
    match wish {
        Wish::Switchover { to } => switchover(postgres, view, leader, to.as_deref()),
        Wish::Reinit { node } => reinit(postgres, view, leader, node),
        Wish::Maintenance { on } if view.pause == *on => {
            let state = if *on { "is in maintenance" } else { "is not in maintenance" };
            Ok(Plan::Nothing(format!("{cluster} {state} already")))
        }
        Wish::Maintenance { on } => Ok(Plan::Ask {
            says: if *on {
                vec![
                    format!("{cluster} goes on as it is, and no other primary is chosen by itself"),
                    "a primary that is lost stays lost until `ballast maintenance off`".to_owned(),
                ]
            } else {
                vec![format!("{cluster} chooses another primary again when this one is lost")]
            },
            node: leader.name.clone(),
            method: "PATCH",
            path: "config",
            // Patroni forgets a key that is set to null.
            body: json!({ "pause": if *on { json!(true) } else { Value::Null } }),
        }),
    }
}

fn switchover(
    postgres: &Postgres,
    view: &View,
    leader: &Member,
    to: Option<&str>,
) -> Result<Plan, Refusal> {
    let cluster = &postgres.cluster;
    if view.pause {
        let reason = format!("{cluster} is in maintenance");
        return Err(refuse(reason, "`ballast maintenance off` first"));
    }
    let others: Vec<_> = view.members.iter().filter(|m| m.name != leader.name).collect();
    let chosen = match to {
        Some(name) if name == leader.name => {
            return Ok(Plan::Nothing(format!("{name} is the primary of {cluster} already")));
        }
        Some(name) => {
            let Some(found) = others.iter().find(|m| m.name == name) else {
                return Err(refuse(
                    format!("{name} is not a member of {cluster} that Patroni knows"),
                    "`ballast status` shows them",
                ));
            };
            if let Some(reason) = unfit(postgres, leader, found) {
                return Err(refuse(reason, "name another, or none for the best"));
            }
            found
        }
        None => {
            let fit = others.iter().filter(|m| unfit(postgres, leader, m).is_none());
            let Some(best) = fit.min_by_key(|m| (m.lag, &m.name)) else {
                let reasons: Vec<_> =
                    others.iter().filter_map(|m| unfit(postgres, leader, m)).collect();
                return Err(refuse(
                    format!("no member of {cluster} can be the primary: {}", reasons.join("; ")),
                    "wait until one follows the primary, as `ballast status` shows",
                ));
            };
            best
        }
    };
    Ok(Plan::Ask {
        says: vec![
            format!("{} becomes the primary of {cluster} instead of {}", chosen.name, leader.name),
            format!("it follows as {}, {} bytes behind", chosen.role, chosen.lag.unwrap_or(0)),
            format!("sessions with {} are cut, and writes wait until it is done", leader.name),
        ],
        node: leader.name.clone(),
        method: "POST",
        path: "switchover",
        body: json!({ "leader": leader.name, "candidate": chosen.name }),
    })
}

/// Why a member cannot be the primary without a loss, if it cannot.
fn unfit(postgres: &Postgres, leader: &Member, member: &Member) -> Option<String> {
    let Member { name, role, state, timeline, lag } = member;
    if state != "streaming" {
        return Some(format!("{name} does not follow the primary, it is {state}"));
    }
    if *timeline != leader.timeline {
        return Some(format!("{name} is on another timeline than {}", leader.name));
    }
    let counted = match postgres.durability {
        Durability::Synchronous => Some("sync_standby"),
        Durability::Quorum => Some("quorum_standby"),
        Durability::Asynchronous => None,
    };
    match counted {
        Some(counted) if role != counted => {
            Some(format!("{name} may lack acknowledged writes, it is {role} and no {counted}"))
        }
        _ if lag.is_none() => Some(format!("how far {name} is behind is not known")),
        _ => None,
    }
}

fn reinit(postgres: &Postgres, view: &View, leader: &Member, node: &str) -> Result<Plan, Refusal> {
    let cluster = &postgres.cluster;
    if !postgres.members.iter().any(|m| m.name == node) {
        let known: Vec<_> = postgres.members.iter().map(|m| m.name.as_str()).collect();
        return Err(Error::NoMember {
            node: node.to_owned(),
            cluster: cluster.clone(),
            known: format!("its members are {}", known.join(", ")),
        });
    }
    if leader.name == node {
        return Err(refuse(
            format!("{node} is the primary of {cluster}, and its data is the cluster's"),
            "`ballast switchover postgres` first",
        ));
    }
    let others = view.members.iter().filter(|m| m.name != leader.name && m.name != node);
    let following = others.filter(|m| m.state == "streaming").count();
    // One that does not follow is missed already, and this is what mends it.
    let follows = view.members.iter().any(|m| m.name == node && m.state == "streaming");
    if postgres.durability != Durability::Asynchronous && follows && following == 0 {
        return Err(refuse(
            format!(
                "without {node}, no replica follows {}, which then takes no writes",
                leader.name
            ),
            "wait until another one follows, as `ballast status` shows",
        ));
    }
    Ok(Plan::Ask {
        says: vec![
            format!("all that {node} holds of {cluster} is removed"),
            format!("it is copied anew from the primary, {}", leader.name),
        ],
        node: node.to_owned(),
        method: "POST",
        path: "reinitialize",
        body: json!({ "force": true }),
    })
}

fn refuse(reason: String, hint: &str) -> Refusal {
    Error::Unsafe { reason, hint: hint.to_owned() }
}

/// Shows what a wish comes to, asks whether to go on unless told to, and does it.
pub fn carry_out(
    wish: &Wish,
    postgres: &Postgres,
    patroni: &Patroni<'_>,
    yes: bool,
) -> Result<String, Error> {
    match plan(wish, postgres, &patroni.look()?)? {
        Plan::Nothing(says) => Ok(format!("{says}\n")),
        Plan::Ask { says, node, method, path, body } => {
            if !yes {
                confirm(&says)?;
            }
            let start = Instant::now();
            let answer = patroni.ask(&node, method, path, &body)?;
            Ok(match wish {
                // Patroni answers with its whole configuration.
                Wish::Maintenance { on: true } => "maintenance is on\n".to_owned(),
                Wish::Maintenance { on: false } => "maintenance is off\n".to_owned(),
                _ => format!(
                    "{node} after {:.1} s: {}\n",
                    start.elapsed().as_secs_f64(),
                    answer.trim_end()
                ),
            })
        }
    }
}

/// Shows what will happen, and goes on only when a person says so.
pub fn confirm(says: &[String]) -> Result<(), Error> {
    let mut screen = std::io::stderr();
    let shown = writeln!(screen, "{}", says.join("\n"));
    if !std::io::stdin().is_terminal() {
        return Err(Error::Unconfirmed { asked: false });
    }
    shown
        .and_then(|()| write!(screen, "go on? [y/N] "))
        .and_then(|()| screen.flush())
        .map_err(Error::io("asking at", "the terminal"))?;
    let mut answer = String::new();
    let line = std::io::stdin().lock().read_line(&mut answer);
    line.map_err(Error::io("asking at", "the terminal"))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::Unconfirmed { asked: true }),
    }
}
