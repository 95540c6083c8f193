//! `ballast-agent run`: asks the checks, keeps the node's state, and makes Consul agree, until told to stop.
//!
//! Every long-lived duty is one task, and all of them start in [`run`]. The main loop alone changes the state, and it
//! alone keeps systemd's watchdog quiet.

mod duties;
mod view;

use std::net::SocketAddr;
use std::time::Duration;

use ballast_contract::{NODE_SERVICE, Spec};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

pub(crate) use view::{CheckView, ConsulView, View};

use crate::acl;
use crate::boot;
use crate::consul::Consul;
use crate::database::{self, Database};
use crate::error::Error;
use crate::log;
use crate::peers;
use crate::probe::Asker;
use crate::role::RoleView;
use crate::root::Root;
use crate::serve;
use crate::slot::load_slot;
use crate::state::{Answer, Event, State, event};

/// Where things are; on a node, the contract's addresses.
pub(crate) struct Places {
    pub(crate) root: Root,
    pub(crate) consul: SocketAddr,
    pub(crate) status: SocketAddr,
}

/// How long stopping may take: Consul is told in one round, or learns it when the checks' time to live is over.
const STOPPING: Duration = Duration::from_secs(3);
/// How late a probe's answer may be before its task counts as stuck: a busy machine is no reason to be killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A check and what is known about it.
struct Checked {
    name: String,
    gate: bool,
    answer: Option<Answer>,
    heard: Instant,
    /// The longest time between two answers, by its interval and deadline.
    every: Duration,
}

/// Runs until `stop` resolves.
///
/// # Errors
/// What keeps the agent from starting; once it has started, nothing does.
pub(crate) async fn run(places: Places, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let spec = places.root.load_spec()?;
    let bundle = boot::load_taken(&places.root)?;
    let consul = Consul::new(places.consul, Some(bundle.secrets.agent_token.clone()));
    let listener = serve::bind(places.status).await?;

    let (answers, mut answered) = mpsc::channel(16);
    let (view, views) = watch::channel(View {
        slot: load_slot(&places.root),
        ..View::new(&spec, &bundle.node, &bundle.digest)
    });
    let (consul_view, mut consul_views) = watch::channel(ConsulView::default());

    let Database { mut roles, redis, backups, guard } =
        database::start(&bundle, &places.root, places.consul)?;
    let asker = Asker {
        root: places.root.clone(),
        consul: consul.clone(),
        role: roles.clone(),
        redis,
        backups,
    };
    for (index, check) in spec.role.checks.iter().enumerate() {
        tokio::spawn(duties::ask(asker.clone(), check.clone(), index, answers.clone()));
    }
    if let Some(roles) = &roles {
        tokio::spawn(duties::register_role(consul.clone(), roles.clone()));
    }
    let mut peers = peers::start(&bundle, places.consul, roles.clone())?;
    if let (Some(guard), Some(roles)) = (guard, &roles) {
        tokio::spawn(guard.keep(roles.clone(), peers.clone()));
    }
    let node_service = roles.as_ref().map(|_| NODE_SERVICE.to_owned());
    let service = spec.role.service.clone().or(node_service);
    let agreeing =
        tokio::spawn(duties::agree(consul.clone(), service, views.clone(), consul_view.clone()));
    tokio::spawn(duties::follow_catalogue(consul, bundle.node.node.name.clone(), consul_view));
    tokio::spawn(serve::serve(listener, views));
    if let Some(wanted) = bundle.acl.clone() {
        let manager = Consul::new(places.consul, Some(wanted.management_token.clone()));
        tokio::spawn(duties::reconcile_acl(manager, wanted));
    }
    drop(bundle);

    let mut checks: Vec<Checked> = checks(&spec);
    let mut state = State::Starting;
    if checks.is_empty() {
        state = state.after(Event::AllPassing);
    }
    publish(&view, state, &checks);
    systemd::ready();
    log::info(&format!("asking {} checks of role {}", checks.len(), spec.role.name));

    let mut alive = systemd::watchdog();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = systemd::due(&mut alive) => match stuck(&checks) {
                None => systemd::alive(),
                Some(name) => log::error(&format!("check {name} has not been answered for too long: not telling systemd that all is well")),
            },
            Some((index, answer)) = answered.recv() => {
                note(&mut checks, index, answer);
                let next = event(checks.iter().map(|c| c.answer.as_ref())).map_or(state, |e| state.after(e));
                if next != state {
                    log::info(&format!("the node was {state} and is {next}"));
                }
                state = next;
                publish(&view, state, &checks);
            }
            Ok(()) = consul_views.changed() => {
                let seen = consul_views.borrow_and_update().clone();
                view.send_if_modified(|view| { let changed = view.consul != seen; view.consul = seen; changed });
            }
            Ok(()) = peers.changed() => {
                let seen = peers.borrow_and_update().clone();
                view.send_if_modified(|view| { let changed = view.peers != seen; view.peers = seen; changed });
            }
            Some(role) = next(&mut roles) => {
                view.send_if_modified(|view| { let changed = view.database.as_ref() != Some(&role); view.database = Some(role); changed });
            }
        }
    }

    log::info("stopping: telling Consul that this node is critical");
    systemd::stopping();
    publish(&view, state.after(Event::Stop), &checks);
    // The task ends by itself once Consul has been told.
    if tokio::time::timeout(STOPPING, agreeing).await.is_err() {
        log::warn(
            "Consul was not told in time; it will find out when the checks' time to live is over",
        );
    }
    Ok(())
}

