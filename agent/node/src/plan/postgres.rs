//! Patroni's configuration (4.0) for PostgreSQL 17, and PostgreSQL's own as far as this node decides it.
//!
//! What all members must share is Patroni's dynamic configuration, which Consul holds: [`dynamic`] says what it shall be,
//! the first start takes it from the file, and the agent on the primary keeps it so.

pub(crate) mod backup;
mod size;

use std::net::IpAddr;

use ballast_bundle::{NodeConfig, Postgres, PostgresSecrets};
use ballast_contract::{Durability, Timings};
use serde_json::{Value, json};

use super::{File, Owner};
use crate::error::Error;
use crate::postgres::{PATRONI_PORT, PORT};

pub(crate) use size::Machine;

/// The account that Patroni and PostgreSQL run as.
const POSTGRES: Owner = Owner::Account("postgres");
/// Patroni's configuration: patroni.service starts on it.
pub(crate) const PATRONI: &str = "/run/ballast/postgres/patroni.yml";
/// The directory of PostgreSQL's and Patroni's certificates.
const TLS: &str = "/run/ballast/postgres";
/// The data, on the state partition; another major version has another place.
pub(crate) const DATA: &str = "/var/lib/postgresql/17/main";
/// PostgreSQL's programs.
const PROGRAMS: &str = "/usr/lib/postgresql/17/bin";
/// The directory of PostgreSQL's socket.
pub(crate) const SOCKET: &str = "/run/postgresql";
/// Which of the machine's accounts may be which of PostgreSQL's without a password, over the socket.
const MAP: &str = "ballast";

/// Everything that Patroni and PostgreSQL read, Patroni's configuration last: patroni.service starts on it.
pub(super) fn files(
    node: &NodeConfig,
    postgres: &Postgres,
    secrets: &PostgresSecrets,
    certificates: [&[u8]; 3],
    machine: &Machine,
) -> Result<Vec<File>, Error> {
    let mut files: Vec<File> = ["ca.pem", "cert.pem", "key.pem"]
        .into_iter()
        .zip(certificates)
        .map(|(name, bytes)| File::secret_of(POSTGRES, &format!("{TLS}/{name}"), bytes.to_vec()))
        .collect();
    // JSON is YAML, and no value can be taken for another type.
    let text = serde_json::to_string_pretty(&patroni(node, postgres, secrets, machine))
        .map_err(|source| Error::Json { path: PATRONI.into(), source })?;
    files.extend(backup::files(postgres, secrets, machine));
    files.push(File::secret_of(POSTGRES, PATRONI, (text + "\n").into_bytes()));
    Ok(files)
}

fn patroni(
    node: &NodeConfig,
    postgres: &Postgres,
    secrets: &PostgresSecrets,
    machine: &Machine,
) -> Value {
    let address = node.network.address.addr();
    // Bound to every address, so that nothing waits for the network; the firewall says who may connect.
    let any = if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
    let file = |name: &str| format!("{TLS}/{name}");
    // The name in a member's certificate is its address, by which the others reach it.
    let account = |name: &str, password: &str| {
        json!({
            "username": name, "password": password,
            "sslmode": "verify-full", "sslrootcert": file("ca.pem"),
        })
    };
    json!({
        "scope": postgres.cluster,
        "namespace": "service",
        "name": node.node.name,
        // The journal knows the time.
        "log": { "level": "INFO", "format": "%(levelname)s: %(message)s" },
        "consul": {
            "host": "127.0.0.1:8500",
            "token": secrets.patroni_token,
            // The agent registers the service: a role that was proven is in DNS at once, and one that was lost is not.
            "register_service": false,
            // To any check that is named here Consul adds its own `serfHealth` (1.8.7), and an agent that flaps would cost
            // a failover. Peers that give this node up take its leader key themselves.
            "checks": [],
        },
        "restapi": {
            "listen": format!("{any}:{PATRONI_PORT}"),
            "connect_address": at(address, PATRONI_PORT),
            "certfile": file("cert.pem"), "keyfile": file("key.pem"), "cafile": file("ca.pem"),
            // Whoever changes something shows a certificate of the site and knows the password as well: every node has
            // a certificate, and only this cluster's members and the operator have the password.
            "verify_client": "optional",
            "authentication": { "username": "ballast", "password": secrets.api },
        },
        // What Patroni shows the other members, and whom it trusts: without it, it would not verify them.
        "ctl": {
            "certfile": file("cert.pem"), "keyfile": file("key.pem"), "cacert": file("ca.pem"),
            "insecure": false,
        },
        "watchdog": watchdog(&node.timings),
        "bootstrap": bootstrap(&node.timings, postgres),
        "postgresql": {
            "listen": format!("{any}:{PORT}"),
            "connect_address": at(address, PORT),
            "data_dir": DATA,
            "bin_dir": PROGRAMS,
            "pgpass": "/run/patroni/pgpass",
            "use_unix_socket": true,
            "use_unix_socket_repl": true,
            "authentication": {
                "superuser": { "username": "postgres", "password": secrets.superuser },
                "replication": account("replicator", &secrets.replication),
                "rewind": account("rewinder", &secrets.rewind),
            },
            // A former primary that can't be rewound has nothing that was acknowledged and the new one has not, and is
            // made anew from it; Patroni does so only where there is a primary of the same cluster.
            "remove_data_directory_on_rewind_failure": true,
            "remove_data_directory_on_diverged_timelines": true,
            "basebackup": { "checkpoint": "fast" },
            "parameters": parameters(postgres, machine),
            "pg_hba": hba(postgres),
            "pg_ident": [
                format!("{MAP} postgres postgres"),
                // The agent, which is root.
                format!("{MAP} root postgres"),
                format!("{MAP} root ballast"),
            ],
        },
        "tags": {},
    })
}

