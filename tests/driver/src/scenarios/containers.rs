//! What the fault suite rests on: a container that is frozen, cut off, switched off or wiped really is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{ANSWER, ensure, run, servers, wait_for_success, wanted};
use crate::cluster::Node;
use crate::error::{Error, Result};
use crate::machine::{Bundle, CLIENTS, Machine, Wanted};
use crate::network::Network;
use crate::poll::Seen;
use crate::trial::{Group, Trial};

/// The group.
pub const GROUP: Group = Group {
    name: "containers",
    promises: &[
        "a_client_beside_the_machines_reaches_them",
        "a_frozen_machine_does_nothing_until_it_is_thawed",
        "a_cut_pair_hears_nothing_of_each_other_and_clients_hear_both",
        "an_isolated_machine_is_heard_by_nobody_until_it_rejoins",
        "a_lossy_link_loses_some_and_not_all",
        "a_machine_switched_off_in_order_keeps_its_state",
        "a_machine_whose_power_is_cut_keeps_its_state",
        "a_wiped_machine_has_none",
    ],
    containers: true,
    run: try_containers,
};

/// Where Consul answers its peers.
const PORT: u16 = 8300;
const CONNECTING: Duration = Duration::from_millis(500);
const OFF: Duration = Duration::from_secs(60);

fn try_containers(trial: &mut Trial) -> Result<()> {
    let cluster = servers(trial, "cluster", 3)?;
    let [one, two, _] = cluster.nodes.as_slice() else { return Ok(()) };
    let network = trial.site().network()?;
    let mut machines = Vec::new();
    for node in [one, two] {
        let bundle = Bundle::Credential(cluster.bundle(&node.name));
        let mut machine = trial.machine(Wanted { bundle, ..wanted(&node.name, node.number) })?;
        machine.power_on()?;
        machines.push(machine);
    }
    let [first, second] = machines.as_mut_slice() else { return Ok(()) };
    for node in [one, two] {
        wait_until_reached(&network, node)?;
    }
    trial.holds("a_client_beside_the_machines_reaches_them")?;

    try_freezing(first.as_mut())?;
    trial.holds("a_frozen_machine_does_nothing_until_it_is_thawed")?;

    ensure(hears(first.as_mut(), two)?, || {
        "the pair does not hear each other before it is cut".into()
    })?;
    trial.site().cut(&two.name, &one.name)?;
    let heard = hears(first.as_mut(), two)? || hears(second.as_mut(), one)?;
    ensure(!heard, || "the pair that is cut hears each other".into())?;
    ensure(reaches(&network, one)? && reaches(&network, two)?, || "clients are cut off".into())?;
    trial.site().restore(&one.name, &two.name)?;
    ensure(hears(first.as_mut(), two)?, || "the pair is not restored".into())?;
    trial.holds("a_cut_pair_hears_nothing_of_each_other_and_clients_hear_both")?;

    trial.site().isolate(&one.name)?;
    let heard = reaches(&network, one)? || hears(second.as_mut(), one)?;
    ensure(!heard && reaches(&network, two)?, || "the isolated machine is heard".into())?;
    trial.site().rejoin(&one.name)?;
    ensure(hears(second.as_mut(), one)?, || "the machine did not rejoin".into())?;
    wait_until_reached(&network, one)?;
    trial.holds("an_isolated_machine_is_heard_by_nobody_until_it_rejoins")?;

    try_losing(trial, &network, one)?;
    trial.holds("a_lossy_link_loses_some_and_not_all")?;

    run(first.as_mut(), "echo kept >/var/lib/ballast/kept; sync")?;
    first.reboot(OFF)?;
    ensure(run(first.as_mut(), KEPT)? == "kept", || "the state is lost".into())?;
    trial.holds("a_machine_switched_off_in_order_keeps_its_state")?;

    first.kill()?;
    ensure(!first.is_on() && !reaches(&network, one)?, || "the killed machine answers".into())?;
    first.power_on()?;
    ensure(run(first.as_mut(), KEPT)? == "kept", || "the state is lost".into())?;
    wait_until_reached(&network, one)?;
    trial.holds("a_machine_whose_power_is_cut_keeps_its_state")?;

    first.wipe()?;
    ensure(!first.is_on(), || "the wiped machine is on".into())?;
    first.power_on()?;
    let left = run(first.as_mut(), KEPT)?;
    ensure(left == "nothing", || format!("the wiped machine has {left:?}"))?;
    trial.holds("a_wiped_machine_has_none")
}

const KEPT: &str = "cat /var/lib/ballast/kept 2>/dev/null || echo nothing";

/// A script of ours runs outside of what is frozen, so it can look at a process that is inside.
fn try_freezing(machine: &mut dyn Machine) -> Result<()> {
    const TICK: &str =
        "systemd-run --quiet sh -c 'while :; do date +%s%N >/run/tick; sleep 0.05; done'";
    // Two looks, between which it ticks ten times if it ticks.
    const LOOKS: &str = "cat /run/tick; sleep 0.5; cat /run/tick";
    run(machine, TICK)?;
    let ticks = |machine: &mut dyn Machine| -> Result<bool> {
        let looks = run(machine, LOOKS)?;
        let mut lines = looks.lines();
        Ok(lines.next() != lines.next())
    };
    wait_for_success(machine, "a tick", "test -s /run/tick")?;
    ensure(ticks(machine)?, || "nothing ticks".into())?;
    machine.freeze()?;
    ensure(!ticks(machine)?, || "a process of the frozen machine goes on".into())?;
    machine.thaw()?;
    ensure(ticks(machine)?, || "the thawed machine stands still".into())
}

fn try_losing(trial: &Trial, network: &Network, node: &Node) -> Result<()> {
    const TIMES: usize = 40;
    trial.site().lose(CLIENTS, &node.name, 30)?;
    let mut reached = 0;
    for _ in 0..TIMES {
        // A lost frame is sent again after a second: too late for one that waits half of it.
        reached += usize::from(reaches(network, node)?);
    }
    trial.site().lose(&node.name, CLIENTS, 0)?;
    ensure((1..TIMES).contains(&reached), || {
        format!("{reached} of {TIMES} connections came about")
    })?;
    wait_until_reached(network, node)
}

fn address(node: &Node) -> Result<SocketAddr> {
    let text = format!("{}:{PORT}", node.address);
    text.parse().map_err(|_| Error::Answer { what: "an address".into(), answer: text })
}

/// Whether a client comes through to the node.
fn reaches(network: &Network, node: &Node) -> Result<bool> {
    Ok(network.connect(address(node)?, CONNECTING).is_ok())
}

fn wait_until_reached(network: &Network, node: &Node) -> Result<()> {
    let address = address(node)?;
    super::until(&format!("{} to be reached", node.name), || {
        Ok(match network.connect(address, CONNECTING) {
            Ok(_) => Seen::Ready(()),
            Err(error) => Seen::NotYet(error.to_string()),
        })
    })
}

/// Whether the machine comes through to a peer: who comes through is told at once that it has no certificate.
fn hears(machine: &mut dyn Machine, peer: &Node) -> Result<bool> {
    let start = Instant::now();
    let script = format!("timeout 3 consul catalog nodes -http-addr=https://{}:8501", peer.address);
    let ran = machine.run(&script, ANSWER)?;
    let answered = ran.text.contains("certificate") || ran.text.contains("tls");
    let silent = ran.status == 124 || ran.text.contains("no route");
    ensure(answered != silent, || {
        let after = start.elapsed();
        format!("after {after:?}, status {}, {} says {:?}", ran.status, peer.name, ran.text)
    })?;
    Ok(answered)
}
