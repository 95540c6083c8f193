//! Keeping a cluster what the bundle says, on its primary: Patroni's dynamic configuration, which Consul holds for all
//! members, and the accounts.

use std::time::Duration;

use ballast_bundle::{Postgres, PostgresSecrets};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::patroni::Patroni;
use super::sql::Sql;
use super::{accounts, patroni};
use crate::error::chain;
use crate::log;
use crate::role::{PRIMARY, RoleView};

/// Between two looks on a primary that is as it shall be.
const ROUND: Duration = Duration::from_secs(60);
/// The first and the longest pause after a look that failed.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What a cluster shall be.
pub(super) struct Wanted {
    pub(super) postgres: Postgres,
    pub(super) secrets: PostgresSecrets,
    /// Patroni's dynamic configuration.
    pub(super) dynamic: Value,
}

/// Keeps the cluster what the bundle says, while this node is its primary.
pub(super) async fn keep(
    patroni: Patroni,
    sql: Sql,
    wanted: Wanted,
    mut roles: watch::Receiver<RoleView>,
) {
    let mut retry = FIRST_RETRY;
    let mut last = None;
    loop {
        let is_primary = |role: &RoleView| role.tags.iter().any(|tag| tag == PRIMARY);
        if roles.wait_for(is_primary).await.is_err() {
            return;
        }
        let pause = match keep_once(&patroni, &sql, &wanted).await {
            Ok(()) => {
                retry = FIRST_RETRY;
                last = None;
                ROUND
            }
            Err(text) => {
                if last.as_ref() != Some(&text) {
                    log::warn(&format!("the cluster is not yet what the bundle says: {text}"));
                }
                last = Some(text);
                retry = (retry * 2).min(LAST_RETRY);
                retry
            }
        };
        sleep(pause).await;
    }
}

async fn keep_once(patroni: &Patroni, sql: &Sql, wanted: &Wanted) -> Result<(), String> {
    let configured = keep_configuration(patroni, &wanted.dynamic).await;
    let accounts = accounts::keep(sql, &wanted.postgres, &wanted.secrets).await;
    configured.map_err(|e| chain(&e))?;
    accounts.map_err(|e| chain(&e))
}

async fn keep_configuration(patroni: &Patroni, wanted: &Value) -> Result<(), patroni::Error> {
    let held = patroni.configuration().await?;
    if let Some(patch) = patch(wanted, &held) {
        patroni.patch_configuration(&patch).await?;
        log::info(&format!("changed the cluster's configuration: {patch}"));
    }
    Ok(())
}

/// What Patroni must be told so that what it holds is what is wanted: nothing, or the differences, null for what is to go.
/// What it holds beside (a maintenance, a standby cluster) is others' to say, except PostgreSQL's parameters, all of
/// which are the bundle's.
fn patch(wanted: &Value, held: &Value) -> Option<Value> {
    let mut patch = differences(wanted, held).unwrap_or(json!({}));
    let place = "/postgresql/parameters";
    let of = |value: &Value| value.pointer(place).and_then(Value::as_object).cloned();
    let (wanted, held) = (of(wanted).unwrap_or_default(), of(held).unwrap_or_default());
    for name in held.keys().filter(|name| !wanted.contains_key(*name)) {
        patch["postgresql"]["parameters"][name] = Value::Null;
    }
    patch.as_object().is_some_and(|p| !p.is_empty()).then_some(patch)
}

fn differences(wanted: &Value, held: &Value) -> Option<Value> {
    match (wanted, held) {
        (Value::Object(wanted), Value::Object(held)) => {
            let mut map = Map::new();
            for (name, value) in wanted {
                let found = held.get(name).unwrap_or(&Value::Null);
                if let Some(difference) = differences(value, found) {
                    map.insert(name.clone(), difference);
                }
            }
            (!map.is_empty()).then_some(Value::Object(map))
        }
        _ if text(wanted) == text(held) => None,
        _ => Some(wanted.clone()),
    }
}

/// A value as PostgreSQL reads it: Patroni may hold a number where a text was given.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_is_right_is_left_alone() {
        let wanted =
            json!({ "ttl": 20, "postgresql": { "parameters": { "max_connections": "200" } } });
        let held = json!({
            "ttl": 20, "pause": true, "standby_cluster": { "host": "10.1.0.1" },
            "postgresql": { "use_slots": true, "parameters": { "max_connections": 200 } },
        });
        assert_eq!(patch(&wanted, &held), None);
    }

    #[test]
    fn only_what_differs_is_told() {
        let wanted =
            json!({ "ttl": 30, "loop_wait": 5, "postgresql": { "parameters": { "a": "1" } } });
        let held =
            json!({ "ttl": 20, "loop_wait": 5, "postgresql": { "parameters": { "a": "1" } } });
        assert_eq!(patch(&wanted, &held), Some(json!({ "ttl": 30 })));
    }

    #[test]
    fn a_parameter_that_the_operator_took_away_goes() {
        let wanted = json!({ "postgresql": { "parameters": { "a": "1" } } });
        let held = json!({ "postgresql": { "parameters": { "a": "1", "work_mem": "1GB" } } });
        let expected = json!({ "postgresql": { "parameters": { "work_mem": null } } });
        assert_eq!(patch(&wanted, &held), Some(expected));
    }

    #[test]
    fn telling_twice_tells_nothing_the_second_time() {
        let timings = ballast_contract::Availability::Wide.timings();
        let postgres = crate::fixture::Site::new().postgres("n4").node.postgres.unwrap();
        let wanted = crate::plan::postgres::dynamic(&timings, &postgres);
        assert_eq!(patch(&wanted, &json!({})), Some(wanted.clone()));
        assert_eq!(patch(&wanted, &wanted), None);
    }
}
