//! What the running agent promises, against a real Consul.

use std::path::PathBuf;

use ballast_contract::CheckKind;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::fixture::real_consul::{RealConsul, ask, eventually, free_ports};
use crate::fixture::{self, acl, uuid};
use crate::state::Health;

/// A running agent whose one check asks whether a file exists.
struct Node {
    root: tempfile::TempDir,
    status: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), Error>>>,
}

impl Node {
    fn start(consul: SocketAddr, service: Option<&str>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let question = format!("test -e {}/healthy || exit 2", root.path().display());
        let argv = vec![fixture::shell(), "-c".to_owned(), question];
        let mut check = fixture::check("file", true, CheckKind::Command { argv });
        check.interval_secs = 1;
        let mut spec = fixture::spec("consul-server", vec![check]);
        spec.role.service = service.map(str::to_owned);
        fixture::save_spec(root.path(), &spec);
        let credentials = tempfile::tempdir().unwrap();
        let bundle = fixture::Site::new().bundle("n1", "consul-server");
        std::fs::write(credentials.path().join("ballast.bundle"), bundle).unwrap();
        boot::boot(&Root::new(root.path()), Some(credentials.path())).unwrap();

        let [port] = free_ports();
        let status = SocketAddr::from(([127, 0, 0, 1], port));
        let (stop, stopped) = oneshot::channel();
        let places = Places { root: Root::new(root.path()), consul, status };
        let running = tokio::spawn(run(places, async {
            let _ = stopped.await;
        }));
        Self { root, status, stop: Some(stop), running: Some(running) }
    }

    fn healthy(&self) -> PathBuf {
        self.root.path().join("healthy")
    }

    async fn view(&self) -> Option<View> {
        crate::status::load(self.status).await.ok()
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.take().unwrap().await.unwrap().unwrap();
    }
}

const MANAGEMENT: u8 = 0x11;

/// The statuses of the node's checks in the catalogue, by id, as everyone else sees them.
async fn catalogue(consul: SocketAddr) -> Vec<(String, String)> {
    let (_, checks) = ask(consul, "/v1/health/node/n1", Some(&uuid(MANAGEMENT))).await;
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let checks = checks.as_array().cloned().unwrap_or_default();
    checks
        .iter()
        .map(|check| (text(check, "CheckID"), text(check, "Status")))
        .filter(|(id, _)| crate::agree::is_ours(id))
        .collect()
}

fn all(seen: &[(String, String)], status: &str) -> bool {
    seen.len() == 2 && seen.iter().all(|(_, s)| s == status)
}

#[tokio::test]
#[ignore = "needs BALLAST_CONSUL, the path of consul 1.8"]
async fn a_node_is_passing_in_consul_only_once_its_role_is() {
    let consul = RealConsul::start(&uuid(MANAGEMENT));
    let node = Node::start(consul.http, None);
    let at = consul.http;
    eventually("registered as critical", async || catalogue(at).await, |c| all(c, "critical"))
        .await;
    std::fs::write(node.healthy(), "").unwrap();
    eventually("passing", async || catalogue(at).await, |c| all(c, "passing")).await;
    let seen =
        |v: &Option<View>| v.as_ref().is_some_and(|v| v.consul.catalogue == Some(Health::Passing));
    let view = eventually("the view knows", async || node.view().await, seen).await.unwrap();
    assert_eq!(view.state, State::Passing);
    assert!(view.consul.leader.is_some());

    std::fs::remove_file(node.healthy()).unwrap();
    eventually("critical again", async || catalogue(at).await, |c| all(c, "critical")).await;
    std::fs::write(node.healthy(), "").unwrap();
    eventually("passing again", async || catalogue(at).await, |c| all(c, "passing")).await;
    node.stop().await;
    let seen = catalogue(at).await;
    assert!(seen.contains(&("ballast".to_owned(), "critical".to_owned())), "{seen:?}");
}

