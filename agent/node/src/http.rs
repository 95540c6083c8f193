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
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(file("consul/ca.pem")) {
            let authority = authority.map_err(|e| wrong(e.into()))?;
            roots.add(authority).map_err(|e| wrong(e.into()))?;
        }
        let own = CertificateDer::pem_slice_iter(file("consul/cert.pem"))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| wrong(e.into()))?;
        let key =
            PrivateKeyDer::from_pem_slice(file("consul/key.pem")).map_err(|e| wrong(e.into()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|b| b.with_root_certificates(roots).with_client_auth_cert(own, key))
            .map_err(|e| wrong(e.into()))?;
        Ok(Self(Arc::new(config)))
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
    let connect = |source| Error::Connect { address: address.to_string(), source };
    let stream = TcpStream::connect(address).await.map_err(connect)?;
    let stream = tokio_rustls::TlsConnector::from(tls.0.clone())
        .connect(ServerName::IpAddress(name.into()), stream)
        .await
        .map_err(connect)?;
    send_on(stream, &address.to_string(), request).await
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
