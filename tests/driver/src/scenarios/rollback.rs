//! Two filled slots, as after an update, and a boot of the new one that is not good.

use super::slots::TwoSlots;
use super::{PATIENCE, ensure, run, servers, until, wait_for_console, wait_for_success, wanted};
use crate::cluster::CONSUL_SERVER;
use crate::error::{Error, Result};
use crate::machine::{Boot, Bundle, Machine, Wanted};
use crate::poll::Seen;
use crate::trial::{Group, Trial};

/// The group.
pub const GROUP: Group = Group {
    name: "rollback",
    promises: &[
        "a_new_slot_whose_role_cannot_become_healthy_gives_way_to_the_old_one",
        "the_old_slot_is_blessed_and_the_bad_one_is_not_tried_again",
        "where_neither_slot_is_good_the_machine_stays_up_in_the_last_one",
    ],
    containers: false,
    run: try_rollback,
};

fn try_rollback(trial: &mut Trial) -> Result<()> {
    let cluster = servers(trial, "cluster", 3)?;
    let images = trial.given().images()?;
    let programs = trial.given().qemu();
    let slots = TwoSlots::save(&programs, images.of(CONSUL_SERVER)?, &trial.dir().join("slots"))?;
    // Of the two only the new one has a Consul that cannot run.
    let sick = format!("[Unit]\nConditionKernelCommandLine=!roothash={}\n", slots.b);
    let consul = "systemd.unit-dropin.consul.service~sick".to_owned();
    let gate = "systemd.unit-dropin.ballast-gate.service~hurried".to_owned();
    let on_both = |name, number| Wanted {
        boot: Boot::Firmware,
        disk: Some(slots.disk.clone()),
        ..wanted(name, number)
    };
    let mut one = trial.machine(Wanted {
        bundle: Bundle::Credential(cluster.bundle("consul-1")),
        credentials: vec![(consul, sick.into()), (gate, HURRIED.into())],
        ..on_both("consul-1", 1)
    })?;
    // It has no bundle and never gets one: no boot of it is good.
    let mut lost = trial.machine(on_both("lost", 2))?;
    one.power_on()?;
    lost.power_on()?;

    let rolled = |console: &str| console.matches("marking it bad and starting").count();
    wait_for_slot(one.as_mut(), &slots.b, NEW)?;
    wait_until_off(one.as_mut())?;
    let console = one.console().text();
    ensure(console.contains("the role is not healthy after 60 s: check consul-agent"), || {
        "it is not the role that kept the boot from being good".into()
    })?;
    ensure(rolled(&console) == 1, || format!("the agent gave up {} times", rolled(&console)))?;
    one.power_on()?;
    wait_for_slot(one.as_mut(), &slots.a, OLD)?;
    trial.holds("a_new_slot_whose_role_cannot_become_healthy_gives_way_to_the_old_one")?;

    wait_for_success(one.as_mut(), "the boot to be blessed", BLESSED)?;
    let entries = run(one.as_mut(), ENTRIES)?;
    // Blessed, without a counter; and bad, with no tries left of which one was used.
    let [old, new] = entries.lines().collect::<Vec<_>>()[..] else {
        return Err(Error::Broken(format!("the entries are {entries:?}")));
    };
    ensure(!old.contains('+') && new.ends_with("_99.0.0+0-1.efi"), || {
        format!("the entries are {entries:?}")
    })?;
    one.reboot(PATIENCE)?;
    wait_for_slot(one.as_mut(), &slots.a, OLD)?;
    // A boot that is not counted has no boot-complete.target, and its gate is asked all the same.
    wait_for_success(one.as_mut(), "the gate", "systemctl is-active ballast-gate.service")?;
    let console = one.console().text();
    ensure(rolled(&console) == 1, || format!("the agent gave up {} times", rolled(&console)))?;
    trial.holds("the_old_slot_is_blessed_and_the_bad_one_is_not_tried_again")?;

    wait_until_off(lost.as_mut())?;
    lost.power_on()?;
    wait_for_slot(lost.as_mut(), &slots.a, OLD)?;
    wait_for_console(lost.as_mut(), "there is no other slot that could be better")?;
    // Whatever was going to start has started, or never will.
    lost.run("systemctl is-system-running --wait", PATIENCE)?;
    wait_for_slot(lost.as_mut(), &slots.a, OLD)?;
    let console = lost.console().text();
    ensure(rolled(&console) == 1, || format!("the agent gave up {} times", rolled(&console)))?;
    trial.holds("where_neither_slot_is_good_the_machine_stays_up_in_the_last_one")
}

/// The agent asks the gate as ever, and is told that the role has a fifth of its time.
const HURRIED: &str = r#"[Service]
PrivateMounts=yes
ExecStart=
ExecStart=/bin/sh -c "s=$$(cat /usr/lib/ballast/spec.json); k='\"healthy_within_secs\":'; \
    printf '%%s' \"$${s%%%%$$k*}$$k 60$${s#*$$k 300}\" >/run/hurried.json; \
    mount --bind /run/hurried.json /usr/lib/ballast/spec.json; exec /usr/bin/ballast-agent gate"
"#;

/// Data and hash partition of the slots, on the machines' one disk.
const OLD: &str = "vda2 vda3";
const NEW: &str = "vda4 vda5";

const BLESSED: &str =
    "s=$(/usr/lib/systemd/systemd-bless-boot status); echo \"$s\"; [ \"$s\" = good ]";
const ENTRIES: &str = "systemctl start efi.mount; ls -1 /efi/EFI/Linux";

/// The machine runs the slot of this root hash, from these partitions.
fn wait_for_slot(machine: &mut dyn Machine, hash: &str, partitions: &str) -> Result<()> {
    let root = wait_for_success(machine, "a root", super::ROOT)?.text;
    ensure(super::is_verified(&root), || format!("the root is {root:?}"))?;
    let line = run(machine, "cat /proc/cmdline")?;
    ensure(line.contains(hash), || format!("the command line is {line:?}, without {hash}"))?;
    let below = run(machine, "echo $(ls /sys/block/dm-0/slaves)")?;
    ensure(below == partitions, || format!("the root is on {below:?} and not on {partitions:?}"))
}

/// The machine restarts, which for QEMU here is an end.
fn wait_until_off(machine: &mut dyn Machine) -> Result<()> {
    until(&format!("{} to restart", machine.name()), || {
        Ok(if machine.is_on() {
            Seen::NotYet(crate::consul::last_line(machine))
        } else {
            Seen::Ready(())
        })
    })
}
