//! Loads every package that the list names, on all cores, in an order that no scheduling changes.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;

use super::deb::{Package, read_deb};
use crate::error::AssembleError;

/// One line of the list: what the lock resolved, and where it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    version: String,
    architecture: String,
    path: PathBuf,
}

/// Loads the packages of a `packages.json`, sorted by name.
///
/// # Errors
/// The first package, by name, that can't be read or is not the one listed.
pub fn load_packages(list: &Path) -> Result<Vec<Package>, AssembleError> {
    let text = std::fs::read(list)
        .map_err(|source| AssembleError::Read { path: list.to_owned(), source })?;
    let mut listed: Vec<Listed> = serde_json::from_slice(&text).map_err(|source| {
        AssembleError::Json { path: list.to_owned(), what: "a list of packages", source }
    })?;
    listed.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));

    // The largest first, so that no core waits for one that started last.
    let mut order: Vec<usize> = (0..listed.len()).collect();
    let size = |i: &usize| {
        let path = listed.get(*i).map(|l| l.path.clone()).unwrap_or_default();
        std::cmp::Reverse(std::fs::metadata(path).map(|m| m.len()).unwrap_or_default())
    };
    order.sort_by_cached_key(size);

    let next = AtomicUsize::new(0);
    let loaded: Mutex<Vec<(usize, Result<Package, AssembleError>)>> = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(item) = listed.get(index) else { break };
                    let package = load(item);
                    if let Ok(mut done) = loaded.lock() {
                        done.push((index, package));
                    }
                }
            });
        }
    });
    let mut loaded = loaded.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    loaded.sort_by_key(|(index, _)| *index);
    loaded.into_iter().map(|(_, package)| package).collect()
}

fn load(listed: &Listed) -> Result<Package, AssembleError> {
    let path = &listed.path;
    let bytes =
        std::fs::read(path).map_err(|source| AssembleError::Read { path: path.clone(), source })?;
    let package =
        read_deb(&bytes).map_err(|source| AssembleError::Package { path: path.clone(), source })?;
    let says = format!("{} {} {}", listed.name, listed.version, listed.architecture);
    let found = format!("{} {} {}", package.name, package.version, package.architecture);
    if says != found {
        return Err(AssembleError::Listed { path: path.clone(), listed: says, found });
    }
    Ok(package)
}
