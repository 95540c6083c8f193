//! What a bundle holds, before a real Consul: its certificates, its access rules, and `ballast status`.
//!
//! Needs Consul's program, named by `BALLAST_CONSUL`; listens on loopback addresses that nothing else uses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is a test's failure report"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ballast_bundle::{Acl, Bundle, Expectation, Trust, unpack, verify};
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

const ONE: &str = r#"
[site]
name = "judged"

[[datacenter]]
name = "dc1"
network = "127.77.0.0/24"

[[role]]
name = "metrics-store"
services = ["metrics"]

[[node]]
name = "consul-1"
role = "consul-server"
datacenter = "dc1"
address = "127.77.0.11"

[[node]]
name = "metrics-1"
role = "metrics-store"
datacenter = "dc1"
address = "127.77.0.21"
"#;

const DATABASE: &str = r#"
[site]
name = "judged"

[[datacenter]]
name = "dc1"
network = "127.77.3.0/24"

[[role]]
name = "metrics-store"

[[node]]
name = "consul-1"
role = "consul-server"
datacenter = "dc1"
address = "127.77.3.11"

[[node]]
name = "postgres-1"
role = "postgres"
datacenter = "dc1"
address = "127.77.3.21"

[[node]]
name = "postgres-2"
role = "postgres"
datacenter = "dc1"
address = "127.77.3.22"

[[node]]
name = "metrics-1"
role = "metrics-store"
datacenter = "dc1"
address = "127.77.3.41"
"#;

const GROUP: &str = r#"
[site]
name = "judged"

[[datacenter]]
name = "dc1"
network = "127.77.4.0/24"

[redis]

[[node]]
name = "consul-1"
role = "consul-server"
datacenter = "dc1"
address = "127.77.4.11"

[[node]]
name = "redis-1"
role = "redis"
datacenter = "dc1"
address = "127.77.4.31"

[[node]]
name = "redis-2"
role = "redis"
datacenter = "dc1"
address = "127.77.4.32"

[[node]]
name = "redis-3"
role = "redis"
datacenter = "dc1"
address = "127.77.4.33"
"#;

const TWO: &str = r#"
[site]
name = "judged"
domain = "site.example"

[[datacenter]]
name = "north"
network = "127.77.1.0/24"

[[datacenter]]
name = "south"
network = "127.77.2.0/24"

[[node]]
name = "consul-n"
role = "consul-server"
datacenter = "north"
address = "127.77.1.11"

[[node]]
name = "consul-s"
role = "consul-server"
datacenter = "south"
address = "127.77.2.11"
"#;

const DEADLINE: Duration = Duration::from_secs(60);

/// A Consul server that ends with the test.
struct Consul {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Consul {
    /// Starts the server of a node's bundle, with what the bundle says.
    fn start(bundle: &Bundle, root: &Path) -> Self {
        let program =
            std::env::var("BALLAST_CONSUL").expect("BALLAST_CONSUL names Consul's program");
        let (node, settings, secrets) = (&bundle.node.node, &bundle.node.consul, &bundle.secrets);
        let root = root.join(format!("run-{}", node.name));
        let generation = unpack(bundle, &root.join("bundles")).unwrap();
        let address = bundle.node.network.address.addr().to_string();
        let mut config = json!({
            "server": true, "node_name": node.name, "datacenter": node.datacenter, "domain": settings.domain,
            "primary_datacenter": settings.primary_datacenter.as_ref().unwrap_or(&node.datacenter),
            "data_dir": root.join("data"), "bootstrap_expect": settings.servers.len(),
            "bind_addr": address, "client_addr": address, "ports": { "https": 8501, "grpc": -1 },
            "retry_join_wan": settings.wan_servers, "retry_interval_wan": "1s",
            "encrypt": secrets.gossip_key,
            "ca_file": generation.join("consul/ca.pem"),
            "cert_file": generation.join("consul/cert.pem"),
            "key_file": generation.join("consul/key.pem"),
            "verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
            "acl": { "enabled": true, "default_policy": "deny", "tokens": {
                "agent": secrets.agent_token, "default": secrets.dns_token,
            } },
            "connect": { "enabled": false },
            "performance": { "raft_multiplier": 1 }, "disable_update_check": true,
        });
        if let Some(acl) = &bundle.acl {
            config["acl"]["tokens"]["master"] = json!(acl.management_token);
        }
        if let Some(token) = &secrets.replication_token {
            config["acl"]["enable_token_replication"] = json!(true);
            config["acl"]["tokens"]["replication"] = json!(token);
        }
        let (path, log) = (root.join("consul.json"), root.join("consul.log"));
        fs::write(&path, config.to_string()).unwrap();
        let file = File::create(&log).unwrap();
        let child = Command::new(program)
            .args(["agent", "-config-file"])
            .arg(path)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .expect("Consul's program starts");
        Self { child, address, log }
    }

