//! A site of one Consul server and two PostgreSQL nodes in containers, and what operators and clients ask of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{ANSWER, ensure, run, until};
use crate::cluster::{Availability, CONSUL_SERVER, Cluster, Layout, POSTGRES};
use crate::error::{Error, Result};
use crate::machine::{Bundle, Machine, Wanted};
use crate::network::Network;
use crate::poll::Seen;
use crate::programs::{output_within, tail};
use crate::trial::Trial;

/// How long what an operator asks for may take.
const ASKED: Duration = Duration::from_secs(300);
const OFF: Duration = Duration::from_secs(90);

/// The site.
pub struct Database {
    ballast: PathBuf,
    network: Network,
    cluster: Cluster,
    servers: Vec<Box<dyn Machine>>,
    /// PostgreSQL's nodes.
    pub members: Vec<Box<dyn Machine>>,
}

fn layout(tables: &str) -> Layout {
    let roles = [(CONSUL_SERVER, 1), (POSTGRES, 2)];
    let tables = tables.to_owned();
    Layout { tables, ..Layout::new(&roles).with(Availability::Normal) }
}

impl Database {
    /// Makes the site with these tables in its cluster file, and switches it on. `shared` is seen by PostgreSQL's nodes.
    pub fn start(trial: &mut Trial, tables: &str, shared: Option<&Path>) -> Result<Self> {
        let ballast = trial.given().ballast().to_owned();
        let dir = trial.dir().join("cluster");
        let cluster = Cluster::make(&ballast, &dir, &layout(tables))?;
        let network = trial.site().network()?;
        let (mut servers, mut members) = (Vec::new(), Vec::new());
        for node in &cluster.nodes {
            let is_member = node.role == POSTGRES;
            let mut machine = trial.machine(Wanted {
                bundle: Bundle::Credential(cluster.bundle(&node.name)),
                shared: shared.filter(|_| is_member).map(Path::to_owned),
                ..Wanted::new(&node.name, node.number, &node.role)
            })?;
            machine.power_on()?;
            if is_member { &mut members } else { &mut servers }.push(machine);
        }
        Ok(Self { ballast, network, cluster, servers, members })
    }

    /// Gives all machines the bundles of these tables, and PostgreSQL's empty disks.
    pub fn begin_anew(&mut self, tables: &str) -> Result<()> {
        for machine in &mut self.members {
            machine.wipe()?;
        }
        let dir = self.cluster.dir().to_path_buf();
        self.cluster = Cluster::make(&self.ballast, &dir, &layout(tables))?;
        for machine in &mut self.servers {
            machine.reboot(OFF)?;
        }
        self.members.iter_mut().try_for_each(|machine| machine.power_on())
    }

    /// The cluster file, as an argument.
    pub fn file(&self) -> String {
        self.cluster.dir().join("cluster.toml").display().to_string()
    }

    /// What the operator's command answers beside the machines, and its exit status.
    pub fn ask(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&self.ballast);
        command.args(arguments);
        let asked = self.network.run(move || output_within(&mut command, ASKED));
        let Some(output) = asked.map_err(Error::system("asking in the site's network"))?? else {
            return Ok((None, format!("no answer within {} s", ASKED.as_secs())));
        };
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).trim_end().to_owned()))
    }

    /// Which of the members is primary, by its own agent's word.
    pub fn primary(&mut self) -> Result<Option<&mut Box<dyn Machine>>> {
        for machine in &mut self.members {
            if machine.run("ballast-agent primary", ANSWER)?.status == 0 {
                return Ok(Some(machine));
            }
        }
        Ok(None)
    }

    pub fn wait_for_primary(&mut self) -> Result<()> {
        until("a primary", || {
            if self.primary()?.is_some() {
                return Ok(Seen::Ready(()));
            }
            let said = self.members.first_mut().map(|machine| {
                machine.run("ballast-agent status; journalctl --no-pager -n 6 -u patroni", ANSWER)
            });
            Ok(Seen::NotYet(said.transpose()?.map(|ran| ran.text).unwrap_or_default()))
        })
    }

    /// What the primary answers to SQL in the application's database.
    pub fn sql(&mut self, sql: &str) -> Result<String> {
        let primary = self.primary()?;
        let primary = primary.ok_or_else(|| Error::Broken("there is no primary".into()))?;
        run(primary.as_mut(), &psql(sql))
    }

    /// Waits until a member's check says this in its own status and the member is no better in Consul; its journal has
    /// said the other.
    pub fn wait_until_said(
        &mut self,
        check: &str,
        health: &str,
        said: &str,
        in_journal: &str,
    ) -> Result<&mut dyn Machine> {
        let place = until(&format!("{check} to be {health}: {said}"), || {
            let mut seen = Vec::new();
            for (place, machine) in self.members.iter_mut().enumerate() {
                let ran = machine.run("ballast-agent status --json", ANSWER)?;
                let status: Value = serde_json::from_str(&ran.text).unwrap_or_default();
                let checks = status["checks"].as_array().into_iter().flatten();
                let answer = checks.filter(|c| c["name"] == check).map(|c| &c["answer"]).next();
                let answer = answer.cloned().unwrap_or_default();
                let output = answer["output"].as_str().unwrap_or_default();
                let in_consul = &status["consul"]["catalogue"];
                if answer["health"] == health && output.contains(said) && in_consul == health {
                    return Ok(Seen::Ready(place));
                }
                seen.push(format!("{}, in Consul {in_consul}: {answer}", machine.name()));
            }
            Ok(Seen::NotYet(seen.join("; ")))
        })?;
        let machine = self.members.get_mut(place);
        let machine = machine.ok_or_else(|| Error::Broken("no member".into()))?;
        let journal = run(machine.as_mut(), "journalctl --no-pager -o cat -u ballast.service")?;
        ensure(journal.contains(in_journal), || {
            format!("the journal does not say {in_journal:?}: {}", tail(&journal, 20))
        })?;
        Ok(machine.as_mut())
    }
}

fn psql(sql: &str) -> String {
    format!(
        "psql -U postgres -d app -h /run/postgresql -qAt -v ON_ERROR_STOP=1 <<'SQL'\n{sql};\nSQL"
    )
}
