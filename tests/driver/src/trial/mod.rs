//! `test`: tries promises on machines booted for them, and counts.
//!
//! Promises that share machines form a group. A group that stops early has broken the promise it was at, and all after
//! it: nothing is left out silently.

mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use crate::backend::{self, Backend, Chosen, Runs};
use crate::error::{Error, Result, chain};
use crate::given::Given;
use crate::machine::{Machine, Site, Wanted};
use crate::poll;
use crate::scenarios;
use crate::transcript::Transcript;
use crate::workspace::Workspace;
use report::{Outcome, Report};

/// Which promises to try, and where to count them.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    given: Given,
    /// Groups to try, or promises whose groups to try; without any, all that are about what runs the machines
    names: Vec<String>,
    /// Print the groups and their promises, and try none
    #[arg(long)]
    list: bool,
    /// Write the counts and every outcome to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// What runs the machines; nspawn has neither firmware nor disks, and breaks what needs them
    #[arg(long, value_enum, default_value_t = Backend::Qemu)]
    backend: Backend,
}

/// Promises tried on the same machines.
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Its promises, in the order in which they are tried.
    pub promises: &'static [&'static str],
    /// Whether they are about machines in containers; all others are about what containers do not have.
    pub containers: bool,
    /// Tries them.
    pub run: fn(&mut Trial) -> Result<()>,
}

/// One group being tried.
pub struct Trial {
    site: Box<dyn Site>,
    given: Given,
    dir: PathBuf,
    promises: &'static [&'static str],
    outcomes: Vec<Outcome>,
    consoles: Vec<(String, Transcript)>,
    clock: Instant,
}

impl Trial {
    /// Makes a machine, whose console is shown should a promise break.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn machine(&mut self, wanted: Wanted) -> Result<Box<dyn Machine>> {
        let machine = self.site.machine(wanted)?;
        self.consoles.push((machine.name().to_owned(), machine.console().clone()));
        Ok(machine)
    }

    /// What joins the machines.
    pub fn site(&self) -> &dyn Site {
        self.site.as_ref()
    }

    /// What the run was given.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// A directory of the group's own.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The next promise, in the group's order, holds: what it took since the last one is its time.
    ///
    /// # Errors
    /// When the group's list names another one at this place.
    pub fn holds(&mut self, promise: &str) -> Result<()> {
        let next = self.promises.get(self.outcomes.len()).copied().unwrap_or("none");
        if next != promise {
            return Err(Error::Broken(format!("{promise} is tried where {next} is promised")));
        }
        let outcome =
            Outcome { name: next, seconds: self.clock.elapsed().as_secs_f32(), broken: None };
        self.clock = Instant::now();
        println!("{outcome}");
        self.outcomes.push(outcome);
        Ok(())
    }

    fn fail(&mut self, why: &str) {
        for name in self.promises.get(self.outcomes.len()..).unwrap_or_default() {
            let seconds = self.clock.elapsed().as_secs_f32();
            let first = self.outcomes.iter().all(|outcome| outcome.broken.is_none());
            let broken = if first { why.to_owned() } else { "not reached".to_owned() };
            let outcome = Outcome { name, seconds, broken: Some(broken) };
            println!("{outcome}");
            self.outcomes.push(outcome);
        }
        for (machine, console) in &self.consoles {
            println!("---- console of {machine}, its end ----");
            println!("{}", crate::programs::tail(&console.text(), 40));
        }
    }
}

/// Tries what was asked for; the exit status says whether every promise held.
///
/// # Errors
/// When no group has the name, or what the machines need is missing.
pub fn test(options: &Options) -> Result<ExitCode> {
    let groups = chosen(&options.names)?;
    if options.list {
        for group in groups {
            let place = if group.containers { " (in nspawn)" } else { "" };
            println!("{}{place}\n  {}", group.name, group.promises.join("\n  "));
        }
        return Ok(ExitCode::SUCCESS);
    }
    poll::catch_interrupts()?;
    let Chosen { backend, why } = backend::choose(options.backend, &options.given)?;
    println!("machines run in {backend}: {why}");
    let start = Instant::now();
    let mut report = Report::default();
    let suits =
        |group: &&Group| !options.names.is_empty() || group.containers == (backend == Runs::Nspawn);
    for group in groups.into_iter().filter(suits) {
        println!("group {}: {} promises", group.name, group.promises.len());
        report.add(try_group(group, &options.given, backend)?);
        poll::check_interrupt()?;
    }
    println!("took {:.0} s", start.elapsed().as_secs_f32());
    println!("{report}");
    if let Some(file) = &options.report {
        report.save(file)?;
    }
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Group>> {
    let asked = |group: &&Group| {
        let has = |name: &String| group.name == name || group.promises.contains(&name.as_str());
        names.is_empty() || names.iter().any(has)
    };
    let groups: Vec<&Group> = scenarios::GROUPS.iter().filter(asked).collect();
    let known = |name: &&String| {
        groups.iter().any(|group| group.name == *name || group.promises.contains(&name.as_str()))
    };
    match names.iter().find(|name| !known(name)) {
        Some(name) => {
            Err(Error::Missing(format!("no group or promise is named {name:?}: see --list")))
        }
        None => Ok(groups),
    }
}

fn try_group(group: &'static Group, given: &Given, runs: Runs) -> Result<Vec<Outcome>> {
    let workspace = Workspace::new()?;
    let mut trial = Trial {
        site: backend::site(&runs, given, workspace.dir())?,
        given: given.clone(),
        dir: workspace.dir().to_path_buf(),
        promises: group.promises,
        outcomes: Vec::new(),
        consoles: Vec::new(),
        clock: Instant::now(),
    };
    match (group.run)(&mut trial) {
        Ok(()) if trial.outcomes.len() == group.promises.len() => {}
        Ok(()) => trial.fail("the group ended without trying it"),
        Err(error) => trial.fail(&chain(&error)),
    }
    Ok(trial.outcomes)
}
