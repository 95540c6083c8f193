//! Pass: compiles the image's Python modules with the image's own Python, because a read-only root cannot keep what a start
//! compiles.
//!
//! Stands for: `py3compile` and `py_compile.py` in maintainer scripts. The files are hash-based and unchecked (PEP 552): they
//! hold no time, and Python asks nothing of their sources.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Context;
use crate::args;
use crate::elf;
use crate::error::AssembleError;
use crate::tool;
use crate::tree::{Node, Tree};
use crate::write::{load, save};

const PASS: &str = "byte code";
const PYTHON: &str = "usr/bin/python3";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
/// Below it are the interpreter's own modules, `python3.13`, and those of packages, `python3`.
const MODULES: &str = "usr/lib";
const CACHE: &str = "__pycache__";
const SCRIPT: &str = include_str!("byte_code.py");

/// Puts a compiled file beside every module; an image without Python stays as it is.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let python = tree.resolve(PYTHON)?;
    if tree.get(&python).and_then(Node::bytes).is_none() {
        return Ok(());
    }
    let modules: Vec<String> = tree
        .below(MODULES)
        .filter(|(path, node)| is_module(path) && node.bytes().is_some())
        .map(|(path, _)| path.to_owned())
        .collect();
    let root = context.scratch.join("python");
    save_interpreter(tree, &python, &root)?;
    for path in &modules {
        save_entry(tree, path, &root)?;
    }
    compile(&root, &python, &modules, context.epoch)?;
    let compiled = put_compiled(tree, &modules, &root)?;
    if compiled != modules.len() {
        let sentence = format!("{} modules became {compiled} compiled files", modules.len());
        return Err(AssembleError::pass(PASS, sentence));
    }
    fs::remove_dir_all(&root).map_err(|source| AssembleError::Write { path: root, source })
}

fn is_module(path: &str) -> bool {
    path.strip_prefix(MODULES).is_some_and(|rest| rest.starts_with("/python3"))
        && path.ends_with(".py")
}

/// The interpreter, the loader, and the libraries they ask for, each at its own place below `root`.
fn save_interpreter(tree: &Tree, python: &str, root: &Path) -> Result<(), AssembleError> {
    let mut todo = vec![python.to_owned(), LOADER.to_owned()];
    let mut done = BTreeSet::new();
    while let Some(path) = todo.pop() {
        if done.insert(path.clone()) {
            let bytes = save_entry(tree, &path, root)?;
            todo.extend(elf::needed(bytes).iter().map(|name| format!("{LIBRARIES}/{name}")));
        }
    }
    let loader = root.join(LOADER);
    fs::set_permissions(&loader, fs::Permissions::from_mode(0o755))
        .map_err(|source| AssembleError::Write { path: loader, source })
}

/// Saves the file a path leads to under that very path.
fn save_entry<'a>(tree: &'a Tree, path: &str, root: &Path) -> Result<&'a [u8], AssembleError> {
    let bytes = tree
        .get(&tree.resolve(path)?)
        .and_then(Node::bytes)
        .ok_or_else(|| AssembleError::pass(PASS, format!("Python needs /{path}")))?;
    let to = root.join(path);
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)
            .map_err(|source| AssembleError::Write { path: dir.to_owned(), source })?;
    }
    save(&to, bytes)?;
    Ok(bytes)
}

fn compile(root: &Path, python: &str, modules: &[String], epoch: u64) -> Result<(), AssembleError> {
    let absolute = |path: &str| root.join(path).into_os_string();
    let mut below = root.as_os_str().to_owned();
    below.push("/");
    tool::run(
        &root.join(LOADER).to_string_lossy(),
        &args![
            "--library-path",
            absolute(LIBRARIES),
            absolute(python),
            // Writes no cache of what it imports itself, and looks for no module elsewhere.
            "-B",
            "-S",
            "-s",
            "-X",
            "utf8",
            "-c",
            SCRIPT,
            below,
        ],
        epoch,
        |pipe| modules.iter().try_for_each(|path| writeln!(pipe, "{path}")),
    )
    .map(drop)
}

/// How many compiled files there were to put.
fn put_compiled(tree: &mut Tree, modules: &[String], root: &Path) -> Result<usize, AssembleError> {
    let dirs: BTreeSet<&str> =
        modules.iter().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
    let mut count = 0;
    for dir in dirs {
        let from = root.join(dir).join(CACHE);
        let unread = |source| AssembleError::Read { path: from.clone(), source };
        for entry in fs::read_dir(&from).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            tree.put(&format!("{dir}/{CACHE}/{name}"), Node::file(0o644, load(&entry.path())?))?;
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_what_pythons_directories_hold() {
        assert!(is_module("usr/lib/python3.13/os.py"));
        assert!(is_module("usr/lib/python3/dist-packages/patroni/ha.py"));
        assert!(!is_module("usr/lib/python3/dist-packages/patroni/ha.pyc"));
        assert!(!is_module("usr/share/python3/py3versions.py"));
    }
}
