//! One loss per store, on machines with a kernel and a disk of their own: the primary's power is cut.
//!
//! The fault suite has the many losses, in containers; what it cannot show is that data outlives a kernel's death.

use super::{PATIENCE, ensure, run, until, wait_for_service, wait_for_success};
use crate::cluster::{Availability, CONSUL_SERVER, Cluster, Layout, POSTGRES, REDIS};
use crate::error::{Error, Result};
use crate::machine::{Bundle, Machine, Wanted};
use crate::poll::Seen;
use crate::trial::{Group, Trial};

/// A Consul server and a primary with its one standby.
pub const POSTGRES_GROUP: Group = Group {
    name: "postgres",
    promises: &[
        "a_primary_and_its_synchronous_standby_form_a_cluster_by_themselves",
        "the_standby_takes_over_with_every_acknowledged_row_when_the_primary_loses_power",
        "the_primary_comes_back_as_a_standby_and_writes_are_acknowledged_again",
    ],
    containers: false,
    run: try_postgres,
};

/// Three nodes and no Consul at all: who the master is, the Sentinels decide.
pub const REDIS_GROUP: Group = Group {
    name: "redis",
    promises: &[
        "three_redis_nodes_form_a_group_though_consul_is_missing",
        "a_replica_takes_over_with_every_acknowledged_key_when_the_master_loses_power",
        "the_master_comes_back_as_a_replica_of_the_new_one",
    ],
    containers: false,
    run: try_redis,
};

fn try_postgres(trial: &mut Trial) -> Result<()> {
    let mut machines = start(trial, &[(CONSUL_SERVER, 1), (POSTGRES, 2)], None)?;
    let [consul, first, second] = machines.as_mut_slice() else { return Ok(()) };
    for machine in [consul.as_mut(), first.as_mut(), second.as_mut()] {
        wait_for_service(machine)?;
    }
    let (old, new) = match sql(first.as_mut(), "select pg_is_in_recovery()")?.as_str() {
        "f" => (first, second),
        _ => (second, first),
    };
    wait_for_standby(old.as_mut())?;
    sql(old.as_mut(), "create table kept (id int primary key)")?;
    sql(old.as_mut(), "insert into kept select generate_series(1, 1000)")?;
    trial.holds("a_primary_and_its_synchronous_standby_form_a_cluster_by_themselves")?;

    old.kill()?;
    wait_for_word(new.as_mut(), "the standby to take over", "select pg_is_in_recovery()", "f")?;
    let kept = sql(new.as_mut(), "select count(*) from kept")?;
    ensure(kept == "1000", || format!("of 1000 acknowledged rows there are {kept}"))?;
    // Its name follows: the same question that an application's resolver asks.
    let name = "resolvectl query --legend=no primary.postgres.service.consul";
    let own = run(new.as_mut(), "ip -color=never -brief -family inet address show scope global")?;
    wait_for_success(consul.as_mut(), "the name to be there", name)?;
    let found = run(consul.as_mut(), name)?;
    let address = found.split_whitespace().nth(1).unwrap_or_default();
    ensure(!address.is_empty() && own.contains(&format!(" {address}/")), || {
        format!("the primary's name leads to {found:?}, and the new one is at {own:?}")
    })?;
    trial
        .holds("the_standby_takes_over_with_every_acknowledged_row_when_the_primary_loses_power")?;

    old.power_on()?;
    wait_for_service(old.as_mut())?;
    wait_for_standby(new.as_mut())?;
    sql(new.as_mut(), "insert into kept values (1001)")?;
    wait_for_word(old.as_mut(), "the new row", "select max(id) from kept", "1001")?;
    trial.holds("the_primary_comes_back_as_a_standby_and_writes_are_acknowledged_again")
}

/// Waits until Patroni has named a standby for which writes wait: until then none may be promoted.
fn wait_for_standby(primary: &mut dyn Machine) -> Result<()> {
    let script = "list=$(patronictl -c /run/ballast/postgres/patroni.yml list) || exit 1\n\
                  case $list in *'Sync Standby'*'streaming'*) exit 0;; esac\necho \"$list\"; exit 1";
    wait_for_success(primary, "a synchronous standby that follows", script).map(drop)
}