#[tokio::test]
#[ignore = "needs BALLAST_CONSUL, the path of consul 1.8"]
async fn a_consul_that_comes_back_without_memory_is_told_again() {
    let mut consul = RealConsul::start(&uuid(MANAGEMENT));
    let node = Node::start(consul.http, Some("thing"));
    let at = consul.http;
    std::fs::write(node.healthy(), "").unwrap();
    eventually("passing", async || catalogue(at).await, |c| all(c, "passing")).await;

    consul.kill();
    let failing = |v: &Option<View>| v.as_ref().is_some_and(|v| v.consul.error.is_some());
    let view = eventually("the view knows of the error", async || node.view().await, failing).await;
    assert_eq!(view.unwrap().closed_gates().count(), 0, "Consul's absence closes no gate");
    consul.forget_registrations();
    consul.resume();
    eventually("passing again", async || catalogue(at).await, |c| all(c, "passing")).await;
    let (_, services) = ask(at, "/v1/catalog/service/thing", Some(&uuid(MANAGEMENT))).await;
    assert_eq!(services.as_array().map(Vec::len), Some(1));
    node.stop().await;
}

#[tokio::test]
#[ignore = "needs BALLAST_CONSUL, the path of consul 1.8"]
async fn three_that_reconcile_at_once_leave_exactly_one_set() {
    let consul = RealConsul::start(&uuid(MANAGEMENT));
    let manager = Consul::new(consul.http, Some(uuid(MANAGEMENT)));
    let leads = async || manager.is_leader().await.unwrap_or(false);
    eventually("the server leads", leads, |leads| *leads).await;

    let wanted = acl();
    // A new leader answers before it has made its own ACLs, so the first rounds may be refused.
    let round = async || {
        let one = || crate::acl::reconcile(&manager, &wanted);
        let (a, b, c) = tokio::join!(one(), one(), one());
        [a, b, c].map(|changed| changed.map_or_else(|e| e.to_string(), |n| n.to_string()))
    };
    eventually("three writers find nothing to change", round, |r| r.iter().all(|n| n == "0")).await;
    let names: Vec<String> =
        manager.policies().await.unwrap().into_iter().map(|p| p.name).collect();
    for policy in &wanted.policies {
        assert_eq!(names.iter().filter(|n| **n == policy.name).count(), 1, "{names:?}");
    }
    let tokens = manager.tokens().await.unwrap();
    // The bundle's, the management token and the anonymous one.
    assert_eq!(tokens.len(), wanted.tokens.len() + 2, "{tokens:?}");

    let mut changed = wanted.clone();
    changed.policies[1].rules = "node_prefix \"\" { policy = \"read\" }".to_owned();
    assert_eq!(crate::acl::reconcile(&manager, &changed).await.unwrap(), 1);
    assert_eq!(crate::acl::reconcile(&manager, &changed).await.unwrap(), 0);

    // A node that left: its token is void, and stays it.
    let left = changed.tokens.remove(0);
    changed.revoked = vec![left.accessor_id];
    let may = async || ask(consul.http, "/v1/agent/self", Some(&left.secret_id)).await.0;
    assert_eq!(may().await, 200);
    assert_eq!(crate::acl::reconcile(&manager, &changed).await.unwrap(), 1);
    assert_eq!(crate::acl::reconcile(&manager, &changed).await.unwrap(), 0);
    assert_eq!(may().await, 403);
}

#[tokio::test]
#[ignore = "needs BALLAST_CONSUL, the path of consul 1.8"]
async fn strangers_and_wrong_roles_are_refused() {
    let consul = RealConsul::start(&uuid(MANAGEMENT));
    let node = Node::start(consul.http, None);
    let at = consul.http;
    eventually("registered", async || catalogue(at).await, |c| c.len() == 2).await;
    for token in [None, Some(uuid(0xd0)), Some(uuid(0x77))] {
        let (status, _) = ask(at, "/v1/acl/tokens", token.as_deref()).await;
        assert_eq!(status, 403, "{token:?} lists tokens");
        let (status, body) = ask(at, "/v1/kv/any?recurse", token.as_deref()).await;
        assert!(
            status == 403 || status == 404 && body == Value::Null,
            "{token:?} reads keys: {status} {body}"
        );
    }
    let (status, nodes) = ask(at, "/v1/catalog/nodes", None).await;
    assert!(status == 403 || nodes == serde_json::json!([]), "anyone sees nodes: {nodes}");
    node.stop().await;
}
