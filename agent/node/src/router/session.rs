//! One session: from a client's connection to the end of the copying, or to the words why there is none.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::copy::copy;
use super::group::Use;
use super::nodes::{Nodes, Tie};
use super::reach::{Stream, keep_alive, reach};
use super::refusal::{Reason, asks_for_encryption, refuse};
use super::settings::{Kind, Pace, Service};
use crate::log;

/// One endpoint while the router runs.
pub(super) struct Door {
    pub(super) name: String,
    pub(super) listen: SocketAddr,
    pub(super) to: Use,
    pub(super) nodes: Arc<Nodes>,
    pub(super) service: Service,
    pub(super) pace: Pace,
    pub(super) counts: Counts,
}

impl Door {
    /// Whether a session would get through at this moment; else why not.
    pub(super) async fn leads(&self) -> Result<(), String> {
        let Self { service, nodes, pace, .. } = self;
        let (address, _tie) = nodes.choose(self.to)?;
        let encryption = service.encryption.as_ref().filter(|_| service.encrypts);
        let reached = reach(address, service.kind, encryption, pace.reach).await;
        reached.map(drop).map_err(|error| crate::error::chain(&error))
    }

    /// Whether a client is connected.
    pub(super) fn is_open(&self) -> bool {
        self.counts.sessions.load(Ordering::Relaxed) > 0
    }
}

/// What is counted of an endpoint.
#[derive(Default)]
pub(super) struct Counts {
    /// Clients that are connected, and those of them that wait.
    pub(super) sessions: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) opened: AtomicU64,
    pub(super) waited: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unreached: AtomicU64,
}

/// One more, for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A node's session, counted there for as long as it lives.
struct Placed<'a>(&'a Nodes, SocketAddr);

impl<'a> Placed<'a> {
    fn new(nodes: &'a Nodes, address: SocketAddr) -> Self {
        nodes.opened(address);
        Self(nodes, address)
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        self.0.closed(self.1);
    }
}

/// How long a client may take to say that it wants encryption, or not.
const GREETING: Duration = Duration::from_secs(60);
/// How much of what a client says is kept until there is a node to tell it.
const FIRST: usize = 8 << 10;
/// Between two attempts to reach a node.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a client's machine may be silent.
const CLIENT_SILENCE: Duration = Duration::from_secs(120);

/// Takes clients in, until told to stop.
pub(super) async fn open(door: Arc<Door>, listener: TcpListener, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        match accepted {
            Ok((client, _)) => drop(tokio::spawn(serve(door.clone(), client))),
            Err(error) => {
                // Out of file descriptors, most likely: others may close theirs.
                log::warn(&format!("taking a client in at {}: {error}", door.listen));
                sleep(AGAIN).await;
            }
        }
    }
}

/// Why a session ended before it began.
enum Ended {
    /// The client went away.
    Gone,
    Refused(Reason, String),
}

async fn serve(door: Arc<Door>, mut client: TcpStream) {
    let counts = &door.counts;
    let connected = Counted::new(&counts.sessions);
    let _ = keep_alive(&client, CLIENT_SILENCE);
    let mut first = Vec::new();
    let begun = if counts.sessions.load(Ordering::Relaxed) > door.pace.max_sessions {
        let why = format!("{} has {} sessions already", door.name, door.pace.max_sessions);
        Err(Ended::Refused(Reason::Full, why))
    } else {
        begin(&door, &mut client, &mut first).await
    };
    match begun {
        Ok((address, mut server, mut tie)) => {
            counts.opened.fetch_add(1, Ordering::Relaxed);
            let _placed = Placed::new(&door.nodes, address);
            let copied = tokio::select! {
                copied = copy(&mut client, &mut server, first) => copied.is_ok(),
                () = cut(&mut tie) => false,
            };
            if !copied {
                let _ = client.set_zero_linger();
                server.reset();
            }
        }
        Err(Ended::Gone) => {}
        Err(Ended::Refused(reason, why)) => {
            drop(connected);
            counts.refused.fetch_add(1, Ordering::Relaxed);
            let why = format!("{}: {why}", door.name);
            refuse(client, door.service.kind, reason, &why, first).await;
        }
    }
}

/// Resolves once a session may not stay where it is.
async fn cut(tie: &mut Tie) {
    while tie.changed().await.is_ok() {}
}

/// Finds a node and connects to it; waits for one as long as a session may.
async fn begin(
    door: &Door,
    client: &mut TcpStream,
    first: &mut Vec<u8>,
) -> Result<(SocketAddr, Stream, Tie), Ended> {
    let Door { service, nodes, pace, counts, .. } = door;
    if service.kind == Kind::Postgres && service.encrypts {
        let greeted = timeout(GREETING, greet(client, first)).await;
        if !matches!(greeted, Ok(Ok(()))) {
            return Err(Ended::Gone);
        }
    }
    let mut changes = nodes.changes();
    let deadline = Instant::now() + pace.wait;
    let mut waiting = None;
    loop {
        changes.mark_unchanged();
        let why = match nodes.choose(door.to) {
            Ok((address, mut tie)) => {
                let encryption = service.encryption.as_ref().filter(|_| service.encrypts);
                let reached = tokio::select! {
                    reached = reach(address, service.kind, encryption, pace.reach) => reached,
                    () = cut(&mut tie) => continue,
                };
                match reached {
                    // Nothing that was learnt meanwhile speaks against it: the tie would be cut.
                    Ok(server) if tie.has_changed().is_ok() => return Ok((address, server, tie)),
                    Ok(_) => continue,
                    Err(error) => {
                        counts.unreached.fetch_add(1, Ordering::Relaxed);
                        nodes.broke(address);
                        let why = crate::error::chain(&error);
                        // It is tried again though nothing new is known of it.
                        let pause = sleep(AGAIN);
                        listen(client, first, pause).await?;
                        why
                    }
                }
            }
            Err(why) => {
                if waiting.is_none() {
                    counts.waited.fetch_add(1, Ordering::Relaxed);
                    waiting = Some(Counted::new(&counts.waiting));
                }
                let news = timeout_at(deadline, changed(&mut changes));
                listen(client, first, news).await?;
                why
            }
        };
        if Instant::now() >= deadline {
            return Err(Ended::Refused(Reason::Nobody, why));
        }
    }
}

async fn changed(changes: &mut watch::Receiver<()>) {
    if changes.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits, and hears meanwhile what the client says, or that it has gone.
async fn listen<T>(
    client: &mut TcpStream,
    first: &mut Vec<u8>,
    until: impl Future<Output = T>,
) -> Result<(), Ended> {
    tokio::pin!(until);
    loop {
        tokio::select! {
            _ = &mut until => return Ok(()),
            read = client.read_buf(first), if first.len() < FIRST => {
                if !matches!(read, Ok(1..)) {
                    return Err(Ended::Gone);
                }
            }
        }
    }
}

/// Hears how a PostgreSQL client begins, and tells it that the way to the router is not encrypted.
async fn greet(client: &mut TcpStream, first: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        while first.len() < 8 {
            if client.read_buf(first).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !asks_for_encryption(first) {
            return Ok(());
        }
        client.write_all(b"N").await?;
        first.drain(..8);
    }
}