/// The role of the node's database, whenever it is another; never where it has none.
async fn next(roles: &mut Option<watch::Receiver<RoleView>>) -> Option<RoleView> {
    let Some(receiver) = roles else { return std::future::pending().await };
    receiver.changed().await.ok()?;
    Some(receiver.borrow_and_update().clone())
}

fn checks(spec: &Spec) -> Vec<Checked> {
    spec.role
        .checks
        .iter()
        .map(|check| Checked {
            name: check.name.clone(),
            gate: check.gate,
            answer: None,
            heard: Instant::now(),
            every: duties::longest_pause(check) + Duration::from_secs(check.timeout_secs),
        })
        .collect()
}

/// Takes in an answer; a change of health is worth a line in the journal.
fn note(checks: &mut [Checked], index: usize, answer: Answer) {
    let Some(check) = checks.get_mut(index) else { return };
    let before = check.answer.as_ref().map(|a| a.health);
    if before != Some(answer.health) {
        let line = format!("check {} is {}: {}", check.name, answer.health, answer.output);
        match answer.health {
            crate::state::Health::Passing => log::info(&line),
            _ => log::warn(&line),
        }
    }
    check.heard = Instant::now();
    check.answer = Some(answer);
}

/// The check whose task has stopped answering, if one has.
fn stuck(checks: &[Checked]) -> Option<&str> {
    checks.iter().find(|c| c.heard.elapsed() > c.every + PATIENCE).map(|c| c.name.as_str())
}

fn publish(view: &watch::Sender<View>, state: State, checks: &[Checked]) {
    let checks: Vec<CheckView> = checks
        .iter()
        .map(|c| CheckView { name: c.name.clone(), gate: c.gate, answer: c.answer.clone() })
        .collect();
    view.send_if_modified(|view| {
        let changed = view.state != state || view.checks != checks;
        if view.state != state {
            systemd::status(&format!("the node is {state}"));
        }
        view.state = state;
        view.checks = checks;
        changed
    });
}

/// What systemd is told (sd_notify(3)); nobody listens in a test.
mod systemd {
    use super::{Duration, Instant, MissedTickBehavior};
    use sd_notify::NotifyState;
    use tokio::time::Interval;

    fn tell(what: &[NotifyState<'_>]) {
        // Without a manager there is nobody to tell.
        let _ = sd_notify::notify(false, what);
    }

    pub(super) fn ready() {
        tell(&[NotifyState::Ready]);
    }

    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }

    pub(super) fn status(text: &str) {
        tell(&[NotifyState::Status(text)]);
    }

    pub(super) fn alive() {
        tell(&[NotifyState::Watchdog]);
    }

    /// Three times within systemd's patience. A missed tick is not made up for: the next one says the same.
    pub(super) fn watchdog() -> Option<Interval> {
        let mut micros = 0;
        if !sd_notify::watchdog_enabled(false, &mut micros) {
            return None;
        }
        let every = Duration::from_micros(micros) / 3;
        let mut interval =
            tokio::time::interval_at(Instant::now(), every.max(Duration::from_millis(1)));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(interval)
    }

    pub(super) async fn due(interval: &mut Option<Interval>) {
        match interval {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
