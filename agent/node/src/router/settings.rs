//! What the router is told: one TOML file and the environment, refused with place and remedy before anything is opened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ballast_bundle::{DocumentError, line_of, read_toml};
use ballast_contract::Availability;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::Spanned;

use super::group::{Rules, Use};
use super::reach::{Encryption, Patience};
use crate::app::{self, App};
use crate::consul::Consul;
use crate::http::Tls;

/// A file with every key, which a test reads.
pub(crate) const EXAMPLE: &str = include_str!("example.toml");

/// Why what the router is told can't be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reading {}", path.display())]
    Load { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the environment's {name}: {reason}")]
    Environment { name: String, reason: String },
    #[error("{file}:{line}: reading {}", path.display())]
    Named { file: String, line: usize, path: PathBuf, source: std::io::Error },
    #[error("{file}:{line}: {} does not hold what it should", path.display())]
    Certificate {
        file: String,
        line: usize,
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    pub(crate) fn hint(&self) -> &str {
        match self {
            Self::Document(error) if !error.hint.contains("ballast init") => &error.hint,
            Self::Document(_) => {
                "`ballast-agent route --example` prints a file with every key and a value"
            }
            Self::Load { .. } => "name the file with --config, and see that this user may read it",
            Self::Environment { .. } => "correct the variable, or leave it away",
            Self::Named { .. } => "see that the file is there, and that this user may read it",
            Self::Certificate { .. } => "the file holds PEM: certificates, or one private key",
        }
    }
}

/// What is spoken on an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Postgres,
    Redis,
    /// Anything, of which the router understands nothing.
    Tcp,
}

/// How a node is asked what it is.
#[derive(Clone)]
pub(super) enum Proof {
    None,
    /// Patroni's interface on the same host.
    Patroni {
        port: u16,
    },
    /// PostgreSQL itself.
    Sql {
        user: String,
        password: Option<String>,
        database: String,
    },
    /// Redis's `ROLE`.
    Role {
        user: Option<String>,
        password: Option<String>,
    },
}

/// Who says which nodes a service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Consul { name: String, tag: Option<String> },
    Nodes(Vec<String>),
}

/// One service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) proof: Proof,
    /// How its nodes are reached; none where nothing is encrypted.
    pub(super) encryption: Option<Encryption>,
    /// Whether the router encrypts sessions too, and not the application.
    pub(super) encrypts: bool,
    pub(super) rules: Rules,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) name: String,
    /// Its place among the services.
    pub(super) service: usize,
    pub(super) to: Use,
    pub(super) listen: SocketAddr,
}

/// How patiently sessions are dealt with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) reach: Patience,
    /// How long a new session waits.
    pub(super) wait: Duration,
    pub(super) max_sessions: usize,
}

/// Everything.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(super) status: Option<SocketAddr>,
    /// Servers to be asked in turn.
    pub(super) consul: Vec<Consul>,
    pub(super) services: Vec<Service>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) pace: Pace,
    app: App,
}

impl Settings {
    /// No endpoint, and nothing else.
    pub(crate) fn none() -> Self {
        let times = Times::of(Availability::default());
        Self {
            status: None,
            consul: Vec::new(),
            services: Vec::new(),
            endpoints: Vec::new(),
            pace: times.pace(),
            app: App::default(),
        }
    }

    /// Where the state is shown.
    pub(crate) fn status(&self) -> Option<SocketAddr> {
        self.status
    }

