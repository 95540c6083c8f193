//! What a site's timings come to, for each kind of loss: the sentences that `ballast validate` ends in.

use std::fmt;
use std::time::Duration;

use crate::cluster::Cluster;

/// What is borne for how long, and what happens then.
pub struct Bounds(Vec<(&'static str, String)>);

/// The bounds of a site, those of its databases where it has them.
pub fn bounds(cluster: &Cluster) -> Bounds {
    let timings = &cluster.timings;
    let mut list = vec![
        (
            "silent Consul leader",
            format!("another is elected after about {} s", timings.raft_multiplier),
        ),
        (
            "Consul without a leader",
            format!("names are answered for {} s more", timings.dns_max_stale_secs),
        ),
    ];
    if let Some(postgres) = &cluster.postgres {
        let peers = seconds(timings.peer_detection_ms().into());
        list.push((
            "silent PostgreSQL primary",
            if postgres.peer_detection {
                format!(
                    "given up within {peers} by a majority of {} observers, or after {} s without one",
                    cluster.observers().len(),
                    timings.ttl_secs
                )
            } else {
                format!("given up after {} s", timings.ttl_secs)
            },
        ));
        list.push((
            "crashed PostgreSQL",
            match timings.primary_start_timeout_secs {
                0 => "another is chosen at once".to_owned(),
                secs => format!("started again in its place; after {secs} s another is chosen"),
            },
        ));
        list.push((
            "primary that cannot renew its key",
            format!(
                "reset by its watchdog {} s before the key can end",
                timings.watchdog_margin_secs
            ),
        ));
    }
    if cluster.redis.is_some() {
        list.push((
            "silent Redis master",
            format!(
                "given up after {}, by most of the Sentinels",
                seconds(timings.sentinel_down_after_ms.into())
            ),
        ));
        list.push((
            "Redis master cut from its replicas",
            format!("takes no writes after {} s", timings.min_replicas_max_lag_secs),
        ));
    }
    Bounds(list)
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
        for (what, bound) in &self.0 {
            writeln!(f, "  {what:<width$}  {bound}")?;
        }
        Ok(())
    }
}

fn seconds(millis: u64) -> String {
    format!("{} s", Duration::from_millis(millis).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::read_cluster;

    fn of(text: &str) -> String {
        bounds(&read_cluster("cluster.toml", text.as_bytes()).unwrap()).to_string()
    }

    const DATABASES: &str = include_str!("../tests/fixtures/databases.toml");

    #[test]
    fn a_site_is_told_what_each_loss_costs() {
        assert_eq!(
            of(DATABASES),
            "  silent Consul leader                another is elected after about 2 s\n  \
               Consul without a leader             names are answered for 5 s more\n  \
               silent PostgreSQL primary           given up within 4 s by a majority of 6 observers, or after 30 s without one\n  \
               crashed PostgreSQL                  started again in its place; after 15 s another is chosen\n  \
               primary that cannot renew its key   reset by its watchdog 5 s before the key can end\n  \
               silent Redis master                 given up after 2 s, by most of the Sentinels\n  \
               Redis master cut from its replicas  takes no writes after 10 s\n"
        );
        assert_eq!(of(include_str!("../tests/fixtures/good.toml")).lines().count(), 2);
    }

    #[test]
    fn what_was_set_by_hand_is_what_counts() {
        let set = format!("[timings]\nttl_secs = 40\nsentinel_down_after_ms = 2500\n{DATABASES}");
        let set = set.replace("[postgres]", "[postgres]\npeer_detection = false");
        let text = of(&set);
        assert!(text.contains("given up after 40 s\n"), "{text}");
        assert!(text.contains("given up after 2.5 s, by"), "{text}");
    }
}
