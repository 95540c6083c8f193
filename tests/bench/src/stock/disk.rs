//! The stock disk: GPT with an ESP (systemd-boot, Debian's kernel and initrd as they are) and an ext4 root.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use super::settings::ROOT_LABEL;
use super::{LIMIT, Stock};
use crate::error::{Error, Result};
use crate::timed::{self, Took};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
const ESP_START: u64 = MIB;
const ESP_BYTES: u64 = 512 * MIB;
const ROOT_START: u64 = ESP_START + ESP_BYTES;
const ROOT_BYTES: u64 = 2048 * MIB;
/// Room for the second partition table.
const DISK_BYTES: u64 = ROOT_START + ROOT_BYTES + MIB;

/// The kernel's words beside those that make its console readable, which the boot that is measured adds on both sides.
const COMMAND_LINE: &str = "ro console=tty0 console=ttyS0,115200";

impl Stock {
    /// Writes the disk from the tree; the time is that of its root file system.
    pub(super) fn save_disk(&self) -> Result<Took> {
        let disk = self.disk();
        if disk.exists() {
            fs::remove_file(&disk).map_err(Error::file("removing", &disk))?;
        }
        let file = File::create(&disk).map_err(Error::file("writing", &disk))?;
        file.set_len(DISK_BYTES).map_err(Error::file("writing", &disk))?;
        self.partition(&disk)?;
        self.fill_esp(&disk)?;
        self.tool("mke2fs", |mke2fs| {
            mke2fs
                .args(["-q", "-F", "-t", "ext4", "-E", &format!("offset={ROOT_START}"), "-d"])
                .arg(self.tree())
                .arg(&disk)
                .arg(format!("{}k", ROOT_BYTES / 1024))
        })
    }

    fn partition(&self, disk: &Path) -> Result<()> {
        let script = self.dir.join("partitions");
        fs::write(&script, partitions()).map_err(Error::file("writing", &script))?;
        let input = File::open(&script).map_err(Error::file("reading", &script))?;
        let mut command = self.programs.command("sfdisk");
        command.arg("--quiet").arg(disk).stdin(Stdio::from(input));
        timed::run("sfdisk", &mut command, &self.dir, LIMIT).map(drop)
    }

    fn fill_esp(&self, disk: &Path) -> Result<()> {
        let offset = (ESP_START / SECTOR).to_string();
        self.tool("mkfs.vfat", |vfat| {
            vfat.args(["-F", "32", "--offset", &offset])
                .arg(disk)
                .arg((ESP_BYTES / 1024).to_string())
        })?;
        let mut place = disk.as_os_str().to_owned();
        place.push(format!("@@{ESP_START}"));
        self.tool("mmd", |mmd| {
            mmd.arg("-i")
                .arg(&place)
                .args(["EFI", "EFI/BOOT", "EFI/debian", "loader", "loader/entries"].map(dos))
        })?;
        let loader = self.dir.join("loader.conf");
        fs::write(&loader, "timeout 0\n").map_err(Error::file("writing", &loader))?;
        let entry = self.dir.join("debian.conf");
        fs::write(&entry, boot_entry()).map_err(Error::file("writing", &entry))?;
        let boot_loader = self.tree().join("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
        for (file, name) in [
            (boot_loader, "EFI/BOOT/BOOTX64.EFI"),
            (self.boot_file("vmlinuz-")?, "EFI/debian/vmlinuz"),
            (self.initrd()?, "EFI/debian/initrd.img"),
            (loader, "loader/loader.conf"),
            (entry, "loader/entries/debian.conf"),
        ] {
            self.tool("mcopy", |mcopy| mcopy.arg("-i").arg(&place).arg(&file).arg(dos(name)))?;
        }
        Ok(())
    }
}

/// mtools' way to name a file of the image.
fn dos(path: &str) -> String {
    format!("::{path}")
}

fn partitions() -> String {
    let line = |start: u64, bytes: u64, kind: &str, name: &str| {
        format!("start={}, size={}, type={kind}, name={name}\n", start / SECTOR, bytes / SECTOR)
    };
    // The root's type: Discoverable Partitions Specification, x86-64.
    let root = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
    format!(
        "label: gpt\n{}{}",
        line(ESP_START, ESP_BYTES, "uefi", "esp"),
        line(ROOT_START, ROOT_BYTES, root, ROOT_LABEL)
    )
}

fn boot_entry() -> String {
    format!(
        "title Debian\nlinux /EFI/debian/vmlinuz\ninitrd /EFI/debian/initrd.img\n\
         options root=PARTLABEL={ROOT_LABEL} {COMMAND_LINE}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_follow_each_other_and_leave_room_for_the_second_table() {
        let text = partitions();
        assert!(text.contains("start=2048, size=1048576, type=uefi"));
        assert!(text.contains("start=1050624, size=4194304"));
        const { assert!(DISK_BYTES - (ROOT_START + ROOT_BYTES) >= 33 * SECTOR) }
    }
}
