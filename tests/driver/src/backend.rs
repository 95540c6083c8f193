//! What runs the machines here, and why that.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::given::Given;
use crate::machine::Site;
use crate::nspawn::NspawnSite;
use crate::qemu::{Accel, QemuSite};

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// QEMU, with KVM where that works
    Qemu,
    /// systemd-nspawn: fast, without firmware, kernel and verity; needs root
    Nspawn,
    /// The best that works here
    Auto,
}

/// What was chosen.
pub struct Chosen {
    /// What runs the machines.
    pub backend: Runs,
    /// One sentence.
    pub why: String,
}

/// What runs the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// QEMU, and how.
    Qemu(Accel),
    /// systemd-nspawn.
    Nspawn,
}

impl Runs {
    /// Whether seconds of the machines are tenths of seconds of others.
    pub fn is_slow(self) -> bool {
        self == Self::Qemu(Accel::Tcg)
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qemu(Accel::Kvm) => "QEMU with KVM",
            Self::Qemu(Accel::Tcg) => "QEMU with TCG, which translates instructions and is slow",
            Self::Nspawn => "systemd-nspawn",
        })
    }
}

/// Chooses by what was asked and what works.
///
/// # Errors
/// When what was asked for does not work here.
pub fn choose(asked: Backend, given: &Given) -> Result<Chosen> {
    let obstacle = NspawnSite::obstacle(&given.nspawn());
    let chosen = |backend, why| Ok(Chosen { backend, why });
    if asked == Backend::Nspawn {
        return match obstacle {
            None => chosen(Runs::Nspawn, "as asked".into()),
            Some(why) => Err(Error::Missing(format!("machines cannot run in nspawn: {why}"))),
        };
    }
    let (accel, kvm) = given.accel()?;
    match (asked, accel, obstacle) {
        (Backend::Qemu, _, _) => chosen(Runs::Qemu(accel), format!("as asked; {kvm}")),
        (_, Accel::Kvm, _) => chosen(Runs::Qemu(accel), kvm),
        (_, Accel::Tcg, None) => {
            chosen(Runs::Nspawn, format!("KVM does not work ({kvm}), and namespaces may be made"))
        }
        (_, Accel::Tcg, Some(why)) => chosen(
            Runs::Qemu(accel),
            format!("KVM does not work ({kvm}), nor can machines run in nspawn: {why}"),
        ),
    }
}

/// The site on which machines are made.
///
/// # Errors
/// When it cannot be set up.
pub fn site(runs: &Runs, given: &Given, dir: &Path) -> Result<Box<dyn Site>> {
    Ok(match runs {
        Runs::Nspawn => Box::new(NspawnSite::new(given.nspawn(), given.images()?, dir)?),
        Runs::Qemu(accel) => Box::new(QemuSite::new(given.hardware(*accel)?, dir)),
    })
}
