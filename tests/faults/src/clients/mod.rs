//! The clients: a writer and a reader per store that look for the primary by its name, and writers that each hold on to one
//! node, so that a second primary cannot acknowledge unseen.

pub mod names;
pub mod postgres;
pub mod redis;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::rustls::pki_types::CertificateDer;
use ::rustls::pki_types::pem::PemObject;
use ::rustls::{ClientConfig, RootCertStore};
use ballast_machines::network::Network;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::names::Names;
use crate::access::{Access, Node};
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Told, Write};

/// How long an answer is waited for: past it a server is as good as frozen.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// A host that is there takes a connection within this time; one that is gone would hold a client up for seconds.
const REACHING: Duration = Duration::from_millis(200);
/// Connecting is several answers.
const CONNECTING: Duration = Duration::from_millis(600);
/// Between two writes, and before a writer tries again.
const PACE: Duration = Duration::from_millis(20);
/// Between two looks of a writer that holds on to one node.
const HOLD: Duration = Duration::from_millis(100);
/// Where Consul's servers answer DNS.
const DNS_PORT: u16 = 8600;

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

impl Store {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Redis];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
        }
    }
}

/// What a reader saw.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    /// When an acknowledged write was found.
    pub answered: Vec<Duration>,
    /// Acknowledged writes that a node which called itself primary did not have.
    pub missing: Vec<u64>,
}

/// What is known of one store in one scenario, so far.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The writes.
    pub ledger: Ledger,
    /// The reads.
    pub reads: Reads,
    /// How many sessions were found by the name, and how many by asking the members because no name server answered.
    pub by_name: u64,
    /// See `by_name`.
    pub by_asking: u64,
    /// Why the writer that goes by the name was not served last.
    pub complaint: String,
}

/// The way into a store: what every session is opened with.
struct Door {
    store: Store,
    access: Access,
    tls: MakeRustlsConnect,
    names: Names,
}

enum Session {
    Postgres(postgres::Session),
    Redis(redis::Session),
}

impl Door {
    fn members(&self) -> &[Node] {
        match self.store {
            Store::Postgres => &self.access.postgres.members,
            Store::Redis => &self.access.redis.members,
        }
    }

    fn primary_name(&self) -> String {
        let cluster = match self.store {
            Store::Postgres => &self.access.postgres.cluster,
            Store::Redis => &self.access.redis.cluster,
        };
        format!("primary.{cluster}.service.{}", self.access.domain)
    }

    async fn open(&self, node: &Node) -> std::result::Result<Session, String> {
        let session = async {
            Ok(match self.store {
                Store::Postgres => Session::Postgres(
                    postgres::Session::open(&self.access.postgres, &self.tls, node).await?,
                ),
                Store::Redis => Session::Redis(
                    redis::Session::open(&self.access.redis, &self.access.authority, node).await?,
                ),
            })
        };
        match timeout(CONNECTING, session).await {
            Ok(opened) => opened.map_err(|why: String| format!("{}: {why}", node.name)),
            Err(_) => Err(format!("{} does not let a client in", node.name)),
        }
    }

    /// The node that the name stands for; where no name server answers, the members in turn.
    async fn find(&self, turn: usize) -> std::result::Result<(Node, bool), String> {
        match self.names.look_up(&self.primary_name()).await {
            // Of several addresses, a client tries one after another.
            Ok(addresses) => {
                let known = |node: &&Node| addresses.contains(&node.address);
                let nodes: Vec<&Node> = self.members().iter().filter(known).collect();
                let turn = turn.checked_rem(nodes.len()).unwrap_or(0);
                let node = nodes.get(turn).map(|node| (*node).clone());
                node.map(|node| (node, true))
                    .ok_or_else(|| format!("{} is no node", self.primary_name()))
            }
            Err(why) => {
                let turn = turn.checked_rem(self.members().len()).unwrap_or(0);
                self.members().get(turn).cloned().map(|node| (node, false)).ok_or(why)
            }
        }
    }
}

