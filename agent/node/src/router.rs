//! The router beside an application: endpoints on loopback that lead to the one true primary, or to replicas.
//!
//! Who is primary is asked of the nodes themselves; Consul, or a list in the configuration, says whom to ask. What follows
//! from the answers is decided in [`group`] without I/O or clock. Nothing of it runs on a database's node.

mod ask;
mod copy;
mod group;
mod list;
mod nodes;
mod reach;
mod refusal;
mod session;
mod settings;
mod show;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use ask::Asker;
use group::Use;
use nodes::Nodes;
use session::{Counts, Door};
use settings::Source;

use crate::error;
use crate::log;
use crate::serve;

pub(crate) use settings::{EXAMPLE, Error, Settings};

/// How long the last sessions may go on after the router was told to stop.
const LAST: Duration = Duration::from_secs(5);

/// Reads what a file says, and the environment.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn load(path: &Path) -> Result<Settings, Error> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Load { path: path.to_owned(), source })?;
    settings::read(&path.display().to_string(), &bytes, &|name| std::env::var(name).ok())
}

/// Routes, until told to stop; then takes nobody in any more and gives the last sessions a moment.
///
/// # Errors
/// It cannot listen where it should.
pub(crate) async fn run(
    settings: Settings,
    stop: impl Future<Output = ()>,
) -> Result<(), error::Error> {
    let router = Router::start(&settings).await?;
    let mut duties = JoinSet::new();
    if let Some(address) = settings.status {
        let listener = serve::bind(address).await?;
        let shown = router.clone();
        duties.spawn(serve::serve_with(listener, 16, move |path| shown.show(path)));
    }
    stop.await;
    router.stopping.send_replace(true);
    let until = Instant::now() + LAST;
    while router.doors.iter().any(|door| door.is_open()) && Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A router that runs; it ends with the last of its copies.
#[derive(Clone)]
pub(crate) struct Router {
    doors: Arc<Vec<Arc<Door>>>,
    stopping: watch::Sender<bool>,
    _duties: Arc<JoinSet<()>>,
}

impl Router {
    /// Starts all duties.
    ///
    /// # Errors
    /// It cannot listen where it should.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, error::Error> {
        raise_limit();
        let (stopping, stopped) = watch::channel(false);
        let mut duties = JoinSet::new();
        let doors = Arc::new(start(settings, &stopped, &mut duties).await?);
        Ok(Self { doors, stopping, _duties: Arc::new(duties) })
    }

    /// The first of these endpoints that leads nowhere, and why.
    pub(crate) async fn missing(&self, names: &[String]) -> Option<String> {
        for door in self.doors.iter().filter(|door| names.contains(&door.name)) {
            if let Err(why) = door.leads().await {
                return Some(format!("{} leads nowhere: {why}", door.name));
            }
        }
        None
    }

    /// Answers a question about it.
    pub(crate) fn show(&self, path: &str) -> Option<serve::Page> {
        show::answer(&self.doors, path)
    }
}

/// Starts every duty: for each service who lists its nodes and who asks them, and for each endpoint who takes clients in.
async fn start(
    settings: &Settings,
    stopped: &watch::Receiver<bool>,
    duties: &mut JoinSet<()>,
) -> Result<Vec<Arc<Door>>, error::Error> {
    let Settings { consul, services, endpoints, pace, .. } = settings;
    let mut all = Vec::new();
    for (index, service) in services.iter().enumerate() {
        let mut used = endpoints.iter().filter(|e| e.service == index);
        let nodes = Arc::new(Nodes::new(service, used.any(|e| e.to != Use::Any)));
        match &service.source {
            Source::Consul { name, tag } => duties.spawn(list::follow_consul(
                nodes.clone(),
                consul.clone(),
                name.clone(),
                tag.clone(),
            )),
            Source::Nodes(names) => duties.spawn(list::follow_names(nodes.clone(), names.clone())),
        };
        duties.spawn(nodes.clone().ask(Asker::new(service.clone(), pace.reach)));
        all.push((nodes, service));
    }
    let mut doors = Vec::new();
    for endpoint in endpoints {
        let Some((nodes, service)) = all.get(endpoint.service) else { continue };
        let listener = TcpListener::bind(endpoint.listen).await;
        let listen = |source| error::Error::Listen { address: endpoint.listen, source };
        let listener = listener.map_err(listen)?;
        let door = Arc::new(Door {
            name: endpoint.name.clone(),
            listen: listener.local_addr().map_err(listen)?,
            to: endpoint.to,
            nodes: nodes.clone(),
            service: (*service).clone(),
            pace: *pace,
            counts: Counts::default(),
        });
        log::info(&format!("{:?} is at {}", door.name, door.listen));
        let mut stopped = stopped.clone();
        let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
        duties.spawn(session::open(door.clone(), listener, stop));
        doors.push(door);
    }
    Ok(doors)
}

/// Each session has two file descriptors: as many as the kernel lets this process have.
fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::warn(&format!("raising the limit of open files: {error}"));
    }
}