fn try_redis(trial: &mut Trial) -> Result<()> {
    // A cluster file names a Consul server; nobody switches it on.
    let layout = [(CONSUL_SERVER, 1), (REDIS, 3)];
    let mut machines = start(trial, &layout, Some(REDIS))?;
    let mut master = wait_for_master(&mut machines)?;
    let replicas = |machine: &mut dyn Machine, wanted: &str| {
        until("the master to have its replicas", || {
            let set = redis(machine, "set formed yes")?;
            let heard = redis(machine, &format!("wait {wanted} 20000"))?;
            let fits = set == "OK" && heard.as_str() >= wanted;
            Ok(if fits { Seen::Ready(()) } else { Seen::NotYet(format!("{set}, {heard}")) })
        })
    };
    replicas(master.as_mut(), "2")?;
    // A Sentinel that has not yet heard of the others can't be outvoted, nor vote.
    for machine in machines.iter_mut().chain([&mut master]) {
        let what = format!("the Sentinel of {} to know its group", machine.name());
        wait_for_success(machine.as_mut(), &what, &with_password(KNOWS_ITS_GROUP))?;
    }
    trial.holds("three_redis_nodes_form_a_group_though_consul_is_missing")?;

    // Both replicas have it, so whichever takes over has it too.
    redis(master.as_mut(), "set kept acknowledged")?;
    let heard = redis(master.as_mut(), "wait 2 120000")?;
    ensure(heard == "2", || format!("{heard} of two replicas have the key"))?;
    master.kill()?;
    let mut next = wait_for_master(&mut machines)?;
    let kept = redis(next.as_mut(), "get kept")?;
    ensure(kept == "acknowledged", || format!("the new master reads {kept:?}"))?;
    replicas(next.as_mut(), "1")?;
    trial.holds("a_replica_takes_over_with_every_acknowledged_key_when_the_master_loses_power")?;

    master.power_on()?;
    let replica = "test \"$(asked role | head -n 1)\" = slave";
    wait_for_success(master.as_mut(), "the master to be a replica", &with_password(replica))?;
    replicas(next.as_mut(), "2")?;
    let kept = redis(master.as_mut(), "get kept")?;
    ensure(kept == "acknowledged", || format!("the replica that was master reads {kept:?}"))?;
    trial.holds("the_master_comes_back_as_a_replica_of_the_new_one")
}

/// Whether a Sentinel knows of two replicas and two other Sentinels; if not, what it and the agent know.
const KNOWS_ITS_GROUP: &str = r#"
told=$(redis-cli --raw -s /run/redis-sentinel/sentinel.sock --user app sentinel master redis) || exit 1
case $told in *'num-slaves
2
num-other-sentinels
2'*) exit 0;; esac
echo "$told" | tail -n 24
ballast-agent status | tail -n 8
exit 1
"#;

/// Switches on the nodes of a role, or all of the layout, borne with patience.
fn start(
    trial: &mut Trial,
    roles: &[(&str, u8)],
    only: Option<&str>,
) -> Result<Vec<Box<dyn Machine>>> {
    let layout = Layout::new(roles).with(Availability::Wide);
    let cluster = Cluster::make(trial.given().ballast(), &trial.dir().join("cluster"), &layout)?;
    let mut machines = Vec::new();
    for node in cluster.nodes.iter().filter(|node| only.is_none_or(|only| node.role == only)) {
        let bundle = Bundle::Credential(cluster.bundle(&node.name));
        let mut machine =
            trial.machine(Wanted { bundle, ..Wanted::new(&node.name, node.number, &node.role) })?;
        machine.power_on()?;
        machines.push(machine);
    }
    Ok(machines)
}

/// Asks the PostgreSQL of a machine as its superuser.
fn sql(machine: &mut dyn Machine, statement: &str) -> Result<String> {
    let ran = machine.run(&psql(statement), PATIENCE)?;
    if ran.status == 0 {
        return Ok(ran.text);
    }
    let name = machine.name();
    Err(Error::Broken(format!("on {name}, {statement:?} ended with {}: {}", ran.status, ran.text)))
}

fn psql(statement: &str) -> String {
    format!("psql -U postgres -d postgres -qAtXc \"{statement}\"")
}

/// Waits until PostgreSQL answers a question with this word; until then, what Patroni says is shown.
fn wait_for_word(machine: &mut dyn Machine, what: &str, statement: &str, word: &str) -> Result<()> {
    let script = format!(
        "text=$({}); [ \"$text\" != {word} ] || exit 0\n\
         echo \"$text\"; journalctl --no-pager --output=cat --lines=6 -u patroni; exit 1",
        psql(statement)
    );
    wait_for_success(machine, what, &script).map(drop)
}

/// Asks the Redis of a machine as an application would.
fn redis(machine: &mut dyn Machine, command: &str) -> Result<String> {
    Ok(machine.run(&with_password(&format!("asked {command}")), PATIENCE)?.text)
}

/// A script in which `asked` asks this machine's Redis; the password stands in the environment alone.
fn with_password(script: &str) -> String {
    format!(
        r#"text=$(cat /var/lib/ballast/bundles/current/secrets.json); text=${{text#*'"redis"'}}; text=${{text#*'"app"'}}; text=${{text#*'"'}}
export REDISCLI_AUTH=${{text%%'"'*}}
asked() {{ redis-cli --raw -s /run/redis/redis.sock --user app "$@"; }}
{script}"#
    )
}

/// What a Redis node says of itself where there is no master.
const WHY: &str = "ballast-agent status | tail -n 3; journalctl --no-pager --output=cat --lines=4 -u redis-sentinel";

/// Waits until exactly one of the machines that are on calls itself master, and takes it out.
fn wait_for_master(machines: &mut Vec<Box<dyn Machine>>) -> Result<Box<dyn Machine>> {
    let place = until("one master", || {
        let mut masters = Vec::new();
        let mut said = String::new();
        for (place, machine) in machines.iter_mut().enumerate() {
            let role = redis(machine.as_mut(), "role")?;
            if role.lines().next() == Some("master") {
                masters.push(place);
            }
            let more = machine.run(WHY, PATIENCE)?.text;
            said.push_str(&format!("{}: {role}\n{more}\n", machine.name()));
        }
        Ok(match masters.as_slice() {
            [one] => Seen::Ready(*one),
            _ => Seen::NotYet(said),
        })
    })?;
    Ok(machines.remove(place))
}
