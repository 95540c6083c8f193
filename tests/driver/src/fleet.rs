//! A site that runs: its description and bundles, its network, and its machines by name.
//!
//! What the lab shows and the fault suite breaks. All machines are gone when it is dropped, and so are its files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::backend::{self, Runs};
use crate::cluster::{Cluster, Layout, Node};
use crate::consul::{self, Health, View};
use crate::error::{Error, Result};
use crate::given::Given;
use crate::machine::{Bundle, Machine, Site, Wanted};
use crate::network::Network;
use crate::poll::{self, Seen};
use crate::programs::output;
use crate::workspace::Workspace;

/// How long one machine's Consul agent may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// A site that runs.
pub struct Fleet {
    // In the order in which they must go: machines, what joins them, their files.
    machines: Vec<Box<dyn Machine>>,
    site: Box<dyn Site>,
    cluster: Cluster,
    workspace: Workspace,
    ballast: PathBuf,
}

impl Fleet {
    /// Makes bundles, network and machines, all switched off.
    ///
    /// # Errors
    /// When a role has no image, `ballast` refuses the layout, or what runs machines does not work here.
    pub fn make(given: &Given, runs: Runs, layout: &Layout) -> Result<Self> {
        let images = given.images()?;
        for node in &layout.nodes {
            images.of(&node.role)?;
        }
        let workspace = Workspace::new()?;
        let cluster = Cluster::make(given.ballast(), &workspace.dir().join("site"), layout)?;
        let site = backend::site(&runs, given, workspace.dir())?;
        let mut machines = Vec::new();
        for node in &cluster.nodes {
            machines.push(site.machine(Wanted {
                bundle: Bundle::Credential(cluster.bundle(&node.name)),
                disk_bytes: layout.disk_bytes(&node.role),
                ..Wanted::new(&node.name, node.number, &node.role)
            })?);
        }
        let ballast = given.ballast().to_path_buf();
        Ok(Self { machines, site, cluster, workspace, ballast })
    }

    /// Its nodes, in the order of its machines.
    pub fn nodes(&self) -> &[Node] {
        &self.cluster.nodes
    }

    /// Its description and bundles.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A directory that goes when the fleet goes.
    pub fn dir(&self) -> &Path {
        self.workspace.dir()
    }

    /// A node, by name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.cluster.nodes.iter().find(|node| node.name == name).ok_or_else(|| unknown(name))
    }

    /// A machine, by name: to kill, freeze, thaw, reboot, switch off, wipe it, or to run something in it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn machine(&mut self, name: &str) -> Result<&mut dyn Machine> {
        match self.machines.iter_mut().find(|machine| machine.name() == name) {
            Some(machine) => Ok(machine.as_mut()),
            None => Err(unknown(name)),
        }
    }

    /// All machines.
    pub fn machines(&mut self) -> &mut [Box<dyn Machine>] {
        &mut self.machines
    }

    /// What joins the machines: to cut, isolate, rejoin and lose.
    pub fn site(&self) -> &dyn Site {
        self.site.as_ref()
    }

    /// The network of the machines, for clients.
    ///
    /// # Errors
    /// Where machines run in QEMU.
    pub fn network(&self) -> Result<Network> {
        self.site.network()
    }

    /// Does what an operator does with the `ballast` command, from a place in the site's network.
    ///
    /// # Errors
    /// When it fails, with what it says; or where machines run in QEMU.
    pub fn operate(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.ballast);
        command.args(arguments).arg(self.cluster.dir().join("cluster.toml"));
        let doing = Error::system("entering the site's network");
        self.network()?.run(|| output(&mut command).map(|_| ())).map_err(doing)?
    }

    /// Cuts each of these machines from each that is not among them. Clients reach both sides.
    ///
    /// # Errors
    /// When the network will not be told.
    pub fn divide(&self, side: &[&str]) -> Result<()> {
        self.across(side, |a, b| self.site.cut(a, b))
    }

    /// Takes a division back.
    ///
    /// # Errors
    /// When the network will not be told.
    pub fn unite(&self, side: &[&str]) -> Result<()> {
        self.across(side, |a, b| self.site.restore(a, b))
    }

    fn across(&self, side: &[&str], each: impl Fn(&str, &str) -> Result<()>) -> Result<()> {
        for name in side {
            self.node(name)?;
            for other in self.nodes().iter().filter(|node| !side.contains(&node.name.as_str())) {
                each(name, &other.name)?;
            }
        }
        Ok(())
    }

    /// Switches all on, from a thread that must outlive them.
    ///
    /// # Errors
    /// When one does not start.
    pub fn power_on(&mut self) -> Result<()> {
        self.machines.iter_mut().try_for_each(|machine| machine.power_on())
    }

    /// Cuts the power of all at once.
    ///
    /// # Errors
    /// When one cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.at_once(|machine| machine.kill())
    }

    /// Switches all off in order, at once.
    ///
    /// # Errors
    /// When one is not off within the limit.
    pub fn power_off(&mut self, limit: Duration) -> Result<()> {
        self.at_once(|machine| machine.power_off(limit))
    }

    fn at_once(&mut self, each: impl Fn(&mut dyn Machine) -> Result<()> + Sync) -> Result<()> {
        let each = &each;
        let done: Vec<Result<()>> = thread::scope(|scope| {
            let machines = self.machines.iter_mut();
            let started: Vec<_> =
                machines.map(|machine| scope.spawn(move || each(machine.as_mut()))).collect();
            let panicked = || Err(Error::Broken("a thread panicked".into()));
            started.into_iter().map(|one| one.join().unwrap_or_else(|_| panicked())).collect()
        });
        done.into_iter().collect()
    }

    /// What Consul says of the site: the first machine that answers speaks for it. The text says why none does.
    ///
    /// # Errors
    /// When a machine has ended by itself, or the run is interrupted.
    pub fn view(&mut self) -> Result<std::result::Result<View, String>> {
        let mut silent = Vec::new();
        for machine in &mut self.machines {
            let name = machine.name().to_owned();
            match consul::ask(machine.as_mut(), ANSWER) {
                Ok(Ok(view)) => return Ok(Ok(view)),
                Ok(Err(why)) => silent.push(format!("{name}: {why}")),
                Err(Error::Off { .. }) => silent.push(format!("{name}: off")),
                Err(error) => return Err(error),
            }
        }
        Ok(Err(format!("no node can speak for the site yet: {}", silent.join("; "))))
    }

    /// Waits until every node is passing and Consul has a leader; `show` is told what is seen meanwhile.
    ///
    /// # Errors
    /// [`Error::Deadline`] with what was seen last.
    pub fn wait_until_passing(
        &mut self,
        limit: Duration,
        mut show: impl FnMut(&str),
    ) -> Result<View> {
        let names: Vec<String> = self.nodes().iter().map(|node| node.name.clone()).collect();
        let all = names.len();
        let what = format!("{all} nodes to be passing with a leader");
        poll::until(&what, limit, Duration::from_secs(1), || {
            let seen = match self.view()? {
                Ok(view) => {
                    let passing = |name: &&String| view.health(name) == Some(Health::Passing);
                    let count = names.iter().filter(passing).count();
                    if count == all && view.leader.is_some() {
                        return Ok(Seen::Ready(view));
                    }
                    format!("{count} of {all} passing; {view}")
                }
                Err(why) => why,
            };
            show(&seen);
            Ok(Seen::NotYet(seen))
        })
    }
}

fn unknown(name: &str) -> Error {
    Error::Missing(format!("no node of the site is named {name:?}"))
}
