//! Doing to machines what a scenario says, and taking it back.

use std::thread;
use std::time::Duration;

use ballast_machines::cluster::{CONSUL_SERVER, POSTGRES, REDIS};
use ballast_machines::error::Error as Machines;
use ballast_machines::fleet::Fleet;
use serde::Deserialize;

use crate::clients::{Clients, Store, Working};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::scenario::{Fault, Signal, Step, Victim, Whom};
use crate::seed::Chance;
use crate::timeline::State;

/// How long a machine may take to stop in order.
const STOPPING: Duration = Duration::from_secs(90);
/// How long a script in a machine may take.
const SCRIPT: Duration = Duration::from_secs(60);
/// What fills a memory: this many values of this size at most.
const FILLING: (usize, u32) = (256 << 10, 2_000);

/// Ports of Consul's gossip, and of DNS.
const GOSSIP: &str = "8301";
const NAMES: &str = "{ 53, 8600 }";
/// Takes back what mutes a node; one that was switched off has nothing to be taken back.
const SPEAK: &str = "nft 'table inet faults; delete table inet faults'";

/// A file that leaves no room, in steps down to a single block, and again whenever a little becomes free.
const FILL_DISK: &str = r#"
systemd-run --quiet --unit=ballast-filler sh -c '
  while :; do
    for size in 1M 4k; do dd if=/dev/zero of=/var/filler bs=$size oflag=append conv=notrunc 2> /dev/null; done
    sleep 1
  done'
for wait in 1 2 3 4 5 6 7 8 9 10; do
  set -- $(df --output=avail /var)
  [ "$2" -gt 64 ] || exit 0
  sleep 1
done
echo "the disk still has room: $*"
exit 1
"#;
const EMPTY_DISK: &str = "systemctl stop ballast-filler; rm -f /var/filler";

/// The server's first process is the oldest of its name.
const KILL_SERVER: &str = r#"
for process in $(cd /proc && echo [0-9]* | tr ' ' '\n' | sort -n); do
  read -r name < /proc/$process/comm 2> /dev/null || continue
  [ "$name" = postgres ] || continue
  kill -KILL "$process"
  exit
done
echo no server runs
exit 1
"#;

/// Something that was done and is to be taken back.
#[derive(Debug)]
pub struct Hurt {
    fault: Fault,
    nodes: Vec<String>,
}

/// Those whom a step means now.
///
/// # Errors
/// When nobody knows who that is.
pub fn victims(
    fleet: &mut Fleet,
    clients: &Clients,
    working: &Working,
    victim: Victim,
    chance: &mut Chance,
) -> Result<Vec<String>> {
    let primary = |store: Store| {
        working
            .primary(store)
            .ok_or_else(|| Error::Lacking(format!("{} has no primary", store.name())))
    };
    Ok(match victim {
        Victim::Primary => vec![primary(Store::Postgres)?],
        Victim::Master => vec![primary(Store::Redis)?],
        Victim::Replica => other(fleet, POSTGRES, &[&primary(Store::Postgres)?], chance)?,
        Victim::Standby => {
            let standbys = standbys(fleet, clients)?.map_err(Error::Lacking)?;
            standbys.into_iter().take(1).collect()
        }
        Victim::RedisReplica => other(fleet, REDIS, &[&primary(Store::Redis)?], chance)?,
        Victim::ConsulLeader => vec![consul_leader(fleet)?],
        Victim::ConsulMajority => {
            let leader = consul_leader(fleet)?;
            let mut both = other(fleet, CONSUL_SERVER, &[&leader], chance)?;
            both.insert(0, leader);
            both
        }
        Victim::Everyone => fleet.nodes().iter().map(|node| node.name.clone()).collect(),
    })
}

fn other(fleet: &Fleet, role: &str, not: &[&String], chance: &mut Chance) -> Result<Vec<String>> {
    let rest: Vec<&String> = fleet
        .nodes()
        .iter()
        .filter(|node| node.role == role && !not.contains(&&node.name))
        .map(|node| &node.name)
        .collect();
    let one = chance.pick(&rest);
    one.map(|name| vec![(*name).clone()])
        .ok_or_else(|| Error::Lacking(format!("there is no other node of role {role}")))
}

