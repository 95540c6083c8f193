//! The image as one file, started by firmware as from the network: its root comes along and is verified all the same.

use super::{ensure, run, servers, wait_for_success, wanted};
use crate::error::Result;
use crate::machine::{Boot, Bundle, Wanted};
use crate::trial::{Group, Trial};

/// The group.
pub const GROUP: Group = Group {
    name: "netboot",
    promises: &["the_netboot_image_boots_a_verified_root_and_takes_its_bundle"],
    containers: false,
    run: try_netboot,
};

fn try_netboot(trial: &mut Trial) -> Result<()> {
    let cluster = servers(trial, "cluster", 1)?;
    let mut machine = trial.machine(Wanted {
        bundle: Bundle::Credential(cluster.bundle("consul-1")),
        boot: Boot::Netboot,
        ..wanted("consul-1", 1)
    })?;
    machine.power_on()?;
    wait_for_success(
        machine.as_mut(),
        "the bundle to be taken",
        "systemctl is-active ballast-boot.service",
    )?;
    let root = run(machine.as_mut(), super::ROOT)?;
    ensure(super::is_verified(&root), || format!("the root is {root:?}"))?;
    let name = run(machine.as_mut(), "uname -n")?;
    ensure(name == "consul-1", || format!("the node calls itself {name:?}"))?;
    trial.holds("the_netboot_image_boots_a_verified_root_and_takes_its_bundle")
}
