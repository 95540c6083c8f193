//! The table `[app]`: what is started, what it waits for, and how it is told to end.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::life::Restart;

/// What is started, and how it is dealt with.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(super) command: Vec<String>,
    /// The endpoints that must lead somewhere first, by name.
    pub(super) wait_for: Vec<String>,
    pub(super) wait: Duration,
    pub(super) restart: Restart,
    pub(super) health: Option<Health>,
    /// How long after it was told to stop the application hears of it, and how long it has from then on.
    pub(super) drain: Duration,
    pub(super) stop: Duration,
}

/// How the application is asked whether it is well.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(super) question: Question,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum Question {
    Http(String),
    Tcp(String),
    Command(Vec<String>),
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    pub(crate) wait_for: Vec<Spanned<String>>,
    wait_secs: Option<u64>,
    #[serde(default)]
    restart: Restart,
    pub(crate) health: Option<Spanned<HealthTable>>,
    drain_secs: Option<u64>,
    stop_secs: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthTable {
    http: Option<String>,
    tcp: Option<String>,
    command: Option<Vec<String>>,
    interval_secs: Option<u64>,
    timeout_secs: Option<u64>,
}

impl Table {
    /// Checks what doesn't need a line of its own.
    ///
    /// # Errors
    /// What is wrong with the health check.
    pub(crate) fn read(self) -> Result<App, String> {
        let secs = |given: Option<u64>, usual| Duration::from_secs(given.unwrap_or(usual));
        let health = self.health.map(Spanned::into_inner).map(HealthTable::read).transpose()?;
        Ok(App {
            command: self.command,
            wait_for: self.wait_for.into_iter().map(Spanned::into_inner).collect(),
            wait: secs(self.wait_secs, 300),
            restart: self.restart,
            health,
            drain: secs(self.drain_secs, 5),
            stop: secs(self.stop_secs, 20),
        })
    }
}

impl HealthTable {
    fn read(self) -> Result<Health, String> {
        let question = match (self.http, self.tcp, self.command) {
            (Some(url), None, None) if url.starts_with("http://") => Question::Http(url),
            (Some(url), None, None) => return Err(format!("{url:?} is not an http:// URL")),
            (None, Some(address), None) => Question::Tcp(address),
            (None, None, Some(command)) if !command.is_empty() => Question::Command(command),
            _ => return Err("health needs one of http, tcp and command".to_owned()),
        };
        let secs =
            |given: Option<u64>, usual: u64| Duration::from_secs(given.unwrap_or(usual).max(1));
        Ok(Health {
            question,
            interval: secs(self.interval_secs, 5),
            timeout: secs(self.timeout_secs, 3),
        })
    }
}

impl App {
    /// The same with another command, where one is given.
    pub(crate) fn with_command(mut self, command: Vec<String>) -> Self {
        if !command.is_empty() {
            self.command = command;
        }
        self
    }

    pub(crate) fn has_command(&self) -> bool {
        !self.command.is_empty()
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            wait_for: Vec::new(),
            wait: Duration::from_secs(300),
            restart: Restart::Never,
            health: None,
            drain: Duration::from_secs(5),
            stop: Duration::from_secs(20),
        }
    }
}
