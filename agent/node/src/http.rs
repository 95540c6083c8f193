//! One exchange over HTTP/1.1, plain or over TLS, on a connection of its own: that costs less than keeping one well.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ballast_bundle::Bundle;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{url:?} is not an http:// URL")]
    Url { url: String },
    #[error("connecting to {address}")]
    Connect { address: String, source: std::io::Error },
    #[error("exchanging HTTP with {address}")]
    Exchange { address: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Whom this node trusts and what it shows of itself: its bundle's one authority and one certificate.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// # Errors
    /// The bundle's certificates cannot be used.
    pub(crate) fn new(bundle: &Bundle) -> Result<Self, crate::error::Error> {
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| {
            crate::error::Error::Certificates { source }
        };
        let file = |name: &str| {
            let found = bundle.files().iter().find(|(path, _)| path == name);
            found.map_or(&[][..], |(_, bytes)| bytes.as_slice())
        };
        let own = (file("consul/cert.pem"), file("consul/key.pem"));
        Self::from_pem(file("consul/ca.pem"), Some(own)).map_err(wrong)
    }

    /// Trusts these authorities, and shows this certificate with its key where there is one.
    ///
    /// # Errors
    /// One of them is not what it should be, or there is no authority.
    pub(crate) fn from_pem(
        authorities: &[u8],
        own: Option<(&[u8], &[u8])>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities) {
            roots.add(authority?)?;
        }
        if roots.is_empty() {
            return Err("there is no certificate of an authority in it".into());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match own {
            Some((certificate, key)) => {
                let chain =
                    CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }

    /// Encrypts a connection to a server whose certificate bears this name.
    pub(crate) async fn connect(
        &self,
        name: ServerName<'static>,
        stream: TcpStream,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        tokio_rustls::TlsConnector::from(self.0.clone()).connect(name, stream).await
    }
}

/// What was answered.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The largest body that is read: a bundle's.
const MAX_BYTES: usize = ballast_bundle::MAX_BYTES;

/// GETs a URL once; follows no redirect. The caller sets the deadline.
pub(crate) async fn get(url: &str) -> Result<Reply, Error> {
    let not_http = || Error::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| not_http())?;
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else { return Err(not_http()) };
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(path).body(Full::default()).map_err(|_| not_http())?;
    send(&address, request).await
}

/// Sends one request to `host:port` and reads the whole answer. The caller sets the deadline.
pub(crate) async fn send(address: &str, request: Request<Full<Bytes>>) -> Result<Reply, Error> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| Error::Connect { address: address.to_owned(), source })?;
    send_on(stream, address, request).await
}

/// The same over TLS, to a server whose certificate names this address. The caller sets the deadline.
pub(crate) async fn send_tls(
    address: SocketAddr,
    name: IpAddr,
    tls: &Tls,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Error> {
    send_tls_to(&address.to_string(), ServerName::IpAddress(name.into()), tls, request).await
}

/// The same to `host:port`, with the name that the certificate must bear. The caller sets the deadline.
pub(crate) async fn send_tls_to(
    address: &str,
    name: ServerName<'static>,
    tls: &Tls,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Error> {
    let connect = |source| Error::Connect { address: address.to_owned(), source };
    let stream = TcpStream::connect(address).await.map_err(connect)?;
    let stream = tls.connect(name, stream).await.map_err(connect)?;
    send_on(stream, address, request).await
}

async fn send_on(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &str,
    mut request: Request<Full<Bytes>>,
) -> Result<Reply, Error> {
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Exchange {
        address: address.to_owned(),
        source,
    };
    let host = header::HeaderValue::from_str(address).map_err(|e| broken(e.into()))?;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));

    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(e.into()))?;
    // Owns the sender, so that the connection ends when the answer is there, whatever the server thinks of `close`.
    let reply = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BYTES).collect().await?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    };
    // The connection makes progress only while it is polled.
    let (reply, _) = tokio::join!(reply, connection);
    reply.map_err(broken)
}
