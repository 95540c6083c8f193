//! The state folder: a site's authority, keys and tokens, each made once and kept.
//!
//! | file | holds |
//! | --- | --- |
//! | `site.json` | the site's name, gossip key, management token, and the operator's own token |
//! | `site-key.pem`, `site-key.pub` | the key that signs bundles, and what an image or a node trusts |
//! | `ca.pem`, `ca-key.pem` | the certificate authority |
//! | `operator.pem` | the operator's certificate and key |
//! | `postgres.json`, `redis.json` | the databases' passwords, kept for as long as there may be data that bears them |
//! | `nodes/<name>.json`, `nodes/<name>.pem` | a node's tokens, and its certificate and key |
//! | `revoked.json` | accessors of tokens that are void, which Consul is to remove |
//!
//! Every file is written whole, and is made when it is missing, so a run that was cut short is finished by the next.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ballast_bundle::RedisSecrets;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::authority::{Authority, Identity, Subject, date, make_authority, make_key};
use crate::disk;
use crate::error::Error;
use crate::report::Report;
use crate::secret::{gossip_key, password, random, uuid};

/// What the whole site shares. Secret, hence no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSecrets {
    pub site: String,
    pub gossip_key: String,
    pub management_token: String,
    pub operator: Token,
}

/// A node's tokens. Secret, hence no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTokens {
    pub agent: Token,
    pub dns: Token,
    /// Used by servers of the data centres that do not hold the access rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<Token>,
    /// Used by Patroni on members of a PostgreSQL cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patroni: Option<Token>,
}

/// Which tokens a node has beside those that all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purposes {
    pub replicates: bool,
    pub runs_patroni: bool,
}

/// The passwords of the PostgreSQL cluster. Secret, hence no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresPasswords {
    pub superuser: String,
    pub replication: String,
    pub rewind: String,
    pub owner: String,
    pub monitor: String,
    pub api: String,
}

/// One of Consul's tokens.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub accessor_id: String,
    pub secret_id: String,
}

impl Token {
    fn new() -> Result<Self, Error> {
        Ok(Self { accessor_id: uuid()?, secret_id: uuid()? })
    }
}

/// A state folder, and the lock that keeps it to one run at a time.
pub struct State {
    root: PathBuf,
    _lock: Option<Flock<File>>,
}

