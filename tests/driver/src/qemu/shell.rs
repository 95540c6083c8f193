//! A root shell on the machine's virtio console, which the image itself does not have.
//!
//! The unit comes as a systemd credential, so the image is tested as it ships: whoever holds the hypervisor could do
//! the same. systemd.system-credentials(7) and systemd-debug-generator(8) describe `systemd.extra-unit.*`.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::machine::Ran;
use crate::poll;
use crate::programs::tail;
use crate::transcript::Transcript;

const READY: &str = "test shell ready";

const UNIT: &str = "\
[Unit]
Description=Root shell for the test that runs this machine
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
StartLimitIntervalSec=0
[Service]
Environment=TERM=dumb SYSTEMD_COLORS=0 SYSTEMD_PAGER=
# Raw: no echo, no line length limit, no changed line ends.
ExecStart=/bin/sh -c 'stty raw -echo; echo test shell ready; exec /bin/sh'
StandardInput=tty
StandardOutput=tty
# With a terminal here too the shell would prompt.
StandardError=null
TTYPath=/dev/hvc0
Restart=always
RestartSec=0
# It waits for words that will not come: nothing is lost when it is not waited for.
TimeoutStopSec=2
";

/// The credentials that make the machine open its shell.
pub fn credentials() -> Vec<(String, Vec<u8>)> {
    let wants = "[Unit]\nWants=test-shell.service\n";
    vec![
        ("systemd.extra-unit.test-shell.service".into(), UNIT.into()),
        ("systemd.unit-dropin.sysinit.target~test-shell".into(), wants.into()),
    ]
}

/// The near end of the shell.
pub struct Shell {
    machine: String,
    stream: UnixStream,
    heard: Transcript,
    ready: bool,
    asked: u32,
}

impl Shell {
    /// Connects to the socket QEMU listens on, once it does.
    pub fn connect(machine: &str, socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let heard = Transcript::default();
        heard.follow(stream.try_clone()?);
        Ok(Self { machine: machine.to_owned(), stream, heard, ready: false, asked: 0 })
    }

    /// Runs a script; `alive` says, while we wait, whether the machine is still there.
    pub fn run(
        &mut self,
        script: &str,
        limit: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Ran> {
        let start = Instant::now();
        if !self.ready {
            self.wait_for(0, limit, &mut alive, |text| text.contains(READY).then_some(()))?;
            self.ready = true;
        }
        self.asked += 1;
        let mark = format!("answer-{}-ends", self.asked);
        let from = self.heard.len();
        let seconds = limit.saturating_sub(start.elapsed()).as_secs().max(1);
        let text = format!(
            "timeout -k 2 {seconds} sh -c \"$(cat <<'{mark}'\n{script}\n{mark}\n)\" </dev/null 2>&1; \
             printf '\\n{mark} %d\\n' $?\n"
        );
        self.stream
            .write_all(text.as_bytes())
            .map_err(Error::system(format!("writing to the shell of {}", self.machine)))?;
        let grace = Duration::from_secs(seconds + 10);
        self.wait_for(from, grace, &mut alive, |text| answer(text, &mark))
    }

    fn wait_for<T>(
        &self,
        from: usize,
        limit: Duration,
        alive: &mut impl FnMut() -> Result<()>,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let length = self.heard.len();
            let text = self.heard.since(from);
            if let Some(found) = find(&text) {
                return Ok(found);
            }
            if start.elapsed() > limit {
                return Err(Error::Deadline {
                    what: format!("the shell of {}", self.machine),
                    waited: limit,
                    seen: tail(&text, 3),
                });
            }
            poll::check_interrupt()?;
            alive()?;
            self.heard.wait_past(length, Duration::from_millis(200));
        }
    }
}

/// The text before the mark and the status after it.
fn answer(text: &str, mark: &str) -> Option<Ran> {
    let (before, after) = text.split_once(&format!("\n{mark} "))?;
    let (status, _) = after.split_once('\n')?;
    let status = status.trim().parse().ok()?;
    Some(Ran { status, text: before.replace('\r', "").trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_at_its_mark_and_not_before() {
        assert!(answer("two\nlines\nanswer-1-ends 1", "answer-1-ends").is_none());
        let ran = answer("two\nlines\n\nanswer-1-ends 17\n", "answer-1-ends").unwrap();
        assert_eq!((ran.status, ran.text.as_str()), (17, "two\nlines"));
    }
}
