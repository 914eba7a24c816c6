//! The long connection: handshake, pings, and the frames of both directions.
//!
//! Real Feishu speaks `wss`; this one speaks `ws`, everything above TLS is the same.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};

use super::answers;
use super::faults::Fault;
use super::frame::{self, CONTROL, DATA, Frame};
use super::observe::{Ending, Observation, Rule};
use super::push;
use super::server::{plain, query};
use super::state::{Outgoing, Shared, Socket};
use crate::wire::Line;

/// The path in the URLs that discovery hands out.
pub(crate) const PATH: &str = "/ws/v2";

/// Frames that may wait for a connection; more are lost.
const BACKLOG: usize = 65_536;

/// The peer has this long to answer a close frame of ours.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

enum Verdict {
    Open {
        connection: u64,
        outgoing: mpsc::Receiver<Outgoing>,
        app: String,
    },
    Refuse {
        status: u16,
        handshake_status: Option<u16>,
        autherrcode: Option<i64>,
        why: &'static str,
    },
    Hang,
    Swallow,
}

/// Answers the handshake; an accepted one goes on in a task of its own.
pub(crate) async fn handshake(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    mut request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let ticket = query(&request, "ticket").unwrap_or_default();
    let app = shared.state().tickets.get(&ticket).map(|ticket| ticket.app.clone());
    if let Some(app) = &app {
        line.belongs_to(app);
    }
    let name = app.clone().unwrap_or_default();
    let refused = |status, autherrcode| {
        shared.journal.note(&name, Observation::HandshakeRefused { status, autherrcode });
    };
    match judge(shared, line, &request, &ticket, app) {
        Verdict::Refuse { status, handshake_status, autherrcode, why } => {
            refused(Some(status), autherrcode);
            let mut response = plain(status, why);
            let headers = response.headers_mut();
            if let Some(status) = handshake_status {
                headers.insert("Handshake-Status", HeaderValue::from(status));
                headers.insert("Handshake-Msg", HeaderValue::from_static(why));
            }
            if let Some(code) = autherrcode {
                headers.insert("Handshake-Autherrcode", HeaderValue::from(code));
            }
            response
        }
        Verdict::Hang => {
            refused(None, None);
            never().await
        }
        Verdict::Swallow => {
            line.hold(true);
            never().await
        }
        Verdict::Open { connection, outgoing, app } => {
            let accept = accept_key(&request);
            let upgrade = hyper::upgrade::on(&mut request);
            let task = Task { shared: shared.clone(), line: line.clone(), app, connection };
            tokio::spawn(task.run(upgrade, outgoing));
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            response
        }
    }
}

/// Waits until the connection is ended by somebody else.
pub(crate) async fn never() -> Response<Full<Bytes>> {
    match std::future::pending::<Infallible>().await {}
}

fn judge(
    shared: &Shared,
    line: &Arc<Line>,
    request: &Request<Incoming>,
    ticket: &str,
    app: Option<String>,
) -> Verdict {
    let refuse = |status, handshake_status, autherrcode, why| Verdict::Refuse {
        status,
        handshake_status,
        autherrcode,
        why,
    };
    if request.headers().get(SEC_WEBSOCKET_KEY).is_none() {
        return refuse(400, None, None, "not a websocket handshake");
    }
    let Some(app) = app else {
        return refuse(401, Some(514), None, "unknown ticket");
    };
    let mut guard = shared.state();
    let state = &mut *guard;
    if state.faults.swallows(Some(&app)) {
        return Verdict::Swallow;
    }
    let fault = state.faults.strike(Some(&app), |fault| match fault {
        Fault::HandshakeHang => Some(Verdict::Hang),
        Fault::HandshakeRefuse { status, handshake_status, autherrcode } => {
            Some(refuse(*status, *handshake_status, *autherrcode, "refused by a test"))
        }
        _ => None,
    });
    if let Some(verdict) = fault {
        return verdict;
    }
    let count = state.sockets.values().filter(|socket| socket.app == app).count();
    if count >= state.settings.connection_limit {
        return refuse(403, Some(514), Some(1_000_040_350), "too many connections");
    }
    let reused = state
        .tickets
        .get_mut(ticket)
        .is_some_and(|ticket| std::mem::replace(&mut ticket.used, true));
    let service_id = state.apps.get(&app).map_or(0, |app| app.service_id);
    let connection = state.fresh_number();
    let (sender, outgoing) = mpsc::channel(BACKLOG);
    let socket = Socket {
        app: app.clone(),
        service_id,
        outgoing: sender,
        line: line.clone(),
        frames: 0,
        open: false,
    };
    state.sockets.insert(connection, socket);
    drop(guard);
    if reused {
        shared.violation(&app, Rule::Url, "the URL was used before");
    }
    Verdict::Open { connection, outgoing, app }
}

fn accept_key(request: &Request<Incoming>) -> HeaderValue {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let accept = derive_accept_key(key.unwrap_or_default());
    HeaderValue::from_str(&accept).expect("base64 fits a header")
}

