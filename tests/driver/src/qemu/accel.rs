//! How QEMU runs a machine's instructions: with the processor's help where that works, by translation elsewhere.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::poll;
use crate::programs::{Programs, tail};
use crate::transcript::Transcript;

/// How instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// By translation: works everywhere, some twenty times slower.
    Tcg,
}

/// How long a kernel may take to show that it runs. With working KVM it needs a second.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Whether KVM works, and the sentence why.
///
/// `/dev/kvm` may be there, open, and useless: so a real kernel is started, without a root, and must get as far as missing it.
///
/// # Errors
/// When QEMU cannot be started at all.
pub fn probe_kvm(programs: &Programs, kernel: &Path) -> Result<(bool, String)> {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok((false, format!("/dev/kvm does not open ({error})")));
    }
    let mut command = super::arguments::qemu(programs);
    command
        .args(["-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-append", "console=ttyS0 panic=-1", "-kernel"])
        .arg(kernel);
    boots(&mut command)
}

fn boots(command: &mut Command) -> Result<(bool, String)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { program: "qemu-system-x86_64".into(), source })?;
    let console = Transcript::default();
    let complaint = Transcript::default();
    if let Some(stdout) = child.stdout.take() {
        console.follow(stdout);
    }
    if let Some(stderr) = child.stderr.take() {
        complaint.follow(stderr);
    }
    let start = Instant::now();
    let verdict = loop {
        if console.text().contains("Kernel panic - not syncing: VFS") {
            break (
                true,
                format!("a kernel ran under KVM in {:.1} s", start.elapsed().as_secs_f32()),
            );
        }
        if let Ok(Some(status)) = child.try_wait() {
            // What it said last may still be on its way.
            console.wait_past(console.len(), Duration::from_millis(200));
            if console.text().contains("Kernel panic - not syncing: VFS") {
                continue;
            }
            let said = tail(&complaint.text(), 1);
            break (false, format!("QEMU with KVM ended, {status}: {said}"));
        }
        if start.elapsed() > PROBE_LIMIT {
            break (
                false,
                format!("a kernel under KVM did not start within {} s", PROBE_LIMIT.as_secs()),
            );
        }
        poll::check_interrupt()?;
        console.wait_past(console.len(), Duration::from_millis(100));
    };
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
    Ok(verdict)
}
