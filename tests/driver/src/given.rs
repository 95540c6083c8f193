//! What a run is given: the images under test and the programs that run them.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::images::{Images, OfRole};
use crate::programs::Programs;
use crate::qemu::{Accel, Hardware, probe_kvm};

/// Paths that the flake sets in the environment and a developer gives as options.
#[derive(Args, Debug, Clone)]
pub struct Given {
    /// Directories that hold `disk.raw` and `netboot.efi`, each with the role of the image; without one, a Consul server's
    #[arg(long = "image", env = "BALLAST_IMAGE", value_name = "[ROLE=]DIR", value_delimiter = ':')]
    images: Vec<OfRole>,
    /// Directories that hold an image's parts: `vmlinuz`, `initrd.zst`, `cmdline`, `root.erofs`
    #[arg(long, env = "BALLAST_PARTS", value_name = "[ROLE=]DIR", value_delimiter = ':')]
    parts: Vec<OfRole>,
    /// Trees of unpacked packages, divided by colons, that hold QEMU and OVMF; without them, the `PATH`
    #[arg(long, env = "BALLAST_QEMU", value_name = "TREES", value_delimiter = ':')]
    qemu: Vec<PathBuf>,
    /// Trees of unpacked packages, divided by colons, that hold systemd-nspawn, iproute2, nftables and fsck.erofs
    #[arg(long, env = "BALLAST_NSPAWN", value_name = "TREES", value_delimiter = ':')]
    nspawn: Vec<PathBuf>,
    /// The operator's command
    #[arg(long, env = "BALLAST_COMMAND", value_name = "PROGRAM", default_value = "ballast")]
    ballast: PathBuf,
    /// Memory of each QEMU machine, in MiB
    #[arg(long, env = "BALLAST_MEMORY_MIB", value_name = "MIB", default_value_t = 640)]
    memory_mib: u32,
}

impl Given {
    /// The images, by role.
    ///
    /// # Errors
    /// When their directories cannot be found.
    pub fn images(&self) -> Result<Images> {
        Images::new(&self.images, &self.parts)
    }

    /// The programs QEMU comes with.
    pub fn qemu(&self) -> Programs {
        Programs::new(&self.qemu)
    }

    /// The programs nspawn comes with.
    pub fn nspawn(&self) -> Programs {
        Programs::new(&self.nspawn)
    }

    /// The operator's command.
    pub fn ballast(&self) -> &std::path::Path {
        &self.ballast
    }

    /// What QEMU machines are made from.
    ///
    /// # Errors
    /// When the images cannot be found.
    pub fn hardware(&self, accel: Accel) -> Result<Hardware> {
        Ok(Hardware {
            programs: self.qemu(),
            images: self.images()?,
            accel,
            memory_mib: self.memory_mib,
            words: words(accel).iter().map(|word| (*word).to_owned()).collect(),
        })
    }

    /// How QEMU runs best here, and why.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn accel(&self) -> Result<(Accel, String)> {
        let (works, why) =
            probe_kvm(&self.qemu(), &self.images()?.any()?.parts()?.join("vmlinuz"))?;
        Ok((if works { Accel::Kvm } else { Accel::Tcg }, why))
    }
}

/// What a kernel is told where instructions are translated on a busy machine: systemd would give up on a disk that it sees a
/// minute later, and the kernel itself on a timer that was late once (`no_timer_check`: kernel-parameters.txt).
fn words(accel: Accel) -> &'static [&'static str] {
    match accel {
        Accel::Kvm => &[],
        Accel::Tcg => &[
            "systemd.default_device_timeout_sec=900",
            "systemd.default_timeout_start_sec=900",
            "no_timer_check",
        ],
    }
}
