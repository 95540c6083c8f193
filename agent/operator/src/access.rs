//! Who may do what in Consul: one policy per purpose, with the least that Consul 1.8 needs for it.

use ballast_bundle::{Acl, AclPolicy, AclToken};
use ballast_contract::NODE_SERVICE;

use crate::cluster::{Cluster, Node, POSTGRES, REDIS};
use crate::state::{NodeTokens, SiteSecrets, Token};

const DNS: &str = "dns";
const OPERATOR: &str = "operator";
const REPLICATION: &str = "replication";

/// The site's access rules. Whoever brings no token may do nothing: no policy is given to the anonymous token.
pub fn access(
    cluster: &Cluster,
    site: &SiteSecrets,
    nodes: &[NodeTokens],
    revoked: Vec<String>,
) -> Acl {
    let mut policies = vec![
        policy(
            DNS,
            "Answer DNS: read nodes and services",
            "node_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }\n",
        ),
        policy(
            OPERATOR,
            "Look at everything, change nothing; ask for a backup or a switchover",
            &operator_rules(cluster),
        ),
    ];
    let mut tokens = vec![token(&site.operator, "the operator's `ballast status`", OPERATOR)];
    if cluster.datacenters.len() > 1 {
        // Tokens are copied with their secrets, which only who may write them can read. Connect is off, so nothing else.
        policies.push(policy(
            REPLICATION,
            "Copy the access rules to the other data centres",
            "acl = \"write\"\n",
        ));
    }
    for (node, of) in cluster.nodes.iter().zip(nodes) {
        let name = format!("node-{}", node.name);
        let purpose = format!("Node {}: register itself and its services", node.name);
        let rules = node_rules(cluster, node);
        policies.push(policy(&name, &purpose, &rules));
        tokens.push(token(&of.agent, &format!("node {}", node.name), &name));
        tokens.push(token(&of.dns, &format!("DNS of node {}", node.name), DNS));
        if let (Some(patroni), Some(postgres)) = (&of.patroni, &cluster.postgres) {
            let name = format!("patroni-{}", node.name);
            let purpose =
                format!("Patroni of node {}: its session and its cluster's keys", node.name);
            policies.push(policy(&name, &purpose, &patroni_rules(&node.name, &postgres.cluster)));
            tokens.push(token(patroni, &format!("Patroni of node {}", node.name), &name));
        }
        if let Some(replication) = &of.replication {
            tokens.push(token(
                replication,
                &format!("replication by node {}", node.name),
                REPLICATION,
            ));
        }
    }
    Acl { management_token: site.management_token.clone(), policies, tokens, revoked }
}

/// What the operator's command needs: to read, and to leave requests where a primary's agent looks for them.
fn operator_rules(cluster: &Cluster) -> String {
    let mut rules = "operator = \"read\"\nagent_prefix \"\" { policy = \"read\" }\nnode_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }\n".to_owned();
    for prefix in [backups(cluster), switchovers(cluster)].into_iter().flatten() {
        rules.push_str(&format!(
            "key_prefix \"{prefix}\" {{ policy = \"read\" }}\n\
             key \"{prefix}request\" {{ policy = \"write\" }}\n"
        ));
    }
    rules
}

/// The keys about a cluster's backups, where it is backed up.
fn backups(cluster: &Cluster) -> Option<String> {
    let postgres = cluster.postgres.as_ref().filter(|p| p.backup.is_some())?;
    Some(format!("ballast/backup/{}/", postgres.cluster))
}

/// The keys about another primary of the Redis group.
fn switchovers(cluster: &Cluster) -> Option<String> {
    cluster.redis.as_ref().map(|redis| format!("ballast/redis/{}/", redis.cluster))
}

/// What a node needs: to write itself and its services, and to read the catalogue and its own Consul agent. Who watches a
/// database's members votes on them, and takes the leader key from one that a majority gave up; it writes no other node.
fn node_rules(cluster: &Cluster, node: &Node) -> String {
    let name = &node.name;
    let mut rules = format!(
        "node \"{name}\" {{ policy = \"write\" }}\nagent \"{name}\" {{ policy = \"write\" }}\n\
         node_prefix \"\" {{ policy = \"read\" }}\nservice_prefix \"\" {{ policy = \"read\" }}\n"
    );
    for service in &node.services {
        rules.push_str(&format!("service \"{service}\" {{ policy = \"write\" }}\n"));
    }
    if node.is_database() {
        rules.push_str(&format!("service \"{NODE_SERVICE}\" {{ policy = \"write\" }}\n"));
    }
    let backups = backups(cluster).filter(|_| node.role == POSTGRES);
    let switchovers = switchovers(cluster).filter(|_| node.role == REDIS);
    for prefix in [backups, switchovers].into_iter().flatten() {
        rules.push_str(&format!("key_prefix \"{prefix}\" {{ policy = \"write\" }}\n"));
    }
    if let Some(cluster) = observed_by(cluster, node) {
        rules.push_str(&format!(
            "key_prefix \"ballast/peers/{cluster}/\" {{ policy = \"write\" }}\n\
             key \"service/{cluster}/leader\" {{ policy = \"write\" }}\n\
             key \"service/{cluster}/config\" {{ policy = \"read\" }}\n"
        ));
    }
    rules
}

/// The cluster whose members a node watches.
fn observed_by<'a>(cluster: &'a Cluster, node: &Node) -> Option<&'a str> {
    let watches = cluster.observers().iter().any(|observer| observer.name == node.name);
    cluster.postgres.as_ref().filter(|_| watches).map(|p| p.cluster.as_str())
}

/// What Patroni needs: its node's sessions, and the keys below its cluster's name. It registers no service: the agent does.
fn patroni_rules(node: &str, cluster: &str) -> String {
    format!(
        "key_prefix \"service/{cluster}/\" {{ policy = \"write\" }}\n\
         session \"{node}\" {{ policy = \"write\" }}\n"
    )
}

fn policy(name: &str, description: &str, rules: &str) -> AclPolicy {
    AclPolicy {
        name: name.to_owned(),
        description: description.to_owned(),
        rules: rules.to_owned(),
    }
}

fn token(token: &Token, description: &str, policy: &str) -> AclToken {
    AclToken {
        accessor_id: token.accessor_id.clone(),
        secret_id: token.secret_id.clone(),
        description: description.to_owned(),
        policies: vec![policy.to_owned()],
    }
}
