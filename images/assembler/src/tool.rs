//! Runs a format's own tool: a bare environment, its input on a pipe, its complaint in our error.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::AssembleError;

/// Runs `tool` and returns what it said on standard output.
///
/// The tool sees the search path, the place of the character sets, a fixed time zone, language and seed of hashes, and the time
/// its output is to carry.
///
/// # Errors
/// That it could not be started, or that it failed, with the end of what it said.
pub fn run(
    tool: &str,
    args: &[OsString],
    epoch: u64,
    feed: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<String, AssembleError> {
    let start = |source| AssembleError::Start { tool: tool.to_owned(), source };
    let mut command = Command::new(tool);
    command.env_clear();
    // mtools converts file names by glibc's character sets, which stand elsewhere where nothing is installed.
    if let Some(charsets) = std::env::var_os("GCONV_PATH") {
        command.env("GCONV_PATH", charsets);
    }
    let mut child = command
        .args(args)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("MTOOLS_SKIP_CHECK", "1")
        .env("PYTHONHASHSEED", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let fed = match child.stdin.take() {
        Some(pipe) => {
            let mut pipe = std::io::BufWriter::with_capacity(1 << 20, pipe);
            feed(&mut pipe).and_then(|()| pipe.flush())
        }
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(start)?;
    let failed = |reason| AssembleError::Tool { tool: tool.to_owned(), reason };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = said.lines().rev().take(5).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        return Err(failed(format!("{}: {}", output.status, end.join("; "))));
    }
    fed.map_err(|e| failed(format!("it stopped reading its input: {e}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Arguments of different types as one list.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { [$(std::ffi::OsString::from($arg)),*] };
}
