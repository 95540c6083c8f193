//! QEMU's command line: one machine's hardware.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::{Accel, Hardware};
use crate::error::{Error, Result};
use crate::machine::{Boot, Bundle, Wanted};
use crate::programs::Programs;

/// QEMU with its firmware and modules found, that dies with the thread that starts it.
pub fn qemu(programs: &Programs) -> Command {
    let mut command = programs.command("qemu-system-x86_64");
    if let Some(modules) = programs.file("usr/lib/x86_64-linux-gnu/qemu") {
        command.env("QEMU_MODULE_DIR", modules);
    }
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        if let Some(dir) = programs.file(firmware) {
            command.arg("-L").arg(dir);
        }
    }
    let die = || prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into);
    // SAFETY: the closure makes one system call and touches no memory of the parent.
    unsafe { command.pre_exec(die) };
    command
}

/// A machine's files, made once and used in every life.
pub struct Files {
    /// Its own disk.
    pub disk: PathBuf,
    /// Its own firmware variables.
    pub variables: PathBuf,
    /// Strings of its SMBIOS table, one file each.
    pub smbios: Vec<PathBuf>,
    /// The socket its shell answers at.
    pub shell: PathBuf,
    /// The switch's socket.
    pub port: PathBuf,
}

/// Who adds words to the kernel's command line: the stub of a UKI, and systemd-boot where there is none
/// (smbios-type-11(7)).
const WORDS_READERS: [&str; 2] =
    ["io.systemd.stub.kernel-cmdline-extra", "io.systemd.boot.kernel-cmdline-extra"];

/// The whole command line.
pub fn command(hardware: &Hardware, wanted: &Wanted, files: &Files) -> Result<Command> {
    let mut command = qemu(&hardware.programs);
    command
        .args(["-name", &wanted.name, "-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-m", &hardware.memory_mib.to_string()])
        .args(match hardware.accel {
            Accel::Kvm => ["-machine", "q35,accel=kvm", "-cpu", "host"],
            Accel::Tcg => ["-machine", "q35,accel=tcg", "-cpu", "max"],
        })
        .args(["-uuid", &uuid(wanted.number)])
        .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);

    device(&mut command, "-chardev", "socket,id=shell,server=on,wait=off", "path", &files.shell);
    command.args(["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=shell"]);

    let stream = "stream,id=net,server=off,addr.type=unix";
    device(&mut command, "-netdev", stream, "addr.path", &files.port);
    // Without an option ROM the firmware does not try the network.
    let card = format!("virtio-net-pci,netdev=net,romfile=,mac={}", mac(wanted.number));
    command.args(["-device", &card]);

    for string in &files.smbios {
        device(&mut command, "-smbios", "type=11", "path", string);
    }
    for reader in WORDS_READERS.iter().filter(|_| !hardware.words.is_empty()) {
        let words = hardware.words.join(" ").replace(',', ",,");
        command.args(["-smbios", &format!("type=11,value={reader}={words}")]);
    }
    boot(&mut command, hardware, wanted, files)?;
    device(&mut command, "-drive", "if=none,id=disk,format=qcow2", "file", &files.disk);
    command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
    if let Bundle::Volume(dir) = &wanted.bundle {
        let volume = "driver=vvfat,node-name=bundle,read-only=on,label=BALLAST";
        device(&mut command, "-blockdev", volume, "dir", dir);
        command.args(["-device", "virtio-blk-pci,drive=bundle"]);
    }
    Ok(command)
}

fn boot(command: &mut Command, hardware: &Hardware, wanted: &Wanted, files: &Files) -> Result<()> {
    match wanted.boot {
        Boot::Direct => {
            let parts = hardware.images.of(&wanted.role)?.parts()?;
            let cmdline = parts.join("cmdline");
            let words = fs::read_to_string(&cmdline).map_err(Error::file("reading", &cmdline))?;
            command.arg("-kernel").arg(parts.join("vmlinuz"));
            command.arg("-initrd").arg(parts.join("initrd.zst"));
            command
                .args(["-append", &format!("{} {}", words.trim_end(), hardware.words.join(" "))]);
        }
        Boot::Firmware => firmware(command, hardware, files)?,
        Boot::Netboot => {
            firmware(command, hardware, files)?;
            // The firmware loads and starts the file as it would one from the network.
            command
                .arg("-kernel")
                .arg(hardware.images.of(&wanted.role)?.shipped()?.join("netboot.efi"));
        }
    }
    Ok(())
}

const FIRMWARE_CODE: &str = "usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

fn firmware(command: &mut Command, hardware: &Hardware, files: &Files) -> Result<()> {
    let part = |path: &str| {
        hardware.programs.file(path).ok_or_else(|| {
            Error::Missing(format!("a UEFI firmware, {path}, in the tree QEMU comes from"))
        })
    };
    if !files.variables.exists() {
        let fresh = part(FIRMWARE_VARIABLES)?;
        let bytes = fs::read(&fresh).map_err(Error::file("reading", &fresh))?;
        fs::write(&files.variables, bytes).map_err(Error::file("writing", &files.variables))?;
    }
    let code = part(FIRMWARE_CODE)?;
    device(command, "-drive", "if=pflash,format=raw,readonly=on", "file", &code);
    device(command, "-drive", "if=pflash,format=raw", "file", &files.variables);
    Ok(())
}

/// Writes the strings that carry systemd credentials, as systemd.system-credentials(7) says.
pub fn save_smbios(dir: &Path, wanted: &Wanted) -> Result<Vec<PathBuf>> {
    let mut credentials = wanted.credentials.clone();
    credentials.extend(super::shell::credentials());
    if let Bundle::Credential(file) = &wanted.bundle {
        let bytes = fs::read(file).map_err(Error::file("reading", file))?;
        credentials.push(("ballast.bundle".into(), bytes));
    }
    let mut paths = Vec::new();
    for (number, (name, value)) in credentials.iter().enumerate() {
        let path = dir.join(format!("smbios-{number}"));
        let text = format!("io.systemd.credential.binary:{name}={}", BASE64_STANDARD.encode(value));
        fs::write(&path, text).map_err(Error::file("writing", &path))?;
        paths.push(path);
    }
    Ok(paths)
}

/// QEMU reads a comma in an option's value doubled.
fn device(command: &mut Command, option: &str, before: &str, key: &str, path: &Path) {
    let path = path.display().to_string().replace(',', ",,");
    command.arg(option).arg(format!("{before},{key}={path}"));
}

/// An address of the range anyone may use (IEEE 802, locally administered).
fn mac(number: u8) -> String {
    format!("52:54:00:ba:11:{number:02x}")
}

/// A UUID per machine: what systemd makes the machine id from.
pub fn uuid(number: u8) -> String {
    format!("ba11a570-0000-4000-8000-0000000000{number:02x}")
}
