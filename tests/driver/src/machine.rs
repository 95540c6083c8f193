//! A machine and a site of machines, whatever runs them.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::network::Network;
use crate::poll::{self, Seen};
use crate::programs::tail;
use crate::transcript::Transcript;

/// What a machine is given.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name, unique in the site: lower case, digits and hyphens, at most ten characters.
    pub name: String,
    /// Distinguishes the machine's hardware: address, UUID.
    pub number: u8,
    /// What it is for, which says which image it is made from.
    pub role: String,
    /// How the machine finds its bundle.
    pub bundle: Bundle,
    /// How the machine is started.
    pub boot: Boot,
    /// Disk image in place of the one under test.
    pub disk: Option<PathBuf>,
    /// Further systemd credentials, by name.
    pub credentials: Vec<(String, Vec<u8>)>,
    /// A directory that several machines see at [`SHARED`], as they would a network file system.
    pub shared: Option<PathBuf>,
    /// The size of a container's own disk, bytes; without one it has the room that the host has.
    pub disk_bytes: Option<u64>,
}

/// Where a machine sees [`Wanted::shared`].
pub const SHARED: &str = "/var/shared";

impl Wanted {
    /// A machine started by its hypervisor, from its role's image, without a bundle.
    pub fn new(name: &str, number: u8, role: &str) -> Self {
        Self {
            name: name.to_owned(),
            number,
            role: role.to_owned(),
            bundle: Bundle::None,
            boot: Boot::Direct,
            disk: None,
            credentials: Vec::new(),
            shared: None,
            disk_bytes: None,
        }
    }
}

/// How a machine finds its bundle.
#[derive(Debug, Clone)]
pub enum Bundle {
    /// It finds none.
    None,
    /// This file, as a systemd credential.
    Credential(PathBuf),
    /// The file `bundle.tar` of this directory, on a volume labelled `BALLAST`.
    Volume(PathBuf),
}

/// How a machine is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// Firmware, boot loader, UKI: all the way.
    Firmware,
    /// The hypervisor loads kernel and initrd; the disk is the same.
    Direct,
    /// Firmware that gets the single-file image and no disk with a root.
    Netboot,
}

/// What a command inside a machine did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit status; 124 when it ran out of time.
    pub status: i32,
    /// What it printed, both streams in one.
    pub text: String,
}

/// One machine. Dropping it is cutting its power.
///
/// It may be used from any thread, but the thread that switches it on must outlive that life of it: the kernel ends the
/// machine with that thread, so that no machine outlives the run.
pub trait Machine: Send {
    /// Its name.
    fn name(&self) -> &str;

    /// What its console has shown, over all its lives.
    fn console(&self) -> &Transcript;

    /// Switches it on, with the disk as the last life left it.
    ///
    /// # Errors
    /// When its process cannot be started.
    fn power_on(&mut self) -> Result<()>;

    /// Cuts its power: nothing in it gets another instruction, and nothing is written any more. In a container what was
    /// written and not synced is still there, because the host's kernel goes on.
    ///
    /// # Errors
    /// When its process cannot be ended.
    fn kill(&mut self) -> Result<()>;

    /// Stops all of its processes between two instructions, as SIGSTOP would, and returns once they stand. In QEMU the
    /// kernel stands with them and the machine is silent; a container's kernel goes on and still acknowledges what TCP brings it:
    /// [`Site::isolate`] it as well where a host that is silent is meant.
    ///
    /// # Errors
    /// When it is off.
    fn freeze(&mut self) -> Result<()>;

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is off.
    fn thaw(&mut self) -> Result<()>;

    /// Whether it is still on; a machine that has ended by itself is off.
    fn is_on(&mut self) -> bool;

    /// Runs a script with the machine's own shell as root, once that shell is up; the limit covers both. In a frozen
    /// container the script's own commands run all the same.
    ///
    /// # Errors
    /// When the machine is off, ends, or gives no shell in time.
    fn run(&mut self, script: &str, limit: Duration) -> Result<Ran>;

    /// Takes its state away, as if it had got a new disk: off, and empty but for its image and its bundle.
    ///
    /// # Errors
    /// When it cannot be ended or its files cannot be removed.
    fn wipe(&mut self) -> Result<()>;

    /// Switches it off in order: its own systemd stops everything, and nothing is left but what its disk holds.
    ///
    /// # Errors
    /// When it is not off within the limit; it is on then.
    fn power_off(&mut self, limit: Duration) -> Result<()> {
        self.run("systemctl poweroff --no-block", limit)?;
        let what = format!("{} to be off", self.name());
        poll::until(&what, limit, Duration::from_millis(50), || {
            Ok(if self.is_on() {
                Seen::NotYet(tail(&self.console().text(), 2))
            } else {
                Seen::Ready(())
            })
        })?;
        // What is left of a machine that ended by itself.
        self.kill()
    }

    /// Switches it off in order and on again.
    ///
    /// # Errors
    /// When it is not off within the limit, or does not start.
    fn reboot(&mut self, limit: Duration) -> Result<()> {
        self.power_off(limit)?;
        self.power_on()
    }
}

/// The clients beside the machines, where [`Site::cut`] and [`Site::lose`] take a machine's name.
pub const CLIENTS: &str = "clients";

/// The machines of one run and what joins them.
pub trait Site: Send + Sync {
    /// Makes a machine, switched off.
    ///
    /// # Errors
    /// When its disk or its directory cannot be made.
    fn machine(&self, wanted: Wanted) -> Result<Box<dyn Machine>>;

    /// Cuts the link between two machines, both ways, without either being told: what is sent is lost. Cutting what is
    /// cut changes nothing.
    ///
    /// # Errors
    /// When the network will not be told.
    fn cut(&self, a: &str, b: &str) -> Result<()>;

    /// Restores the link.
    ///
    /// # Errors
    /// When the network will not be told.
    fn restore(&self, a: &str, b: &str) -> Result<()>;

    /// Loses this percentage of what is sent between two machines, either way; 0 for none.
    ///
    /// # Errors
    /// When the network will not be told.
    fn lose(&self, a: &str, b: &str, percent: u8) -> Result<()>;

    /// Cuts a machine from everyone, clients included.
    ///
    /// # Errors
    /// When the network will not be told.
    fn isolate(&self, machine: &str) -> Result<()>;

    /// Restores an isolated machine's links, but for those that were cut one by one.
    ///
    /// # Errors
    /// When the network will not be told.
    fn rejoin(&self, machine: &str) -> Result<()>;

    /// The network the machines are in, for clients.
    ///
    /// # Errors
    /// Where what runs the machines has no room for clients.
    fn network(&self) -> Result<Network>;
}
