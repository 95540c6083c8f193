//! Failure detection by the agents: the members of a PostgreSQL cluster and the Consul servers watch each member, and a
//! majority of them together gives up a silent primary long before its leader key would expire.
//!
//! The decisions are pure and are simulated. Without a majority, without Consul, or against a living member's word nobody
//! acts, and the key's plain time to live decides. Nothing runs where the bundle names nobody to be watched.

mod agreement;
mod duty;
mod fence;
mod own;
mod ping;
mod suspicion;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ballast_bundle::{Bundle, NodeConfig, Observed};
use serde::{Deserialize, Serialize};
use tokio::sync::watch::{Receiver, channel};

use crate::consul::Consul;
use crate::error::Error;
use crate::http::Tls;
use crate::log;
use crate::role::RoleView;
use duty::Observer;
use suspicion::Patience;
use watch::Rules;

/// What this node knows of a member that it watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerView {
    pub(crate) cluster: String,
    pub(crate) member: String,
    /// Whether it gives no sign of life.
    pub(crate) suspect: bool,
    /// Whether this node's database refuses to talk to it.
    pub(crate) fenced: bool,
    /// How often this node took the leader key from it since the agent started.
    pub(crate) given_up: u64,
}

/// Starts to watch whom the bundle says, and on a member to answer those who watch it.
///
/// # Errors
/// The bundle's certificates are none.
pub(crate) fn start(
    bundle: &Bundle,
    consul: SocketAddr,
    roles: Option<Receiver<RoleView>>,
) -> Result<Receiver<Vec<PeerView>>, Error> {
    let (views, seen) = channel(Vec::new());
    let node = &bundle.node;
    let consul = Consul::new(consul, Some(bundle.secrets.agent_token.clone()));
    // A node is a member of one cluster, and a site has one.
    let Some(observed) = node.observed.first() else { return Ok(seen) };
    let observer = Observer {
        rules: rules(node, observed),
        observed: observed.clone(),
        consul: consul.clone(),
        tls: Tls::new(bundle)?,
    };
    log::info(&format!(
        "watching {} members of {}, as one of {} observers",
        observed.members.iter().filter(|member| member.name != node.node.name).count(),
        observed.cluster,
        observed.observers.len()
    ));
    if observed.members.iter().any(|member| member.name == node.node.name) {
        answer(node, observed);
        if let Some(roles) = roles {
            let own = own::Own { node: node.node.name.clone(), cluster: observed.cluster.clone() };
            tokio::spawn(own::keep_shut(own, consul, roles));
        }
    }
    tokio::spawn(duty::observe(observer, views));
    Ok(seen)
}

fn rules(node: &NodeConfig, observed: &Observed) -> Rules {
    let own = node.network.address.addr();
    let millis = |millis: u16| Duration::from_millis(millis.into());
    let timings = &node.timings;
    Rules {
        this: node.node.name.clone(),
        members: observed.members.iter().map(|member| member.name.clone()).collect(),
        observers: observed.observers.clone(),
        servers: node
            .consul
            .servers
            .iter()
            .filter(|server| **server != own)
            .map(IpAddr::to_string)
            .collect(),
        patience: Patience {
            interval: millis(timings.peer_interval_ms),
            misses: timings.peer_misses,
        },
        window: millis(timings.peer_window_ms),
        // Patroni hears of a new leader at once, and in its next round at the latest.
        hold: Duration::from_secs(2 * u64::from(timings.loop_wait_secs)),
    }
}

/// Answers the observers from a thread that does nothing else.
fn answer(node: &NodeConfig, observed: &Observed) {
    let members = observed.members.iter().map(|member| member.address);
    let observers: Vec<IpAddr> = members.chain(node.consul.servers.iter().copied()).collect();
    let any: IpAddr = match node.network.address.addr() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let answering = move || {
        loop {
            let answered = ping::bind(any, ping::PORT)
                .and_then(|socket| ping::answer_all(&socket, &observers));
            if let Err(error) = answered {
                log::warn(&format!("peers are not answered: {error}"));
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    };
    let started = std::thread::Builder::new().name("answer".to_owned()).spawn(answering);
    if let Err(error) = started {
        log::warn(&format!("no thread to answer peers with: {error}"));
    }
    hold_memory();
}

/// Keeps what the agent uses in memory: a machine whose memory is short still says that it lives.
fn hold_memory() {
    use nix::libc::MCL_ONFAULT;
    use nix::sys::mman::{MlockAllFlags, mlockall};

    let on_fault = MlockAllFlags::from_bits_retain(MCL_ONFAULT);
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    if let Err(error) = mlockall(all) {
        // A container may not.
        log::info(&format!("the agent's memory is not held: {error}"));
    }
}
