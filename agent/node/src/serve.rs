//! The agent's listener on loopback: `/status` as JSON, `/metrics` in Prometheus' text format.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Duration;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::run::View;

/// Binds the listener.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Answers one connection after the other: there are few askers, and all of them are on this machine.
pub(crate) async fn serve(listener: TcpListener, views: watch::Receiver<View>) {
    /// How long an asker may take for all it asks: none may keep the others out.
    const PATIENCE: Duration = Duration::from_secs(5);
    let metrics = Mutex::new(Metrics::new());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: others may close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = service_fn(|request| {
            let response = answer(&request, &views.borrow(), &metrics);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), answer);
        // Whatever became of it, the next one is waiting.
        let _ = tokio::time::timeout(PATIENCE, connection).await;
    }
}

fn answer(
    request: &Request<Incoming>,
    view: &View,
    metrics: &Mutex<Metrics>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is answered\n");
    }
    match request.uri().path() {
        "/status" => match serde_json::to_string_pretty(view) {
            Ok(text) => response(StatusCode::OK, "application/json", text + "\n"),
            Err(error) => {
                response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n"))
            }
        },
        "/metrics" => {
            let text = metrics.lock().unwrap_or_else(PoisonError::into_inner).write(view);
            // The version names the format (Prometheus, exposition formats).
            response(StatusCode::OK, "text/plain; version=0.0.4", text)
        }
        _ => response(StatusCode::NOT_FOUND, "text/plain", "there are /status and /metrics\n"),
    }
}

fn response(
    status: StatusCode,
    kind: &'static str,
    text: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
