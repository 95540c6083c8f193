//! The whole way from firmware over boot loader and UKI to a verified root, and what becomes of boot counting.

use super::{PATIENCE, ensure, run, servers, wait_for_success, wanted};
use crate::error::{Error, Result};
use crate::machine::{Boot, Bundle, Machine, Wanted};
use crate::trial::{Group, Trial};

/// The group.
pub const GROUP: Group = Group {
    name: "firmware",
    promises: &[
        "firmware_boot_loader_and_uki_start_a_verified_root",
        "a_bundle_on_a_volume_is_taken",
        "a_healthy_boot_is_blessed",
        "a_role_that_cannot_become_healthy_is_not_blessed",
    ],
    containers: false,
    run: try_firmware,
};

/// Consul ends as soon as it starts, and the gate need not be patient with it.
const BROKEN: [(&str, &str); 2] = [
    ("systemd.unit-dropin.consul.service~broken", "[Service]\nExecStart=\nExecStart=/bin/false\n"),
    ("systemd.unit-dropin.ballast-gate.service~short", "[Service]\nTimeoutStartSec=60\n"),
];

const BLESSED: &str = "/usr/lib/systemd/systemd-bless-boot status";

fn try_firmware(trial: &mut Trial) -> Result<()> {
    let cluster = servers(trial, "cluster", 3)?;
    let volume = trial.dir().join("volume");
    std::fs::create_dir(&volume).map_err(Error::file("making", &volume))?;
    std::fs::copy(cluster.bundle("consul-1"), volume.join("bundle.tar"))
        .map_err(Error::file("writing", &volume))?;

    let firmware = |name, number| Wanted { boot: Boot::Firmware, ..wanted(name, number) };
    let mut good =
        trial.machine(Wanted { bundle: Bundle::Volume(volume), ..firmware("good", 1) })?;
    let mut bad = trial.machine(Wanted {
        bundle: Bundle::Credential(cluster.bundle("consul-2")),
        credentials: BROKEN.map(|(name, text)| (name.to_owned(), text.into())).to_vec(),
        ..firmware("bad", 2)
    })?;
    good.power_on()?;
    bad.power_on()?;

    let root = wait_for_success(good.as_mut(), "a root", super::ROOT)?.text;
    ensure(super::is_verified(&root), || format!("the root is {root:?}"))?;
    trial.holds("firmware_boot_loader_and_uki_start_a_verified_root")?;

    wait_for_success(
        good.as_mut(),
        "the bundle to be taken",
        "systemctl is-active ballast-boot.service",
    )?;
    let name = run(good.as_mut(), "uname -n")?;
    ensure(name == "consul-1", || format!("the node calls itself {name:?}"))?;
    trial.holds("a_bundle_on_a_volume_is_taken")?;

    let blessed = format!("s=$({BLESSED}); echo \"$s\"; [ \"$s\" = good ]");
    wait_for_success(good.as_mut(), "the boot to be blessed", &blessed)?;
    trial.holds("a_healthy_boot_is_blessed")?;

    try_unhealthy(bad.as_mut())?;
    trial.holds("a_role_that_cannot_become_healthy_is_not_blessed")
}

fn try_unhealthy(bad: &mut dyn Machine) -> Result<()> {
    wait_for_success(bad, "the gate to fail", "systemctl is-failed ballast-gate.service")?;
    // Whatever was going to start has started, or never will.
    bad.run("systemctl is-system-running --wait", PATIENCE)?;
    let blessed = bad.run(BLESSED, PATIENCE)?.text;
    ensure(blessed == "indeterminate", || format!("the unhealthy boot is {blessed:?}"))?;
    let complete = bad.run("systemctl is-active boot-complete.target", PATIENCE)?;
    ensure(complete.status != 0, || "the unhealthy boot is complete".into())
}
