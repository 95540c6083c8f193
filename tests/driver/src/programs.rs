//! Where the programs come from: a tree of unpacked Debian packages, run by that tree's own loader, or the `PATH`.
//!
//! The machine the driver runs on need not be Debian trixie, and a build sandbox has no `/lib64`: so the loader is
//! called by path, and nothing outside the tree is used.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/// Programs of some trees, or of the `PATH` when there are none.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    trees: Vec<PathBuf>,
}

impl Programs {
    /// Programs of these trees, each of which holds `usr/`, the first that has one; without a tree, those on the `PATH`.
    pub fn new(trees: &[PathBuf]) -> Self {
        // Programs start in other directories and namespaces; a path that cannot be made whole fails when it is used.
        let whole = |tree: &PathBuf| std::path::absolute(tree).unwrap_or_else(|_| tree.clone());
        Self { trees: trees.iter().map(whole).collect() }
    }

    /// A file of a tree, if one has it.
    pub fn file(&self, path: &str) -> Option<PathBuf> {
        self.trees.iter().map(|tree| tree.join(path)).find(|file| file.exists())
    }

    /// Whether the program is there to be called.
    pub fn has(&self, program: &str) -> bool {
        if !self.trees.is_empty() {
            return self.find(program).is_some();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).exists())
    }

    /// A command that calls the program.
    pub fn command(&self, program: &str) -> Command {
        let Some((tree, file)) = self.find(program) else { return Command::new(program) };
        let loader = tree.join(LOADER);
        if !loader.exists() {
            return Command::new(file);
        }
        let libraries = tree.join(LIBRARIES);
        let mut path = libraries.clone().into_os_string();
        path.push(":");
        path.push(libraries.join("systemd"));
        let mut command = Command::new(loader);
        command.arg("--library-path").arg(path).arg("--argv0").arg(program).arg(file);
        command
    }

    fn find(&self, program: &str) -> Option<(&Path, PathBuf)> {
        self.trees.iter().find_map(|tree| Some((tree.as_path(), in_tree(tree, program)?)))
    }
}

fn in_tree(tree: &Path, program: &str) -> Option<PathBuf> {
    ["usr/bin", "usr/sbin", "bin", "sbin"]
        .iter()
        .map(|dir| tree.join(dir).join(program))
        .find(|file| file.exists())
}

/// Runs a command to its end and returns what it printed; a failure carries the end of its stderr.
pub fn output(command: &mut Command) -> Result<Output> {
    let program = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Failed {
        program,
        status: output.status.to_string(),
        stderr: tail(&String::from_utf8_lossy(&output.stderr), 6),
    })
}

/// Runs a command for at most `limit`; past it, the command is killed and the answer is `None`.
pub fn output_within(command: &mut Command, limit: Duration) -> Result<Option<Output>> {
    let program = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status =
        wait_within(&mut child, limit).map_err(|source| Error::Start { program, source })?;
    let Some(status) = status else { return Ok(None) };
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    Ok(Some(Output { status, stdout, stderr }))
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has said what it had to say.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait_within(
    child: &mut Child,
    limit: Duration,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn describe(command: &Command) -> String {
    let mut words = Vec::new();
    let mut after_loader = false;
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        if word == OsStr::new("--argv0") {
            words.clear();
            after_loader = true;
            continue;
        }
        words.push(word.to_string_lossy().into_owned());
    }
    if after_loader && words.len() > 1 {
        // The program's path repeats its name.
        words.remove(1);
    }
    words.truncate(4);
    words.join(" ")
}

/// The last `lines` lines.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let from = all.len().saturating_sub(lines);
    all.get(from..).unwrap_or_default().join("\n")
}
