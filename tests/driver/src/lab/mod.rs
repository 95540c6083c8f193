//! `lab`: a site of three nodes of each role, made as an operator would make it, and kept until Ctrl-C.

mod progress;
mod table;

use std::time::{Duration, Instant};

use clap::Args;

use crate::backend::{self, Backend, Chosen, Runs};
use crate::cluster::{Availability, CONSUL_SERVER, Layout, POSTGRES, REDIS};
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::given::Given;
use crate::machine::Machine;
use crate::poll;
use crate::programs::tail;
use progress::Progress;

/// Roles of the lab's site, those that others need first.
const ROLES: [&str; 3] = [CONSUL_SERVER, POSTGRES, REDIS];
/// Nodes of each role: three bear the loss of one.
const EACH: u8 = 3;
/// Within which all must be healthy, and what each machine adds where instructions are translated.
const LEAST: Duration = Duration::from_secs(600);
const SLOW_NODE: Duration = Duration::from_secs(300);

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
    /// Seconds within which all must be healthy; more by default where machines are slow
    #[arg(long, value_name = "SECONDS")]
    deadline_secs: Option<u64>,
    /// Roles of the site beside the Consul servers; all that have an image without any
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
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

    let layout = layout(options, backend)?;
    let nodes = layout.nodes.len();
    if let Some(cost) = cost(backend, nodes) {
        progress.say(&cost);
    }
    progress.say(&format!("making a site of {nodes} nodes with `ballast bundle`"));
    let mut fleet = Fleet::make(&options.given, backend, &layout)?;
    switch_on(&mut fleet, &progress)?;
    let deadline = options.deadline_secs.map_or(deadline(backend, nodes), Duration::from_secs);
    let view = match fleet.wait_until_passing(deadline, |seen| progress.show(seen)) {
        Err(error @ Error::Deadline { .. }) => {
            explain(fleet.machines(), &progress);
            return Err(error);
        }
        other => other?,
    };
    let mut versions = Vec::new();
    for machine in fleet.machines() {
        versions.push(table::versions(machine.as_mut())?);
    }
    print!("{}", table::table(fleet.nodes(), &view, &versions));
    if options.check {
        return Ok(());
    }
    let files = fleet.cluster().dir().display();
    progress.say(&format!("the site stays up until Ctrl-C; its files are in {files}"));
    keep(fleet.machines(), &progress)
}

/// Three nodes of each role that was asked for, or of each that has an image.
fn layout(options: &Options, backend: Runs) -> Result<Layout> {
    let images = options.given.images()?;
    let asked = |role: &&str| match options.roles.as_slice() {
        [] => images.has(role),
        roles => roles.iter().any(|asked| asked == role),
    };
    if let Some(role) = options.roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
        return Err(Error::Missing(format!("the lab has no role {role:?}: {}", ROLES.join(", "))));
    }
    // Every other role needs the first one.
    let roles: Vec<_> =
        ROLES.into_iter().filter(|role| *role == CONSUL_SERVER || asked(role)).collect();
    let layout = Layout::new(&roles.iter().map(|role| (*role, EACH)).collect::<Vec<_>>());
    Ok(layout.with(if backend.is_slow() { Availability::Wide } else { Availability::Normal }))
}

/// What the user should know before waiting for machines whose instructions are translated.
fn cost(backend: Runs, nodes: usize) -> Option<String> {
    (backend.is_slow() && nodes > usize::from(EACH)).then(|| {
        format!(
            "{nodes} machines whose instructions are translated need many minutes and 640 MiB each: \
             `--role {CONSUL_SERVER}` makes fewer, and `--backend nspawn` is ready within one"
        )
    })
}

fn deadline(backend: Runs, nodes: usize) -> Duration {
    let each = if backend.is_slow() { SLOW_NODE } else { Duration::ZERO };
    LEAST + each * u32::try_from(nodes).unwrap_or(u32::MAX)
}

fn switch_on(fleet: &mut Fleet, progress: &Progress) -> Result<()> {
    let nodes = fleet.nodes().to_vec();
    for (machine, node) in fleet.machines().iter_mut().zip(nodes) {
        machine.power_on()?;
        progress.say(&format!("{} is switched on, to be {}", node.name, node.address));
    }
    Ok(())
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
