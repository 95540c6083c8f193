//! `ballast bundle`: from the cluster file and the state folder to one bundle per node.

use std::path::Path;

use ballast_bundle::{
    Acl, ConsulSettings, Contents, Expectation, Identity, Network, NodeConfig, Observed,
    PostgresSecrets, RedisSecrets, Secrets, SiteKey, Trust, VERSION, pack, verify,
};
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::access::access;
use crate::authority::Subject;
use crate::cluster::{Cluster, Node, POSTGRES, REDIS};
use crate::disk;
use crate::error::Error;
use crate::report::Report;
use crate::state::{Issuance, NodeTokens, PostgresPasswords, Purposes, SiteSecrets, State};

/// Brings the state folder and the bundles up to date with the cluster file.
///
/// State comes first and bundles last, so that a run that is cut short leaves nothing in a bundle that the state does
/// not know, and the next run finishes it.
pub fn make_bundles(
    cluster: &Cluster,
    state: &Path,
    out: &Path,
    renew: bool,
    now: OffsetDateTime,
) -> Result<Report, Error> {
    let mut report = Report::default();
    // Whatever is wrong with the input is found before anything is written.
    let backup_store = load_credentials(cluster)?;
    let state = State::open(state)?;
    let site = state.site(&cluster.site, &mut report)?;
    let site_key = state.site_key(&mut report)?;
    let authority = state.authority(&cluster.site, now, &mut report)?;
    let issuance = Issuance { authority: &authority, renew, now };
    state.operator(&issuance, &mut report)?;

    let postgres = cluster.postgres.is_some().then(|| state.postgres(&mut report)).transpose()?;
    let redis = cluster.redis.is_some().then(|| state.redis(&mut report)).transpose()?;
    let shared = Shared { site: &site, postgres, redis, backup_store };

    disk::make_directory(out)?;
    disk::remove_leftovers(out)?;
    remove_nodes_that_left(cluster, &state, out, &mut report)?;

    let mut tokens = Vec::new();
    let mut identities = Vec::new();
    for node in &cluster.nodes {
        let subject = Subject::node(node, &cluster.domain);
        let purposes = Purposes {
            replicates: node.is_server() && node.datacenter != cluster.primary(),
            runs_patroni: node.role == POSTGRES,
        };
        tokens.push(state.node_tokens(&node.name, purposes)?);
        identities.push(state.node_identity(&node.name, &subject, &issuance, &mut report)?);
    }
    let acl = access(cluster, &site, &tokens, state.revoked()?);

    for ((node, tokens), identity) in cluster.nodes.iter().zip(&tokens).zip(identities) {
        let contents = Contents {
            node: node_config(cluster, node),
            secrets: shared.secrets(node, tokens),
            acl: acl_of(cluster, node, &acl),
            ca_pem: authority.cert_pem.clone(),
            cert_pem: identity.cert_pem,
            key_pem: identity.key_pem,
        };
        save_bundle(&contents, &site_key, out, now, &mut report)?;
    }
    Ok(report)
}

/// Forgets the nodes that are not in the cluster file any more.
fn remove_nodes_that_left(
    cluster: &Cluster,
    state: &State,
    out: &Path,
    report: &mut Report,
) -> Result<(), Error> {
    for name in state.nodes()? {
        if cluster.nodes.iter().any(|n| n.name == name) {
            continue;
        }
        // The bundle first: once the state has forgotten the node, nobody comes back for it.
        let path = bundle_path(out, &name);
        disk::remove(&path)?;
        state.remove_node(&name)?;
        report.removed(
            &path,
            "its node left; servers revoke its tokens when they have their new bundles",
        );
    }
    Ok(())
}

/// Writes a node's bundle if it differs from the one that is there.
fn save_bundle(
    contents: &Contents,
    site_key: &SigningKey,
    out: &Path,
    now: OffsetDateTime,
    report: &mut Report,
) -> Result<(), Error> {
    let name = &contents.node.node.name;
    let failed = |source| Error::Bundle { node: name.clone(), source };
    let bytes = pack(contents, site_key).map_err(failed)?;
    // What a node would refuse is never handed out.
    let expectation = Expectation {
        trust: Trust::Keys(vec![SiteKey::from(site_key.verifying_key())]),
        node: Some(name.clone()),
        role: Some(contents.node.node.role.clone()),
        now: now.into(),
    };
    verify(&bytes, &expectation).map_err(failed)?;
    let path = bundle_path(out, name);
    let what = format!("bundle of {} {name}", contents.node.node.role);
    match disk::load(&path)? {
        Some(found) if found == bytes => {
            report.kept(&path, &what);
            return Ok(());
        }
        Some(_) => report.changed(&path, &what),
        None => report.created(&path, &what),
    }
    disk::save(&path, &bytes)
}

