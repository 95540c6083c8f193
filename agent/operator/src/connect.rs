//! `ballast connect`: how a client outside the site reaches its databases, for people and for programs.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ballast_bundle::Member;
use serde::Serialize;

use crate::cluster::Cluster;

/// Where PostgreSQL is reached; TLS begins when the client asks for it.
const POSTGRES_PORT: u16 = 5432;
/// Where Redis is reached, by TLS alone.
const REDIS_PORT: u16 = 6379;
/// Where Consul's servers answer DNS.
const DNS_PORT: u16 = 8600;

/// How a client reaches a site's databases.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Connections {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Connection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Connection>,
    /// The file with the authority whose certificates the databases show.
    pub ca: PathBuf,
    /// The domain that the names end in, and who answers for it.
    pub domain: String,
    pub name_servers: Vec<String>,
}

/// How a client reaches one database.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// The name of the node that takes writes, whichever it is.
    pub primary: String,
    /// The name of those that follow it.
    pub replicas: String,
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub user: String,
    /// The name by which `ballast secret` prints the password.
    pub secret: String,
    /// The nodes' addresses, for clients without Consul's DNS.
    pub addresses: Vec<IpAddr>,
}

/// How a client reaches the databases of a site, whose state folder holds its authority.
pub fn connections(cluster: &Cluster, state: &Path) -> Connections {
    let name = |tag: &str, service: &str| format!("{tag}.{service}.service.{}", cluster.domain);
    let connection =
        |service: &str, members: &[Member], port, user: &str, secret: &str| Connection {
            primary: name("primary", service),
            replicas: name("replica", service),
            port,
            database: None,
            user: user.to_owned(),
            secret: secret.to_owned(),
            addresses: members.iter().map(|m| m.address).collect(),
        };
    let postgres = cluster.postgres.as_ref().map(|p| Connection {
        database: Some(p.database.clone()),
        ..connection(&p.cluster, &p.members, POSTGRES_PORT, &p.owner, "postgres.owner")
    });
    let redis = cluster.redis.as_ref();
    let redis = redis.map(|r| connection(&r.cluster, &r.members, REDIS_PORT, "app", "redis.app"));
    // Those that know the databases: a name without a data centre is of the one that is asked.
    let datacenter = cluster.nodes.iter().find(|n| n.is_database()).map(|n| n.datacenter.as_str());
    let servers = cluster.servers(datacenter.unwrap_or_default());
    Connections {
        postgres,
        redis,
        ca: state.join("ca.pem"),
        domain: cluster.domain.clone(),
        name_servers: servers
            .map(|n| std::net::SocketAddr::new(n.address.addr(), DNS_PORT).to_string())
            .collect(),
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { postgres, redis, ca, domain, name_servers } = self;
        if postgres.is_none() && redis.is_none() {
            return writeln!(f, "the site has no nodes of role \"postgres\" or \"redis\"");
        }
        let ca = ca.display();
        for (title, connection) in [("PostgreSQL", postgres), ("Redis", redis)] {
            let Some(connection) = connection else { continue };
            let Connection { primary, replicas, port, database, user, secret, addresses } =
                connection;
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let database = database.as_deref();
            writeln!(f, "{title}")?;
            writeln!(f, "  primary    {primary}, port {port}, TLS")?;
            writeln!(f, "  replicas   {replicas}")?;
            if let Some(database) = database {
                writeln!(f, "  database   {database}")?;
            }
            writeln!(f, "  user       {user}")?;
            writeln!(f, "  password   `ballast secret {secret}`")?;
            writeln!(f, "  addresses  {}", addresses.join(", "))?;
            match database {
                Some(database) => writeln!(
                    f,
                    "  PGPASSWORD=$(ballast secret {secret}) psql \"host={primary} port={port} dbname={database} user={user} sslmode=verify-full sslrootcert={ca}\"\n  \
                     without the name: host={} target_session_attrs=read-write\n",
                    addresses.join(",")
                )?,
                None => writeln!(
                    f,
                    "  REDISCLI_AUTH=$(ballast secret {secret}) redis-cli -h {primary} -p {port} --tls --cacert {ca} --user {user}\n"
                )?,
            }
        }
        writeln!(f, "Authority   {ca}")?;
        writeln!(f, "Names       .{domain} is answered by {}", name_servers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::read_cluster;

    fn of(fixture: &str) -> Connections {
        let cluster = read_cluster("cluster.toml", fixture.as_bytes()).unwrap();
        connections(&cluster, Path::new("state"))
    }

    #[test]
    fn a_client_is_told_names_ports_and_where_the_password_is_and_not_what_it_is() {
        let text = of(include_str!("../tests/fixtures/databases.toml")).to_string();
        let expected = "\
PostgreSQL
  primary    primary.postgres.service.consul, port 5432, TLS
  replicas   replica.postgres.service.consul
  database   app
  user       app
  password   `ballast secret postgres.owner`
  addresses  10.0.0.21, 10.0.0.22, 10.0.0.23
  PGPASSWORD=$(ballast secret postgres.owner) psql \"host=primary.postgres.service.consul port=5432 dbname=app user=app sslmode=verify-full sslrootcert=state/ca.pem\"
  without the name: host=10.0.0.21,10.0.0.22,10.0.0.23 target_session_attrs=read-write

Redis
  primary    primary.redis.service.consul, port 6379, TLS
  replicas   replica.redis.service.consul
  user       app
  password   `ballast secret redis.app`
  addresses  10.0.0.31, 10.0.0.32, 10.0.0.33
  REDISCLI_AUTH=$(ballast secret redis.app) redis-cli -h primary.redis.service.consul -p 6379 --tls --cacert state/ca.pem --user app

Authority   state/ca.pem
Names       .consul is answered by 10.0.0.11:8600, 10.0.0.12:8600, 10.0.0.13:8600
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_site_without_databases_says_so() {
        let none = of(include_str!("../tests/fixtures/good.toml"));
        assert_eq!(none.to_string(), "the site has no nodes of role \"postgres\" or \"redis\"\n");
        assert!(serde_json::json!(none).get("postgres").is_none());
    }
}
