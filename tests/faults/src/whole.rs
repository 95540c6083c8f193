//! Whether the site is whole: every node passing, one leader, each store with one primary that all its members follow, and
//! for PostgreSQL's somebody named who may take its place.

use std::time::Duration;

use ballast_machines::consul::Health;
use ballast_machines::error::Error as Machines;
use ballast_machines::fleet::Fleet;
use ballast_machines::poll::{self, Seen};

use crate::clients::{Clients, Store};
use crate::error::{Error, Result};
use crate::fault;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until a site that was switched on is whole, with what the clients need made in it.
///
/// # Errors
/// As [`wait`].
pub fn rise(
    fleet: &mut Fleet,
    clients: &Clients,
    limit: Duration,
) -> Result<std::result::Result<(), String>> {
    let start = std::time::Instant::now();
    loop {
        poll::check_interrupt()?;
        match clients.prepare()? {
            Ok(()) => return wait(fleet, clients, limit.saturating_sub(start.elapsed())),
            Err(why) if start.elapsed() > limit => return Ok(Err(why)),
            Err(_) => poll::nap(PAUSE),
        }
    }
}

/// Waits until the site is whole; the inner error is what was not when the limit passed.
///
/// # Errors
/// When the user interrupts, or the clients cannot be run.
pub fn wait(
    fleet: &mut Fleet,
    clients: &Clients,
    limit: Duration,
) -> Result<std::result::Result<(), String>> {
    let mut failed = None;
    let waited = poll::until("the site to be whole", limit, PAUSE, || {
        Ok(match look(fleet, clients) {
            Ok(Ok(())) => Seen::Ready(()),
            Ok(Err(why)) => Seen::NotYet(why),
            Err(error) => {
                failed = Some(error);
                Seen::Ready(())
            }
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    match waited {
        Ok(()) => Ok(Ok(())),
        Err(Machines::Deadline { seen, .. }) => Ok(Err(seen)),
        Err(error) => Err(error.into()),
    }
}

fn look(fleet: &mut Fleet, clients: &Clients) -> Result<std::result::Result<(), String>> {
    // The stores' clients are quick; Consul is asked through a machine's shell.
    for store in Store::ALL {
        if let Err(why) = clients.look(store)? {
            return Ok(Err(why));
        }
    }
    // A primary of which no standby is named takes writes, and nobody could take its place.
    if clients.access().postgres.synchronous {
        match fault::standbys(fleet, clients) {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => return Ok(Err(why)),
            Err(error) if error.is_interrupt() => return Err(error),
            Err(error) => return Ok(Err(ballast_machines::error::chain(&error))),
        }
    }
    let view = match fleet.view() {
        Ok(Ok(view)) => view,
        Ok(Err(why)) => return Ok(Err(why)),
        Err(Machines::Interrupted) => return Err(Error::Machines(Machines::Interrupted)),
        // A machine that ended by itself is not whole.
        Err(error) => return Ok(Err(ballast_machines::error::chain(&error))),
    };
    let wanting = |name: &str| view.health(name) != Some(Health::Passing);
    let well = view.leader.is_some() && !fleet.nodes().iter().any(|node| wanting(&node.name));
    Ok(if well { Ok(()) } else { Err(view.to_string()) })
}
