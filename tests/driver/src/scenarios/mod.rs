//! The promises that cross a machine's wall, on real machines. At most three run at once, and no promise names a time.

mod backups;
mod bundles;
mod containers;
mod data;
mod database;
mod databases;
mod firmware;
mod netboot;
mod rollback;
mod site;
mod slots;
mod state;
mod tampering;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Availability, CONSUL_SERVER, Cluster, Layout};
use crate::consul::{self, View};
use crate::error::{Error, Result};
use crate::machine::{Machine, Ran, Wanted};
use crate::poll::{self, Seen};
use crate::trial::{Group, Trial};

/// All groups, the longest first.
pub const GROUPS: &[Group] = &[
    databases::POSTGRES_GROUP,
    databases::REDIS_GROUP,
    rollback::GROUP,
    site::GROUP,
    firmware::GROUP,
    netboot::GROUP,
    state::GROUP,
    tampering::GROUP,
    containers::GROUP,
    backups::GROUP,
    data::GROUP,
];

/// How long anything may take where instructions are translated and other work is going on.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long one command may take there.
const ANSWER: Duration = Duration::from_secs(180);
/// How often a wait says what it is for.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(3);

/// A machine started by its hypervisor, without a bundle.
fn wanted(name: &str, number: u8) -> Wanted {
    Wanted::new(name, number, CONSUL_SERVER)
}

/// A site of that many Consul servers, borne with patience.
fn servers(trial: &Trial, dir: &str, count: u8) -> Result<Cluster> {
    let layout = Layout::new(&[(CONSUL_SERVER, count)]).with(Availability::Wide);
    Cluster::make(trial.given().ballast(), &trial.dir().join(dir), &layout)
}

/// Waits with patience, and says now and then what for.
fn until<T>(what: &str, mut look: impl FnMut() -> Result<Seen<T>>) -> Result<T> {
    let start = Instant::now();
    let mut said = start;
    poll::until(what, PATIENCE, PAUSE, || {
        let seen = look()?;
        if let Seen::NotYet(seen) = &seen {
            if said.elapsed() > SAY_AGAIN {
                said = Instant::now();
                let seen: String = seen.replace('\n', " ").chars().take(2500).collect();
                println!(
                    "  {} s: waiting for {what}; last seen: {seen}",
                    start.elapsed().as_secs()
                );
            }
        }
        Ok(seen)
    })
}

/// Waits until what the machine's Consul says fits.
fn wait_for_view(
    machine: &mut dyn Machine,
    what: &str,
    fits: impl Fn(&View) -> bool,
) -> Result<View> {
    until(what, || {
        Ok(match consul::ask(machine, ANSWER)? {
            Ok(view) if fits(&view) => Seen::Ready(view),
            Ok(view) => Seen::NotYet(view.to_string()),
            Err(why) => Seen::NotYet(why),
        })
    })
}

/// Waits until a script in the machine ends with status 0.
fn wait_for_success(machine: &mut dyn Machine, what: &str, script: &str) -> Result<Ran> {
    until(what, || {
        let ran = machine.run(script, PATIENCE)?;
        let seen = format!("status {}: {}", ran.status, crate::programs::tail(&ran.text, 12));
        Ok(if ran.status == 0 { Seen::Ready(ran) } else { Seen::NotYet(seen) })
    })
}

/// Waits until the node's own agent and the catalogue agree that it is passing.
fn wait_for_passing(machine: &mut dyn Machine) -> Result<()> {
    let script = format!("{HEALTH}\ncase $status in {} esac\n{SHORTCOMINGS}", agreed("passing"));
    wait_for_success(machine, "the node to be passing", &script).map(drop)
}

/// The same of a node that may have a warning: no time server is in reach here.
fn wait_for_service(machine: &mut dyn Machine) -> Result<()> {
    let either = [agreed("passing"), agreed("warning")].concat();
    let script = format!("{HEALTH}\ncase $status in {either} esac\n{SHORTCOMINGS}");
    wait_for_success(machine, "the node to be in service", &script).map(drop)
}

fn agreed(state: &str) -> String {
    format!(r#"*'"state": "{state}"'*'"catalogue": "{state}"'*) exit 0;; "#)
}

const HEALTH: &str = "status=$(ballast-agent status --json) || exit 1";
const SHORTCOMINGS: &str = r#"
ballast-agent status | while read -r line; do case $line in *critical*|*warning*) echo "$line";; esac; done
exit 1
"#;

/// What the machine's own agent says of one of its checks.
fn own_check(machine: &mut dyn Machine, name: &str) -> Result<Option<String>> {
    let ran = machine.run("ballast-agent status --json", PATIENCE)?;
    let status: Value = serde_json::from_str(&ran.text).unwrap_or_default();
    let checks = status.get("checks").and_then(Value::as_array).into_iter().flatten();
    let answer =
        checks.filter(|check| check["name"] == name).map(|check| &check["answer"]["health"]).next();
    Ok(answer.and_then(Value::as_str).map(str::to_owned))
}

/// Waits until the machine's console shows a text.
fn wait_for_console(machine: &mut dyn Machine, text: &str) -> Result<()> {
    let what = format!("{text:?} on the console of {}", machine.name());
    until(&what, || {
        if machine.console().text().contains(text) {
            return Ok(Seen::Ready(()));
        }
        if !machine.is_on() {
            let said = crate::programs::tail(&machine.console().text(), 3);
            return Err(Error::Broken(format!(
                "{} went off without {what}: {said}",
                machine.name()
            )));
        }
        Ok(Seen::NotYet(consul::last_line(machine)))
    })
}

/// Runs a script that must succeed.
fn run(machine: &mut dyn Machine, script: &str) -> Result<String> {
    let ran = machine.run(script, ANSWER)?;
    if ran.status == 0 {
        return Ok(ran.text);
    }
    let name = machine.name();
    Err(Error::Broken(format!("on {name}, {script:?} ended with {}: {}", ran.status, ran.text)))
}

/// Prints what the root is and where it comes from.
const ROOT: &str = "findmnt --noheadings --output FSTYPE,SOURCE,OPTIONS /";

/// Whether that is a read-only EROFS on a mapped device.
fn is_verified(root: &str) -> bool {
    let mut words = root.split_whitespace();
    let (kind, source) = (words.next(), words.next().unwrap_or_default());
    let mapped = source.starts_with("/dev/mapper/") || source.starts_with("/dev/dm-");
    kind == Some("erofs") && mapped && words.next().is_some_and(|options| options.starts_with("ro"))
}

/// Fails with the sentence unless the condition holds.
fn ensure(condition: bool, sentence: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::Broken(sentence())) }
}
