//! A site for tests: one authority, one site key, and bundles for nodes of any name and role.

pub(crate) mod real_consul;

use std::net::IpAddr;

use ballast_bundle::{
    Acl, AclPolicy, AclToken, ConsulSettings, Contents, Identity, Member, Network, NodeConfig,
    Postgres, PostgresSecrets, Redis, RedisSecrets, Secrets, pack,
};
use ballast_contract::{
    Availability, Check, CheckKind, Durability, Image, Kernel, Partitions, Role, Spec, Units,
};
use ed25519_dalek::SigningKey;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

pub(crate) struct Site {
    authority: Issuer<'static, KeyPair>,
    ca_pem: String,
    key: SigningKey,
    /// The first three parts of every node's address.
    network: [u8; 3],
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with_key(7)
    }

    pub(crate) fn with_key(seed: u8) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self {
            authority: Issuer::new(params, key),
            ca_pem,
            key: SigningKey::from_bytes(&[seed; 32]),
            network: [10, 0, 0],
        }
    }

    /// A site whose nodes are all this machine: each has a loopback address, of a network no other test is on.
    pub(crate) fn on_loopback() -> Self {
        static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
        let [low, middle, ..] = std::process::id().to_le_bytes();
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { network: [127, middle.wrapping_add(next).max(1), low], ..Self::new() }
    }

    pub(crate) fn address(&self, n: u8) -> IpAddr {
        let [a, b, c] = self.network;
        [a, b, c, n].into()
    }

    pub(crate) fn site_key(&self) -> String {
        ballast_bundle::SiteKey::from(self.key.verifying_key()).to_string()
    }

    /// What a node of this name and role must know; the digits of the name are the last part of its address.
    pub(crate) fn contents(&self, name: &str, role: &str) -> Contents {
        let number: u8 = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let address = self.address(number);
        let servers: Vec<IpAddr> = (1..=3).map(|n| [10, 0, 0, n].into()).collect();
        let node = NodeConfig {
            version: 1,
            node: Identity {
                site: "lab".into(),
                name: name.into(),
                role: role.into(),
                datacenter: "dc1".into(),
            },
            network: Network {
                address: format!("{address}/24").parse().unwrap(),
                gateway: None,
                dns: vec![],
                ntp: vec![],
                interface: None,
                site: vec!["10.0.0.0/24".parse().unwrap()],
                clients: vec![],
            },
            consul: ConsulSettings {
                servers,
                wan_servers: vec![],
                primary_datacenter: None,
                domain: "consul".into(),
            },
            timings: Availability::Fast.timings(),
            postgres: None,
            redis: None,
            observed: vec![],
            settings: toml::Table::new(),
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![node.dns_name()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress(address));
        // Named as its authority is, OpenSSL takes it for one that signed itself.
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let cert_pem = params.signed_by(&key, &self.authority).unwrap().pem();
        Contents {
            secrets: Secrets {
                gossip_key: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into(),
                agent_token: uuid(0xa0 + number),
                dns_token: uuid(0xd0),
                replication_token: None,
                postgres: None,
                redis: None,
            },
            acl: (role == "consul-server").then(acl),
            ca_pem: self.ca_pem.clone(),
            cert_pem,
            key_pem: key.serialize_pem(),
            node,
        }
    }

    /// What a member of the Redis group of three must know, `n4` to `n6`.
    pub(crate) fn redis_contents(&self, name: &str) -> Contents {
        let mut contents = self.contents(name, "redis");
        let member = |n: u8| Member { name: format!("n{n}"), address: self.address(n) };
        contents.node.redis = Some(Redis {
            cluster: "redis".into(),
            members: (4..=6).map(member).collect(),
            max_memory_bytes: None,
        });
        let password = |kind: &str| format!("{kind}PasswordOfTwentyOrMore");
        contents.secrets.redis = Some(RedisSecrets {
            app: password("app"),
            replication: password("replication"),
            sentinel: password("sentinel"),
            monitor: password("monitor"),
        });
        contents
    }

    /// The same for a member of the PostgreSQL cluster `main` of three.
    pub(crate) fn postgres(&self, name: &str) -> Contents {
        let mut contents = self.contents(name, "postgres");
        let member = |n: u8| Member { name: format!("n{n}"), address: [10, 0, 0, n].into() };
        contents.node.postgres = Some(Postgres {
            cluster: "main".into(),
            durability: Durability::Quorum,
            members: (4..=6).map(member).collect(),
            database: "app".into(),
            owner: "app".into(),
            clients: vec!["10.0.0.0/24".parse().unwrap()],
            parameters: Default::default(),
            peer_detection: false,
            backup: None,
            restore: None,
        });
        let password = |n: u8| format!("password{n:016}");
        contents.secrets.postgres = Some(PostgresSecrets {
            superuser: password(1),
            replication: password(2),
            rewind: password(3),
            owner: password(4),
            monitor: password(5),
            api: password(6),
            patroni_token: uuid(0xb0),
            backup_store: None,
        });
        contents
    }

    pub(crate) fn bundle(&self, name: &str, role: &str) -> Vec<u8> {
        self.pack(&self.contents(name, role))
    }

    pub(crate) fn pack(&self, contents: &Contents) -> Vec<u8> {
        pack(contents, &self.key).unwrap()
    }
}

