//! `ballast-agent status`: what the running agent knows of this node, as a table or as its own JSON.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::error::Error;
use crate::http;
use crate::role::PRIMARY;
use crate::run::View;

/// Asks the running agent.
pub(crate) async fn load(agent: SocketAddr) -> Result<View, Error> {
    let reply = http::get(&format!("http://{agent}/status"))
        .await
        .map_err(|source| Error::Status { address: agent, source })?;
    serde_json::from_slice(&reply.body)
        .map_err(|source| Error::StatusText { address: agent, source })
}

/// Ends well where this node is its cluster's primary.
///
/// # Errors
/// It is not, or the agent doesn't say so.
pub(crate) async fn demand_primary(agent: SocketAddr) -> Result<(), Error> {
    let database = load(agent).await?.database;
    match database.is_some_and(|role| role.tags.iter().any(|tag| tag == PRIMARY)) {
        true => Ok(()),
        false => Err(Error::NotPrimary),
    }
}

/// Prints it.
pub(crate) async fn print(agent: SocketAddr, json: bool) -> Result<(), Error> {
    let view = load(agent).await?;
    if json {
        let text = serde_json::to_string_pretty(&view)
            .map_err(|source| Error::StatusText { address: agent, source })?;
        println!("{text}");
    } else {
        print!("{}", table(&view));
    }
    Ok(())
}

fn table(view: &View) -> String {
    let catalogue = view.consul.catalogue.map_or("unknown".to_owned(), |h| h.to_string());
    let mut rows = vec![
        ("node", view.node.clone()),
        ("site", format!("{}, data centre {}", view.site, view.datacenter)),
        ("role", view.role.clone()),
        ("address", view.address.clone()),
        ("image", format!("{} {}", view.image, view.version)),
        ("slot", view.slot.map_or_else(|| "none".to_owned(), String::from)),
        ("bundle", view.bundle.chars().take(12).collect()),
        ("state", view.state.to_string()),
        ("in Consul", catalogue),
        ("Consul leader", view.consul.leader.clone().unwrap_or("none".to_owned())),
    ];
    if let Some(error) = &view.consul.error {
        rows.push(("Consul error", error.clone()));
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<14} {value}");
    }
    let width = view.checks.iter().map(|c| c.name.len()).max().unwrap_or(0).max(5);
    let _ = writeln!(text, "\n{:<width$}  gate  status    output", "check");
    for check in &view.checks {
        let (health, output) = match &check.answer {
            Some(answer) => (answer.health.to_string(), answer.output.as_str()),
            None => ("starting".to_owned(), ""),
        };
        let gate = if check.gate { "yes" } else { "no" };
        let _ = writeln!(text, "{:<width$}  {gate:<4}  {health:<8}  {output}", check.name);
    }
    text
}
