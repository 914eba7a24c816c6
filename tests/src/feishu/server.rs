//! Accepting connections and finding the route of a request. HTTP/1.1 on loopback, no TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::faults::Fault;
use super::state::Shared;
use super::{discovery, rest, socket};
use crate::listening::{self, Listening};
use crate::wire::{Line, Wire};

/// The largest request body that is read.
const BODY_LIMIT: usize = 40 * 1024 * 1024;

/// Starts the accept loop.
pub(crate) fn start(shared: Arc<Shared>, listener: TcpListener, addr: SocketAddr) -> Listening {
    let stop = shared.stop.clone();
    listening::start(stop, listener, addr, move |stream| serve(&shared, stream))
}

fn serve(shared: &Arc<Shared>, stream: TcpStream) {
    // Without it the system still delivers, only later.
    let _ = stream.set_nodelay(true);
    let line = {
        let mut state = shared.state();
        let line = Line::new(state.fresh_number(), shared.stop.child_token());
        if state.faults.swallows(None) {
            line.hold(true);
        }
        let reset = |fault: &Fault| matches!(fault, Fault::ResetNew).then_some(());
        if state.faults.strike(None, reset).is_some() {
            line.reset();
        }
        state.lines.insert(line.id, line.clone());
        line
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        let wire = TokioIo::new(Wire::new(stream, line.clone()));
        let answer = |request| {
            let (shared, line) = (shared.clone(), line.clone());
            async move { Ok::<_, Infallible>(route(&shared, &line, request).await) }
        };
        let connection = http1::Builder::new().serve_connection(wire, service_fn(answer));
        tokio::select! {
            biased;
            () = line.over.cancelled() => {}
            // A broken connection is the peer's affair.
            _ = connection.with_upgrades() => {}
        }
        shared.state().lines.remove(&line.id);
    });
}

async fn route(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if request.method() == Method::GET && request.uri().path() == socket::PATH {
        return socket::handshake(shared, line, request).await;
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return plain(413, "too large");
    };
    let body = body.to_bytes();
    if head.method == Method::POST && head.uri.path() == discovery::PATH {
        return discovery::answer(shared, line, &head, &body).await;
    }
    // What was asked for is done also when whoever asked has left.
    let (shared, line) = (shared.clone(), line.clone());
    let answering = tokio::spawn(async move {
        let answered = rest::answer(&shared, &line, &head, &body);
        shared.stop.run_until_cancelled(answered).await
    });
    let answered = answering.await.expect("answering does not panic");
    answered.unwrap_or_else(|| plain(503, "the platform ends"))
}

/// A plain text response.
pub(crate) fn plain(status: u16, text: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text.to_owned())
}

/// A JSON response.
pub(crate) fn json(status: u16, value: &Value) -> Response<Full<Bytes>> {
    respond(status, "application/json; charset=utf-8", value.to_string())
}

/// A response of any type.
pub(crate) fn respond(status: u16, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).expect("a fault names a real status");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A parameter of the query.
pub(crate) fn query<T>(request: &Request<T>, name: &str) -> Option<String> {
    parameter(request.uri().query(), name)
}

/// A parameter of a query string.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let query = query?.as_bytes();
    let mut pairs = url::form_urlencoded::parse(query);
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
