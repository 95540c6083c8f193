//! Giving up this node's own leader key when Patroni has died and taken PostgreSQL along: systemd asks for it once the
//! last process of the unit is gone, so that nothing here can acknowledge a write any more.
//!
//! It says nothing of a Patroni that was told to stop, which gives its key up itself, and of one that has time to come back.

use std::net::SocketAddr;
use std::time::Duration;

use ballast_bundle::Postgres;
use ballast_contract::Timings;

use crate::boot;
use crate::consul::{Consul, Error as Refusal, Index, Keys};
use crate::error::{Error, chain};
use crate::log;
use crate::root::Root;

/// How long each answer of Consul's may take: Patroni is started again only after this.
const DEADLINE: Duration = Duration::from_secs(1);

/// Gives the key up, where there is reason to. That Consul can't be asked is no failure: the key expires.
///
/// # Errors
/// This boot took no bundle.
pub(crate) async fn release(root: &Root, consul: SocketAddr) -> Result<(), Error> {
    let bundle = boot::load_taken(root)?;
    let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
    let Some(postgres) = &bundle.node.postgres else { return Ok(()) };
    if !is_over(&result, &bundle.node.timings) {
        return Ok(());
    }
    let consul = Consul::new(consul, Some(bundle.secrets.agent_token.clone()));
    match release_own(&consul, postgres, &bundle.node.node.name).await {
        Ok(true) => log::warn(&format!(
            "Patroni has died ({result}): this node gives up the leader key of {}, so that another may take it",
            postgres.cluster
        )),
        Ok(false) => {}
        Err(error) => log::warn(&format!("the leader key is not given up: {}", chain(&error))),
    }
    Ok(())
}

/// Whether Patroni ended otherwise than in order, by systemd's word (systemd.exec(5), `$SERVICE_RESULT`), and a crashed
/// primary gets no time to come back.
fn is_over(result: &str, timings: &Timings) -> bool {
    !matches!(result, "" | "success") && timings.primary_start_timeout_secs == 0
}

/// Gives the key up if it is this node's and the operator does not have the cluster left alone.
async fn release_own(consul: &Consul, postgres: &Postgres, node: &str) -> Result<bool, Refusal> {
    let place = |name: &str| format!("service/{}/{name}", postgres.cluster);
    let read = async |key: &str| {
        let asked = consul.entries(Keys::One(key), Index::default(), Duration::ZERO, DEADLINE);
        asked.await.map(|(entries, _)| entries.into_iter().next())
    };
    let leader = place("leader");
    let Some(held) = read(&leader).await?.filter(|held| held.value == node.as_bytes()) else {
        return Ok(false);
    };
    let configuration = read(&place("config")).await?;
    if configuration.is_some_and(|entry| super::is_paused(&entry.value)) {
        return Ok(false);
    }
    consul.take_key((&leader, held.index), &[], DEADLINE).await
}

#[cfg(test)]
mod tests {
    use ballast_contract::Availability;

    use super::*;

    #[test]
    fn a_key_is_given_up_for_a_patroni_that_died_where_a_crashed_primary_gets_no_time() {
        let [fast, normal] = [Availability::Fast, Availability::Normal].map(Availability::timings);
        assert!(is_over("signal", &fast) && is_over("oom-kill", &fast));
        assert!(!is_over("success", &fast), "it was told to stop");
        assert!(!is_over("", &fast), "systemd does not ask");
        assert!(!is_over("signal", &normal), "it has time to come back");
    }
}
