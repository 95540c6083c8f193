//! What Consul's configuration promises, and Consul's own word that it is one.

use super::*;
use crate::fixture;

const ID: &str = "5f0c9d2e-8d0c-4f57-9a53-3d1f0c6f2b11";

#[test]
fn only_servers_hold_the_management_token() {
    let site = fixture::Site::new();
    let server = site.contents("n1", "consul-server");
    let client = site.contents("n2", "load-balancer");
    let config = agent(ID, &server.node, &server.secrets, server.acl.as_ref());
    assert_eq!(config["acl"]["tokens"]["master"], json!(server.acl.unwrap().management_token));
    assert_eq!(config["bootstrap_expect"], json!(3));
    let config = agent(ID, &client.node, &client.secrets, client.acl.as_ref());
    assert!(config["acl"]["tokens"].get("master").is_none());
    assert!(config.get("bootstrap_expect").is_none());
    assert_eq!(config["server"], json!(false));
}

#[test]
fn a_restart_of_the_agent_costs_no_session() {
    let site = fixture::Site::new();
    let contents = site.contents("n1", "consul-server");
    let config = agent(ID, &contents.node, &contents.secrets, None);
    assert_eq!(config["leave_on_terminate"], json!(false));
    assert_eq!(config["skip_leave_on_interrupt"], json!(true));
}

#[test]
#[ignore = "needs BALLAST_CONSUL, the path of consul 1.8"]
fn consul_calls_every_configuration_valid() {
    let consul = std::env::var("BALLAST_CONSUL").unwrap();
    let site = fixture::Site::new();
    let mut federated = site.contents("n1", "consul-server");
    federated.node.consul.wan_servers = vec!["10.1.0.11".parse().unwrap()];
    federated.node.consul.primary_datacenter = Some("dc2".to_owned());
    federated.secrets.replication_token = Some(federated.secrets.agent_token.clone());
    let all =
        [site.contents("n1", "consul-server"), site.contents("n2", "load-balancer"), federated];
    for contents in all {
        let directory = tempfile::tempdir().unwrap();
        let file =
            agent_file(ID, &contents.node, &contents.secrets, contents.acl.as_ref()).unwrap();
        std::fs::write(directory.path().join("agent.json"), &file.bytes).unwrap();
        let output =
            std::process::Command::new(&consul).arg("validate").arg(directory.path()).output();
        let output = output.unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&file.bytes));
    }
}