fn bundle_path(out: &Path, node: &str) -> std::path::PathBuf {
    out.join(format!("{node}.bundle.tar"))
}

/// `node.toml` of a node.
fn node_config(cluster: &Cluster, node: &Node) -> NodeConfig {
    let datacenter = cluster.datacenters.iter().find(|d| d.name == node.datacenter);
    let others = cluster.datacenters.iter().filter(|d| d.name != node.datacenter);
    let servers = |datacenter: &str| {
        cluster.servers(datacenter).map(|n| n.address.addr()).collect::<Vec<_>>()
    };
    let federated = cluster.datacenters.len() > 1;
    NodeConfig {
        version: VERSION,
        node: Identity {
            site: cluster.site.clone(),
            name: node.name.clone(),
            role: node.role.clone(),
            datacenter: node.datacenter.clone(),
        },
        network: Network {
            address: node.address,
            gateway: datacenter.and_then(|d| d.gateway),
            dns: datacenter.map(|d| d.dns.clone()).unwrap_or_default(),
            ntp: datacenter.map(|d| d.ntp.clone()).unwrap_or_default(),
            interface: node.interface.clone(),
            site: cluster.datacenters.iter().map(|d| d.network).collect(),
            clients: cluster.clients.clone(),
        },
        consul: ConsulSettings {
            servers: servers(&node.datacenter),
            // Only servers take part in the WAN pool.
            wan_servers: others
                .filter(|_| node.is_server())
                .flat_map(|d| servers(&d.name))
                .collect(),
            primary_datacenter: federated.then(|| cluster.primary().to_owned()),
            domain: cluster.domain.clone(),
        },
        timings: cluster.timings,
        postgres: cluster.postgres.clone().filter(|_| node.role == POSTGRES),
        redis: cluster.redis.clone().filter(|_| node.role == REDIS),
        observed: observed(cluster, node),
        settings: node.settings.clone(),
    }
}

/// What a node watches.
fn observed(cluster: &Cluster, node: &Node) -> Vec<Observed> {
    let observers: Vec<_> = cluster.observers().iter().map(|n| n.name.clone()).collect();
    let watches = observers.contains(&node.name);
    let observed = cluster.postgres.iter().filter(|_| watches).map(|postgres| Observed {
        cluster: postgres.cluster.clone(),
        members: postgres.members.clone(),
        observers: observers.clone(),
    });
    observed.collect()
}

/// The secrets that several nodes know. Hence no `Debug`.
struct Shared<'a> {
    site: &'a SiteSecrets,
    postgres: Option<PostgresPasswords>,
    redis: Option<RedisSecrets>,
    backup_store: Option<[String; 2]>,
}

impl Shared<'_> {
    /// `secrets.json` of a node: of what is shared, what its role needs.
    fn secrets(&self, node: &Node, tokens: &NodeTokens) -> Secrets {
        Secrets {
            gossip_key: self.site.gossip_key.clone(),
            agent_token: tokens.agent.secret_id.clone(),
            dns_token: tokens.dns.secret_id.clone(),
            replication_token: tokens.replication.as_ref().map(|t| t.secret_id.clone()),
            postgres: self.postgres.as_ref().zip(tokens.patroni.as_ref()).map(|(of, patroni)| {
                PostgresSecrets {
                    superuser: of.superuser.clone(),
                    replication: of.replication.clone(),
                    rewind: of.rewind.clone(),
                    owner: of.owner.clone(),
                    monitor: of.monitor.clone(),
                    api: of.api.clone(),
                    patroni_token: patroni.secret_id.clone(),
                    backup_store: self.backup_store.clone(),
                }
            }),
            redis: self.redis.clone().filter(|_| node.role == REDIS),
        }
    }
}

/// The access key and its secret of the store that backups go to, where they go to one.
pub fn load_credentials(cluster: &Cluster) -> Result<Option<[String; 2]>, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Credentials {
        access_key: String,
        secret_key: String,
    }
    let Some(path) = &cluster.backup_credentials else { return Ok(None) };
    let wrong = || Error::Credentials { path: path.clone() };
    let bytes = disk::load(path)?.ok_or_else(wrong)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    let Credentials { access_key, secret_key } = toml::from_str(text).map_err(|_| wrong())?;
    let keys = [access_key, secret_key];
    let plain = |key: &String| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
    if keys.iter().all(plain) { Ok(Some(keys)) } else { Err(wrong()) }
}

/// The access rules, on the servers that keep them.
fn acl_of(cluster: &Cluster, node: &Node, acl: &Acl) -> Option<Acl> {
    (node.is_server() && node.datacenter == cluster.primary()).then(|| acl.clone())
}
