//! `lab`: a site of three Consul servers from one image, made as an operator would make it, and kept until Ctrl-C.

mod progress;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::backend::{self, Backend, Chosen};
use crate::cluster::{Availability, Cluster};
use crate::consul::{self, Health, View};
use crate::error::{Error, Result};
use crate::given::Given;
use crate::machine::{Boot, Bundle, Machine, Site, Wanted};
use crate::poll::{self, Seen};
use crate::programs::tail;
use crate::workspace::Workspace;
use progress::Progress;

/// Three bear the loss of one.
const SERVERS: u8 = 3;

/// A site to look at.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    given: Given,
    /// What runs the machines; `auto` takes QEMU where KVM works, else nspawn where it may, else QEMU by translation
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,
    /// End with exit status 0 once all is healthy, 1 when the deadline passes
    #[arg(long)]
    check: bool,
    /// Seconds within which all must be healthy
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    deadline_secs: u64,
}

/// Brings the site up, shows it, and keeps it until interrupted.
///
/// # Errors
/// When it does not become healthy in time, or something it needs is missing.
pub fn lab(options: &Options) -> Result<()> {
    poll::catch_interrupts()?;
    let outcome = run(options);
    match outcome {
        // Ctrl-C is how a lab ends.
        Err(Error::Interrupted) if !options.check => Ok(()),
        other => other,
    }
}

fn run(options: &Options) -> Result<()> {
    let progress = Progress::start();
    let Chosen { backend, why } = backend::choose(options.backend, &options.given)?;
    progress.say(&format!("machines run in {backend}: {why}"));

    let workspace = Workspace::new()?;
    let availability = if backend.is_slow() { Availability::Wide } else { Availability::Normal };
    progress.say(&format!("making a site of {SERVERS} Consul servers with `ballast bundle`"));
    let site_dir = workspace.dir().join("site");
    let cluster = Cluster::make(options.given.ballast(), &site_dir, SERVERS, availability)?;

    let site = backend::site(&backend, &options.given, workspace.dir())?;
    let mut machines = switch_on(site.as_ref(), &cluster, &progress)?;
    let deadline = Duration::from_secs(options.deadline_secs);
    let view = match wait_until_healthy(&mut machines, &cluster, deadline, &progress) {
        Err(error @ Error::Deadline { .. }) => {
            explain(&mut machines, &progress);
            return Err(error);
        }
        other => other?,
    };
    let mut versions = Vec::new();
    for machine in &mut machines {
        versions.push(table::versions(machine.as_mut())?);
    }
    print!("{}", table::table(&cluster.nodes, &view, &versions));
    if options.check {
        return Ok(());
    }
    progress
        .say(&format!("the site stays up until Ctrl-C; its files are in {}", site_dir.display()));
    keep(&mut machines, &progress)
}

fn switch_on(
    site: &dyn Site,
    cluster: &Cluster,
    progress: &Progress,
) -> Result<Vec<Box<dyn Machine>>> {
    let mut machines = Vec::new();
    for node in &cluster.nodes {
        let mut machine = site.machine(Wanted {
            name: node.name.clone(),
            number: node.number,
            bundle: Bundle::Credential(cluster.bundle(&node.name)),
            boot: Boot::Direct,
            disk: None::<PathBuf>,
            credentials: Vec::new(),
        })?;
        machine.power_on()?;
        progress.say(&format!("{} is switched on, to be {}", node.name, node.address));
        machines.push(machine);
    }
    Ok(machines)
}

fn wait_until_healthy(
    machines: &mut [Box<dyn Machine>],
    cluster: &Cluster,
    deadline: Duration,
    progress: &Progress,
) -> Result<View> {
    let all = cluster.nodes.len();
    let what = format!("{all} nodes to be passing with a leader");
    poll::until(&what, deadline, Duration::from_secs(1), || {
        // Whoever answers first speaks for the site.
        let mut seen = Vec::new();
        for machine in machines.iter_mut() {
            match consul::ask(machine.as_mut(), Duration::from_secs(15))? {
                Ok(view) => {
                    let passing = |name: &str| view.health(name) == Some(Health::Passing);
                    let count = cluster.nodes.iter().filter(|node| passing(&node.name)).count();
                    if count == all && view.leader.is_some() {
                        return Ok(Seen::Ready(view));
                    }
                    progress.show(&format!("{count} of {all} passing; {view}"));
                    return Ok(Seen::NotYet(view.to_string()));
                }
                Err(why) => seen.push(format!("{}: {why}", machine.name())),
            }
        }
        let seen = seen.join("; ");
        progress.show(&format!("no node can speak for the site yet: {seen}"));
        Ok(Seen::NotYet(seen))
    })
}

/// Shows what each machine itself says is wrong.
fn explain(machines: &mut [Box<dyn Machine>], progress: &Progress) {
    const SCRIPT: &str = "systemctl --failed --no-legend --plain; ballast-agent status; \
                          journalctl --no-pager --lines 25 -u ballast-boot -u ballast -u consul";
    for machine in machines {
        let said = match machine.run(SCRIPT, Duration::from_secs(30)) {
            Ok(ran) => ran.text,
            Err(_) => tail(&machine.console().text(), 20),
        };
        progress.say(&format!("{} says:\n{said}", machine.name()));
    }
}

/// Stays until interrupted; a machine that ends by itself is said.
fn keep(machines: &mut [Box<dyn Machine>], progress: &Progress) -> Result<()> {
    let mut gone = vec![false; machines.len()];
    let mut look = Instant::now();
    loop {
        poll::check_interrupt()?;
        poll::nap(Duration::from_millis(200));
        if look.elapsed() < Duration::from_secs(1) {
            continue;
        }
        look = Instant::now();
        for (machine, gone) in machines.iter_mut().zip(&mut gone) {
            if !*gone && !machine.is_on() {
                *gone = true;
                progress.say(&format!("{} went off by itself", machine.name()));
            }
        }
    }
}
