//! A state partition that does not come: the boot ends, and the machine tries again without asking anyone.

use super::{ensure, wait_for_console, wanted};
use crate::error::Result;
use crate::machine::Wanted;
use crate::trial::{Group, Trial};

/// The group. That the partition is made on first boot, every other group shows.
pub const GROUP: Group = Group {
    name: "state",
    promises: &["a_boot_without_its_state_partition_starts_again"],
    containers: false,
    run: try_no_state,
};

/// Files that systemd adds to its units, systemd-debug-generator(8): nobody makes the partition, and the wait is short.
const DROP_INS: [(&str, &str); 2] = [
    ("systemd.unit-dropin.systemd-repart.service~zz", "[Unit]\nConditionPathExists=/nowhere\n"),
    (
        "systemd.unit-dropin.dev-disk-by\\x2dpartlabel-state.device~zz",
        "[Unit]\nJobRunningTimeoutSec=5\n",
    ),
];

fn try_no_state(trial: &mut Trial) -> Result<()> {
    let credentials =
        DROP_INS.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).to_vec();
    let mut machine = trial.machine(Wanted { credentials, ..wanted("stateless", 1) })?;
    machine.power_on()?;
    // The kernel's word when systemd has asked it to start the machine again.
    wait_for_console(machine.as_mut(), "reboot: Restarting system")?;
    let console = machine.console().text();
    ensure(!console.contains("Enter root password"), || "it asked for a password first".into())?;
    trial.holds("a_boot_without_its_state_partition_starts_again")
}
