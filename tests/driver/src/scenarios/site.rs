//! One site: a quorum, what it refuses, the loss and return of a server, and machines that must stay outside.

use std::collections::{BTreeMap, BTreeSet};

use super::bundles::{self, REFUSALS};
use super::{
    PATIENCE, ensure, run, servers, wait_for_console, wait_for_passing, wait_for_success,
    wait_for_view, wanted,
};
use crate::cluster::Cluster;
use crate::consul::{Health, View};
use crate::error::Result;
use crate::machine::{Bundle, Machine, Wanted};
use crate::poll::Seen;
use crate::trial::{Group, Trial};

/// The group.
pub const GROUP: Group = Group {
    name: "site",
    promises: &[
        "three_servers_form_a_quorum_and_all_are_passing",
        "the_health_gate_completes_the_boot_of_a_healthy_node",
        "an_anonymous_request_is_refused",
        "a_nodes_token_may_do_what_its_role_needs_and_nothing_else",
        "https_without_a_certificate_of_the_site_is_refused",
        "one_server_is_killed_and_the_rest_go_on",
        "a_boot_with_consul_unreachable_is_good_and_its_node_critical",
        "a_node_recovers_by_itself_once_consul_is_reachable",
        "no_bundle_leaves_a_node_that_says_so_on_its_console",
        "a_bundle_with_a_wrong_digest_is_refused",
        "a_bundle_with_a_wrong_signature_is_refused",
        "a_bundle_with_an_unknown_field_is_refused",
        "another_nodes_bundle_is_refused",
        "a_bundle_with_an_expired_certificate_is_refused",
        "a_node_without_a_good_bundle_stays_out_of_consul",
        "five_nodes_from_one_image_have_five_machine_ids",
    ],
    containers: false,
    run: try_site,
};

const SERVERS: u8 = 3;

fn try_site(trial: &mut Trial) -> Result<()> {
    let cluster = servers(trial, "cluster", SERVERS)?;
    let mut machines = Vec::new();
    for node in &cluster.nodes {
        let bundle = Bundle::Credential(cluster.bundle(&node.name));
        let mut machine = trial.machine(Wanted { bundle, ..wanted(&node.name, node.number) })?;
        machine.power_on()?;
        machines.push(machine);
    }
    let [first, second, third] = machines.as_mut_slice() else { return Ok(()) };
    let mut ids = BTreeMap::new();

    for machine in [first.as_mut(), second.as_mut(), third.as_mut()] {
        wait_for_passing(machine)?;
    }
    wait_for_view(first.as_mut(), "three passing servers", |view| all_passing(view, &cluster))?;
    trial.holds("three_servers_form_a_quorum_and_all_are_passing")?;

    for machine in [first.as_mut(), second.as_mut(), third.as_mut()] {
        wait_for_success(machine, "the boot to complete", BOOT_IS_GOOD)?;
        note_id(machine, &mut ids)?;
    }
    trial.holds("the_health_gate_completes_the_boot_of_a_healthy_node")?;

    try_access(trial, first.as_mut())?;

    third.kill()?;
    let lost = |view: &View| view.leader.is_some() && is_lost(view, "consul-3");
    wait_for_view(first.as_mut(), "the loss of consul-3 to be seen, and a leader", lost)?;
    run(first.as_mut(), &as_manager("consul kv put lost/one still-writing"))?;
    trial.holds("one_server_is_killed_and_the_rest_go_on")?;

    try_return(trial, first.as_mut(), third.as_mut(), &cluster)?;

    // Two servers are a quorum: the third makes room for a machine that must stay outside.
    third.kill()?;
    let mut stranger = trial.machine(wanted("stranger", 4))?;
    stranger.power_on()?;
    wait_for_console(stranger.as_mut(), "no bundle is here")?;
    trial.holds("no_bundle_leaves_a_node_that_says_so_on_its_console")?;
    note_id(stranger.as_mut(), &mut ids)?;

    for refusal in REFUSALS {
        bundles::try_refusal(trial, stranger.as_mut(), refusal)?;
        trial.holds(refusal.promise)?;
    }
    try_absence(first.as_mut(), stranger.as_mut(), &cluster)?;
    trial.holds("a_node_without_a_good_bundle_stays_out_of_consul")?;

    drop(machines);
    drop(stranger);
    let mut fifth = trial.machine(wanted("fifth", 5))?;
    fifth.power_on()?;
    note_id(fifth.as_mut(), &mut ids)?;
    let different: BTreeSet<_> = ids.values().collect();
    ensure(different.len() == 5, || format!("machine ids are {ids:?}"))?;
    trial.holds("five_nodes_from_one_image_have_five_machine_ids")
}

fn all_passing(view: &View, cluster: &Cluster) -> bool {
    let passing = |name: &str| view.health(name) == Some(Health::Passing);
    view.leader.is_some() && cluster.nodes.iter().all(|node| passing(&node.name))
}

/// Whether the gate has let the boot complete; if not, what keeps it.
const BOOT_IS_GOOD: &str = r#"
systemctl is-active ballast-gate.service boot-complete.target && exit 0
ballast-agent status | tail -n 5
journalctl --no-pager --output cat --lines 4 -u consul
exit 1
"#;

/// Whether the peers see a node as gone: critical, or forgotten by Consul's autopilot, which removes dead servers.
fn is_lost(view: &View, node: &str) -> bool {
    view.health(node).is_none_or(|health| health == Health::Critical)
}

