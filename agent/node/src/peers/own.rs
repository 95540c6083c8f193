//! A member's own side: one that has lost the leader key while its PostgreSQL may still be a primary takes no new session,
//! from the moment it hears of it. Patroni ends that state; this only covers the time until it has.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::fence;
use super::watch::FENCE_BOUND;
use crate::consul::{Consul, Index, Keys};
use crate::error::chain;
use crate::log;
use crate::role::{REPLICA, RoleView};

/// Whose side.
pub(super) struct Own {
    pub(super) node: String,
    pub(super) cluster: String,
}

const WAIT: Duration = Duration::from_secs(300);
const LATE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);

/// Whether new sessions are refused: the key was this node's, it is not any more, and nobody has seen its PostgreSQL
/// follow another one since.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shut {
    led: bool,
    shut: bool,
}

impl Shut {
    /// What is so after this node was seen to lead or not to lead.
    fn led(&mut self, leads: bool) {
        self.shut = !leads && (self.led || self.shut);
        self.led = leads;
    }

    /// Its PostgreSQL was asked, and is a replica.
    fn follows(&mut self) {
        self.shut = false;
    }
}

/// Keeps PostgreSQL's port shut while this node has lost the key and has not followed since.
pub(super) async fn keep_shut(own: Own, consul: Consul, mut roles: watch::Receiver<RoleView>) {
    let (leads, mut leading) = watch::channel(false);
    tokio::spawn(follow(consul, format!("service/{}/leader", own.cluster), own.node, leads));
    let mut state = Shut::default();
    let mut set: Option<Instant> = None;
    loop {
        state.led(*leading.borrow_and_update());
        if roles.borrow_and_update().tags.iter().any(|tag| tag == REPLICA) {
            state.follows();
        }
        // Renewed before it ends by itself.
        let is_due = set.is_none_or(|at| at.elapsed() >= FENCE_BOUND / 2);
        let done = match (state.shut, set.is_some()) {
            (true, stands) if is_due => {
                if !stands {
                    log::warn(
                        "this node has lost the leader key: its PostgreSQL takes no new session until it follows the new primary",
                    );
                }
                set = Some(Instant::now());
                fence::shut().await
            }
            (false, true) => {
                set = None;
                log::info("PostgreSQL takes sessions again");
                fence::open().await
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            log::warn(&chain(&error));
        }
        let pause = if state.shut { FENCE_BOUND / 2 } else { WAIT };
        let changes = async {
            tokio::select! {
                changed = leading.changed() => changed,
                changed = roles.changed() => changed,
            }
        };
        if let Ok(Err(_)) = timeout(pause, changes).await {
            // Nobody follows any more: the agent is ending.
            sleep(pause).await;
        }
    }
}

/// Follows whether this node holds the key. Without Consul nothing is known, and nothing changes.
async fn follow(consul: Consul, key: String, node: String, leads: watch::Sender<bool>) {
    let mut index = Index::default();
    loop {
        match consul.entries(Keys::One(&key), index, WAIT, LATE).await {
            Ok((entries, next)) => {
                index = next;
                let own = entries.first().is_some_and(|entry| entry.value == node.as_bytes());
                leads.send_if_modified(|led| {
                    let changed = *led != own;
                    *led = own;
                    changed
                });
                sleep(Duration::from_millis(20)).await;
            }
            Err(_) => {
                index = Index::default();
                sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_lost_the_key_is_shut_and_only_until_it_follows_or_leads() {
        let mut state = Shut::default();
        state.led(false);
        assert!(!state.shut, "a replica was shut");
        state.led(true);
        assert!(!state.shut);
        state.led(false);
        state.led(false);
        assert!(state.shut);
        state.follows();
        state.led(false);
        assert!(!state.shut);
        state.led(true);
        state.led(false);
        assert!(state.shut);
        state.led(true);
        assert!(!state.shut);
    }
}
