//! Waking this node's Patroni when another node takes the leader key.
//!
//! A Patroni that has lost the race for the key sleeps for its `loop_wait` without watching it, and until it wakes its
//! PostgreSQL follows nobody: a synchronous primary can acknowledge nothing before that.

use tokio::sync::watch;

use super::patroni::Patroni;
use crate::error::chain;
use crate::log;

/// Wakes Patroni whenever the key goes from one to another that is not this node.
pub(super) async fn wake_patroni(
    patroni: Patroni,
    node: String,
    ttl_secs: u16,
    mut leaders: watch::Receiver<Option<String>>,
) {
    let mut last = None;
    while leaders.changed().await.is_ok() {
        let Some(leader) = leaders.borrow_and_update().clone() else { continue };
        // The first that is known has led before the agent started.
        let before = last.replace(leader.clone());
        if before.is_none_or(|before| before == leader) || leader == node {
            continue;
        }
        if let Err(error) = patroni.wake(ttl_secs).await {
            log::warn(&format!("Patroni was not woken: {}", chain(&error)));
        }
    }
}