    /// What is started beside the router.
    pub(crate) fn app(&self) -> App {
        self.app.clone()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    availability: Option<Availability>,
    status: Option<SocketAddr>,
    wait_ms: Option<u64>,
    max_sessions: Option<Spanned<usize>>,
    consul: Option<ConsulTable>,
    #[serde(default)]
    service: BTreeMap<Spanned<String>, ServiceTable>,
    #[serde(default)]
    endpoint: Vec<EndpointTable>,
    app: Option<Spanned<app::Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsulTable {
    servers: Spanned<Vec<String>>,
    ca: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    token_file: Option<Spanned<PathBuf>>,
    server_name: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProofWord {
    Patroni,
    Sql,
    Role,
    None,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum TlsWord {
    Router,
    Application,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    kind: Kind,
    consul: Option<String>,
    tag: Option<String>,
    nodes: Option<Spanned<Vec<String>>>,
    proof: Option<Spanned<ProofWord>>,
    patroni_port: Option<u16>,
    user: Option<String>,
    password_file: Option<Spanned<PathBuf>>,
    database: Option<String>,
    ca: Option<Spanned<PathBuf>>,
    tls: Option<Spanned<TlsWord>>,
    server_name: Option<Spanned<String>>,
    max_lag_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointTable {
    name: Spanned<String>,
    service: Spanned<String>,
    to: Spanned<UseWord>,
    listen: Spanned<SocketAddr>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum UseWord {
    Primary,
    Replicas,
    Any,
}

/// Reads what a file and the environment say, and the files that they name.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn read(
    file: &str,
    bytes: &[u8],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, Error> {
    Reader { file, bytes, environment }.settings(read_toml(file, bytes)?)
}

struct Reader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        line_of(self.bytes, at.span().start)
    }

    fn refuse<T>(&self, at: &Spanned<T>, reason: impl Into<String>, hint: &str) -> Error {
        let (file, line) = (self.file.to_owned(), self.line(at));
        DocumentError { file, line, reason: reason.into(), hint: hint.to_owned() }.into()
    }

    /// A variable's value, if it is there and makes sense.
    fn variable<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let Some(text) = (self.environment)(name) else { return Ok(None) };
        let wrong = |reason| Error::Environment { name: name.to_owned(), reason };
        read(&text).map(Some).map_err(wrong)
    }

    fn load(&self, path: &Spanned<PathBuf>) -> Result<Vec<u8>, Error> {
        std::fs::read(path.get_ref()).map_err(|source| Error::Named {
            file: self.file.to_owned(),
            line: self.line(path),
            path: path.get_ref().clone(),
            source,
        })
    }

    /// A file's one line: a password or a token.
    fn load_line(&self, path: &Spanned<PathBuf>) -> Result<String, Error> {
        let bytes = self.load(path)?;
        let text = String::from_utf8(bytes).ok().map(|text| text.trim_end().to_owned());
        let one_line = |text: &String| !text.is_empty() && !text.chars().any(char::is_control);
        let path_text = path.get_ref().display();
        text.filter(one_line).ok_or_else(|| {
            let reason = format!("{path_text} does not hold one line of text");
            self.refuse(path, reason, "the file holds the secret and nothing else")
        })
    }

    fn server_name(&self, name: &Spanned<String>) -> Result<ServerName<'static>, Error> {
        ServerName::try_from(name.get_ref().clone()).map_err(|_| {
            let reason = format!("server_name {:?} is no host name or address", name.get_ref());
            self.refuse(name, reason, "write the name that the certificate bears")
        })
    }

    fn tls(
        &self,
        ca: &Spanned<PathBuf>,
        own: Option<(&Spanned<PathBuf>, &Spanned<PathBuf>)>,
    ) -> Result<Tls, Error> {
        let authorities = self.load(ca)?;
        let own_bytes = match own {
            Some((certificate, key)) => Some((self.load(certificate)?, self.load(key)?)),
            None => None,
        };
        let shown = own_bytes.as_ref().map(|(c, k)| (c.as_slice(), k.as_slice()));
        Tls::from_pem(&authorities, shown).map_err(|source| {
            // Which of the files it is, only an attempt without the others tells.
            let of_own = Tls::from_pem(&authorities, None).is_ok();
            let at = own.filter(|_| of_own).map_or(ca, |(certificate, _)| certificate);
            let (file, line) = (self.file.to_owned(), self.line(at));
            Error::Certificate { file, line, path: at.get_ref().clone(), source }
        })
    }

    fn settings(&self, document: Document) -> Result<Settings, Error> {
        let availability = self.variable("BALLAST_AVAILABILITY", |text| match text {
            "fast" => Ok(Availability::Fast),
            "normal" => Ok(Availability::Normal),
            "wide" => Ok(Availability::Wide),
            other => Err(format!("{other:?} is none of fast, normal, wide")),
        })?;
        let times = Times::of(availability.or(document.availability).unwrap_or_default());
        let address = |text: &str| {
            let wrong = || format!("{text:?} is not an address and a port");
            text.parse::<SocketAddr>().map_err(|_| wrong())
        };
        let number =
            |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        let wait = self.variable("BALLAST_WAIT_MS", number)?.or(document.wait_ms);
        if let Some(max) = document.max_sessions.as_ref().filter(|max| *max.get_ref() == 0) {
            return Err(self.refuse(max, "max_sessions 0 lets nobody in", "write 1 or more"));
        }
        let usual = times.pace();
        let pace = Pace {
            wait: wait.map_or(usual.wait, Duration::from_millis),
            max_sessions: document.max_sessions.map_or(usual.max_sessions, Spanned::into_inner),
            ..usual
        };
        let consul = self.consul(document.consul)?;
        let mut services = Vec::new();
        for (name, table) in document.service {
            services.push(self.service(&name, table, !consul.is_empty(), &times)?);
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for table in document.endpoint {
            let endpoint = self.endpoint(&table, &services, &endpoints)?;
            if let Some(service) = services.get_mut(endpoint.service) {
                service.rules.replicas |= endpoint.to == Use::Replicas;
            }
            endpoints.push(endpoint);
        }
        if endpoints.is_empty() {
            let all = Spanned::new(0..0, ());
            return Err(self.refuse(&all, "there is no [[endpoint]]", "add one"));
        }
        let status = self.variable("BALLAST_STATUS", address)?.or(document.status);
        let app = document.app.map(|table| self.app(table, &endpoints)).transpose()?;
        let app = app.unwrap_or_default();
        Ok(Settings { status, consul, services, endpoints, pace, app })
    }

    fn app(&self, table: Spanned<app::Table>, endpoints: &[Endpoint]) -> Result<App, Error> {
        let line = self.line(&table);
        let table = table.into_inner();
        let unknown =
            |name: &&Spanned<String>| !endpoints.iter().any(|e| e.name == *name.get_ref());
        if let Some(name) = table.wait_for.iter().find(unknown) {
            let reason = format!("wait_for: there is no endpoint {:?}", name.get_ref());
            return Err(self.refuse(name, reason, "name endpoints of this file"));
        }
        let line = table.health.as_ref().map_or(line, |health| self.line(health));
        table.read().map_err(|reason| {
            let hint = "write health = { http = \"http://127.0.0.1:8080/healthz\" }".to_owned();
            DocumentError { file: self.file.to_owned(), line, reason, hint }.into()
        })
    }

    fn consul(&self, table: Option<ConsulTable>) -> Result<Vec<Consul>, Error> {
        let token = self.variable("BALLAST_CONSUL_TOKEN", |text| Ok(text.to_owned()))?;
        let list = |text: &str| Ok(text.split(',').map(|one| one.trim().to_owned()).collect());
        let servers = self.variable::<Vec<String>>("BALLAST_CONSUL_SERVERS", list)?;
        let Some(table) = table else {
            let wrong =
                |reason| Error::Environment { name: "BALLAST_CONSUL_SERVERS".to_owned(), reason };
            let all = servers.unwrap_or_default();
            let made = all.iter().map(|url| Self::server(url, token.clone(), None, None));
            return made.collect::<Result<_, _>>().map_err(wrong);
        };
        let token = match (token, &table.token_file) {
            (None, Some(path)) => Some(self.load_line(path)?),
            (token, _) => token,
        };
        let own = match (&table.certificate, &table.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(one), None) | (None, Some(one)) => {
                let reason = "certificate and key belong together";
                return Err(self.refuse(one, reason, "give both, or none"));
            }
            (None, None) => None,
        };
        let tls = table.ca.as_ref().map(|ca| self.tls(ca, own)).transpose()?;
        let name = table.server_name.as_ref().map(|name| self.server_name(name)).transpose()?;
        let urls = servers.as_ref().unwrap_or(table.servers.get_ref());
        if urls.is_empty() {
            return Err(self.refuse(&table.servers, "servers is empty", "name one or more"));
        }
        let made =
            urls.iter().map(|url| Self::server(url, token.clone(), tls.as_ref(), name.as_ref()));
        let hint = "write https://10.0.0.11:8501 and its ca, or http://127.0.0.1:8500";
        made.collect::<Result<_, _>>().map_err(|reason| self.refuse(&table.servers, reason, hint))
    }

    fn server(
        url: &str,
        token: Option<String>,
        tls: Option<&Tls>,
        name: Option<&ServerName<'static>>,
    ) -> Result<Consul, String> {
        let wrong = || format!("{url:?} is not an http:// or https:// URL with a host and a port");
        let (scheme, place) = url.split_once("://").ok_or_else(wrong)?;
        let place = place.trim_end_matches('/');
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        let tls = match (scheme, tls) {
            ("http", _) => None,
            ("https", None) => return Err(format!("{url:?} needs `ca`: whom to trust")),
            ("https", Some(tls)) => {
                let host = host.trim_matches(['[', ']']).to_owned();
                let own = || ServerName::try_from(host).map_err(|_| wrong());
                Some((tls.clone(), name.cloned().map_or_else(own, Ok)?))
            }
            _ => return Err(wrong()),
        };
        Ok(Consul::at(place.to_owned(), token, tls))
    }

    fn service(
        &self,
        at: &Spanned<String>,
        table: ServiceTable,
        consul: bool,
        times: &Times,
    ) -> Result<Service, Error> {
        let name = at.get_ref().clone();
        let of = |what: &str| {
            format!("BALLAST_{}_{what}", name.to_uppercase().replace(['-', '.', ' '], "_"))
        };
        let list = |text: &str| {
            let all: Vec<String> = text.split(',').map(|one| one.trim().to_owned()).collect();
            all.iter().try_for_each(|node| is_node(node)).map(|()| all)
        };
        let nodes = match self.variable(&of("NODES"), list)? {
            Some(nodes) => Some(nodes),
            None => match &table.nodes {
                Some(nodes) => {
                    let all = nodes.get_ref();
                    let checked = all.iter().try_for_each(|node| is_node(node));
                    let hint = "write 10.0.0.21:5432, or a host name and a port";
                    checked.map_err(|reason| self.refuse(nodes, reason, hint))?;
                    if all.is_empty() {
                        return Err(self.refuse(nodes, "nodes is empty", "name one or more"));
                    }
                    Some(all.clone())
                }
                None => None,
            },
        };
        let source = match nodes {
            Some(nodes) => Source::Nodes(nodes),
            None if consul => {
                let name = table.consul.clone().unwrap_or_else(|| name.clone());
                Source::Consul { name, tag: table.tag.clone() }
            }
            None => {
                let reason = format!("service {name:?} has no nodes, and there is no [consul]");
                return Err(self.refuse(at, reason, "add `nodes`, or a table [consul]"));
            }
        };
        let password = match self.variable(&of("PASSWORD"), |text| Ok(text.to_owned()))? {
            None => table.password_file.as_ref().map(|path| self.load_line(path)).transpose()?,
            given => given,
        };
        let tls = table.ca.as_ref().map(|ca| self.tls(ca, None)).transpose()?;
        let server_name =
            table.server_name.as_ref().map(|name| self.server_name(name)).transpose()?;
        if let (None, Some(word)) = (&tls, &table.tls) {
            return Err(self.refuse(word, "tls needs `ca`: whom to trust", "add `ca`"));
        }
        let word = table.tls.as_ref().map_or(TlsWord::Router, |word| *word.get_ref());
        let proof = self.proof(at, &table, &source, password)?;
        let asked = !matches!(proof, Proof::None);
        let eager = match (&proof, &source) {
            // Consul wakes the router, and each question is a handshake for Patroni.
            (Proof::Patroni { .. } | Proof::Sql { .. }, Source::Consul { .. }) => times.interval,
            _ => times.interval / 4,
        };
        Ok(Service {
            name,
            kind: table.kind,
            encrypts: tls.is_some() && word == TlsWord::Router,
            encryption: tls.map(|tls| Encryption { tls, name: server_name }),
            rules: Rules {
                proof: asked,
                replicas: false,
                interval: times.interval,
                eager,
                // A little more, or new sessions would wait once an interval for the answer that is on its way.
                fresh: times.interval * 5 / 4,
                patience: times.patience,
                max_lag_bytes: table.max_lag_bytes.unwrap_or(16 << 20),
            },
            source,
            proof,
        })
    }

    fn proof(
        &self,
        at: &Spanned<String>,
        table: &ServiceTable,
        source: &Source,
        password: Option<String>,
    ) -> Result<Proof, Error> {
        let from_consul = matches!(source, Source::Consul { .. });
        let word = match (&table.proof, table.kind) {
            (Some(word), _) => word.get_ref(),
            (None, Kind::Redis) => &ProofWord::Role,
            (None, Kind::Postgres) if from_consul || table.patroni_port.is_some() => {
                &ProofWord::Patroni
            }
            (None, Kind::Postgres) if table.user.is_some() => &ProofWord::Sql,
            (None, _) => &ProofWord::None,
        };
        Ok(match (word, table.kind) {
            (ProofWord::None, _) => Proof::None,
            (ProofWord::Patroni, Kind::Postgres) => {
                Proof::Patroni { port: table.patroni_port.unwrap_or(8008) }
            }
            (ProofWord::Sql, Kind::Postgres) => {
                let Some(user) = table.user.clone() else {
                    return Err(self.refuse(
                        at,
                        "proof \"sql\" needs `user`: who asks PostgreSQL",
                        "add `user`, and `password_file` or its variable",
                    ));
                };
                let database = table.database.clone().unwrap_or_else(|| user.clone());
                Proof::Sql { user, password, database }
            }
            (ProofWord::Role, Kind::Redis) => Proof::Role { user: table.user.clone(), password },
            (_, kind) => {
                let kind = format!("{kind:?}").to_lowercase();
                let reason = format!("a service of kind {kind:?} can't be proven in this way");
                let hint = "postgres: patroni, sql or none; redis: role or none; tcp: none";
                return Err(match &table.proof {
                    Some(word) => self.refuse(word, reason, hint),
                    None => self.refuse(at, reason, hint),
                });
            }
        })
    }

    fn endpoint(
        &self,
        table: &EndpointTable,
        services: &[Service],
        others: &[Endpoint],
    ) -> Result<Endpoint, Error> {
        let (name, wanted) = (table.name.get_ref(), table.service.get_ref());
        let Some(index) = services.iter().position(|s| s.name == *wanted) else {
            let known: Vec<String> = services.iter().map(|s| format!("{:?}", s.name)).collect();
            let reason = format!(
                "endpoint {name:?}: there is no [service.{wanted}], only {}",
                known.join(", ")
            );
            let reason = if known.is_empty() {
                format!("endpoint {name:?}: there is no [service.{wanted}], nor any other")
            } else {
                reason
            };
            return Err(self.refuse(&table.service, reason, "correct the name, or add the table"));
        };
        let listen = *table.listen.get_ref();
        if others.iter().any(|other| other.name == *name) {
            let reason = format!("endpoint {name:?} is there twice");
            return Err(self.refuse(&table.name, reason, "give each a name of its own"));
        }
        if let Some(other) = others.iter().find(|o| o.listen == listen && listen.port() != 0) {
            let reason = format!("endpoint {name:?} listens where {:?} does", other.name);
            return Err(self.refuse(&table.listen, reason, "give each an address of its own"));
        }
        let to = match table.to.get_ref() {
            UseWord::Primary => Use::Primary,
            UseWord::Replicas => Use::Replicas,
            UseWord::Any => Use::Any,
        };
        let service = services.get(index);
        let nodes = match service {
            Some(Service { proof: Proof::None, source: Source::Nodes(nodes), .. }) => nodes.len(),
            _ => 1,
        };
        if to != Use::Any && nodes > 1 {
            let reason = format!(
                "endpoint {name:?}: which of {} nodes is the primary can't be known without a proof",
                nodes
            );
            let hint = "add `proof` to the service, or name one node";
            return Err(self.refuse(&table.to, reason, hint));
        }
        Ok(Endpoint { name: name.clone(), service: index, to, listen })
    }
}

fn is_node(text: &str) -> Result<(), String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) if port > 0 => Ok(()),
        _ => Err(format!("{text:?} is not a host and a port")),
    }
}

/// What one word of availability stands for here.
struct Times {
    interval: Duration,
    deadline: Duration,
    patience: Duration,
    silence: Duration,
    wait: Duration,
}

impl Times {
    fn pace(&self) -> Pace {
        let reach = Patience { connect: self.deadline, silence: self.silence };
        Pace { reach, wait: self.wait, max_sessions: 10_000 }
    }

    fn of(availability: Availability) -> Self {
        let [interval, deadline, patience, silence, wait] = match availability {
            Availability::Fast => [500, 500, 1_500, 3_000, 10_000],
            Availability::Normal => [1_000, 1_000, 3_000, 6_000, 20_000],
            Availability::Wide => [2_000, 3_000, 10_000, 15_000, 60_000],
        }
        .map(Duration::from_millis);
        Self { interval, deadline, patience, silence, wait }
    }
}
