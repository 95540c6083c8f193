//! `[timings]` of a cluster file: single values set over the availability's table, held to the same inequalities.

use std::collections::BTreeMap;

use ballast_contract::{Availability, Timings};
use toml::Spanned;

use super::read::{Checked, Source};

/// The table: each key is one of [`Timings`].
pub(super) type TimingsTable = BTreeMap<String, Spanned<u32>>;

impl Source<'_> {
    /// What an availability comes to with what was set by hand.
    pub(super) fn timings(
        &self,
        availability: Availability,
        table: &TimingsTable,
    ) -> Checked<Timings> {
        let preset = availability.timings();
        let mut set: Vec<_> = table.iter().collect();
        set.sort_by_key(|(_, value)| self.line(value));
        let mut timings = preset;
        for (key, value) in &set {
            timings = with(timings, key, *value.get_ref()).map_err(|reason| {
                self.refuse(value, reason, "correct the key or its value, or take it out")
            })?;
        }
        let Err(refused) = timings.validate() else { return Ok(timings) };
        // To blame is the key without which the rule would hold; the rule may bear another's name.
        let holds_without = |without: &str| {
            let mut others = set.iter().filter(|(key, _)| key.as_str() != without);
            others
                .try_fold(preset, |timings, (key, value)| with(timings, key, *value.get_ref()))
                .is_ok_and(|timings| timings.validate().err().as_ref() != Some(&refused))
        };
        let blamed = set.iter().find(|(key, _)| holds_without(key)).or(set.first());
        let line = blamed.map_or(1, |(_, value)| self.line(value));
        Err(self.refuse_at(
            line,
            refused.to_string(),
            "keep to the limit, or take the key out: the availability's own value fits",
        ))
    }
}

/// Timings with one value set.
fn with(timings: Timings, key: &str, value: u32) -> Result<Timings, String> {
    let mut table = toml::Table::try_from(timings).map_err(|e| e.to_string())?;
    if !table.contains_key(key) {
        let known: Vec<_> = table.keys().map(|key| format!("`{key}`")).collect();
        return Err(format!("unknown field `{key}`, expected one of {}", known.join(", ")));
    }
    table.insert(key.to_owned(), value.into());
    table.try_into().map_err(|_| format!("timings.{key}: {value} is more than it can be"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::read_cluster;

    fn read(timings: &str) -> Checked<Timings> {
        let good = include_str!("../../tests/fixtures/good.toml");
        let text = format!("[timings]\n{timings}\n{good}");
        read_cluster("cluster.toml", text.as_bytes()).map(|cluster| cluster.timings)
    }

    #[test]
    fn a_value_set_by_hand_stands_over_the_table() {
        let expected = Timings { ttl_secs: 40, peer_misses: 10, ..Availability::Normal.timings() };
        assert_eq!(read("ttl_secs = 40\npeer_misses = 10"), Ok(expected));
    }

    #[test]
    fn the_key_that_breaks_a_rule_is_blamed_by_its_line() {
        let wrong = [
            (
                "loop_wait_secs = 15",
                2,
                "timings.ttl_secs: loop_wait 15 s + 2 x retry_timeout 10 s is more than 30 s",
            ),
            (
                "role_interval_ms = 400\nttl_secs = 20",
                3,
                "timings.ttl_secs: loop_wait 5 s + 2 x retry_timeout 10 s is more than 20 s",
            ),
            ("peer_misses = 300", 2, "timings.peer_misses: 300 is more than it can be"),
            ("retry_timeout_secs = -1", 2, "`retry_timeout_secs`: invalid value"),
            (
                "patience_secs = 1",
                2,
                "unknown field `patience_secs`, expected one of `dns_max_stale_secs`",
            ),
        ];
        for (timings, line, reason) in wrong {
            let refused = read(timings).unwrap_err();
            assert!(refused.reason.starts_with(reason), "{refused}");
            assert_eq!(refused.line, line, "{refused}");
        }
    }
}