impl Session {
    async fn is_primary(&mut self) -> bool {
        let asked = async {
            match self {
                Self::Postgres(session) => session.is_primary().await,
                Self::Redis(session) => session.is_primary().await,
            }
        };
        matches!(timeout(PATIENCE, asked).await, Ok(Ok(true)))
    }

    async fn write(&mut self, id: u64) -> (Told, Option<u32>) {
        let written = async {
            match self {
                Self::Postgres(session) => session.write(id).await,
                Self::Redis(session) => (session.write(id).await, None),
            }
        };
        timeout(PATIENCE, written).await.unwrap_or((Told::Unknown, None))
    }

    async fn read(&mut self, id: u64) -> std::result::Result<bool, String> {
        let read = async {
            match self {
                Self::Postgres(session) => session.read(id).await,
                Self::Redis(session) => session.read(id).await,
            }
        };
        timeout(PATIENCE, read).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

/// Writes down what happens to one store.
#[derive(Clone)]
struct Scribe {
    record: Arc<Mutex<Record>>,
    origin: Instant,
    ids: Arc<AtomicU64>,
}

impl Scribe {
    fn with<T>(&self, work: impl FnOnce(&mut Record) -> T) -> T {
        // A record that a panicking task left is still what was told.
        work(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn write(&self, session: &mut Session, node: &Node, by_name: bool) -> Told {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let began = self.origin.elapsed();
        let (told, term) = session.write(id).await;
        let ended = self.origin.elapsed();
        let node = node.name.clone();
        self.with(|record| {
            record.ledger.record(Write { id, node, by_name, term, began, ended, told });
        });
        told
    }
}

/// Writes all the time, each session with the node that the name stands for.
async fn follow(door: Arc<Door>, scribe: Scribe) {
    for turn in 0.. {
        match follow_once(&door, &scribe, turn).await {
            Ok(()) => {}
            Err(why) => scribe.with(|record| record.complaint = why),
        }
        sleep(PACE).await;
    }
}

async fn follow_once(door: &Door, scribe: &Scribe, turn: usize) -> std::result::Result<(), String> {
    let (node, by_name) = door.find(turn).await?;
    let mut session = door.open(&node).await?;
    if !session.is_primary().await {
        return Err(format!("{} is not the primary", node.name));
    }
    scribe.with(|record| {
        let count = if by_name { &mut record.by_name } else { &mut record.by_asking };
        *count += 1;
    });
    while scribe.write(&mut session, &node, true).await == Told::Acknowledged {
        sleep(PACE).await;
    }
    Err(format!("{} did not acknowledge", node.name))
}

/// Holds on to one node and writes whenever it calls itself primary.
async fn hold(door: Arc<Door>, scribe: Scribe, node: Node) {
    loop {
        if let Ok(mut session) = door.open(&node).await {
            loop {
                sleep(HOLD).await;
                if !session.is_primary().await {
                    break;
                }
                if scribe.write(&mut session, &node, false).await != Told::Acknowledged {
                    break;
                }
            }
        }
        sleep(HOLD).await;
    }
}

/// Reads, from the node that the name stands for, what was acknowledged last.
async fn read(door: Arc<Door>, scribe: Scribe) {
    for turn in 0.. {
        sleep(HOLD).await;
        let Ok((node, _)) = door.find(turn).await else { continue };
        let Ok(mut session) = door.open(&node).await else { continue };
        while session.is_primary().await {
            let last = scribe.with(|record| record.ledger.acknowledged().last().map(|w| w.id));
            let Some(id) = last else {
                sleep(HOLD).await;
                continue;
            };
            match session.read(id).await {
                Ok(true) => {
                    let at = scribe.origin.elapsed();
                    scribe.with(|record| record.reads.answered.push(at));
                }
                Ok(false) => scribe.with(|record| record.reads.missing.push(id)),
                Err(_) => break,
            }
            sleep(PACE).await;
        }
    }
}

/// The clients of a run, ready to be let loose on each scenario.
pub struct Clients {
    network: Network,
    access: Access,
    ids: Arc<AtomicU64>,
}

/// Clients at work.
pub struct Working {
    scribes: BTreeMap<Store, Scribe>,
    origin: Instant,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Clients {
    /// Clients in this network.
    pub fn new(network: Network, access: Access) -> Self {
        Self { network, access, ids: Arc::new(AtomicU64::new(1)) }
    }

    /// What they get in with.
    pub fn access(&self) -> &Access {
        &self.access
    }

    fn door(&self, store: Store) -> Result<Door> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.access.authority) {
            let certificate = certificate.map_err(Error::document("the site's authority"))?;
            roots.add(certificate).map_err(Error::document("the site's authority"))?;
        }
        let servers = self.access.servers.iter();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Door {
            store,
            access: self.access.clone(),
            tls: MakeRustlsConnect::new(config),
            names: Names::new(servers.map(|a| SocketAddr::new(*a, DNS_PORT)).collect()),
        })
    }

    /// Lets them write and read until they are stopped. Times are counted from `origin`.
    ///
    /// # Errors
    /// When they cannot start.
    pub fn start(&self, origin: Instant) -> Result<Working> {
        let mut scribes = BTreeMap::new();
        let mut doors = Vec::new();
        for store in Store::ALL {
            let record = Arc::new(Mutex::new(Record::default()));
            let scribe = Scribe { record, origin, ids: Arc::clone(&self.ids) };
            doors.push((Arc::new(self.door(store)?), scribe.clone()));
            scribes.insert(store, scribe);
        }
        let runtime = runtime()?;
        let network = self.network.clone();
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            // A thread that cannot enter leaves ledgers without an entry, which no scenario passes with.
            if network.enter().is_err() {
                return;
            }
            runtime.block_on(async move {
                for (door, scribe) in doors {
                    for node in door.members() {
                        tokio::spawn(hold(Arc::clone(&door), scribe.clone(), node.clone()));
                    }
                    tokio::spawn(follow(Arc::clone(&door), scribe.clone()));
                    tokio::spawn(read(door, scribe));
                }
                // Whoever waits may be gone as well: the same.
                let _ = stopped.await;
            });
        };
        let thread = thread::Builder::new()
            .name("clients".into())
            .spawn(work)
            .map_err(Error::client("starting the clients"))?;
        Ok(Working { scribes, origin, stop: Some(stop), thread: Some(thread) })
    }

    /// Asks something of the stores, in the site's network.
    ///
    /// # Errors
    /// When the network cannot be entered.
    pub fn ask<T, F>(&self, question: impl FnOnce() -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = T>,
    {
        let runtime = runtime()?;
        self.network
            .run(move || runtime.block_on(async { question().await }))
            .map_err(Error::client("asking in the site's network"))
    }

    /// Makes what the writers need, on the primary.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn prepare(&self) -> Result<std::result::Result<(), String>> {
        let door = self.door(Store::Postgres)?;
        self.ask(|| async move {
            let mut why = "there is no primary".to_owned();
            for node in door.members() {
                let made = postgres::make_table(&door.access.postgres, &door.tls, node);
                match timeout(Duration::from_secs(5), made).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(reason)) => why = format!("{}: {reason}", node.name),
                    Err(_) => why = format!("{} does not answer", node.name),
                }
            }
            Err(why)
        })
    }

    /// What is not whole about a store, asked as a client: one primary, found by its name, and every other member has what
    /// was just written.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn look(&self, store: Store) -> Result<std::result::Result<(), String>> {
        let door = self.door(store)?;
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        self.ask(|| async move { look(&door, id).await })
    }

    /// What is in a store of these writes, read from its primary.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn read_back(
        &self,
        store: Store,
        ids: &[u64],
    ) -> Result<std::result::Result<BTreeMap<u64, u32>, String>> {
        let door = self.door(store)?;
        self.ask(|| async move { read_back(&door, ids).await })
    }

    /// Does this with a session of Redis's master.
    ///
    /// # Errors
    /// When it cannot be asked, or there is no master.
    pub fn with_master<T: Send>(
        &self,
        work: impl AsyncFnOnce(redis::Session) -> std::result::Result<T, String> + Send,
    ) -> Result<T> {
        let door = self.door(Store::Redis)?;
        let done = self.ask(|| async move {
            match primary(&door).await? {
                (_, Session::Redis(session)) => work(session).await,
                (node, Session::Postgres(_)) => Err(format!("{} is no Redis", node.name)),
            }
        })?;
        done.map_err(Error::client("working on Redis's master"))
    }
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().map_err(Error::client("making a runtime"))
}

