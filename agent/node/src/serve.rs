//! The agent's listener on loopback: `/status` as JSON, `/metrics` in Prometheus' text format.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Duration;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::run::View;

/// Binds the listener.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Answers about the node.
pub(crate) async fn serve(listener: TcpListener, views: watch::Receiver<View>) {
    let metrics = Mutex::new(Metrics::new());
    serve_with(listener, 1, move |path| answer(path, &views.borrow(), &metrics)).await;
}

/// Answers so many connections at once, and a question on each: there are few askers, and all of them are near.
pub(crate) async fn serve_with(
    listener: TcpListener,
    at_once: usize,
    answer: impl Fn(&str) -> Option<Page> + Send + Sync + 'static,
) {
    /// How long an asker may take for all it asks: none may keep the others out.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// How much of a question is read.
    const QUESTION: usize = 16 << 10;
    let answer = Arc::new(answer);
    let mut asked = JoinSet::new();
    loop {
        while asked.len() >= at_once {
            asked.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: others may close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while asked.try_join_next().is_some() {}
        let answer = answer.clone();
        asked.spawn(async move {
            let answer = service_fn(|request| {
                let response = respond(&request, &*answer);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .max_buf_size(QUESTION)
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer);
            // Whatever became of it, the next one is waiting.
            let _ = tokio::time::timeout(PATIENCE, connection).await;
        });
    }
}

/// What is answered: a status, a type and a text.
pub(crate) type Page = (StatusCode, &'static str, String);

/// A page of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Page {
    match serde_json::to_string_pretty(value) {
        Ok(text) => (StatusCode::OK, "application/json", text + "\n"),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
    }
}

/// A page of metrics; the version names the format (Prometheus, exposition formats).
pub(crate) fn metrics(text: String) -> Page {
    (StatusCode::OK, "text/plain; version=0.0.4", text)
}

fn respond(
    request: &Request<Incoming>,
    answer: &impl Fn(&str) -> Option<Page>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is answered\n");
    }
    match answer(request.uri().path()) {
        Some((status, kind, text)) => response(status, kind, text),
        None => response(StatusCode::NOT_FOUND, "text/plain", "there are /status and /metrics\n"),
    }
}

fn answer(path: &str, view: &View, known: &Mutex<Metrics>) -> Option<Page> {
    match path {
        "/status" => Some(json(view)),
        "/metrics" => {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            Some(metrics(known.write(view)))
        }
        _ => None,
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
