//! The agent's long-lived duties, one function each.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use ballast_bundle::Acl;
use ballast_contract::Check;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{ConsulView, View, acl};
use crate::agree::{Wanted, changes};
use crate::consul::{Consul, Error, Index};
use crate::error::chain;
use crate::log;
use crate::probe::{Asker, probe};
use crate::role::{self, RoleView};
use crate::state::{Answer, Health, State};

/// Between two rounds with Consul when nothing changes: a third of the checks' time to live, so that two may fail.
const ROUND: Duration = Duration::from_secs(10);
/// Between two rounds with Consul about a database role: a third of its check's time to live.
const ROLE_ROUND: Duration = Duration::from_secs(5);
/// How long metadata of a role may wait before Consul hears of it.
const META_PAUSE: Duration = Duration::from_secs(2);
/// The first and the longest pause after a round that failed: on loopback a try costs next to nothing, and each second
/// of pause is a second in which a node that has recovered still looks ill.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// While a check has never passed it is asked this often, so that a node is not late by an interval.
const STARTING: Duration = Duration::from_secs(1);
/// Between two looks at ACLs that are as they shall be.
const ACL_ROUND: Duration = Duration::from_secs(300);
/// Between two looks at whether this server leads now.
const FOLLOWER_ROUND: Duration = Duration::from_secs(5);
/// How long Consul holds a question about the catalogue while the answer stays the same.
const CATALOGUE_WAIT: Duration = Duration::from_secs(300);

/// Asks one check again and again, each time after a pause from the last answer: a slow probe delays the next one and
/// none is ever made up for.
pub(super) async fn ask(
    asker: Asker,
    check: Check,
    index: usize,
    answers: mpsc::Sender<(usize, Answer)>,
) {
    let mut has_passed = false;
    loop {
        let answer = probe(&asker, &check).await;
        has_passed |= answer.health == Health::Passing;
        if answers.send((index, answer)).await.is_err() {
            return;
        }
        let interval = Duration::from_secs(check.interval_secs);
        let pause = if has_passed { interval } else { interval.min(STARTING) };
        sleep(jittered(pause)).await;
    }
}

/// The longest pause between two probes of a check.
pub(super) fn longest_pause(check: &Check) -> Duration {
    Duration::from_secs(check.interval_secs).mul_f32(1.1)
}

/// A pause up to a tenth longer or shorter, so that the nodes of a site do not ask in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    let step = u8::try_from(random % 201).unwrap_or(100);
    pause.mul_f32(0.9 + f32::from(step) / 1000.0)
}

/// Makes Consul agree with the node: after every change at once, and otherwise each round. Ends once the node is stopping
/// and Consul knows.
pub(super) async fn agree(
    consul: Consul,
    service: Option<String>,
    mut views: watch::Receiver<View>,
    seen: watch::Sender<ConsulView>,
) {
    let mut retry = FIRST_RETRY;
    loop {
        let (wanted, stopping) = {
            let view = views.borrow_and_update();
            let checks = view.checks.iter().map(|c| (c.name.as_str(), c.answer.as_ref()));
            let wanted =
                Wanted::new(service.clone(), &view.role, &view.started(), view.state, checks);
            (wanted, view.state == State::Stopping)
        };
        let result = agree_once(&consul, &wanted).await;
        if stopping && result.is_ok() {
            return;
        }
        let leader = consul.leader().await.ok().flatten();
        let error = result.err().map(|e| chain(&e));
        let pause = if error.is_none() { jittered(ROUND) } else { jittered(retry) };
        retry = if error.is_none() { FIRST_RETRY } else { (retry * 2).min(LAST_RETRY) };
        report(&seen, leader, error);
        tokio::select! {
            () = sleep(pause) => {}
            () = health_changes(&mut views, &wanted, &service) => {}
        }
    }
}

/// Returns when what Consul shall hold is no longer what it was told: a view changes for other reasons too.
async fn health_changes(
    views: &mut watch::Receiver<View>,
    told: &Wanted,
    service: &Option<String>,
) {
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update();
        let checks = view.checks.iter().map(|c| (c.name.as_str(), c.answer.as_ref()));
        if Wanted::new(service.clone(), &view.role, &view.started(), view.state, checks) != *told {
            return;
        }
    }
    std::future::pending().await
}

async fn agree_once(consul: &Consul, wanted: &Wanted) -> Result<(), Error> {
    let seen = consul.seen().await?;
    for change in changes(wanted, &seen) {
        consul.tell(wanted, &change).await?;
    }
    Ok(())
}

