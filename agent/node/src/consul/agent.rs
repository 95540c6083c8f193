//! `/v1/agent`: services and checks of the local agent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Consul, Error, escape};
use crate::agree::{Change, Seen, Wanted, is_ours};
use crate::role::{self, Registered, RoleView, SeenRole};

/// How long Consul believes an answer: an agent that is gone makes its node critical after this.
pub(crate) const TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// How long Consul believes a database node's word on its role: shorter, for a primary that was lost must not stay one in
/// DNS, and long enough for an agent that is started again.
const ROLE_TIME_TO_LIVE: Duration = Duration::from_secs(15);

/// The service metadata that marks what is ours.
const MARK: &str = "ballast";
/// The service metadata that marks the service of a database role.
const ROLE_MARK: &str = "ballast_role";
/// The id of that service's check.
const ROLE_CHECK: &str = "ballast-role";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default)]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    port: u16,
}

#[derive(Deserialize)]
struct Check {
    #[serde(rename = "ServiceID", default)]
    service_id: String,
}

impl Consul {
    /// What the local agent holds of ours.
    pub(crate) async fn seen(&self) -> Result<Seen, Error> {
        let services: BTreeMap<String, Service> = self.get("/v1/agent/services").await?.json()?;
        let checks: BTreeMap<String, Check> = self.get("/v1/agent/checks").await?.json()?;
        let marked =
            |(id, service): (String, Service)| service.meta.contains_key(MARK).then_some(id);
        Ok(Seen {
            services: services.into_iter().filter_map(marked).collect(),
            checks: checks
                .into_iter()
                .filter(|(id, _)| is_ours(id))
                .map(|(id, check)| (id, Some(check.service_id).filter(|s| !s.is_empty())))
                .collect(),
        })
    }

    /// Tells the local agent one thing.
    pub(crate) async fn tell(&self, wanted: &Wanted, change: &Change) -> Result<(), Error> {
        match change {
            Change::ForgetCheck(id) => {
                self.put(&format!("/v1/agent/check/deregister/{}", escape(id)), &json!(null))
                    .await?
            }
            Change::ForgetService(id) => {
                self.put(&format!("/v1/agent/service/deregister/{}", escape(id)), &json!(null))
                    .await?
            }
            Change::RegisterService(name) => {
                let checks: Vec<Value> = wanted
                    .checks
                    .iter()
                    .map(|(id, c)| definition("CheckID", id, &c.name))
                    .collect();
                let body = json!({
                    "ID": name, "Name": name, "Meta": { MARK: "1" }, "Checks": checks,
                });
                self.put("/v1/agent/service/register", &body).await?
            }
            Change::RegisterCheck(id) => {
                let name = wanted.checks.get(id).map_or(id, |c| &c.name);
                self.put("/v1/agent/check/register", &definition("ID", id, name)).await?
            }
            Change::Tell(id, answer) => {
                let body = json!({ "Status": answer.health, "Output": answer.output });
                self.put(&format!("/v1/agent/check/update/{}", escape(id)), &body).await?
            }
        };
        Ok(())
    }

    /// What the local agent holds of the database role.
    pub(crate) async fn seen_role(&self) -> Result<SeenRole, Error> {
        let services: BTreeMap<String, Service> = self.get("/v1/agent/services").await?.json()?;
        let checks: BTreeMap<String, Check> = self.get("/v1/agent/checks").await?.json()?;
        let registered = |(id, mut service): (String, Service)| {
            service.meta.remove(ROLE_MARK)?;
            let Service { meta, tags, port } = service;
            Some((id, Registered { port, tags, meta }))
        };
        Ok(SeenRole {
            services: services.into_iter().filter_map(registered).collect(),
            check_of: checks.get(ROLE_CHECK).map(|check| check.service_id.clone()),
        })
    }

    /// Tells the local agent one thing about the database role.
    pub(crate) async fn tell_role(
        &self,
        wanted: &RoleView,
        change: &role::Change,
    ) -> Result<(), Error> {
        let RoleView { service, port, tags, meta, answer } = wanted;
        match change {
            role::Change::Forget(id) => {
                self.put(&format!("/v1/agent/service/deregister/{}", escape(id)), &json!(null))
                    .await?
            }
            role::Change::Register => {
                let mut meta = meta.clone();
                meta.insert(ROLE_MARK.to_owned(), "1".to_owned());
                // The role was proven before it is registered: a check that starts as critical would keep a new primary
                // out of DNS until the next round. One that Consul has already keeps its status.
                let body = json!({
                    "ID": service, "Name": service, "Port": port, "Tags": tags, "Meta": meta,
                    "Checks": [{
                        "CheckID": ROLE_CHECK, "Name": format!("role in {service}"),
                        "TTL": format!("{}s", ROLE_TIME_TO_LIVE.as_secs()), "Status": answer.health,
                    }],
                });
                self.put("/v1/agent/service/register", &body).await?
            }
            role::Change::Tell => {
                let body = json!({ "Status": answer.health, "Output": answer.output });
                self.put(&format!("/v1/agent/check/update/{ROLE_CHECK}"), &body).await?
            }
        };
        Ok(())
    }

    /// Whether the local agent is the Raft leader.
    pub(crate) async fn is_leader(&self) -> Result<bool, Error> {
        let this: Value = self.get("/v1/agent/self").await?.json()?;
        let leader = this.pointer("/Stats/consul/leader").and_then(Value::as_str);
        Ok(leader == Some("true"))
    }
}

fn definition(id_field: &str, id: &str, name: &str) -> Value {
    // Critical until told otherwise: a check that nobody has answered is no good news.
    json!({ id_field: id, "Name": name, "TTL": format!("{}s", TIME_TO_LIVE.as_secs()), "Status": "critical" })
}
