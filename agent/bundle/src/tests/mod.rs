//! What the format promises, with bundles of a site made for the tests.

mod refused;
mod taken;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ed25519_dalek::SigningKey;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use time::OffsetDateTime;

use crate::*;

/// 2026-01-01, which the tests take for now.
const NOW: u64 = 1_767_225_600;
const DAY: i64 = 86_400;

/// A site's keys.
struct Site {
    key: SigningKey,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Site {
    fn new(seed: u8) -> Self {
        let mut params = params(3650);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { key: SigningKey::from_bytes(&[seed; 32]), ca_pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate that ends so many days from now, and its key.
    fn certificate(&self, name: &str, address: &str, days: i64) -> (String, String) {
        let mut params = params(days);
        params.subject_alt_names = vec![
            SanType::DnsName(format!("{name}.node.dc1.consul").try_into().unwrap()),
            SanType::IpAddress(address.parse::<IpAddr>().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// What a good bundle for the node `db-1` holds.
    fn contents(&self) -> Contents {
        let (cert_pem, key_pem) = self.certificate("db-1", "10.0.0.11", 700);
        Contents {
            node: node(),
            secrets: secrets(),
            acl: None,
            ca_pem: self.ca_pem.clone(),
            cert_pem,
            key_pem,
        }
    }

    /// A bundle of contents that were changed by hand.
    fn bundle(&self, change: impl FnOnce(&mut Contents)) -> Vec<u8> {
        let mut contents = self.contents();
        change(&mut contents);
        pack(&contents, &self.key).unwrap()
    }

    /// A bundle, rightly signed, of files that were changed by hand.
    fn sealed(&self, change: impl FnOnce(&mut Vec<(&str, Vec<u8>)>)) -> Vec<u8> {
        let good = verify(&self.bundle(|_| {}), &expectation()).unwrap();
        let mut files: Vec<_> = good
            .files()
            .iter()
            .skip(2)
            .map(|(path, content)| (path.as_str(), content.clone()))
            .collect();
        change(&mut files);
        seal("example", "db-1", files, &self.key).unwrap()
    }
}

fn params(days: i64) -> CertificateParams {
    let now = OffsetDateTime::from(now());
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now + time::Duration::seconds(days * DAY);
    params
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn node() -> NodeConfig {
    NodeConfig::read(
        br#"
version = 1
[node]
site = "example"
name = "db-1"
role = "database"
datacenter = "dc1"
[network]
address = "10.0.0.11/24"
site = ["10.0.0.0/24"]
[consul]
servers = ["10.0.0.2"]
[timings]
raft_multiplier = 1
dns_max_stale_secs = 5
ttl_secs = 30
loop_wait_secs = 5
retry_timeout_secs = 10
primary_start_timeout_secs = 15
watchdog_margin_secs = 5
peer_interval_ms = 250
peer_misses = 8
peer_window_ms = 2000
sentinel_down_after_ms = 2000
sentinel_failover_timeout_ms = 30000
sentinel_ask_period_ms = 500
min_replicas_max_lag_secs = 10
role_interval_ms = 500
"#,
    )
    .unwrap()
}

fn secrets() -> Secrets {
    Secrets {
        gossip_key: format!("{}=", "A".repeat(43)),
        agent_token: "00000000-0000-4000-8000-000000000001".to_owned(),
        dns_token: "00000000-0000-4000-8000-000000000002".to_owned(),
        replication_token: None,
        postgres: None,
        redis: None,
    }
}

/// A node that knows what it is, and takes the first site's bundle.
fn expectation() -> Expectation {
    Expectation {
        trust: Trust::FirstUse,
        node: Some("db-1".to_owned()),
        role: Some("database".to_owned()),
        now: now(),
    }
}

/// A sentence and its causes, as they are printed.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