    /// A request with a token to the plain HTTP API; its status and body.
    fn request(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}:8500/v1/{path}", self.address))
            .header("X-Consul-Token", token)
            .body(if body.is_null() { String::new() } else { body.to_string() })
            .unwrap();
        match agent.run(request) {
            Ok(mut answer) => {
                let text = answer.body_mut().read_to_string().unwrap();
                (
                    answer.status().as_u16(),
                    serde_json::from_str(&text).unwrap_or(Value::String(text)),
                )
            }
            Err(error) => (0, Value::String(error.to_string())),
        }
    }

    fn put(&self, path: &str, token: &str, body: &Value) -> u16 {
        self.request("PUT", path, token, body).0
    }

    fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.request("GET", path, token, &Value::Null)
    }

    /// Asks until the answer pleases, and shows the last one and the log when it never does.
    fn wait(&self, what: &str, mut answer: impl FnMut() -> Result<(), String>) {
        let start = Instant::now();
        loop {
            match answer() {
                Ok(()) => return,
                Err(last) if start.elapsed() > DEADLINE => {
                    panic!(
                        "waited for {what}, last: {last}\n{}",
                        fs::read_to_string(&self.log).unwrap()
                    )
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Waits until a token is good for something.
    fn wait_for_token(&self, path: &str, token: &str) {
        self.wait(path, || match self.get(path, token) {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Makes the access rules true, as the agent on a server does.
    fn apply(&self, acl: &Acl) {
        for policy in &acl.policies {
            let body = json!({ "Name": policy.name, "Description": policy.description, "Rules": policy.rules });
            assert_eq!(
                self.put("acl/policy", &acl.management_token, &body),
                200,
                "{}",
                policy.name
            );
        }
        for token in &acl.tokens {
            let policies: Vec<_> =
                token.policies.iter().map(|name| json!({ "Name": name })).collect();
            let body = json!({
                "AccessorID": token.accessor_id, "SecretID": token.secret_id,
                "Description": token.description, "Policies": policies,
            });
            assert_eq!(
                self.put("acl/token", &acl.management_token, &body),
                200,
                "{}",
                token.description
            );
        }
    }
}

/// What the HTTPS API answers to a client that trusts an authority and shows a certificate, or none.
fn handshake(server: &str, ca: &str, identity: Option<(&str, &str)>) -> Result<u16, ureq::Error> {
    let certificate = identity.map(|(cert, key)| {
        let cert = Certificate::from_pem(cert.as_bytes()).unwrap();
        ClientCert::new_with_certs(&[cert], PrivateKey::from_pem(key.as_bytes()).unwrap())
    });
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(ca.as_bytes()).unwrap()]))
        .client_cert(certificate)
        .build();
    let agent = ureq::Agent::config_builder().tls_config(tls).proxy(None).build().new_agent();
    agent.get(format!("https://{server}:8501/v1/status/leader")).call().map(|a| a.status().as_u16())
}

fn ballast(root: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ballast"))
        .current_dir(root)
        .args(arguments)
        .output()
        .unwrap();
    let text =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

fn take(root: &Path, node: &str) -> Bundle {
    let bytes = fs::read(root.join(format!("bundles/{node}.bundle.tar"))).unwrap();
    let expectation = Expectation {
        trust: Trust::FirstUse,
        node: Some(node.to_owned()),
        role: None,
        now: SystemTime::now(),
    };
    verify(&bytes, &expectation).ok().unwrap()
}

fn text(bundle: &Bundle, path: &str) -> String {
    let (_, content) = bundle.files().iter().find(|(p, _)| p == path).unwrap();
    String::from_utf8(content.clone()).unwrap()
}

#[test]
#[ignore = "needs BALLAST_CONSUL"]
fn a_real_consul_gives_each_token_its_due_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("cluster.toml"), ONE).unwrap();
    assert_eq!(ballast(root, &["bundle", "cluster.toml"]).0, 0);

    let (server, metrics) = (take(root, "consul-1"), take(root, "metrics-1"));
    assert!(metrics.acl.is_none(), "only servers know the access rules");

    // Before the server is there, status is a table of rows, and not an error.
    let (code, table) = ballast(root, &["status", "cluster.toml", "--timeout", "1"]);
    assert_eq!(code, 1);
    assert_eq!(table.matches("unreachable").count(), 2, "{table}");

    let consul = Consul::start(&server, root);
    let acl = server.acl.as_ref().unwrap();
    consul.wait_for_token("acl/tokens", &acl.management_token);
    consul.apply(acl);

    // Nobody: the token that Consul gives to whoever brings none, and what loopback is served as.
    let own = json!({ "Node": "metrics-1", "Address": "127.77.0.21" });
    assert_eq!(consul.get("agent/self", "anonymous").0, 403);
    assert_eq!(consul.get("catalog/nodes", "anonymous"), (200, json!([])));
    assert_eq!(consul.put("kv/x", "anonymous", &json!(1)), 403);
    assert_eq!(consul.put("catalog/register", "anonymous", &own), 403);
    assert_eq!(consul.get("agent/self", "").0, 403);
    assert_eq!(consul.put("kv/x", "", &json!(1)), 403);
    assert_eq!(consul.put("catalog/register", "", &own), 403);
    assert_eq!(consul.get("catalog/nodes", "").1.as_array().unwrap().len(), 1, "DNS has no answer");
    assert_eq!(consul.get("acl/tokens", "").0, 403);

    // A node of one role: itself and its service, and neither another node nor another service.
    let token = metrics.secrets.agent_token.as_str();
    let service = |name: &str| {
        json!({ "Node": "metrics-1", "Address": "127.77.0.21", "Service": { "Service": name, "Port": 1 },
            "Checks": [{ "Node": "metrics-1", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing" }] })
    };
    assert_eq!(consul.put("catalog/register", token, &own), 200);
    assert_eq!(consul.put("catalog/register", token, &service("metrics")), 200);
    assert_eq!(consul.put("catalog/register", token, &service("postgres")), 403);
    let other = json!({ "Node": "consul-1", "Address": "127.77.0.66" });
    assert_eq!(consul.put("catalog/register", token, &other), 403);
    assert_eq!(consul.get("agent/self", token).0, 403, "another node's Consul agent");
    assert_eq!(consul.put("kv/x", token, &json!(1)), 403);
    assert_eq!(consul.get("acl/tokens", token).0, 403);
    assert_eq!(consul.get("operator/raft/configuration", token).0, 403);

    // The server's own token reads its own agent and registers checks with it.
    let token = server.secrets.agent_token.as_str();
    assert_eq!(consul.get("agent/self", token).0, 200);
    let check = json!({ "ID": "ballast", "Name": "role consul-server", "TTL": "600s", "Status": "passing" });
    assert_eq!(consul.put("agent/check/register", token, &check), 200);
    assert_eq!(consul.get("acl/tokens", token).0, 403);

    // Both sides show a certificate of the site, or there is no conversation.
    let [ca, cert, key] = ["ca", "cert", "key"].map(|f| text(&metrics, &format!("consul/{f}.pem")));
    assert_eq!(handshake(&consul.address, &ca, Some((&cert, &key))).unwrap(), 200);
    assert!(
        handshake(&consul.address, &ca, None).is_err(),
        "a client without a certificate was served"
    );
    let stranger = tempfile::tempdir().unwrap();
    fs::write(stranger.path().join("cluster.toml"), ONE).unwrap();
    assert_eq!(ballast(stranger.path(), &["bundle", "cluster.toml"]).0, 0);
    let strange = take(stranger.path(), "metrics-1");
    let [other_ca, other_cert, other_key] =
        ["ca", "cert", "key"].map(|f| text(&strange, &format!("consul/{f}.pem")));
    assert!(
        handshake(&consul.address, &ca, Some((&other_cert, &other_key))).is_err(),
        "a stranger was served"
    );
    assert!(
        handshake(&consul.address, &other_ca, Some((&cert, &key))).is_err(),
        "a stranger was trusted"
    );

    // The operator sees it all; the node whose agent is silent keeps the site from being called good.
    consul.wait("the server to be passing", || {
        let (code, table) = ballast(root, &["status", "cluster.toml"]);
        let good = code == 1
            && table.contains(
                "consul-1   consul-server  127.77.0.11  passing  leader  -    -     -       1.8.7",
            )
            && table.contains(
                "metrics-1  metrics-store  127.77.0.21  warning  -       -    -     -       -",
            );
        if good { Ok(()) } else { Err(table) }
    });
    let reported = json!({ "Node": "metrics-1", "Address": "127.77.0.21",
        "Check": { "Node": "metrics-1", "CheckID": "ballast", "Name": "role metrics-store", "Status": "passing" } });
    assert_eq!(consul.put("catalog/register", &metrics.secrets.agent_token, &reported), 200);
    let (code, table) = ballast(root, &["status", "cluster.toml", "--json"]);
    let status: Value = serde_json::from_str(&table).unwrap();
    assert_eq!((code, &status["passing"]), (0, &json!(true)), "{table}");

    // The operator's token looks, and changes nothing.
    let site: Value =
        serde_json::from_slice(&fs::read(root.join("state/site.json")).unwrap()).unwrap();
    let token = site["operator"]["secret_id"].as_str().unwrap();
    assert_eq!(consul.get("operator/raft/configuration", token).0, 200);
    assert_eq!(consul.put("kv/x", token, &json!(1)), 403);
    assert_eq!(consul.put("catalog/register", token, &other), 403);
    assert_eq!(consul.get("acl/tokens", token).0, 403);
}

#[test]
#[ignore = "needs BALLAST_CONSUL"]
fn a_second_data_centre_copies_the_access_rules() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("cluster.toml"), TWO).unwrap();
    assert_eq!(ballast(root, &["bundle", "cluster.toml"]).0, 0);
    let bundles = ["consul-n", "consul-s"].map(|node| take(root, node));
    let [north, south] = bundles.each_ref().map(|bundle| Consul::start(bundle, root));
    let acl = bundles[0].acl.as_ref().unwrap();
    north.wait_for_token("acl/tokens", &acl.management_token);
    north.apply(acl);

    // The rules come over the WAN, by TLS between servers that show each other the names of their data centres.
    south.wait_for_token("agent/self", &bundles[1].secrets.agent_token);
    let replication = bundles[1].secrets.replication_token.as_ref().unwrap();
    for (path, body) in
        [("kv/x", json!(1)), ("catalog/register", json!({ "Node": "x", "Address": "127.77.2.9" }))]
    {
        assert_eq!(
            south.put(path, replication, &body),
            403,
            "the replication token is good for {path}"
        );
    }
    south.wait("both to be seen", || {
        let (code, table) = ballast(root, &["status", "cluster.toml"]);
        let good = code == 1
            && table.contains(
                "consul-n  consul-server  127.77.1.11  warning  leader  -    -     -       1.8.7",
            )
            && table.contains(
                "consul-s  consul-server  127.77.2.11  warning  leader  -    -     -       1.8.7",
            );
        if good { Ok(()) } else { Err(table) }
    });
}

#[test]
#[ignore = "needs BALLAST_CONSUL"]
fn patroni_holds_its_leader_key_until_an_observer_gives_its_node_up() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("cluster.toml"), DATABASE).unwrap();
    assert_eq!(ballast(root, &["bundle", "cluster.toml"]).0, 0);
    let [server, one, two, metrics] =
        ["consul-1", "postgres-1", "postgres-2", "metrics-1"].map(|node| take(root, node));
    let consul = Consul::start(&server, root);
    let acl = server.acl.as_ref().unwrap();
    consul.wait_for_token("acl/tokens", &acl.management_token);
    consul.apply(acl);

    // The node, as its own agent registers it.
    let own = one.secrets.agent_token.as_str();
    let node = json!({ "Node": "postgres-1", "Address": "127.77.3.21",
        "Service": { "Service": "postgres", "Tags": ["primary"], "Port": 5432 } });
    assert_eq!(consul.put("catalog/register", own, &node), 200);
    let gossip = json!({ "Node": "postgres-1", "Address": "127.77.3.21",
        "Check": { "Node": "postgres-1", "CheckID": "serfHealth", "Name": "Serf", "Status": "passing" } });
    assert_eq!(consul.put("catalog/register", own, &gossip), 200);

    // Patroni asks for a session with these words, and for nothing else that its keys do not stand for.
    let patroni = one.secrets.postgres.as_ref().unwrap().patroni_token.as_str();
    let session = |node: &str| {
        json!({ "Node": node, "Name": "postgres-postgres-1", "Checks": [], "LockDelay": "0.001s",
            "Behavior": "delete", "TTL": "15s" })
    };
    assert_eq!(consul.put("session/create", patroni, &session("postgres-2")), 403);
    let (code, made) = consul.request("PUT", "session/create", patroni, &session("postgres-1"));
    assert_eq!(code, 200, "{made}");
    let id = made["ID"].as_str().unwrap().to_owned();
    // To checks that are named Consul would add the gossip's, and a flapping agent would cost a primary.
    let (_, bound) = consul.get(&format!("session/info/{id}"), patroni);
    assert_eq!((&bound[0]["Checks"], &bound[0]["NodeChecks"]), (&Value::Null, &json!([])));
    assert_eq!(consul.put(&format!("session/renew/{id}"), patroni, &Value::Null), 200);
    let acquire = format!("kv/service/postgres/leader?acquire={id}");
    assert_eq!(consul.request("PUT", &acquire, patroni, &json!("postgres-1")), (200, json!(true)));
    assert_eq!(consul.get("kv/service/postgres/?recurse", patroni).0, 200);
    assert_eq!(consul.put("kv/service/postgres/config", patroni, &json!(1)), 200);
    for path in ["kv/service/other/leader", "kv/service/postgres", "kv/x", "catalog/register"] {
        assert_eq!(consul.put(path, patroni, &node), 403, "{path}");
    }
    assert_eq!(consul.get("acl/tokens", patroni).0, 403);
    assert_eq!(consul.get("agent/self", patroni).0, 403);

    // A node of another role gives nobody up, and an observer does: by taking the leader key, if it is the one it means.
    let leader = || match consul.get("kv/service/postgres/leader", patroni) {
        (200, key) => key[0]["ModifyIndex"].as_u64(),
        (404, _) => None,
        other => panic!("{other:?}"),
    };
    let vote = "kv/ballast/peers/postgres/postgres-1/consul-1";
    let stranger = metrics.secrets.agent_token.as_str();
    assert_eq!(consul.put(vote, stranger, &json!({})), 403);
    for observer in [&server.secrets.agent_token, &two.secrets.agent_token] {
        let index = leader().unwrap();
        let take = |index: u64| json!([{ "KV": { "Verb": "delete-cas", "Key": "service/postgres/leader", "Index": index } }]);
        // A transaction that may not be is one that failed.
        assert_eq!(consul.put("txn", stranger, &take(index)), 409);
        assert_eq!(consul.put("txn", observer, &take(index - 1)), 409);
        assert_eq!(leader(), Some(index));
        assert_eq!(consul.put(vote, observer, &json!({})), 200);
        assert_eq!(consul.put("kv/service/postgres/config", observer, &json!(1)), 403);
        assert_eq!(consul.put("txn", observer, &take(index)), 200);
        assert_eq!(leader(), None);
        // Patroni, should it live, may take it again at once.
        assert_eq!(
            consul.request("PUT", &acquire, patroni, &json!("postgres-1")),
            (200, json!(true))
        );
    }
    // The operator sees who is primary and what its agent says of it.
    let said = json!({ "Node": "postgres-1", "Address": "127.77.3.21", "Service": { "Service": "postgres",
        "Tags": ["primary"], "Port": 5432, "Meta": { "timeline": "7" } } });
    assert_eq!(consul.put("catalog/register", own, &said), 200);
    let whole = json!({ "Node": "postgres-1", "Address": "127.77.3.21", "Check": { "Node": "postgres-1",
        "CheckID": "ballast", "Name": "role postgres", "Status": "passing",
        "Output": "role postgres is passing (image 0.1.0, slot b)" } });
    assert_eq!(consul.put("catalog/register", own, &whole), 200);
    let (code, text) = ballast(root, &["status", "cluster.toml", "--json"]);
    let status: Value = serde_json::from_str(&text).unwrap();
    let row = &status["nodes"][1];
    assert_eq!(code, 1, "three nodes have no agent");
    assert_eq!(status["problems"], json!([]), "{text}");
    assert_eq!(
        (&row["state"], &row["slot"], &row["timeline"]),
        (&json!("primary"), &json!("b"), &json!(7))
    );

    // It takes the key, and cannot speak for the database.
    let lie = json!({ "Node": "postgres-1", "Address": "127.77.3.21",
        "Service": { "Service": "postgres", "Tags": ["replica"], "Port": 1 } });
    assert_eq!(consul.put("catalog/register", &server.secrets.agent_token, &lie), 403);
}

#[test]
#[ignore = "needs BALLAST_CONSUL"]
fn a_switchover_of_redis_is_shown_and_done_only_when_it_is_meant() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("cluster.toml"), GROUP).unwrap();
    assert_eq!(ballast(root, &["bundle", "cluster.toml"]).0, 0);
    let [server, one] = ["consul-1", "redis-1"].map(|node| take(root, node));
    let consul = Consul::start(&server, root);
    let acl = server.acl.as_ref().unwrap();
    consul.wait_for_token("acl/tokens", &acl.management_token);
    consul.apply(acl);
    let site: Value =
        serde_json::from_slice(&fs::read(root.join("state/site.json")).unwrap()).unwrap();
    let operator = site["operator"]["secret_id"].as_str().unwrap();
    let agent = one.secrets.agent_token.as_str();
    consul.wait_for_token("agent/self", operator);
    assert_eq!(consul.put("kv/ballast/redis/redis/answer", operator, &json!(1)), 403);
    assert_eq!(consul.put("kv/ballast/redis/redis/answer", agent, &json!(1)), 200);

    // Nobody is there to answer.
    let silent = ballast(root, &["switchover", "redis", "cluster.toml", "--yes"]);
    assert_eq!(silent.0, 1, "{}", silent.1);

    // In place of the primary's agent: what is asked, answered with this.
    let answer_with = |said: Value| {
        let asked = consul.get("kv/ballast/redis/redis/request?raw", operator).1;
        let mut reply = json!({ "id": asked["id"], "node": "redis-1" });
        reply.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        assert_eq!(consul.put("kv/ballast/redis/redis/answer", agent, &reply), 200);
        asked
    };
    let asked_after = |before: &Value, words: &[&str], said: Value| {
        std::thread::scope(|scope| {
            let command = scope.spawn(|| ballast(root, words));
            consul.wait("a request", || {
                let asked = consul.get("kv/ballast/redis/redis/request?raw", operator).1;
                if asked["id"] == before["id"] { Err(asked.to_string()) } else { Ok(()) }
            });
            let asked = answer_with(said);
            (asked, command.join().unwrap())
        })
    };
    let before = consul.get("kv/ballast/redis/redis/request?raw", operator).1;
    let refused = json!({ "outcome": "refused", "reason": "n is far behind", "hint": "wait" });
    let words = ["switchover", "redis", "--to", "redis-2", "cluster.toml", "--yes"];
    let (asked, (code, text)) = asked_after(&before, &words, refused);
    assert_eq!((&asked["to"], &asked["go"]), (&json!("redis-2"), &json!(false)));
    assert_eq!(code, 1, "{text}");

    // Without a terminal and --yes nothing more is asked of the agent.
    let plan = json!({ "outcome": "plan", "to": "redis-2", "says": ["redis-2 becomes it"] });
    let (asked, (code, text)) = asked_after(&asked, &["switchover", "redis", "cluster.toml"], plan);
    assert_eq!((code, &asked["to"], &asked["go"]), (2, &Value::Null, &json!(false)), "{text}");
    let last = consul.get("kv/ballast/redis/redis/request?raw", operator).1;
    assert_eq!(last["id"], asked["id"]);
}