/// The key in which Patroni says who may take the primary's place, read with the node's own token, which stands in the
/// environment.
const STANDBYS: &str = r#"
export CONSUL_HTTP_ADDR=http://127.0.0.1:8500
secrets=$(cat /var/lib/ballast/bundles/current/secrets.json) || exit 1
after=${secrets#*'"patroni_token"'}
after=${after#*'"'}
export CONSUL_HTTP_TOKEN=${after%%'"'*}
exec consul kv get service/CLUSTER/sync
"#;

/// Patroni's own form of it (4.0).
#[derive(Deserialize)]
struct Named {
    sync_standby: Option<String>,
}

/// Those who may take the place of PostgreSQL's primary, as Patroni has them named; the inner error is why there is none.
///
/// # Errors
/// When the machines cannot be asked.
pub fn standbys(
    fleet: &mut Fleet,
    clients: &Clients,
) -> Result<std::result::Result<Vec<String>, String>> {
    let script = STANDBYS.replace("CLUSTER", &clients.access().postgres.cluster);
    let first = fleet.nodes().iter().find(|node| node.role == POSTGRES).map(|n| n.name.clone());
    let Some(node) = first else { return Ok(Err("there is no PostgreSQL".to_owned())) };
    let ran = fleet.machine(&node)?.run(&script, SCRIPT)?;
    Ok(read_standbys(&ran.text).ok_or_else(|| format!("no standby is named: {}", ran.text.trim())))
}

fn read_standbys(text: &str) -> Option<Vec<String>> {
    let named: Named = serde_json::from_str(text.trim()).ok()?;
    let names = named.sync_standby?.split(',').map(str::to_owned).collect::<Vec<_>>();
    names.first().is_some_and(|name| !name.is_empty()).then_some(names)
}

fn consul_leader(fleet: &mut Fleet) -> Result<String> {
    let view = fleet.view()?.map_err(Error::Lacking)?;
    let leader = view.leader.as_deref().and_then(|leader| leader.rsplit_once(':'));
    let (address, _) = leader.ok_or_else(|| Error::Lacking("Consul has no leader".into()))?;
    let node = fleet.nodes().iter().find(|node| node.address == address);
    node.map(|node| node.name.clone())
        .ok_or_else(|| Error::Lacking(format!("Consul's leader {address} is no node")))
}

/// Does it.
///
/// # Errors
/// When a machine will not have it done.
pub fn apply(
    fleet: &mut Fleet,
    clients: &Clients,
    step: &Step,
    nodes: Vec<String>,
    log: &mut Log,
) -> Result<Option<Hurt>> {
    let fault = step.fault;
    match fault {
        Fault::Kill if nodes.len() == fleet.nodes().len() => {
            fleet.kill()?;
            for node in &nodes {
                log.note(node, State::Off, "power cut");
            }
        }
        Fault::ReplaceFirst => {
            let role = nodes.first().map(|name| fleet.node(name)).transpose()?.map(|n| &n.role);
            let all: Vec<String> = fleet
                .nodes()
                .iter()
                .filter(|node| Some(&node.role) == role)
                .map(|node| node.name.clone())
                .collect();
            for node in &all {
                fleet.machine(node)?.kill()?;
                log.note(node, State::Off, "power cut");
            }
            for node in &nodes {
                fleet.machine(node)?.wipe()?;
                fleet.machine(node)?.power_on()?;
                log.note(node, State::Hurt, "power on, with an empty disk");
            }
            let rest = all.into_iter().filter(|node| !nodes.contains(node)).collect();
            return Ok(Some(Hurt { fault, nodes: rest }));
        }
        Fault::Divide => {
            let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
            fleet.divide(&names)?;
            for node in &nodes {
                log.note(node, State::Cut, "cut from all other nodes, and not from clients");
            }
        }
        Fault::SwitchOver => {
            for node in &nodes {
                log.note(node, State::Hurt, "is to be primary no longer");
                // Its store is called as its role is.
                let store = fleet.node(node)?.role.clone();
                fleet.operate(&["switchover", &store, "--yes"])?;
                log.note(node, State::Well, "another is the primary");
            }
        }
        Fault::Fill => {
            let (size, limit) = FILLING;
            let number =
                clients.with_master(async move |mut session| session.fill(size, limit).await)?;
            for node in &nodes {
                log.note(node, State::Hurt, format!("filled with {number} values of {size} bytes"));
            }
        }
        _ => {
            for node in &nodes {
                apply_to(fleet, step, node, log)?;
            }
        }
    }
    let over =
        matches!(fault, Fault::Reboot | Fault::Restart(_) | Fault::KillServer | Fault::Stumble(_))
            || matches!(fault, Fault::SwitchOver)
            || matches!(fault, Fault::Signal(_, _, Signal::Kill));
    Ok((!over).then_some(Hurt { fault, nodes }))
}

fn apply_to(fleet: &mut Fleet, step: &Step, node: &str, log: &mut Log) -> Result<()> {
    let fault = step.fault;
    let machine = fleet.machine(node)?;
    match fault {
        Fault::Kill => {
            machine.kill()?;
            log.note(node, State::Off, "power cut");
        }
        Fault::Freeze => {
            machine.freeze()?;
            log.note(node, State::Frozen, "all processes stand still");
        }
        Fault::Reboot => {
            log.note(node, State::Hurt, "reboots");
            machine.power_off(STOPPING)?;
            log.note(node, State::Off, "is down");
            machine.power_on()?;
            log.note(node, State::Well, "starts");
        }
        Fault::PowerOff => {
            log.note(node, State::Hurt, "switches off");
            machine.power_off(STOPPING)?;
            log.note(node, State::Off, "is off");
        }
        Fault::Replace => {
            machine.wipe()?;
            log.note(node, State::Off, "power cut, and its disk lost");
        }
        Fault::Stumble(unit) => {
            script(fleet, node, &signal(unit, Whom::Main, "STOP"))?;
            log.note(node, State::Hurt, format!("{unit} stands still"));
            thread::sleep(step.lasts);
            script(fleet, node, &signal(unit, Whom::Main, "CONT"))?;
            log.note(node, State::Well, format!("{unit} goes on"));
        }
        Fault::Signal(unit, whom, kind) => {
            let (name, what) = match kind {
                Signal::Kill => ("KILL", "is killed"),
                Signal::Freeze => ("STOP", "stands still"),
            };
            script(fleet, node, &signal(unit, whom, name))?;
            log.note(node, State::Hurt, format!("{unit} {what}"));
        }
        Fault::Stop(unit) => {
            script(fleet, node, &format!("systemctl stop {unit}"))?;
            log.note(node, State::Hurt, format!("{unit} is stopped"));
        }
        Fault::Restart(unit) => {
            log.note(node, State::Hurt, format!("{unit} is restarted"));
            script(fleet, node, &format!("systemctl restart {unit}"))?;
            log.note(node, State::Well, format!("{unit} has been restarted"));
        }
        Fault::KillServer => {
            script(fleet, node, KILL_SERVER)?;
            log.note(node, State::Hurt, "PostgreSQL's server process is killed");
        }
        Fault::Mute => {
            script(fleet, node, &drop_ports(GOSSIP))?;
            log.note(node, State::Hurt, "no gossip in or out");
        }
        Fault::Nameless => {
            script(fleet, node, &drop_ports(NAMES))?;
            log.note(node, State::Hurt, "DNS unanswered");
        }
        Fault::FillDisk => {
            log.note(node, State::Hurt, "its disk fills up");
            script(fleet, node, FILL_DISK)?;
            log.note(node, State::Hurt, "its disk is full");
        }
        Fault::Divide | Fault::Fill | Fault::ReplaceFirst | Fault::SwitchOver => {}
    }
    Ok(())
}

/// Takes it back.
///
/// # Errors
/// When a machine will not have it done.
pub fn mend(fleet: &mut Fleet, clients: &Clients, hurt: &Hurt, log: &mut Log) -> Result<()> {
    match hurt.fault {
        Fault::Divide => {
            let names: Vec<&str> = hurt.nodes.iter().map(String::as_str).collect();
            fleet.unite(&names)?;
            for node in &hurt.nodes {
                log.note(node, State::Well, "joined to the others again");
            }
        }
        Fault::Fill => {
            let (_, limit) = FILLING;
            clients.with_master(async move |mut session| session.drain(limit).await)?;
            for node in &hurt.nodes {
                log.note(node, State::Well, "emptied again");
            }
        }
        _ => {
            for node in &hurt.nodes {
                mend_one(fleet, hurt.fault, node, log)?;
            }
        }
    }
    Ok(())
}

fn mend_one(fleet: &mut Fleet, fault: Fault, node: &str, log: &mut Log) -> Result<()> {
    match fault {
        Fault::Kill | Fault::PowerOff | Fault::Replace | Fault::ReplaceFirst => {
            fleet.machine(node)?.power_on()?;
            log.note(node, State::Well, "power on");
        }
        Fault::Freeze => {
            fleet.machine(node)?.thaw()?;
            log.note(node, State::Well, "goes on");
        }
        Fault::Signal(unit, whom, _) => {
            script(fleet, node, &signal(unit, whom, "CONT"))?;
            log.note(node, State::Well, format!("{unit} goes on"));
        }
        Fault::Stop(unit) => {
            script(fleet, node, &format!("systemctl start --no-block {unit}"))?;
            log.note(node, State::Well, format!("{unit} is started"));
        }
        Fault::Mute | Fault::Nameless => {
            script(fleet, node, SPEAK)?;
            log.note(node, State::Well, "its packets pass again");
        }
        Fault::FillDisk => {
            script(fleet, node, EMPTY_DISK)?;
            log.note(node, State::Well, "its disk has room");
        }
        Fault::Divide
        | Fault::Fill
        | Fault::KillServer
        | Fault::Reboot
        | Fault::Restart(_)
        | Fault::Stumble(_)
        | Fault::SwitchOver => {}
    }
    Ok(())
}

fn script(fleet: &mut Fleet, node: &str, script: &str) -> Result<()> {
    let ran = fleet.machine(node)?.run(script, SCRIPT)?;
    if ran.status == 0 {
        return Ok(());
    }
    Err(Machines::Failed {
        program: format!("a script in {node}"),
        status: format!("status {}", ran.status),
        stderr: ran.text,
    }
    .into())
}

fn signal(unit: &str, whom: Whom, name: &str) -> String {
    let whom = match whom {
        Whom::Main => "main",
        Whom::All => "all",
    };
    format!("systemctl kill --signal=SIG{name} --kill-whom={whom} {unit}")
}

/// Drops what goes to or comes from these ports of other nodes, beside the node's own filter.
fn drop_ports(ports: &str) -> String {
    let chain = |hook: &str, other: &str| {
        let rules = ["udp dport", "udp sport", "tcp dport", "tcp sport"]
            .map(|side| format!("{other} != \"lo\" {side} {ports} drop;"))
            .join(" ");
        format!("chain {hook} {{ type filter hook {hook} priority -10; {rules} }};")
    };
    let (input, output) = (chain("input", "iifname"), chain("output", "oifname"));
    format!("nft 'table inet faults {{ {input} {output} }}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_without_a_named_standby_has_none() {
        let read = |standbys: &str| {
            read_standbys(&format!(r#"{{"leader":"p1","quorum":0,"sync_standby":{standbys}}}"#))
        };
        assert_eq!(read(r#""p2,p3""#).unwrap(), ["p2", "p3"]);
        assert_eq!(read("null"), None);
        assert_eq!(read(r#""""#), None);
        assert_eq!(read_standbys("Error! No key exists at: service/postgres/sync"), None);
    }

    #[test]
    fn a_muted_node_still_hears_itself() {
        let script = drop_ports("8301");
        assert!(script.contains("iifname != \"lo\" udp dport 8301 drop"), "{script}");
        assert!(script.contains("oifname != \"lo\" tcp sport 8301 drop"), "{script}");
        assert_eq!(script.matches("drop;").count(), 8);
    }

    /// The kernel is the judge, in a network namespace of the test's own.
    #[test]
    #[ignore = "needs BALLAST_NFT, the path of nft"]
    fn nft_takes_the_rules_that_mute_a_node_and_takes_them_back() {
        let nft = std::env::var("BALLAST_NFT").unwrap();
        for ports in [GOSSIP, NAMES] {
            let script = format!("{} && {SPEAK} && {SPEAK}", drop_ports(ports))
                .replace("nft ", &format!("{nft} "));
            let output = std::process::Command::new("unshare")
                .args(["-r", "-n", "sh", "-c", &script])
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{script}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