struct Task {
    shared: Arc<Shared>,
    line: Arc<Line>,
    app: String,
    connection: u64,
}

impl Task {
    async fn run(self, upgrade: OnUpgrade, outgoing: mpsc::Receiver<Outgoing>) {
        let ending = tokio::select! {
            () = self.line.over.cancelled() => Ending::Ours,
            ending = self.talk(upgrade, outgoing) => ending,
        };
        let connection = self.connection;
        self.shared.state().sockets.remove(&connection);
        self.shared.journal.note(&self.app, Observation::Closed { connection, ending });
    }

    async fn talk(&self, upgrade: OnUpgrade, mut outgoing: mpsc::Receiver<Outgoing>) -> Ending {
        let Ok(upgraded) = upgrade.await else { return Ending::Dropped { reset: false } };
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None);
        let (mut sink, stream) = stream.await.split();
        if let Some(socket) = self.shared.state().sockets.get_mut(&self.connection) {
            socket.open = true;
        }
        self.shared.journal.note(&self.app, Observation::Opened { connection: self.connection });
        self.shared.opened.send_modify(|count| *count += 1);
        let ours = AtomicBool::new(false);
        let write = async {
            while let Some(next) = outgoing.recv().await {
                let message = match next {
                    Outgoing::Binary(bytes) => Message::Binary(bytes.into()),
                    Outgoing::Text(text) => Message::Text(text.into()),
                    Outgoing::Close(code, reason) => {
                        ours.store(true, Ordering::Relaxed);
                        let frame =
                            CloseFrame { code: CloseCode::from(code), reason: reason.into() };
                        let sent = sink.send(Message::Close(Some(frame))).await;
                        if sent.is_ok() {
                            tokio::time::sleep(CLOSE_WAIT).await;
                        }
                        return;
                    }
                };
                // A failed write shows as the end of the reading side, too.
                if sink.send(message).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            ending = self.read(stream) => {
                if ours.load(Ordering::Relaxed) { Ending::Ours } else { ending }
            }
            () = write => Ending::Ours,
        }
    }

    async fn read(&self, mut stream: impl Stream<Item = Result<Message, Error>> + Unpin) -> Ending {
        let mut closed = None;
        loop {
            match stream.next().await {
                Some(Ok(Message::Binary(bytes))) => self.take(&bytes),
                Some(Ok(Message::Text(text))) => {
                    let detail = format!("a text message: {text:?}");
                    self.shared.violation(&self.app, Rule::Frame, detail);
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map(|frame| frame.code.into());
                    closed = Some(Ending::Close { code });
                }
                Some(Ok(_)) => {}
                None => return closed.unwrap_or(Ending::Dropped { reset: false }),
                Some(Err(error)) => return closed.unwrap_or_else(|| broken(&error)),
            }
        }
    }

    fn take(&self, bytes: &[u8]) {
        let frame = match frame::decode(bytes) {
            Ok(frame) => frame,
            Err(why) => return self.shared.violation(&self.app, Rule::Frame, why),
        };
        match (frame.method, frame.header("type")) {
            (CONTROL, Some("ping")) => self.ping(&frame),
            (DATA, _) => answers::answer(&self.shared, self.connection, &self.app, &frame),
            (method, kind) => {
                let detail = format!("a frame of method {method} and type {kind:?}");
                self.shared.violation(&self.app, Rule::Frame, detail);
            }
        }
    }

    fn ping(&self, ping: &Frame) {
        let connection = self.connection;
        self.shared.journal.note(&self.app, Observation::Ping { connection });
        let (service_id, muted, payload) = {
            let mut guard = self.shared.state();
            let state = &mut *guard;
            let muted = state
                .faults
                .strike(Some(&self.app), |fault| matches!(fault, Fault::NoPongs).then_some(()));
            let payload = state.faults.strike(Some(&self.app), |fault| match fault {
                Fault::PongPayload { payload } => Some(payload.clone()),
                _ => None,
            });
            let config = state.settings.client_config.json().to_string();
            let service_id = state.sockets.get(&connection).map(|socket| socket.service_id);
            (service_id, muted.is_some(), payload.unwrap_or(config))
        };
        let numbers = (ping.seq_id, ping.log_id, Some(ping.service));
        if numbers != (0, 0, service_id) {
            let detail = format!("SeqID, LogID, service are {numbers:?}, not 0, 0, {service_id:?}");
            self.shared.violation(&self.app, Rule::Ping, detail);
        }
        if !muted {
            push::send(&self.shared, connection, Outgoing::Binary(pong(ping.service, &payload)));
        }
    }
}

/// The bytes of a pong with this payload.
pub(crate) fn pong(service: i32, payload: &str) -> Vec<u8> {
    let payload = (!payload.is_empty()).then(|| payload.as_bytes().to_vec());
    let frame = Frame { service, method: CONTROL, payload, ..Frame::default() };
    frame.with("type", "pong").encode()
}

fn broken(error: &Error) -> Ending {
    let reset = matches!(error, Error::Io(error) if error.kind() == ErrorKind::ConnectionReset);
    Ending::Dropped { reset }
}
