//! Consul's agent configuration for 1.8: mutual TLS, gossip encryption, ACLs that deny, and nothing that is not used.

use ballast_bundle::{Acl, NodeConfig, Secrets};
use ballast_contract::roles::CONSUL_SERVER;
use serde_json::{Value, json};

use super::{CONSUL, CONSUL_TLS, File, LAST_FILE};
use crate::error::Error;

pub(super) fn agent_file(
    id: &str,
    node: &NodeConfig,
    secrets: &Secrets,
    acl: Option<&Acl>,
) -> Result<File, Error> {
    let text = serde_json::to_string_pretty(&agent(id, node, secrets, acl))
        .map_err(|source| Error::Json { path: LAST_FILE.into(), source })?;
    Ok(File::secret_of(CONSUL, LAST_FILE, (text + "\n").into_bytes()))
}

fn agent(id: &str, node: &NodeConfig, secrets: &Secrets, acl: Option<&Acl>) -> Value {
    let server = node.node.role == CONSUL_SERVER;
    let address = node.network.address.addr();
    let any = if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
    let primary = node.consul.primary_datacenter.as_ref().unwrap_or(&node.node.datacenter);
    let federated = server && !node.consul.wan_servers.is_empty();

    let mut config = json!({
        "server": server,
        "node_name": node.node.name,
        // Consul's own file of it is not synced: a power cut soon after the first boot leaves it empty, and Consul down.
        "node_id": id,
        "datacenter": node.node.datacenter,
        "primary_datacenter": primary,
        "domain": node.consul.domain,
        "data_dir": "/var/lib/consul",

        // Bound to every address, so that Consul starts before the network is up; the firewall says who may connect.
        "bind_addr": any,
        "advertise_addr": address,
        "client_addr": "127.0.0.1",
        // On a server, the site's clients ask who is primary; on others, only the machine itself.
        "addresses": { "https": any, "dns": if server { any } else { "127.0.0.1" } },
        "ports": {
            "http": 8500, "https": 8501, "dns": 8600, "grpc": -1,
            "server": 8300, "serf_lan": 8301, "serf_wan": if federated { 8302 } else { -1 },
        },
        "retry_join": node.consul.servers,
        // 30 s by default: a server that starts a moment after the others would be missed for half a minute.
        "retry_interval": "2s",

        "encrypt": secrets.gossip_key,
        "encrypt_verify_incoming": true,
        "encrypt_verify_outgoing": true,
        // The key comes with the bundle at every boot; a copy on the disk would outlive its rotation.
        "disable_keyring_file": true,

        "ca_file": format!("{CONSUL_TLS}/ca.pem"),
        "cert_file": format!("{CONSUL_TLS}/cert.pem"),
        "key_file": format!("{CONSUL_TLS}/key.pem"),
        "verify_incoming": true,
        "verify_outgoing": true,
        // Only a certificate for server.<datacenter>.consul is a server: a client's cannot pose as one.
        "verify_server_hostname": true,
        "tls_min_version": "tls12",

        "acl": {
            "enabled": true,
            "default_policy": "deny",
            "down_policy": "extend-cache",
            // Who asks on loopback without a token is served as DNS is: nodes and services, read only.
            "tokens": { "agent": secrets.agent_token, "default": secrets.dns_token },
        },

        // Both, always: a restart of the agent must cost no session and no leader key.
        "leave_on_terminate": false,
        "skip_leave_on_interrupt": true,
        "rejoin_after_leave": true,

        "performance": { "raft_multiplier": node.timings.raft_multiplier },
        // An answer older than this is not given: by default a minority side would name the old primary for ten years.
        "dns_config": {
            "allow_stale": true, "max_stale": format!("{}s", node.timings.dns_max_stale_secs),
        },

        // What is not used cannot be attacked.
        "ui": false,
        "connect": { "enabled": false },
        "auto_config": { "enabled": false },
        "enable_script_checks": false,
        "enable_local_script_checks": false,
        "disable_remote_exec": true,
        "disable_update_check": true,
        "log_level": "info",
    });

    if server {
        config["bootstrap_expect"] = json!(node.consul.servers.len());
        config["autopilot"] =
            json!({ "cleanup_dead_servers": true, "last_contact_threshold": "200ms" });
        if federated {
            config["retry_join_wan"] = json!(node.consul.wan_servers);
            config["retry_interval_wan"] = json!("5s");
        }
    }
    if let Some(acl) = acl {
        // The leader makes the token at its first election: one winner, by Raft.
        config["acl"]["tokens"]["master"] = json!(acl.management_token);
    }
    if let Some(token) = &secrets.replication_token {
        config["acl"]["enable_token_replication"] = json!(true);
        config["acl"]["tokens"]["replication"] = json!(token);
    }
    config
}

#[cfg(test)]
mod tests;
