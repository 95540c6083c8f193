//! A machine and a site of machines, whatever runs them.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::transcript::Transcript;

/// What a machine is given.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name, unique in the site: lower case, digits and hyphens, at most ten characters.
    pub name: String,
    /// Distinguishes the machine's hardware: address, UUID.
    pub number: u8,
    /// How the machine finds its bundle.
    pub bundle: Bundle,
    /// How the machine is started.
    pub boot: Boot,
    /// Disk image in place of the one under test.
    pub disk: Option<PathBuf>,
    /// Further systemd credentials, by name.
    pub credentials: Vec<(String, Vec<u8>)>,
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
pub trait Machine {
    /// Its name.
    fn name(&self) -> &str;

    /// What its console has shown, over all its lives.
    fn console(&self) -> &Transcript;

    /// Switches it on, with the disk as the last life left it.
    ///
    /// # Errors
    /// When its process cannot be started.
    fn power_on(&mut self) -> Result<()>;

    /// Cuts its power.
    ///
    /// # Errors
    /// When its process cannot be ended.
    fn kill(&mut self) -> Result<()>;

    /// Stops it between two instructions.
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

    /// Runs a script with the machine's own shell as root, once that shell is up; the limit covers both.
    ///
    /// # Errors
    /// When the machine is off, ends, or gives no shell in time.
    fn run(&mut self, script: &str, limit: Duration) -> Result<Ran>;
}

/// The machines of one run and what joins them.
pub trait Site {
    /// Makes a machine, switched off.
    ///
    /// # Errors
    /// When its disk or its directory cannot be made.
    fn machine(&self, wanted: Wanted) -> Result<Box<dyn Machine>>;

    /// Cuts the link between two machines, both ways.
    ///
    /// # Errors
    /// When the network will not be told.
    fn cut(&self, a: &str, b: &str) -> Result<()>;

    /// Restores the link.
    ///
    /// # Errors
    /// When the network will not be told.
    fn restore(&self, a: &str, b: &str) -> Result<()>;
}
