//! Connections to a service's nodes: bounded in time, noticed when the other side freezes, encrypted where that is said.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::settings::Kind;
use crate::http::Tls;

/// PostgreSQL's `SSLRequest` (Frontend/Backend Protocol, Message Formats).
pub(super) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Why a node was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("connecting to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("{address} did not take a connection within {} ms", deadline.as_millis())]
    Deadline { address: SocketAddr, deadline: Duration },
    #[error("encrypting the connection to {address}")]
    Tls { address: SocketAddr, source: io::Error },
    #[error("PostgreSQL at {address} does not encrypt connections")]
    NoTls { address: SocketAddr },
}

/// How the connections of one service are encrypted.
#[derive(Clone)]
pub(super) struct Encryption {
    pub(super) tls: Tls,
    /// The name in every node's certificate; its address, where there is none.
    pub(super) name: Option<ServerName<'static>>,
}

impl Encryption {
    pub(super) fn name(&self, address: SocketAddr) -> ServerName<'static> {
        self.name.clone().unwrap_or(ServerName::IpAddress(address.ip().into()))
    }
}

/// How connections are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long until there is one.
    pub(super) connect: Duration,
    /// How long the other side's machine may be silent.
    pub(super) silence: Duration,
}

/// A connection to a node.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to a node.
pub(super) async fn reach(
    address: SocketAddr,
    kind: Kind,
    encryption: Option<&Encryption>,
    patience: Patience,
) -> Result<Stream, Error> {
    let deadline = patience.connect;
    let connecting = async {
        let connect = |source| Error::Connect { address, source };
        let mut stream = TcpStream::connect(address).await.map_err(connect)?;
        keep_alive(&stream, patience.silence).map_err(connect)?;
        let Some(encryption) = encryption else { return Ok(Stream::Plain(stream)) };
        let tls = |source| Error::Tls { address, source };
        if kind == Kind::Postgres {
            stream.write_all(&SSL_REQUEST).await.map_err(tls)?;
            if stream.read_u8().await.map_err(tls)? != b'S' {
                return Err(Error::NoTls { address });
            }
        }
        let stream = encryption.tls.connect(encryption.name(address), stream).await.map_err(tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    };
    timeout(deadline, connecting).await.unwrap_or(Err(Error::Deadline { address, deadline }))
}

/// Has the kernel end a connection whose other side's machine is silent for this long (tcp(7)), whether something is on
/// its way to it or not.
pub(super) fn keep_alive(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    let millis = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    let secs = u32::try_from(silence.as_secs()).unwrap_or(u32::MAX).max(1);
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &secs)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &(secs / 3).max(1))?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &millis)?;
    Ok(())
}

impl Stream {
    /// Ends the connection so that the other side can't take it for a proper end.
    pub(super) fn reset(&self) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // A connection that is gone needs no reset.
        let _ = stream.set_zero_linger();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