pub(crate) fn uuid(n: u8) -> String {
    format!("{n:02x}{n:02x}{n:02x}{n:02x}-0000-4000-8000-0000000000{n:02x}")
}

pub(crate) fn acl() -> Acl {
    let policy = |name: &str, rules: &str| AclPolicy {
        name: name.into(),
        description: format!("what {name} may"),
        rules: rules.into(),
    };
    let node = "node_prefix \"\" { policy = \"write\" }\nservice_prefix \"\" { policy = \"write\" }\nagent_prefix \"\" { policy = \"read\" }";
    let token = |n: u8, description: &str, policy: &str| AclToken {
        accessor_id: uuid(n + 1),
        secret_id: uuid(n),
        description: description.into(),
        policies: vec![policy.into()],
    };
    Acl {
        management_token: uuid(0x11),
        policies: vec![
            policy("node", node),
            policy(
                "dns",
                "node_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }",
            ),
        ],
        tokens: vec![token(0xa1, "node n1", "node"), token(0xd0, "dns", "dns")],
        revoked: Vec::new(),
    }
}

pub(crate) fn check(name: &str, gate: bool, kind: CheckKind) -> Check {
    Check { name: name.into(), gate, interval_secs: 5, timeout_secs: 3, kind }
}

pub(crate) fn spec(role: &str, checks: Vec<Check>) -> Spec {
    Spec {
        version: ballast_contract::SPEC_VERSION,
        image: Image {
            name: role.into(),
            version: "0.1.0".into(),
            packages: vec![],
            kernel: Kernel { command_line: vec![], initrd_modules: vec![], keep_modules: vec![] },
            users: vec![],
            groups: vec![],
            files: vec![],
            links: vec![],
            units: Units {
                enable: vec![],
                mask: vec![],
                default_target: "multi-user.target".into(),
            },
            leave_out: vec![],
            partitions: Partitions { esp_bytes: 0, slot_bytes: 0, hash_bytes: 0, state_bytes: 0 },
            site_keys: vec![],
            scripts_without_effect: vec![],
        },
        role: Role {
            name: role.into(),
            service: None,
            ports: vec![],
            checks,
            healthy_within_secs: 60,
        },
    }
}

/// A root that holds this spec.
pub(crate) fn root_with(spec: &Spec) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    save_spec(directory.path(), spec);
    directory
}

/// Puts a spec where the assembler would.
pub(crate) fn save_spec(root: &std::path::Path, spec: &Spec) {
    let path = root.join("usr/lib/ballast");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("spec.json"), serde_json::to_vec(spec).unwrap()).unwrap();
}

/// A shell's absolute path: a sandbox has none at `/bin/sh`.
pub(crate) fn shell() -> String {
    let path = std::env::var("PATH").unwrap();
    let mut places = path.split(':').map(|directory| format!("{directory}/sh"));
    places.find(|place| std::path::Path::new(place).exists()).expect("a shell on the path")
}
