//! Reading a cluster file: its form first, then the rules between its parts, the first fault with its line and remedy.

use std::collections::HashMap;
use std::net::IpAddr;

use ballast_bundle::{DocumentError, is_host, is_interface, is_label, line_of, read_toml};
use ballast_contract::Availability;
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::databases::{PostgresTable, RedisTable};
use super::timings::TimingsTable;
use super::{CONSUL_SERVER, Cluster, Datacenter, MAX_BYTES, Node, POSTGRES, REDIS};

/// Reads a cluster file; `file` is its name in messages.
pub fn read_cluster(file: &str, bytes: &[u8]) -> Result<Cluster, DocumentError> {
    let source = Source { file, bytes };
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(source.refuse_at(
            1,
            "the file is larger than 1 MiB",
            "a site of a thousand nodes needs a tenth of that",
        ));
    }
    let document: Document = read_toml(file, bytes)?;
    source.site(document)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    site: SiteTable,
    datacenter: Vec<DatacenterTable>,
    node: Vec<NodeTable>,
    #[serde(default)]
    role: Vec<RoleTable>,
    #[serde(default)]
    timings: TimingsTable,
    postgres: Option<Spanned<PostgresTable>>,
    redis: Option<Spanned<RedisTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteTable {
    name: Spanned<String>,
    domain: Option<Spanned<String>>,
    #[serde(default)]
    availability: Availability,
    #[serde(default)]
    clients: Vec<IpNet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatacenterTable {
    name: Spanned<String>,
    network: Spanned<IpNet>,
    gateway: Option<Spanned<IpAddr>>,
    #[serde(default)]
    dns: Vec<IpAddr>,
    #[serde(default)]
    ntp: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeTable {
    name: Spanned<String>,
    pub(super) role: Spanned<String>,
    pub(super) datacenter: Spanned<String>,
    address: Spanned<IpAddr>,
    interface: Option<Spanned<String>>,
    #[serde(default)]
    settings: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleTable {
    name: Spanned<String>,
    services: Option<Vec<Spanned<String>>>,
}

/// The file a value came from, to say where it stands.
pub(super) struct Source<'a> {
    file: &'a str,
    bytes: &'a [u8],
}

pub(super) type Checked<T> = Result<T, DocumentError>;

impl Source<'_> {
    pub(super) fn refuse_at(
        &self,
        line: usize,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> DocumentError {
        DocumentError { file: self.file.to_owned(), line, reason: reason.into(), hint: hint.into() }
    }

    pub(super) fn line<T>(&self, value: &Spanned<T>) -> usize {
        line_of(self.bytes, value.span().start)
    }

    pub(super) fn refuse<T>(
        &self,
        at: &Spanned<T>,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> DocumentError {
        self.refuse_at(self.line(at), reason, hint)
    }

    fn site(&self, document: Document) -> Checked<Cluster> {
        let SiteTable { name, domain, availability, clients } = document.site;
        let site = self.label("site", &name)?;
        if let Some(domain) = &domain {
            if !domain.get_ref().split('.').all(is_label) {
                let reason = format!("domain {:?} is not a domain name", domain.get_ref());
                return Err(self.refuse(
                    domain,
                    reason,
                    "write labels of letters, digits and hyphens joined by dots",
                ));
            }
        }
        let domain = domain.map_or_else(|| "consul".to_owned(), Spanned::into_inner);
        let datacenters = self.datacenters(&document.datacenter)?;
        let timings = self.timings(availability, &document.timings)?;
        let (postgres, redis) = (document.postgres.as_ref(), document.redis.as_ref());
        let services = [
            self.service(POSTGRES, postgres.and_then(|t| t.get_ref().cluster.as_ref()))?,
            self.service(REDIS, redis.and_then(|t| t.get_ref().cluster.as_ref()))?,
        ];
        let roles = self.roles(&document.role, services)?;
        self.check_services(&roles, postgres, redis)?;
        let nodes = self.nodes(&document.node, &datacenters, &roles)?;
        for table in &document.datacenter {
            self.check_servers(table, &nodes)?;
        }
        let of_site = datacenters.iter().map(|d| d.network);
        let networks = of_site.chain(clients.iter().map(IpNet::trunc)).collect();
        let members = document.node.iter().zip(&nodes).collect::<Vec<_>>();
        let (postgres, backup_credentials) = self.postgres(postgres, &members, networks)?.unzip();
        let redis = self.redis(redis, &members)?;
        Ok(Cluster {
            site,
            domain,
            timings,
            datacenters,
            nodes,
            clients,
            postgres,
            backup_credentials: backup_credentials.flatten(),
            redis,
        })
    }

    pub(super) fn label(&self, what: &str, name: &Spanned<String>) -> Checked<String> {
        if is_label(name.get_ref()) {
            return Ok(name.get_ref().clone());
        }
        let reason =
            format!("{what} {:?} is not a name that a host can have (RFC 1123)", name.get_ref());
        Err(self.refuse(
            name,
            reason,
            "use lower-case letters, digits and inner hyphens, 63 at most",
        ))
    }

    /// Refuses what stands twice, and says where it stood first.
    fn once(
        &self,
        seen: &mut HashMap<String, usize>,
        what: &str,
        value: &Spanned<impl ToString>,
    ) -> Checked<()> {
        let text = value.get_ref().to_string();
        let line = self.line(value);
        match seen.insert(text.clone(), line) {
            None => Ok(()),
            Some(first) => {
                let reason = format!("{what} {text:?} stands in line {first} already");
                Err(self.refuse_at(line, reason, "give each its own, or take one out"))
            }
        }
    }

    fn datacenters(&self, tables: &[DatacenterTable]) -> Checked<Vec<Datacenter>> {
        let mut seen = HashMap::new();
        let mut datacenters: Vec<Datacenter> = Vec::new();
        for table in tables {
            let name = self.label("data centre", &table.name)?;
            self.once(&mut seen, "data centre", &table.name)?;
            let network = *table.network.get_ref();
            if network != network.trunc() {
                let reason = format!(
                    "data centre {name:?}: network {network} has bits set beyond its prefix"
                );
                return Err(self.refuse(
                    &table.network,
                    reason,
                    format!("write {}", network.trunc()),
                ));
            }
            if let Some(other) = datacenters
                .iter()
                .find(|d| d.network.contains(&network) || network.contains(&d.network))
            {
                let reason = format!(
                    "data centre {name:?}: network {network} overlaps that of {:?}",
                    other.name
                );
                return Err(self.refuse(
                    &table.network,
                    reason,
                    "give each data centre a network of its own",
                ));
            }
            if let Some(gateway) = &table.gateway {
                self.host("gateway", gateway, &name, network)?;
            }
            if let Some(server) = table.ntp.iter().find(|server| !is_host(server.get_ref())) {
                let reason = format!(
                    "data centre {name:?}: time server {:?} is neither an address nor a host's name",
                    server.get_ref()
                );
                return Err(self.refuse(
                    server,
                    reason,
                    "write \"10.0.0.1\" or \"time.example.net\"",
                ));
            }
            datacenters.push(Datacenter {
                name,
                network,
                gateway: table.gateway.as_ref().map(|g| *g.get_ref()),
                dns: table.dns.clone(),
                ntp: table.ntp.iter().map(|server| server.get_ref().clone()).collect(),
            });
        }
        Ok(datacenters)
    }

    /// An address that a host of this network can have.
    fn host(
        &self,
        what: &str,
        address: &Spanned<IpAddr>,
        datacenter: &str,
        network: IpNet,
    ) -> Checked<()> {
        let found = address.get_ref();
        if !network.contains(found) {
            let reason = format!(
                "{what}: address {found} is outside network {network} of data centre {datacenter:?}"
            );
            return Err(self.refuse(
                address,
                reason,
                "correct the address, the network, or the data centre",
            ));
        }
        // A network of one or two addresses has neither (RFC 3021); IPv6 has no broadcast address.
        let small = network.max_prefix_len() - network.prefix_len() < 2;
        let kind = match found {
            _ if small => return Ok(()),
            _ if *found == network.network() => "the first address",
            IpAddr::V4(_) if *found == network.broadcast() => "the broadcast address",
            _ => return Ok(()),
        };
        let reason = format!("{what}: address {found} is {kind} of network {network}");
        Err(self.refuse(
            address,
            reason,
            "choose one between the two ends of the network: they belong to no host",
        ))
    }

    /// Every role with the services its nodes may register.
    fn roles(
        &self,
        tables: &[RoleTable],
        [postgres, redis]: [String; 2],
    ) -> Checked<Vec<(String, Vec<String>)>> {
        let mut roles = vec![
            // Consul registers its servers' own service by itself.
            (CONSUL_SERVER.to_owned(), Vec::new()),
            (POSTGRES.to_owned(), vec![postgres]),
            (REDIS.to_owned(), vec![redis]),
        ];
        for table in tables {
            let name = self.label("role", &table.name)?;
            if roles.iter().any(|(role, _)| *role == name) {
                let reason = format!("role {name:?} exists already");
                return Err(self.refuse(
                    &table.name,
                    reason,
                    "take it out, or give it another name",
                ));
            }
            let services = match &table.services {
                Some(services) => {
                    services.iter().map(|s| self.label("service", s)).collect::<Result<_, _>>()?
                }
                None => vec![name.clone()],
            };
            roles.push((name, services));
        }
        Ok(roles)
    }

    fn nodes(
        &self,
        tables: &[NodeTable],
        datacenters: &[Datacenter],
        roles: &[(String, Vec<String>)],
    ) -> Checked<Vec<Node>> {
        let (mut names, mut addresses) = (HashMap::new(), HashMap::new());
        let mut nodes = Vec::new();
        for table in tables {
            let name = self.label("node", &table.name)?;
            self.once(&mut names, "node", &table.name)?;
            let node = format!("node {name:?}");
            let Some((role, services)) =
                roles.iter().find(|(role, _)| role == table.role.get_ref())
            else {
                let known: Vec<_> = roles.iter().map(|(role, _)| format!("{role:?}")).collect();
                let reason = format!("{node}: role {:?} is unknown", table.role.get_ref());
                let hint = format!(
                    "known is {}; declare a role of your own images with [[role]]",
                    known.join(", ")
                );
                return Err(self.refuse(&table.role, reason, hint));
            };
            let Some(datacenter) =
                datacenters.iter().find(|d| d.name == *table.datacenter.get_ref())
            else {
                let known: Vec<_> = datacenters.iter().map(|d| format!("{:?}", d.name)).collect();
                let reason =
                    format!("{node}: data centre {:?} is unknown", table.datacenter.get_ref());
                let hint = format!("known is {}; add one with [[datacenter]]", known.join(", "));
                return Err(self.refuse(&table.datacenter, reason, hint));
            };
            self.host(&node, &table.address, &datacenter.name, datacenter.network)?;
            self.once(&mut addresses, "address", &table.address)?;
            let address = *table.address.get_ref();
            if datacenter.gateway == Some(address) {
                let reason = format!("{node}: address {address} is the data centre's gateway");
                return Err(self.refuse(
                    &table.address,
                    reason,
                    "give the node an address of its own",
                ));
            }
            if let Some(interface) = table.interface.as_ref().filter(|i| !is_interface(i.get_ref()))
            {
                let reason = format!(
                    "{node}: {:?} is neither an interface's name nor a MAC address",
                    interface.get_ref()
                );
                let hint = "write it as `ip link` shows it, \"enp1s0\" or \"52:54:00:12:34:56\"";
                return Err(self.refuse(interface, reason, hint));
            }
            let Ok(address) = IpNet::new(address, datacenter.network.prefix_len()) else {
                return Err(self.refuse(
                    &table.address,
                    format!("{node}: {address} is no address"),
                    "correct it",
                ));
            };
            nodes.push(Node {
                name,
                role: role.clone(),
                services: services.clone(),
                datacenter: datacenter.name.clone(),
                address,
                interface: table.interface.as_ref().map(|i| i.get_ref().clone()),
                settings: table.settings.clone(),
            });
        }
        Ok(nodes)
    }

    fn check_servers(&self, table: &DatacenterTable, nodes: &[Node]) -> Checked<()> {
        let name = table.name.get_ref();
        let count = nodes.iter().filter(|n| n.is_server() && n.datacenter == *name).count();
        if count % 2 == 1 {
            return Ok(());
        }
        let reason =
            format!("data centre {name:?} has {count} Consul servers, which is not an odd number");
        let hint =
            "have three, or five: an even number bears no more losses than the odd one below it";
        Err(self.refuse(&table.name, reason, hint))
    }
}
