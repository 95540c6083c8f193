//! The fence around a Redis that calls itself primary and cannot show that it is: no application is let in, to write or to read.
//!
//! A primary that was cut off or stood still takes no writes once its replicas are silent for long, and would answer reads
//! for ever with what was true when it was lost. Whether it still is the primary, its agent asks the Sentinels; when they
//! have not said so for longer than they themselves need to miss a primary, another may have been chosen. Replicas and
//! Sentinels are let in as ever, for they make it a replica.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Server;
use super::primary::Verdict;
use super::{Group, Snapshot};
use crate::error::chain;
use crate::log;
use crate::plan::redis::{Applications, users};
use crate::root;

/// A primary may be in doubt for this long, or for twice as long as a Sentinel bears silence if that is longer: a machine that
/// is merely busy must not lose its clients' sessions.
const PATIENCE: Duration = Duration::from_secs(2);

/// The fence, and since when there is doubt.
pub(super) struct Fence {
    stands: bool,
    doubt: Option<Instant>,
    patience: Duration,
}

impl Fence {
    /// The fence as an agent before this one may have left it.
    pub(super) fn find(group: &Group) -> Self {
        let open = users(&group.secrets, Applications::Admitted);
        let down_after = Duration::from_millis(group.timings.sentinel_down_after_ms.into());
        let found = std::fs::read(place(group));
        Self {
            // A file that is not there is the boot's to write, and so is one that cannot be read.
            stands: found.is_ok_and(|bytes| bytes != open.as_bytes()),
            doubt: None,
            patience: PATIENCE.max(2 * down_after),
        }
    }

    /// Whether it is to be raised (true) or taken away (false); none where it stays as it is.
    fn change(&mut self, snapshot: &Snapshot, now: Instant) -> Option<bool> {
        // What does not answer lets nobody in, and while it reads its data neither.
        let info = snapshot.redis.as_ref().ok().filter(|info| !info.loading)?;
        let wanted = if !info.is_primary() || snapshot.verdict == Verdict::Primary {
            self.doubt = None;
            false
        } else {
            let since = *self.doubt.get_or_insert(now);
            now.duration_since(since) >= self.patience || self.stands
        };
        (wanted != self.stands).then_some(wanted)
    }

    /// Raises it or takes it away, where that is due; what fails is tried again in the next round.
    pub(super) async fn keep(&mut self, group: &Group, snapshot: &Snapshot, redis: &mut Server) {
        let Some(raise) = self.change(snapshot, Instant::now()) else { return };
        if let Err(why) = set(group, redis, raise).await {
            log::warn(&format!("the fence around Redis: {why}"));
            return;
        }
        self.stands = raise;
        if raise {
            log::warn("Redis calls itself primary and cannot show it: no application is let in");
        } else {
            log::info("applications are let in again");
        }
    }
}

fn place(group: &Group) -> String {
    format!("{}/users.acl", group.layout.run)
}

async fn set(group: &Group, redis: &mut Server, raise: bool) -> Result<(), String> {
    let applications = if raise { Applications::Refused } else { Applications::Admitted };
    let text = users(&group.secrets, applications);
    let place = place(group);
    let path = Path::new(&place);
    let found = std::fs::metadata(path).map_err(|error| format!("reading {place}: {error}"))?;
    let owner = Some((found.uid(), found.gid()));
    root::save(path, text.as_bytes(), 0o600, owner).map_err(|error| chain(&error))?;
    redis.ask::<()>(&["ACL", "LOAD"]).await.map_err(|error| chain(&error))?;
    if raise {
        let cut = redis.ask::<u64>(&["CLIENT", "KILL", "USER", "app"]).await;
        cut.map_err(|error| chain(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::check::tests::{replica, well};

    fn fence() -> Fence {
        Fence { stands: false, doubt: None, patience: PATIENCE }
    }

    fn with(verdict: Verdict) -> Snapshot {
        Snapshot { verdict, ..well() }
    }

    #[test]
    fn it_is_raised_once_a_primary_could_not_show_that_it_is_one_for_as_long_as_it_takes_to_be_missed()
     {
        let start = Instant::now();
        let cut = Verdict::Unsure("1 of 3 Sentinels answer".into());
        for verdict in [cut.clone(), Verdict::Stale([127, 0, 1, 2].into())] {
            let mut fence = fence();
            assert_eq!(fence.change(&with(verdict.clone()), start), None);
            assert_eq!(fence.change(&with(verdict.clone()), start + PATIENCE / 2), None);
            assert_eq!(fence.change(&with(verdict), start + PATIENCE), Some(true));
        }
        // It showed it in between.
        let mut fence = fence();
        fence.change(&with(cut.clone()), start);
        fence.change(&well(), start + PATIENCE / 2);
        assert_eq!(fence.change(&with(cut), start + PATIENCE), None);
    }

    #[test]
    fn it_goes_when_the_node_is_a_replica_or_the_primary_and_stays_while_redis_is_silent() {
        let start = Instant::now();
        let cut = with(Verdict::Unsure("1 of 3 Sentinels answer".into()));
        let silent = Snapshot { redis: Err("no answer".into()), ..well() };
        let mut fence = Fence { stands: true, ..fence() };
        assert_eq!(fence.change(&silent, start), None);
        assert_eq!(fence.change(&cut, start), None);
        assert_eq!(fence.change(&replica(None), start), Some(false));
        assert_eq!(fence.change(&well(), start), Some(false));
    }
}
