//! `ballast-lock`: resolves what the flake asks of Debian and writes versions and digests for a human to read.

mod control;
mod error;
mod index;
mod lock;
mod mirror;
mod packages;
mod relation;
mod release;
mod resolve;
mod seed;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde::Deserialize;

use crate::error::{Error, Result, chain};
use crate::index::{Suite, Verifier, fetch_packages, fetch_release};
use crate::lock::{Closure, LOCK_VERSION, Lock, Pin, Seed, read_lock, write_changes, write_lock};
use crate::mirror::Mirrors;
use crate::packages::Universe;
use crate::resolve::resolve;

/// Resolve what this flake asks of Debian from the signed indexes, and write it down for review.
///
/// Prints what changed: a version that moved, a package that came (+) or went (-).
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Say whether the lock is current, and write nothing: exit status 0 if it is, 1 if not
    #[arg(long)]
    check: bool,
    /// The lock file
    #[arg(long, default_value = "images/debian.lock.json")]
    lock: PathBuf,
    /// The flake whose `lib.wanted` names suites and packages
    #[arg(long, default_value = ".")]
    flake: String,
    /// Take a Release file whose time has passed, as a mirror that no longer moves has
    #[arg(long)]
    allow_expired: bool,
    /// The program that verifies signatures
    #[arg(long, default_value = "gpgv")]
    gpgv: PathBuf,
    /// The archive's keys
    #[arg(long, default_value = "/usr/share/keyrings/debian-archive-keyring.gpg")]
    keyring: PathBuf,
}

/// What the flake asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    suites: Vec<Suite>,
    roots: BTreeMap<String, Vec<String>>,
    seed: WantedSeed,
}

/// The seed without its digest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedSeed {
    name: String,
    package: String,
    file: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ballast-lock: {}", chain(&error));
            let bad_input = matches!(
                error,
                Error::Lock { .. } | Error::LockVersion { .. } | Error::Wanted { .. }
            );
            ExitCode::from(if bad_input { 2 } else { 1 })
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let old = load_lock(&arguments.lock)?;
    let wanted = load_wanted(&arguments.flake)?;
    let mirrors = Mirrors::new(&std::env::var("BALLAST_MIRROR").unwrap_or_default())?;
    let verifier = Verifier { program: arguments.gpgv.clone(), keyring: arguments.keyring.clone() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let new = make_lock(
        &wanted,
        old.as_ref(),
        &mirrors,
        &verifier,
        (!arguments.allow_expired).then_some(now),
    )?;

    let changes = write_changes(old.as_ref(), &new);
    for line in &changes {
        println!("{line}");
    }
    let shown = arguments.lock.display();
    if changes.is_empty() {
        println!(
            "{shown} is current: {} packages in {} closures",
            new.packages.len(),
            new.closures.len()
        );
    } else if arguments.check {
        println!("{shown} is not current: {} changes", changes.len());
        return Ok(ExitCode::from(1));
    } else {
        save_lock(&arguments.lock, &new)?;
        println!("{shown} is written: {} changes", changes.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// Resolves every closure anew. What did not change keeps the old snapshot's name too, so that the file stays the same.
fn make_lock(
    wanted: &Wanted,
    old: Option<&Lock>,
    mirrors: &Mirrors,
    verifier: &Verifier,
    now: Option<u64>,
) -> Result<Lock> {
    let mut universe = Universe::default();
    let mut newest = 0;
    for suite in &wanted.suites {
        eprintln!("reading {} of {}", suite.suite, suite.archive);
        let release = fetch_release(mirrors, verifier, suite, now)?;
        newest = newest.max(release.date);
        fetch_packages(mirrors, suite, &release)?
            .into_iter()
            .for_each(|package| universe.offer(package));
    }
    let universe = universe.finish();

    let mut packages = BTreeMap::new();
    let mut closures = BTreeMap::new();
    for (name, roots) in &wanted.roots {
        let closure = resolve(name, roots, &universe)?;
        let roots: BTreeSet<String> = roots.iter().cloned().collect();
        let names = closure.iter().map(|package| package.name.clone()).collect();
        closures
            .insert(name.clone(), Closure { roots: roots.into_iter().collect(), packages: names });
        packages
            .extend(closure.into_iter().map(|package| (package.name.clone(), Pin::from(package))));
    }
    let seed = make_seed(&wanted.seed, old, &packages, mirrors)?;
    // The service takes what a suite got some hours after its Release file was made.
    let snapshot = match old {
        Some(old) if old.packages == packages => old.snapshot.clone(),
        _ => release::write_timestamp(newest + 6 * 3600),
    };
    Ok(Lock { version: LOCK_VERSION, snapshot, seed, packages, closures })
}

/// The seed's digest needs its package's bytes, unless neither changed.
fn make_seed(
    wanted: &WantedSeed,
    old: Option<&Lock>,
    packages: &BTreeMap<String, Pin>,
    mirrors: &Mirrors,
) -> Result<Seed> {
    let name = &wanted.package;
    let pin = packages
        .get(name)
        .ok_or_else(|| Error::Unknown { closure: "seed".to_owned(), package: name.clone() })?;
    let hash = match old {
        Some(old)
            if old.packages.get(name) == Some(pin)
                && old.seed.package == *name
                && old.seed.file == wanted.file =>
        {
            old.seed.hash.clone()
        }
        _ => {
            let deb = mirrors.fetch(&pin.archive, &pin.path)?;
            let found = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&deb));
            if found != pin.sha256 {
                return Err(Error::Digest {
                    what: pin.path.clone(),
                    expected: pin.sha256.clone(),
                    found,
                });
            }
            seed::hash_seed(name, &deb, &wanted.file)?
        }
    };
    Ok(Seed { name: wanted.name.clone(), package: name.clone(), file: wanted.file.clone(), hash })
}

fn load_wanted(flake: &str) -> Result<Wanted> {
    let reference = format!("{flake}#lib.wanted");
    let output = Command::new("nix")
        .args(["eval", "--json", &reference])
        .output()
        .map_err(|source| Error::Start { program: "nix".to_owned(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said =
            said.lines().find(|line| line.starts_with("error")).unwrap_or(said.trim()).to_owned();
        return Err(Error::Refused { program: "nix", subject: reference, said });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|source| Error::Wanted { flake: flake.to_owned(), source })
}

/// No lock is the first lock.
fn load_lock(path: &Path) -> Result<Option<Lock>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { what: "reading", path: path.to_owned(), source }),
    };
    let lock = read_lock(&text).map_err(|source| Error::Lock { path: path.to_owned(), source })?;
    if lock.version != LOCK_VERSION {
        return Err(Error::LockVersion {
            path: path.to_owned(),
            found: lock.version,
            known: LOCK_VERSION,
        });
    }
    Ok(Some(lock))
}

/// Whole or not at all.
fn save_lock(path: &Path, lock: &Lock) -> Result<()> {
    let text = write_lock(lock).map_err(|source| Error::Lock { path: path.to_owned(), source })?;
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let save = || {
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    save().map_err(|source| Error::File { what: "writing", path: path.to_owned(), source })
}