impl State {
    /// Opens a folder for writing, making it if need be.
    pub fn open(root: &Path) -> Result<Self, Error> {
        disk::make_directory(root)?;
        disk::make_directory(&root.join("nodes"))?;
        let folder = File::open(root).map_err(Error::io("opening", root))?;
        let lock =
            Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    Errno::EWOULDBLOCK => Error::Locked { path: root.to_owned() },
                    errno => Error::io("locking", root)(errno.into()),
                },
            )?;
        disk::remove_leftovers(root)?;
        disk::remove_leftovers(&root.join("nodes"))?;
        Ok(Self { root: root.to_owned(), _lock: Some(lock) })
    }

    /// Opens a folder for reading.
    pub fn open_existing(root: &Path) -> Result<Self, Error> {
        if root.join("site.json").exists() {
            Ok(Self { root: root.to_owned(), _lock: None })
        } else {
            Err(Error::NoState { path: root.to_owned() })
        }
    }

    /// What the site shares, of an existing folder.
    pub fn load_site(&self, site: &str) -> Result<Option<SiteSecrets>, Error> {
        let path = self.root.join("site.json");
        let Some(secrets) = load_json::<SiteSecrets>(&path)? else { return Ok(None) };
        if secrets.site != site {
            return Err(Error::OtherSite {
                path: self.root.clone(),
                found: secrets.site,
                expected: site.to_owned(),
            });
        }
        Ok(Some(secrets))
    }

    /// What the site shares.
    pub fn site(&self, site: &str, report: &mut Report) -> Result<SiteSecrets, Error> {
        if let Some(secrets) = self.load_site(site)? {
            return Ok(secrets);
        }
        let secrets = SiteSecrets {
            site: site.to_owned(),
            gossip_key: gossip_key()?,
            management_token: uuid()?,
            operator: Token::new()?,
        };
        let path = self.root.join("site.json");
        save_json(&path, &secrets)?;
        report.created(&path, "gossip key and management token");
        Ok(secrets)
    }

    /// The passwords of the PostgreSQL cluster.
    pub fn postgres(&self, report: &mut Report) -> Result<PostgresPasswords, Error> {
        self.kept("postgres.json", "PostgreSQL's passwords", report, || {
            Ok(PostgresPasswords {
                superuser: password()?,
                replication: password()?,
                rewind: password()?,
                owner: password()?,
                monitor: password()?,
                api: password()?,
            })
        })
    }

    /// The passwords of the Redis group.
    pub fn redis(&self, report: &mut Report) -> Result<RedisSecrets, Error> {
        self.kept("redis.json", "Redis's passwords", report, || {
            Ok(RedisSecrets {
                app: password()?,
                replication: password()?,
                sentinel: password()?,
                monitor: password()?,
            })
        })
    }

    /// What a file holds, made when there is none.
    fn kept<T: Serialize + DeserializeOwned>(
        &self,
        file: &str,
        what: &str,
        report: &mut Report,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let path = self.root.join(file);
        if let Some(found) = load_json(&path)? {
            return Ok(found);
        }
        let made = make()?;
        save_json(&path, &made)?;
        report.created(&path, what);
        Ok(made)
    }

    /// A password by its name, `postgres.owner`; without one, what there is to ask for.
    pub fn load_password(&self, name: &str) -> Result<String, Error> {
        let mut known = Vec::new();
        for kind in ["postgres", "redis"] {
            let path = self.root.join(format!("{kind}.json"));
            let passwords: BTreeMap<String, String> = load_json(&path)?.unwrap_or_default();
            for (key, password) in passwords {
                let full = format!("{kind}.{key}");
                if full == name {
                    return Ok(password);
                }
                known.push(full);
            }
        }
        let known = if known.is_empty() {
            String::new()
        } else {
            format!("known are {}", known.join(", "))
        };
        Err(Error::UnknownSecret { name: name.to_owned(), known })
    }

    /// The key that signs bundles.
    pub fn site_key(&self, report: &mut Report) -> Result<SigningKey, Error> {
        let (path, public) = (self.root.join("site-key.pem"), self.root.join("site-key.pub"));
        let damaged = || Error::Damaged { path: path.clone() };
        let key = match load_text(&path)? {
            Some(pem) => SigningKey::from_pkcs8_pem(&pem).map_err(|_| damaged())?,
            None => {
                let key = SigningKey::from_bytes(&random()?);
                let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| damaged())?;
                disk::save(&path, pem.as_bytes())?;
                report.created(&path, "the key that signs bundles");
                key
            }
        };
        let line = format!("{}\n", ballast_bundle::SiteKey::from(key.verifying_key()));
        if disk::load(&public)?.as_deref() != Some(line.as_bytes()) {
            disk::save(&public, line.as_bytes())?;
            report.created(
                &public,
                "its public half, which an image can be made to trust (`site_keys`)",
            );
        }
        Ok(key)
    }

    /// The authority.
    pub fn authority(
        &self,
        site: &str,
        now: OffsetDateTime,
        report: &mut Report,
    ) -> Result<Authority, Error> {
        let (path, key_path) = (self.root.join("ca.pem"), self.root.join("ca-key.pem"));
        let key_pem = match load_text(&key_path)? {
            Some(pem) => pem,
            // Without its key an authority is of no use, and a new one in its place would cut the site in two.
            None if path.exists() => return Err(Error::Damaged { path: key_path }),
            None => {
                let pem = make_key()?;
                disk::save(&key_path, pem.as_bytes())?;
                pem
            }
        };
        let cert_pem = match load_text(&path)? {
            Some(pem) => pem,
            None => {
                let pem = make_authority(site, &key_pem, now)?;
                disk::save(&path, pem.as_bytes())?;
                report.created(&path, "the site's certificate authority");
                pem
            }
        };
        Authority::read(cert_pem, &key_pem).ok_or(Error::Damaged { path })
    }

    /// The operator's certificate, and the authority that Consul's servers show.
    pub fn load_operator(&self) -> Result<(Identity, String), Error> {
        let (path, ca) = (self.root.join("operator.pem"), self.root.join("ca.pem"));
        let damaged = |path: &Path| Error::Damaged { path: path.to_owned() };
        let identity = load_text(&path)?.as_deref().and_then(Identity::from_pem);
        Ok((identity.ok_or_else(|| damaged(&path))?, load_text(&ca)?.ok_or_else(|| damaged(&ca))?))
    }

    /// The operator's certificate is there and good.
    pub fn operator(&self, issuance: &Issuance<'_>, report: &mut Report) -> Result<(), Error> {
        issuance.identity(&self.root.join("operator.pem"), &Subject::operator(), report)?;
        Ok(())
    }

    /// A node's certificate.
    pub fn node_identity(
        &self,
        name: &str,
        subject: &Subject,
        issuance: &Issuance<'_>,
        report: &mut Report,
    ) -> Result<Identity, Error> {
        issuance.identity(&self.node(name, "pem"), subject, report)
    }

    /// A node's tokens.
    pub fn node_tokens(&self, name: &str, purposes: Purposes) -> Result<NodeTokens, Error> {
        let path = self.node(name, "json");
        // Revoked while the file is still there: a run was cut short in forgetting the node, which is back now.
        let revoked = self.revoked()?;
        let found = load_json::<NodeTokens>(&path)?;
        let found = found.filter(|tokens| !revoked.contains(&tokens.agent.accessor_id));
        let (mut tokens, mut changed) = match found {
            Some(tokens) => (tokens, false),
            None => {
                let (agent, dns) = (Token::new()?, Token::new()?);
                (NodeTokens { agent, dns, replication: None, patroni: None }, true)
            }
        };
        let optional = [
            (purposes.replicates, &mut tokens.replication),
            (purposes.runs_patroni, &mut tokens.patroni),
        ];
        for (wanted, token) in optional {
            if wanted != token.is_some() {
                self.revoke(token.iter())?;
                *token = if wanted { Some(Token::new()?) } else { None };
                changed = true;
            }
        }
        if changed {
            save_json(&path, &tokens)?;
        }
        Ok(tokens)
    }

    /// The names of the nodes that the folder knows.
    pub fn nodes(&self) -> Result<Vec<String>, Error> {
        let names = disk::list(&self.root.join("nodes"))?;
        Ok(names.iter().filter_map(|n| n.strip_suffix(".json").map(str::to_owned)).collect())
    }

    /// Forgets a node: its tokens are void, and one of the same name will be another.
    pub fn remove_node(&self, name: &str) -> Result<(), Error> {
        let path = self.node(name, "json");
        if let Some(NodeTokens { agent, dns, replication, patroni }) = load_json(&path)? {
            self.revoke([&agent, &dns].into_iter().chain(&replication).chain(&patroni))?;
        }
        disk::remove(&self.node(name, "pem"))?;
        disk::remove(&path)?;
        Ok(())
    }

    /// Accessors of the tokens that are void.
    pub fn revoked(&self) -> Result<Vec<String>, Error> {
        Ok(load_json(&self.root.join("revoked.json"))?.unwrap_or_default())
    }

    fn revoke<'a>(&self, tokens: impl Iterator<Item = &'a Token>) -> Result<(), Error> {
        let known = self.revoked()?;
        let mut revoked = known.clone();
        revoked.extend(tokens.map(|token| token.accessor_id.clone()));
        revoked.sort();
        revoked.dedup();
        if revoked == known { Ok(()) } else { save_json(&self.root.join("revoked.json"), &revoked) }
    }

    fn node(&self, name: &str, extension: &str) -> PathBuf {
        self.root.join("nodes").join(format!("{name}.{extension}"))
    }
}

