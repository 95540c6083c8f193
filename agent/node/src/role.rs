//! What a database node is at this moment, and what Consul must be told of it: a pure decision, without I/O or clock.
//!
//! The role's service is apart from the node's other checks, so that a full disk doesn't take the one primary that there
//! is out of DNS: its one check says whether the role was proven by asking, and nothing else. One duty per kind of
//! database publishes the view, and one duty registers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state::{Answer, Health};

/// The tag of the node that takes writes.
pub(crate) const PRIMARY: &str = "primary";
/// The tag of a node that follows it.
pub(crate) const REPLICA: &str = "replica";

/// What a database node is, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoleView {
    /// The Consul service, id and name: the cluster.
    pub(crate) service: String,
    /// Where the service is reached.
    pub(crate) port: u16,
    /// [`PRIMARY`], [`REPLICA`], or none while the node isn't sure.
    pub(crate) tags: Vec<String>,
    /// Whatever else is worth knowing, for people and for `ballast status`.
    pub(crate) meta: BTreeMap<String, String>,
    /// Passing where the tag was proven by asking the database; else why it could not be.
    pub(crate) answer: Answer,
}

/// What the local Consul agent holds of the role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenRole {
    /// Services that bear the role's mark, by id.
    pub(crate) services: BTreeMap<String, Registered>,
    /// The service that the role's check belongs to.
    pub(crate) check_of: Option<String>,
}

/// A service as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) port: u16,
    pub(crate) tags: Vec<String>,
    /// Without the mark.
    pub(crate) meta: BTreeMap<String, String>,
}

/// One thing to tell Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Removes a service with its checks.
    Forget(String),
    /// Registers the service with its tags, and its check with the answer's health.
    Register,
    /// Says the check's answer; also keeps it alive.
    Tell,
}

impl RoleView {
    /// A node that doesn't know what it is.
    pub(crate) fn unknown(service: &str, port: u16, why: impl Into<String>) -> Self {
        Self {
            service: service.to_owned(),
            port,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            answer: Answer::critical(why),
        }
    }

    /// Whether Consul must hear of the difference at once: all but the metadata, which may wait a little.
    pub(crate) fn differs_at_once(&self, other: &Self) -> bool {
        self.service != other.service
            || self.port != other.port
            || self.tags != other.tags
            || self.answer.health != other.answer.health
    }
}

/// What to tell Consul, in order: a role that was lost is critical before it is anything else, and one that was won has
/// its tag before it is passing, so that nobody is led to a node that isn't what its tag says.
pub(crate) fn changes(wanted: &RoleView, seen: &SeenRole) -> Vec<Change> {
    let mut list = Vec::new();
    let placed = seen.check_of.as_ref() == Some(&wanted.service);
    let same = seen.services.get(&wanted.service).is_some_and(|found| {
        found.port == wanted.port && found.tags == wanted.tags && found.meta == wanted.meta
    });
    let lost = wanted.answer.health == Health::Critical;
    if lost && placed {
        list.push(Change::Tell);
    }
    // A check that hangs on another service goes with it.
    let leftovers = seen.services.keys().filter(|id| **id != wanted.service);
    list.extend(leftovers.cloned().map(Change::Forget));
    if !same || !placed {
        list.push(Change::Register);
    }
    if !(lost && placed) {
        list.push(Change::Tell);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(tags: &[&str]) -> RoleView {
        RoleView {
            tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            answer: Answer::passing("proven"),
            ..RoleView::unknown("main", 5432, "not asked yet")
        }
    }

    fn held(view: &RoleView) -> SeenRole {
        let registered =
            Registered { port: view.port, tags: view.tags.clone(), meta: view.meta.clone() };
        SeenRole {
            services: [(view.service.clone(), registered)].into(),
            check_of: Some(view.service.clone()),
        }
    }

    #[test]
    fn what_consul_holds_already_is_only_kept_alive() {
        let replica = view(&[REPLICA]);
        assert_eq!(changes(&replica, &held(&replica)), [Change::Tell]);
    }

    #[test]
    fn a_promoted_node_has_its_tag_before_it_is_passing() {
        let unsure = RoleView::unknown("main", 5432, "why");
        let list = changes(&view(&[PRIMARY]), &held(&unsure));
        assert_eq!(list, [Change::Register, Change::Tell]);
        assert_eq!(changes(&view(&[PRIMARY]), &SeenRole::default()), list);
    }

    #[test]
    fn a_node_that_lost_its_role_is_critical_before_anything_else() {
        let unsure = RoleView::unknown("main", 5432, "why");
        let list = changes(&unsure, &held(&view(&[PRIMARY])));
        assert_eq!(list, [Change::Tell, Change::Register]);
    }

    #[test]
    fn the_service_of_a_cluster_that_was_renamed_is_forgotten() {
        let old = RoleView { service: "old".to_owned(), ..view(&[REPLICA]) };
        let list = changes(&view(&[REPLICA]), &held(&old));
        assert_eq!(list, [Change::Forget("old".to_owned()), Change::Register, Change::Tell]);
    }

    #[test]
    fn metadata_alone_is_no_news_that_cannot_wait() {
        let before = view(&[REPLICA]);
        let mut after = before.clone();
        after.meta.insert("lag_bytes".to_owned(), "16384".to_owned());
        assert!(!after.differs_at_once(&before));
        assert!(view(&[PRIMARY]).differs_at_once(&before));
        assert!(RoleView::unknown("main", 5432, "why").differs_at_once(&before));
    }
}
