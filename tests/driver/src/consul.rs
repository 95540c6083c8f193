//! What a machine's own Consul agent says about the site: asked with Consul's command inside the machine.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::programs::tail;

/// Consul's words for health, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// All is well.
    Passing,
    /// Something wants attention.
    Warning,
    /// Something does not work.
    Critical,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// One check of one node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// The node it is about.
    pub node: String,
    /// The check's name in Consul.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// The answer.
    pub status: Health,
}

/// The check that every Consul node has from its peers, without an agent of ours.
pub const SERF: &str = "serfHealth";

/// What one node knows of the site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The leader's address with port, if it knows one.
    pub leader: Option<String>,
    /// Every check of every node.
    pub checks: Vec<Check>,
}

impl View {
    /// A node's health: the worst of its checks, once it has some beyond [`SERF`].
    pub fn health(&self, node: &str) -> Option<Health> {
        let mine = || self.checks.iter().filter(|check| check.node == node);
        mine().any(|check| check.id != SERF).then(|| mine().map(|check| check.status).max())?
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leader {}", self.leader.as_deref().unwrap_or("none"))?;
        let names: BTreeSet<&str> = self.checks.iter().map(|check| check.node.as_str()).collect();
        for name in names {
            let mine = self.checks.iter().filter(|check| check.node == name);
            let wanting: Vec<String> = mine
                .filter(|check| check.status != Health::Passing)
                .map(|check| format!("{} {}", check.id, check.status))
                .collect();
            match self.health(name) {
                None => write!(f, "; {name} has no checks of ours")?,
                Some(_) if wanting.is_empty() => write!(f, "; {name} passing")?,
                Some(_) => write!(f, "; {name}: {}", wanting.join(", "))?,
            }
        }
        Ok(())
    }
}

/// Consul's command is large, and slow to start where instructions are translated: it is asked once our agent, which is
/// small, knows of a leader. The node's own token stands in the environment, so that it is on no command line. The image has a shell
/// and coreutils, and little else.
const SCRIPT: &str = r#"
status=$(ballast-agent status --json) || exit 1
case $status in *'"leader": null'*) echo no leader is known; exit 1;; esac
export CONSUL_HTTP_ADDR=http://127.0.0.1:8500
secrets=$(cat /var/lib/ballast/bundles/current/secrets.json) || exit 1
after=${secrets#*'"agent_token"'}
after=${after#*'"'}
export CONSUL_HTTP_TOKEN=${after%%'"'*}
consul watch -type=checks -state=any 2>/run/watch.log || { cat /run/watch.log; exit 1; }
echo
echo ---
consul info
"#;

/// Asks the machine's Consul agent; the text says why it has no answer yet.
///
/// # Errors
/// When the machine has ended, or the run is interrupted.
pub fn ask(
    machine: &mut dyn Machine,
    limit: Duration,
) -> Result<std::result::Result<View, String>> {
    let ran = match machine.run(SCRIPT, limit) {
        Ok(ran) => ran,
        // Its shell is not up yet.
        Err(Error::Deadline { seen, .. }) => {
            let seen = if seen.is_empty() { last_line(machine) } else { seen };
            return Ok(Err(seen));
        }
        Err(error) => return Err(error),
    };
    if ran.status != 0 {
        return Ok(Err(reason(&ran.text)));
    }
    Ok(read_view(&ran.text))
}

/// The first line, without the log level that systemd reads.
fn reason(text: &str) -> String {
    let line = text.lines().find(|line| !line.is_empty()).unwrap_or("it says nothing");
    line.trim_start_matches(|char: char| char.is_ascii_digit() || "<>".contains(char)).to_owned()
}

fn read_view(text: &str) -> std::result::Result<View, String> {
    let (checks, info) = text.split_once("\n---\n").ok_or_else(|| tail(text, 1))?;
    let checks = serde_json::from_str(checks.trim()).map_err(|error| error.to_string())?;
    let leader = info.lines().find_map(|line| line.trim().strip_prefix("leader_addr = "));
    let leader = leader.filter(|leader| !leader.is_empty()).map(str::to_owned);
    Ok(View { leader, checks })
}

/// The last thing a machine's console showed.
pub fn last_line(machine: &dyn Machine) -> String {
    let text = machine.console().text();
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nothing yet")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_health_is_the_worst_of_its_checks_and_unknown_without_our_own() {
        let view = read_view(
            r#"[{"Node":"a","CheckID":"serfHealth","Name":"x","Status":"passing"},
                {"Node":"b","CheckID":"serfHealth","Status":"passing"},
                {"Node":"b","CheckID":"ballast","Status":"warning"}]

---
consul:
	leader = false
	leader_addr = 10.0.0.1:8300
"#,
        )
        .unwrap();
        assert_eq!(view.health("a"), None);
        assert_eq!(view.health("b"), Some(Health::Warning));
        assert_eq!(view.leader.as_deref(), Some("10.0.0.1:8300"));
    }

    #[test]
    fn an_answer_that_is_no_view_is_no_health() {
        assert!(read_view("Error querying: 500").is_err());
        assert!(read_view("null\n---\n").is_err());
    }
}