/// How a cluster is made that is not there yet.
fn bootstrap(timings: &Timings, postgres: &Postgres) -> Value {
    let mut bootstrap = json!({
        "dcs": dynamic(timings, postgres),
        "initdb": [
            // Not the C library's collation: it changes with its version, and indexes with it.
            { "locale-provider": "builtin" }, { "builtin-locale": "C.UTF-8" },
            { "locale": "C.UTF-8" }, { "encoding": "UTF8" },
            "data-checksums",
        ],
    });
    if let Some(restore) = &postgres.restore {
        bootstrap["method"] = json!("restore");
        bootstrap["restore"] = backup::restored(restore);
    }
    bootstrap
}

/// Fences a primary whose Patroni can't do it. Where the machine has no watchdog Patroni goes without: a synchronous
/// primary that was given up can acknowledge nothing, for its replicas have left it.
fn watchdog(timings: &Timings) -> Value {
    json!({
        "mode": "automatic", "device": "/dev/watchdog", "safety_margin": timings.watchdog_margin_secs,
    })
}

/// Patroni's dynamic configuration: the same on all members, kept in Consul.
pub(crate) fn dynamic(timings: &Timings, postgres: &Postgres) -> Value {
    let mut parameters = json!({
        // Patroni takes these from here alone, because a replica must not have less of them than its primary.
        "max_connections": "200",
        "max_worker_processes": "8",
        "max_locks_per_transaction": "64",
        "max_prepared_transactions": "0",
        "max_wal_senders": "16",
        "max_replication_slots": "16",
        "wal_level": "replica",
        // With the checksums, what makes a rewind possible.
        "wal_log_hints": "on",
        "track_commit_timestamp": "off",
    });
    for (name, value) in backup::parameters(postgres) {
        parameters[name] = json!(value);
    }
    for (name, value) in &postgres.parameters {
        parameters[name] = json!(value);
    }
    let synchronous = match postgres.durability {
        Durability::Synchronous => json!(true),
        Durability::Quorum => json!("quorum"),
        Durability::Asynchronous => json!(false),
    };
    json!({
        "ttl": timings.ttl_secs,
        "loop_wait": timings.loop_wait_secs,
        "retry_timeout": timings.retry_timeout_secs,
        "primary_start_timeout": timings.primary_start_timeout_secs,
        "primary_stop_timeout": stop_timeout(timings),
        // Of an asynchronous replica: one that is further behind is not promoted.
        "maximum_lag_on_failover": 1_048_576,
        // A Consul that is away costs no primary that reaches all its members.
        "failsafe_mode": true,
        "synchronous_mode": synchronous,
        // Acknowledged means that it is on another machine's disk too: with no replica left, writes wait.
        "synchronous_mode_strict": postgres.durability != Durability::Asynchronous,
        "synchronous_node_count": 1,
        "check_timeline": true,
        "postgresql": { "use_pg_rewind": true, "use_slots": true, "parameters": parameters },
    })
}

/// How long a primary that has lost its key may take to stop before it is killed, seconds: what `ttl` leaves of it when
/// the key was last renewed as late as can be.
fn stop_timeout(timings: &Timings) -> u16 {
    let spent = timings.loop_wait_secs + timings.retry_timeout_secs + timings.watchdog_margin_secs;
    timings.ttl_secs.saturating_sub(spent).max(3)
}

/// PostgreSQL's parameters as this node has them, over what Consul holds. What the operator sets is there, except that
/// nothing takes away TLS, the passwords' form or the places.
fn parameters(postgres: &Postgres, machine: &Machine) -> Value {
    let file = |name: &str| json!(format!("{TLS}/{name}"));
    let mut parameters = json!({
        "unix_socket_directories": SOCKET,
        "unix_socket_permissions": "0777",
        "ssl": "on",
        "ssl_cert_file": file("cert.pem"),
        "ssl_key_file": file("key.pem"),
        "ssl_min_protocol_version": "TLSv1.2",
        "password_encryption": "scram-sha-256",
    });
    let derived = [
        ("jit", "off".to_owned()),
        // A dead client, or one that was cut off, is noticed in seconds rather than hours.
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "20000".to_owned()),
        // A replica whose stream broke looks for the new primary at once, and not after five seconds.
        ("wal_retrieve_retry_interval", "500ms".to_owned()),
        // To the journal, which knows the time.
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("log_line_prefix", "[%p] %q%u@%d ".to_owned()),
        ("log_lock_waits", "on".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
    ];
    for (name, value) in derived.into_iter().chain(machine.parameters()) {
        if !postgres.parameters.contains_key(name) {
            parameters[name] = json!(value);
        }
    }
    parameters
}

/// Who may connect how: over the socket by the machine's account, from elsewhere with TLS and a password alone. Nobody is
/// superuser over the network.
fn hba(postgres: &Postgres) -> Vec<String> {
    let mut lines = vec![
        format!("local all postgres,ballast peer map={MAP}"),
        "local replication replicator scram-sha-256".to_owned(),
        "local all all scram-sha-256".to_owned(),
    ];
    for member in &postgres.members {
        let host = host(member.address);
        lines.push(format!("hostssl replication replicator {host} scram-sha-256"));
        lines.push(format!("hostssl postgres rewinder {host} scram-sha-256"));
    }
    for any in ["0.0.0.0/0", "::/0"] {
        lines.push(format!("host all postgres,replicator,rewinder,ballast {any} reject"));
    }
    for clients in &postgres.clients {
        lines.push(format!("hostssl {} all {clients} scram-sha-256", postgres.database));
    }
    lines
}

/// An address as a network of one.
fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests;