/// How certificates are issued in this run.
pub struct Issuance<'a> {
    pub authority: &'a Authority,
    /// Issue anew even what could be kept.
    pub renew: bool,
    pub now: OffsetDateTime,
}

impl Issuance<'_> {
    /// Keeps the certificate at a path, or issues it.
    fn identity(
        &self,
        path: &Path,
        subject: &Subject,
        report: &mut Report,
    ) -> Result<Identity, Error> {
        let found = load_text(path)?.as_deref().and_then(Identity::from_pem);
        let reason = match &found {
            None => None,
            Some(_) if self.renew => Some("as asked".to_owned()),
            Some(identity) => match identity.outdated(subject, self.now) {
                None => return Ok(identity.clone()),
                reason => reason,
            },
        };
        let identity = self.authority.issue(subject, self.now)?;
        disk::save(path, identity.to_pem().as_bytes())?;
        let until = identity.until().map(date).unwrap_or_default();
        match reason {
            None => report.created(path, &format!("certificate until {until}")),
            Some(reason) => {
                report.changed(path, &format!("new certificate until {until}: {reason}"))
            }
        }
        Ok(identity)
    }
}

fn load_text(path: &Path) -> Result<Option<String>, Error> {
    let Some(bytes) = disk::load(path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| Error::Damaged { path: path.to_owned() })
}

fn load_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = disk::load(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|_| Error::Damaged { path: path.to_owned() })
}

fn save_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|_| Error::Damaged { path: path.to_owned() })?;
    bytes.push(b'\n');
    disk::save(path, &bytes)
}
