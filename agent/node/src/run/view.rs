//! What the agent shows of the node: the document at `/status`.

use ballast_bundle::NodeConfig;
use ballast_contract::Spec;
use serde::{Deserialize, Serialize};

use crate::peers::PeerView;
use crate::role::RoleView;
use crate::state::{Answer, Health, State};

/// What the agent shows of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) node: String,
    pub(crate) site: String,
    pub(crate) role: String,
    pub(crate) datacenter: String,
    pub(crate) address: String,
    /// The image's name and version.
    pub(crate) image: String,
    pub(crate) version: String,
    /// The slot it was started from; none where there are no slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<char>,
    /// The digest of the accepted bundle.
    pub(crate) bundle: String,
    pub(crate) state: State,
    pub(crate) healthy_within_secs: u64,
    pub(crate) checks: Vec<CheckView>,
    pub(crate) consul: ConsulView,
    /// What the node's database is, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<RoleView>,
    /// The members of a PostgreSQL cluster that this node watches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) peers: Vec<PeerView>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckView {
    pub(crate) name: String,
    pub(crate) gate: bool,
    /// The last answer; null until there is one.
    pub(crate) answer: Option<Answer>,
}

/// What Consul thinks, as far as the agent knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConsulView {
    /// The leader's address.
    pub(crate) leader: Option<String>,
    /// This node's health in the catalogue: what everyone else sees.
    pub(crate) catalogue: Option<Health>,
    /// Why Consul could not be told, the last time it was tried.
    pub(crate) error: Option<String>,
}

impl View {
    pub(crate) fn new(spec: &Spec, config: &NodeConfig, bundle: &str) -> Self {
        let node = &config.node;
        Self {
            node: node.name.clone(),
            site: node.site.clone(),
            role: node.role.clone(),
            datacenter: node.datacenter.clone(),
            address: config.network.address.addr().to_string(),
            image: spec.image.name.clone(),
            version: spec.image.version.clone(),
            slot: None,
            bundle: bundle.to_owned(),
            state: State::Starting,
            healthy_within_secs: spec.role.healthy_within_secs,
            checks: Vec::new(),
            consul: ConsulView::default(),
            database: None,
            peers: Vec::new(),
        }
    }

    /// What was started, for Consul: `ballast status` reads it there.
    pub(crate) fn started(&self) -> String {
        let slot = self.slot.map_or_else(|| "-".to_owned(), String::from);
        format!("image {}, slot {slot}", self.version)
    }

    /// Gate checks that are not passing.
    pub(crate) fn closed_gates(&self) -> impl Iterator<Item = &CheckView> {
        let passing =
            |c: &CheckView| c.answer.as_ref().is_some_and(|a| a.health == Health::Passing);
        self.checks.iter().filter(move |c| c.gate && !passing(c))
    }
}