/// Who may do nothing, who may do little.
fn try_access(trial: &mut Trial, server: &mut dyn Machine) -> Result<()> {
    let denied = |server: &mut dyn Machine, token: &str, command: &str| {
        let script = format!("{TOKENS}\nexport CONSUL_HTTP_TOKEN={token}\n{command}");
        let ran = server.run(&script, PATIENCE)?;
        let refused = ran.text.contains("denied");
        ensure(ran.status != 0 && refused, || {
            format!("{command:?} with token {token} ended with {}: {}", ran.status, ran.text)
        })
    };
    for command in ["consul kv put a b", "consul acl token list", "consul operator raft list-peers"]
    {
        denied(server, "anonymous", command)?;
    }
    let nodes = run(server, "CONSUL_HTTP_TOKEN=anonymous consul catalog nodes || true")?;
    ensure(!nodes.contains("consul-1"), || format!("an anonymous request is shown {nodes}"))?;
    trial.holds("an_anonymous_request_is_refused")?;

    let own = "$agent_token";
    run(server, &format!("{TOKENS}\nCONSUL_HTTP_TOKEN={own} consul catalog nodes"))?;
    for command in [
        "consul kv put a b",
        "consul acl policy list",
        "consul force-leave consul-2",
        "consul keyring -list",
        "echo '{\"service\":{\"name\":\"postgres\"}}' >/run/wrong-role.json; consul services register /run/wrong-role.json",
    ] {
        denied(server, own, command)?;
    }
    trial.holds("a_nodes_token_may_do_what_its_role_needs_and_nothing_else")?;

    let https = "CONSUL_TLS_SERVER_NAME=server.dc1.consul consul catalog nodes -http-addr=https://10.83.0.12:8501 \
                 -ca-file=/var/lib/ballast/bundles/current/consul/ca.pem";
    let without = server.run(https, PATIENCE)?;
    ensure(without.status != 0 && !without.text.contains("consul-1"), || {
        format!("HTTPS without a certificate ended with {}: {}", without.status, without.text)
    })?;
    // The same with a certificate: nothing else kept the first from its answer.
    let directory = "/var/lib/ballast/bundles/current/consul";
    let with = format!("{https} -client-cert={directory}/cert.pem -client-key={directory}/key.pem");
    run(server, &with)?;
    trial.holds("https_without_a_certificate_of_the_site_is_refused")
}

/// Puts the node's own tokens into variables, with nothing but a shell to read JSON.
const TOKENS: &str = r#"
value() { text=$(cat "$1"); text=${text#*"\"$2\""}; text=${text#*'"'}; printf %s "${text%%'"'*}"; }
agent_token=$(value /var/lib/ballast/bundles/current/secrets.json agent_token)
management_token=$(value /var/lib/ballast/bundles/current/acl.json management_token)
"#;

fn as_manager(command: &str) -> String {
    format!("{TOKENS}\nexport CONSUL_HTTP_TOKEN=$management_token\n{command}")
}

/// The killed server boots while nobody can reach it, and joins when somebody can.
fn try_return(
    trial: &mut Trial,
    first: &mut dyn Machine,
    third: &mut dyn Machine,
    cluster: &Cluster,
) -> Result<()> {
    trial.site().cut("consul-3", "consul-1")?;
    trial.site().cut("consul-3", "consul-2")?;
    third.power_on()?;
    wait_for_success(third, "the boot to complete without peers", BOOT_IS_GOOD)?;
    super::until("its agent to call the missing leader critical", || {
        Ok(match super::own_check(third, "consul-leader")? {
            Some(health) if health == "critical" => Seen::Ready(()),
            other => Seen::NotYet(format!("{other:?}")),
        })
    })?;
    wait_for_view(first, "consul-3 not to be passing", |view| is_lost(view, "consul-3"))?;
    trial.holds("a_boot_with_consul_unreachable_is_good_and_its_node_critical")?;

    trial.site().restore("consul-3", "consul-1")?;
    trial.site().restore("consul-3", "consul-2")?;
    wait_for_passing(third)?;
    wait_for_view(first, "three passing servers again", |view| all_passing(view, cluster))?;
    let kept = run(third, &as_manager("consul kv get lost/one"))?;
    ensure(kept == "still-writing", || format!("the returned server reads {kept:?}"))?;
    trial.holds("a_node_recovers_by_itself_once_consul_is_reachable")
}

fn try_absence(
    server: &mut dyn Machine,
    stranger: &mut dyn Machine,
    cluster: &Cluster,
) -> Result<()> {
    let ran = stranger.run("systemctl is-active consul.service", PATIENCE)?;
    ensure(ran.status != 0, || "Consul runs on a node without a bundle".into())?;
    let known: Vec<_> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    wait_for_view(server, "a catalogue of the site's nodes alone", |view| {
        view.leader.is_some()
            && view.checks.iter().all(|check| known.contains(&check.node.as_str()))
    })
    .map(drop)
}

fn note_id(machine: &mut dyn Machine, ids: &mut BTreeMap<String, String>) -> Result<()> {
    let ran = wait_for_success(machine, "a machine id", "cat /etc/machine-id")?;
    ensure(ran.text.len() == 32, || {
        format!("{} has the machine id {:?}", machine.name(), ran.text)
    })?;
    ids.insert(machine.name().to_owned(), ran.text);
    Ok(())
}
