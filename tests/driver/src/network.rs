//! The network of a site, as clients beside its machines see it: sockets of this program in the machines' own namespace.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

/// A network namespace. Clones mean the same one.
#[derive(Debug, Clone)]
pub struct Network {
    namespace: Arc<File>,
}

impl Network {
    /// The network of a process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).map_err(Error::file("opening", &path))?;
        Ok(Self { namespace: Arc::new(file) })
    }

    /// Moves the calling thread into the network: sockets that it makes from now on, and threads that it starts, are in there. A
    /// thread that others share, as of a runtime, enters when it starts, before it has made a socket.
    ///
    /// # Errors
    /// Without the privilege to.
    pub fn enter(&self) -> Result<()> {
        setns(self.namespace.as_ref(), CloneFlags::CLONE_NEWNET)
            .map_err(Error::system("entering the site's network"))
    }

    /// Connects to a node. The calling thread stays where it is; the connection stays in the site's network.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    pub fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&address, limit))?
    }

    /// Does this in the network, in a thread of its own, and waits for it.
    ///
    /// # Errors
    /// Without the privilege to enter, or when the work panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(self.namespace.as_ref(), CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the work in the network panicked")))
        })
    }
}
