//! `[postgres]` and `[redis]` of a cluster file, and the rules of the nodes that are their members.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ballast_bundle::{
    Backup, Member, Postgres, Redis, Repository, Restore, refuse_event, refuse_name,
    refuse_parameter,
};
use ballast_contract::{Durability, NODE_SERVICE};
use ipnet::IpNet;
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use toml::{Spanned, Value};

use super::read::{Checked, NodeTable, Source};
use super::{Node, POSTGRES, REDIS};

/// Consul's own service, and the one that a node's checks hang on, which no cluster may be named like.
const TAKEN: [(&str, &str); 2] =
    [("consul", "Consul itself"), (NODE_SERVICE, "every node with a database")];

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresTable {
    pub(super) cluster: Option<Spanned<String>>,
    durability: Option<Spanned<Durability>>,
    database: Option<Spanned<String>>,
    owner: Option<Spanned<String>>,
    clients: Option<Vec<Spanned<IpNet>>>,
    #[serde(default)]
    parameters: BTreeMap<String, Spanned<Value>>,
    peer_detection: Option<Spanned<bool>>,
    backup: Option<BackupTable>,
    restore: Option<RestoreTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreTable {
    cluster: Spanned<String>,
    to: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupTable {
    repository: Spanned<Repository>,
    credentials: Option<PathBuf>,
    full: Option<Spanned<String>>,
    incremental: Option<Spanned<String>>,
    #[serde(default = "two")]
    keep_full: u8,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisTable {
    pub(super) cluster: Option<Spanned<String>>,
    max_memory: Option<Spanned<String>>,
}

/// When backups are made where the file doesn't say: everything on Sundays, and what has changed on all other days.
const FULL: &str = "Sun 02:00";
const INCREMENTAL: &str = "Mon..Sat 02:00";

fn two() -> u8 {
    2
}

/// The nodes as they stand in the file, and as they were read.
type Nodes<'a> = [(&'a NodeTable, &'a Node)];

impl Source<'_> {
    /// The Consul service of a database role's nodes.
    pub(super) fn service(&self, role: &str, set: Option<&Spanned<String>>) -> Checked<String> {
        match set {
            None => Ok(role.to_owned()),
            Some(name) => self.label(&format!("{role}.cluster"), name),
        }
    }

    /// Refuses a cluster whose service is another's: clients would be sent to the wrong program.
    pub(super) fn check_services(
        &self,
        roles: &[(String, Vec<String>)],
        postgres: Option<&Spanned<PostgresTable>>,
        redis: Option<&Spanned<RedisTable>>,
    ) -> Checked<()> {
        let postgres = postgres.and_then(|t| t.get_ref().cluster.as_ref());
        let redis = redis.and_then(|t| t.get_ref().cluster.as_ref());
        for (role, cluster) in [(POSTGRES, postgres), (REDIS, redis)] {
            let Some(cluster) = cluster else { continue };
            let name = cluster.get_ref();
            let other = roles
                .iter()
                .find(|(other, services)| other != role && services.contains(name))
                .map(|(other, _)| format!("role {other:?}"))
                .or_else(|| {
                    let (_, whose) = TAKEN.iter().find(|(taken, _)| taken == name)?;
                    Some((*whose).to_owned())
                });
            if let Some(other) = other {
                let reason = format!("{role}.cluster {name:?} is the service of {other} as well");
                return Err(self.refuse(cluster, reason, "give it a name of its own"));
            }
        }
        Ok(())
    }

    /// The PostgreSQL cluster, and the file with its store's credentials.
    pub(super) fn postgres(
        &self,
        spanned: Option<&Spanned<PostgresTable>>,
        nodes: &Nodes<'_>,
        networks: Vec<IpNet>,
    ) -> Checked<Option<(Postgres, Option<PathBuf>)>> {
        let Some(first) = nodes.iter().find(|(_, node)| node.role == POSTGRES) else {
            return self.no_nodes(POSTGRES, spanned);
        };
        let default = PostgresTable::default();
        let table = spanned.map_or(&default, Spanned::get_ref);
        let members = self.members(POSTGRES, nodes)?;
        let durability = table.durability.as_ref().map(|d| *d.get_ref()).unwrap_or_default();
        let asynchronous = durability == Durability::Asynchronous;
        if members.len() < 2 && !asynchronous {
            let line = table.durability.as_ref().map_or(self.line(&first.0.role), |d| self.line(d));
            return Err(self.refuse_at(
                line,
                "a synchronous durability needs 2 or more nodes of role \"postgres\", and there is 1",
                "have three, which bear the loss of one, or set `durability = \"asynchronous\"` under [postgres]",
            ));
        }
        let peer_detection = match &table.peer_detection {
            Some(set) if *set.get_ref() && asynchronous => {
                return Err(self.refuse(
                    set,
                    "postgres.peer_detection asks for a synchronous durability: each failover can lose acknowledged writes",
                    "take it out, or set durability to \"synchronous\" or \"quorum\"",
                ));
            }
            Some(set) => *set.get_ref(),
            None => !asynchronous,
        };
        let (backup, credentials) = match &table.backup {
            None => (None, None),
            Some(table) => (Some(self.backup(table)?), table.credentials.clone()),
        };
        let postgres = Postgres {
            cluster: self.service(POSTGRES, table.cluster.as_ref())?,
            durability,
            members,
            database: self.name("database", table.database.as_ref())?,
            owner: self.name("owner", table.owner.as_ref())?,
            clients: self.clients(table.clients.as_deref(), networks)?,
            parameters: self.parameters(&table.parameters)?,
            peer_detection,
            backup,
            restore: None,
        };
        let restore = table.restore.as_ref();
        let restore = restore.map(|table| self.restore(table, &postgres)).transpose()?;
        Ok(Some((Postgres { restore, ..postgres }, credentials)))
    }

    /// The Redis group.
    pub(super) fn redis(
        &self,
        spanned: Option<&Spanned<RedisTable>>,
        nodes: &Nodes<'_>,
    ) -> Checked<Option<Redis>> {
        let Some(first) = nodes.iter().find(|(_, node)| node.role == REDIS) else {
            return self.no_nodes(REDIS, spanned);
        };
        let default = RedisTable::default();
        let table = spanned.map_or(&default, Spanned::get_ref);
        let members = self.members(REDIS, nodes)?;
        let count = members.len();
        if count < 3 || count % 2 == 0 {
            let noun = if count == 1 { "node" } else { "nodes" };
            let reason = format!(
                "there are {count} {noun} of role \"redis\", which is not an odd number of three or more"
            );
            let hint =
                "have three, or five: a Sentinel runs beside each, and most of them must agree";
            return Err(self.refuse(&first.0.role, reason, hint));
        }
        let max_memory_bytes = match &table.max_memory {
            None => None,
            Some(set) => Some(byte_size(set.get_ref()).ok_or_else(|| {
                let reason = format!("redis.max_memory {:?} is not a size", set.get_ref());
                self.refuse(set, reason, "write a number with kB, MB, GB or TB: \"512MB\"")
            })?),
        };
        let cluster = self.service(REDIS, table.cluster.as_ref())?;
        Ok(Some(Redis { cluster, members, max_memory_bytes }))
    }

    /// A role without nodes is no cluster, unless somebody set something for one.
    fn no_nodes<T, U>(&self, role: &str, table: Option<&Spanned<T>>) -> Checked<Option<U>> {
        let Some(table) = table else { return Ok(None) };
        Err(self.refuse(
            table,
            format!("[{role}] describes a cluster without nodes"),
            format!("add nodes of role {role:?}, or take the table out"),
        ))
    }

    /// The nodes of a role, which must be of one data centre.
    fn members(&self, role: &str, nodes: &Nodes<'_>) -> Checked<Vec<Member>> {
        let of_role: Vec<_> = nodes.iter().filter(|(_, node)| node.role == role).collect();
        for (table, node) in &of_role {
            let other = of_role.iter().find(|(_, other)| other.datacenter != node.datacenter);
            // The one that is blamed is the one that came later.
            let Some((_, other)) = other
                .filter(|(first, _)| self.line(&first.datacenter) < self.line(&table.datacenter))
            else {
                continue;
            };
            let reason = format!(
                "node {:?}: data centre {:?} is not {:?}, where {:?} of the same {role} cluster is",
                node.name, node.datacenter, other.datacenter, other.name
            );
            let hint = "put all of them into one: Consul's sessions and keys end at its border";
            return Err(self.refuse(&table.datacenter, reason, hint));
        }
        Ok(of_role.iter().map(|(_, node)| node.member()).collect())
    }

    /// The name of the application's database or account.
    fn name(&self, key: &str, set: Option<&Spanned<String>>) -> Checked<String> {
        let Some(set) = set else { return Ok("app".to_owned()) };
        match refuse_name(set.get_ref()) {
            None => Ok(set.get_ref().clone()),
            Some(reason) => Err(self.refuse(
                set,
                format!("postgres.{key} {reason}"),
                "choose another: a lower-case letter, then letters, digits and underscores, 63 at most",
            )),
        }
    }

    /// Where clients of PostgreSQL may come from: no further than the firewall lets them.
    fn clients(&self, set: Option<&[Spanned<IpNet>]>, networks: Vec<IpNet>) -> Checked<Vec<IpNet>> {
        let Some(set) = set else { return Ok(networks) };
        let outside = |network: &&Spanned<IpNet>| {
            !networks.iter().any(|known| known.contains(network.get_ref()))
        };
        match set.iter().find(outside) {
            None => Ok(set.iter().map(|network| network.get_ref().trunc()).collect()),
            Some(network) => Err(self.refuse(
                network,
                format!(
                    "postgres.clients: {} is outside the site's networks, and the firewall keeps it out",
                    network.get_ref()
                ),
                "name it under [site] as well: clients = [\"…\"]",
            )),
        }
    }

    fn parameters(
        &self,
        table: &BTreeMap<String, Spanned<Value>>,
    ) -> Checked<BTreeMap<String, String>> {
        let mut parameters = BTreeMap::new();
        for (name, value) in table {
            let text = match value.get_ref() {
                Value::String(text) => Ok(text.clone()),
                Value::Integer(number) => Ok(number.to_string()),
                Value::Float(number) => Ok(number.to_string()),
                Value::Boolean(true) => Ok("on".to_owned()),
                Value::Boolean(false) => Ok("off".to_owned()),
                _ => Err(format!("the value of {name} is not one")),
            };
            let text = text.and_then(|text| match refuse_parameter(name, &text) {
                None => Ok(text),
                Some(reason) => Err(reason),
            });
            let text = text.map_err(|reason| {
                let reason = format!("postgres.parameters: {reason}");
                self.refuse(value, reason, "take it out, or correct it")
            })?;
            parameters.insert(name.clone(), text);
        }
        Ok(parameters)
    }

    /// What a cluster that is not there yet is made from.
    fn restore(&self, table: &RestoreTable, postgres: &Postgres) -> Checked<Restore> {
        let to = table.to.get_ref();
        let Some(to) = recovery_time(to) else {
            return Err(self.refuse(
                &table.to,
                format!("postgres.restore: to {to:?} is not a time with its offset (RFC 3339)"),
                "write it as \"2026-01-31T12:00:00Z\"; `ballast backup restore` writes the table for you",
            ));
        };
        let restore = Restore { cluster: table.cluster.get_ref().clone(), to };
        match restore.refuse(postgres) {
            None => Ok(restore),
            Some(reason) => Err(self.refuse(
                &table.cluster,
                format!("postgres.restore: {reason}"),
                "name the cluster that was backed up, give this one another name under [postgres], and keep [postgres.backup]",
            )),
        }
    }

    /// When a backup is made.
    fn event(&self, key: &str, set: Option<&Spanned<String>>, default: &str) -> Checked<String> {
        let Some(set) = set else { return Ok(default.to_owned()) };
        let text = set.get_ref();
        match refuse_event(text) {
            None => Ok(text.clone()),
            Some(reason) => Err(self.refuse(
                set,
                format!("postgres.backup: {key} {text:?} is not a calendar event: {reason}"),
                "write weekdays, a date or a time in UTC as systemd.time(7) has them: \"Sun 02:00\", \"daily\", \"*-*-01 04:30\"",
            )),
        }
    }

    fn backup(&self, table: &BackupTable) -> Checked<Backup> {
        let backup = Backup {
            repository: table.repository.get_ref().clone(),
            full: self.event("full", table.full.as_ref(), FULL)?,
            incremental: self.event("incremental", table.incremental.as_ref(), INCREMENTAL)?,
            keep_full: table.keep_full,
        };
        let refuse = |reason: String, hint: &str| {
            Err(self.refuse(&table.repository, format!("postgres.backup: {reason}"), hint))
        };
        let is_store = matches!(backup.repository, Repository::S3 { .. });
        match backup.refuse() {
            Some(reason) => refuse(reason, "correct it, or take it out"),
            None if is_store != table.credentials.is_some() => refuse(
                "`credentials` belongs to a store, and a store needs it".to_owned(),
                "name a file beside this one with access_key and secret_key, for `type = \"s3\"` alone",
            ),
            None => Ok(backup),
        }
    }
}

/// A time (RFC 3339) as PostgreSQL's `recovery_target_time` takes it.
fn recovery_time(text: &str) -> Option<String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    let (date, clock) = (time.date(), time.time());
    let (hour, minute, second, micro) = clock.as_hms_micro();
    Some(format!("{date} {hour:02}:{minute:02}:{second:02}.{micro:06}+00"))
}

/// A number of bytes as PostgreSQL and Redis write it, where each unit is 1024 of the one before.
fn byte_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let power = ["kB", "MB", "GB", "TB"].iter().position(|u| *u == unit.trim_start())?;
    let factor = 1024_u64.checked_pow(u32::try_from(power).ok()? + 1)?;
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_postgresql_and_redis_read_them() {
        let good = [("512MB", 512 << 20), ("1 GB", 1 << 30), ("3kB", 3072), ("2TB", 2 << 40)];
        for (text, bytes) in good {
            assert_eq!(byte_size(text), Some(bytes), "{text}");
        }
        for text in ["", "512", "0MB", "MB", "-1MB", "1.5GB", "1mb", "99999999999TB", "1 MB "] {
            assert_eq!(byte_size(text), None, "{text}");
        }
    }
}
