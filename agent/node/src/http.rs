//! One exchange over plain HTTP/1.1, on a connection of its own: on loopback that costs less than keeping one well.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
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
pub(crate) async fn send(address: &str, mut request: Request<Full<Bytes>>) -> Result<Reply, Error> {
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Exchange {
        address: address.to_owned(),
        source,
    };
    let host = header::HeaderValue::from_str(address).map_err(|e| broken(e.into()))?;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));

    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| Error::Connect { address: address.to_owned(), source })?;
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