/// Registers what a database node is: a change of role at once, and otherwise each round. When the agent stops, it says
/// nothing more: the database stops before it with the machine, which is told as any other loss of the role, and an agent
/// that is started again is no news about the role.
pub(super) async fn register_role(consul: Consul, mut roles: watch::Receiver<RoleView>) {
    let mut retry = FIRST_RETRY;
    let mut failing = false;
    loop {
        let told = roles.borrow_and_update().clone();
        let pause = match register_once(&consul, &told).await {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    log::info("Consul knows this node's role again");
                }
                retry = FIRST_RETRY;
                jittered(ROLE_ROUND)
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    log::warn(&format!("Consul could not be told the role: {}", chain(&error)));
                }
                retry = (retry * 2).min(LAST_RETRY);
                jittered(retry)
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = role_changes(&mut roles, &told) => {}
        }
    }
}

/// Returns at once when the role is another than was told, and after a while when anything else about it is.
async fn role_changes(roles: &mut watch::Receiver<RoleView>, told: &RoleView) {
    let told_at = tokio::time::Instant::now();
    let mut stale = false;
    loop {
        tokio::select! {
            changed = roles.changed() => match changed {
                Ok(()) => {}
                Err(_) => return std::future::pending().await,
            },
            () = tokio::time::sleep_until(told_at + META_PAUSE), if stale => return,
        }
        let role = roles.borrow_and_update();
        if role.differs_at_once(told) {
            return;
        }
        stale = *role != *told;
    }
}

async fn register_once(consul: &Consul, wanted: &RoleView) -> Result<(), Error> {
    let seen = consul.seen_role().await?;
    for change in role::changes(wanted, &seen) {
        consul.tell_role(wanted, &change).await?;
    }
    Ok(())
}

fn report(seen: &watch::Sender<ConsulView>, leader: Option<String>, error: Option<String>) {
    seen.send_if_modified(|view| {
        match (&view.error, &error) {
            (None, Some(error)) => log::warn(&format!("Consul could not be told: {error}")),
            (Some(_), None) => log::info("Consul knows this node's health again"),
            _ => {}
        }
        let changed = view.leader != leader || view.error != error;
        view.leader = leader;
        view.error = error;
        changed
    });
}

/// Follows what the catalogue says of this node, with blocking queries: an idle site costs one question in five minutes.
pub(super) async fn follow_catalogue(
    consul: Consul,
    node: String,
    seen: watch::Sender<ConsulView>,
) {
    let mut index = Index::default();
    let mut retry = FIRST_RETRY;
    loop {
        let health = match consul.node_health(&node, index, CATALOGUE_WAIT).await {
            Ok((health, next)) => {
                retry = FIRST_RETRY;
                index = next;
                health
            }
            // The reason stands in the log of the duty that tells Consul.
            Err(_) => {
                index = Index::default();
                sleep(jittered(retry)).await;
                retry = (retry * 2).min(LAST_RETRY);
                None
            }
        };
        seen.send_if_modified(|view| {
            let changed = view.catalogue != health;
            view.catalogue = health;
            changed
        });
        // Consul wakes a question early when anything near changes; never spin on it.
        sleep(Duration::from_millis(100)).await;
    }
}

/// On a server: while it is the Raft leader, makes the ACLs what the bundle says.
pub(super) async fn reconcile_acl(consul: Consul, wanted: Acl) {
    let mut retry = FIRST_RETRY;
    let mut last = None;
    loop {
        let pause = match reconcile_as_leader(&consul, &wanted).await {
            // A look that found nothing to change is the proof; anything else is looked at again.
            Ok(Some(0)) => ACL_ROUND,
            Ok(Some(changed)) => {
                log::info(&format!("changed {changed} of the ACLs to what the bundle says"));
                FIRST_RETRY
            }
            // Another server leads, or none does yet: then this one may be next.
            Ok(None) => {
                retry = FIRST_RETRY;
                let led = consul.leader().await.is_ok_and(|leader| leader.is_some());
                if led { FOLLOWER_ROUND } else { FIRST_RETRY }
            }
            Err(error) => {
                let text = chain(&error);
                if last.as_ref() != Some(&text) {
                    log::warn(&format!("the ACLs are not yet what the bundle says: {text}"));
                }
                last = Some(text);
                retry = (retry * 2).min(LAST_RETRY);
                retry
            }
        };
        sleep(jittered(pause)).await;
    }
}

async fn reconcile_as_leader(consul: &Consul, wanted: &Acl) -> Result<Option<usize>, Error> {
    if consul.is_leader().await? {
        acl::reconcile(consul, wanted).await.map(Some)
    } else {
        Ok(None)
    }
}