async fn primary(door: &Door) -> std::result::Result<(Node, Session), String> {
    let mut primaries = Vec::new();
    for node in door.members() {
        let mut session = door.open(node).await?;
        if session.is_primary().await {
            primaries.push((node.clone(), session));
        }
    }
    let names: Vec<&str> = primaries.iter().map(|(node, _)| node.name.as_str()).collect();
    match names.len() {
        1 => primaries.pop().ok_or_else(String::new),
        0 => Err(format!("{} has no primary", door.store.name())),
        _ => Err(format!("{} all call themselves primary", names.join(" and "))),
    }
}

async fn look(door: &Door, id: u64) -> std::result::Result<(), String> {
    let (node, mut session) = primary(door).await?;
    let name = door.primary_name();
    let addresses = door.names.look_up(&name).await?;
    if addresses != [node.address] {
        return Err(format!("{name} is {addresses:?}, and {} is the primary", node.name));
    }
    if session.write(id).await.0 != Told::Acknowledged {
        return Err(format!("{} does not acknowledge a write", node.name));
    }
    for other in door.members().iter().filter(|other| **other != node) {
        let mut session = door.open(other).await?;
        let start = Instant::now();
        while !session.read(id).await.map_err(|why| format!("{}: {why}", other.name))? {
            if start.elapsed() > Duration::from_secs(2) {
                return Err(format!("{} does not get what {} writes", other.name, node.name));
            }
            sleep(PACE).await;
        }
        if door.store == Store::Redis {
            redis::quorum(&door.access.redis, &door.access.authority, other)
                .await
                .map_err(|why| format!("the Sentinel of {}: {why}", other.name))?;
        }
    }
    Ok(())
}

