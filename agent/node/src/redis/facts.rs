//! What Redis and Sentinel answer, as values: `INFO` and `SENTINEL MASTER` of Redis 8, with the fields that are used.

use std::collections::HashMap;
use std::net::IpAddr;

/// What a Redis says of itself (`INFO server replication persistence memory`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) version: String,
    pub(super) role: Role,
    /// Whether it is still reading its data from the disk.
    pub(super) loading: bool,
    /// How far it has come in the history of the group's writes, bytes.
    pub(super) offset: u64,
    pub(super) append_only: AppendOnly,
    pub(super) memory: Memory,
}

/// What a Redis is, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes writes, if enough of its replicas hear it.
    Primary { replicas: Vec<Follower> },
    /// It follows another.
    Replica {
        of: String,
        /// Since when it does not hear its primary; none while it does.
        cut: Option<Cut>,
        /// Whether it holds what the group held: not until it has followed a primary to the end once.
        whole: bool,
    },
}

/// A replica that does not hear its primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Since when, seconds; none if it has never heard it since it started.
    pub(super) secs: Option<u64>,
    /// Whether the primary is sending it everything at this moment.
    pub(super) receiving: bool,
}

/// A replica as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Follower {
    pub(super) address: String,
    /// `online` once it has everything.
    pub(super) state: String,
    pub(super) offset: u64,
    /// Since it was heard last, seconds.
    pub(super) lag_secs: u64,
}

/// The append-only log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppendOnly {
    pub(super) enabled: bool,
    pub(super) written: bool,
    pub(super) rewritten: bool,
    /// Whether the last snapshot for a replica could be written.
    pub(super) saved: bool,
}

/// Memory, as `maxmemory` counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) used_bytes: u64,
    /// 0 for no limit.
    pub(super) limit_bytes: u64,
}

/// The primary, as one Sentinel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) address: IpAddr,
    /// Counts failovers: of two Sentinels that differ, the one with the higher epoch is right.
    pub(super) epoch: u64,
    /// How far this Sentinel's failover has come, while it leads one.
    pub(super) failover: Option<String>,
    pub(super) replicas: usize,
    pub(super) other_sentinels: usize,
}

impl Info {
    /// Reads Redis's text; the error is the first field that is missing or makes no sense.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let fields = Fields(text.lines().filter_map(|l| l.trim_end().split_once(':')).collect());
        let role = match fields.text("role")? {
            "master" => {
                let count: usize = fields.number("connected_slaves")?;
                let line = |n: usize| fields.text(&format!("slave{n}")).and_then(Follower::read);
                Role::Primary { replicas: (0..count).map(line).collect::<Result<_, _>>()? }
            }
            "slave" => {
                let cut = (fields.text("master_link_status")? != "up").then(|| Cut {
                    // -1 stands for never.
                    secs: fields.number("master_link_down_since_seconds").ok(),
                    receiving: fields.text("master_sync_in_progress") == Ok("1"),
                });
                let whole = fields.text("slave_priority")? != "0";
                Role::Replica { of: fields.text("master_host")?.to_owned(), cut, whole }
            }
            other => return Err(format!("role {other:?}")),
        };
        let offset = match role {
            Role::Primary { .. } => fields.number("master_repl_offset")?,
            Role::Replica { .. } => fields.number("slave_repl_offset")?,
        };
        let ok = |name: &str| fields.text(name).map(|value| value == "ok");
        let uncounted: u64 = fields.number("mem_not_counted_for_evict")?;
        Ok(Self {
            version: fields.text("redis_version")?.to_owned(),
            loading: fields.text("loading")? != "0",
            offset,
            append_only: AppendOnly {
                enabled: fields.text("aof_enabled")? == "1",
                written: ok("aof_last_write_status")?,
                rewritten: ok("aof_last_bgrewrite_status")?,
                saved: ok("rdb_last_bgsave_status")?,
            },
            memory: Memory {
                used_bytes: fields.number::<u64>("used_memory")?.saturating_sub(uncounted),
                limit_bytes: fields.number("maxmemory")?,
            },
            role,
        })
    }

    /// Whether it holds what the group held, if not the last of it.
    pub(super) fn holds(&self) -> bool {
        match self.role {
            Role::Primary { .. } => true,
            Role::Replica { whole, .. } => whole,
        }
    }

    pub(super) fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary { .. })
    }
}

impl Follower {
    /// Reads `ip=10.0.0.5,port=6379,state=online,offset=126,lag=0`, and what stands between.
    fn read(text: &str) -> Result<Self, String> {
        let fields = Fields(text.split(',').filter_map(|field| field.split_once('=')).collect());
        Ok(Self {
            address: fields.text("ip")?.to_owned(),
            state: fields.text("state")?.to_owned(),
            offset: fields.number("offset")?,
            lag_secs: fields.number("lag")?,
        })
    }
}

impl Named {
    /// Reads the fields of `SENTINEL MASTER`, or why they make no sense.
    pub(super) fn read(fields: &HashMap<String, String>) -> Result<Self, String> {
        let fields = Fields(fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect());
        let failing_over = fields.text("flags")?.contains("failover_in_progress");
        let state = fields.text("failover-state").unwrap_or("unknown");
        let address = fields.text("ip")?;
        Ok(Self {
            address: address.parse().map_err(|_| format!("ip {address:?}"))?,
            epoch: fields.number("config-epoch")?,
            failover: failing_over.then(|| state.to_owned()),
            replicas: fields.number("num-slaves")?,
            other_sentinels: fields.number("num-other-sentinels")?,
        })
    }
}

struct Fields<'a>(HashMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.0.get(name).copied().ok_or_else(|| format!("no {name}"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("{name} {text:?}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Redis 8.0.2's own words, shortened to one section each.
    const PRIMARY: &str = include_str!("words/primary.info");
    const REPLICA: &str = include_str!("words/replica.info");

    pub(in crate::redis) fn primary() -> Info {
        Info::read(PRIMARY).unwrap()
    }

    pub(in crate::redis) fn replica() -> Info {
        Info::read(REPLICA).unwrap()
    }

    #[test]
    fn a_primary_names_its_replicas() {
        let info = primary();
        let Role::Primary { replicas } = &info.role else { panic!("{info:?}") };
        assert_eq!(replicas.len(), 2);
        assert!(replicas.iter().all(|r| r.state == "online" && r.address.starts_with("127.")));
        assert_eq!(info.version, "8.0.2");
        assert!(info.append_only.enabled && info.append_only.written);
    }

    #[test]
    fn a_replica_says_whom_it_follows_and_since_when_it_hears_nothing() {
        let Role::Replica { of, cut, whole } = replica().role else { panic!() };
        assert_eq!((of.as_str(), cut, whole), ("127.0.1.1", None, true));
        let text = REPLICA
            .replace(
                "master_link_status:up",
                "master_link_status:down\r\nmaster_link_down_since_seconds:7",
            )
            .replace("slave_priority:100", "slave_priority:0");
        let Role::Replica { cut, whole, .. } = Info::read(&text).unwrap().role else { panic!() };
        assert_eq!((cut.unwrap().secs, whole), (Some(7), false));
        let never = text.replace("since_seconds:7", "since_seconds:-1");
        let Role::Replica { cut, .. } = Info::read(&never).unwrap().role else { panic!() };
        assert_eq!(cut.unwrap().secs, None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Info::read("role:master\r\n").unwrap_err(), "no connected_slaves");
        assert_eq!(Info::read("").unwrap_err(), "no role");
    }
}