async fn read_back(door: &Door, ids: &[u64]) -> std::result::Result<BTreeMap<u64, u32>, String> {
    let (_, session) = primary(door).await?;
    let first = ids.iter().min().copied().unwrap_or(0);
    let found = match session {
        Session::Postgres(session) => session.all(first).await?,
        Session::Redis(mut session) => session.all(ids).await?,
    };
    Ok(found.into_iter().collect())
}

impl Working {
    /// The time since the origin.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// How many writes were acknowledged to the writer that goes by the name since then, and why the last was not.
    pub fn progress(&self, store: Store, since: Duration) -> (usize, String) {
        self.scribes.get(&store).map_or((0, String::new()), |scribe| {
            scribe.with(|record| {
                let named = record.ledger.acknowledged().rev().filter(|write| write.by_name);
                let count = named.take_while(|write| write.began >= since).count();
                (count, record.complaint.clone())
            })
        })
    }

    /// Who acknowledged last.
    pub fn primary(&self, store: Store) -> Option<String> {
        let scribe = self.scribes.get(&store)?;
        scribe.with(|record| record.ledger.acknowledged().last().map(|write| write.node.clone()))
    }

    /// Stops them and hands over what they know.
    pub fn stop(mut self) -> BTreeMap<Store, Record> {
        self.end();
        self.scribes.iter().map(|(store, scribe)| (*store, scribe.with(|r| r.clone()))).collect()
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It has ended already: the same.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in there is seen in what is not in the ledgers.
            let _ = thread.join();
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.end();
    }
}
