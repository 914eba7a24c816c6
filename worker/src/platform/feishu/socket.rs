//! An open long connection, until it ends: frames in, answers and pings out.
//!
//! The one loop of the adapter. Reading never waits for a verdict or for writing: events are handed in
//! and settled beside it, and a writer of its own takes what is to be sent. Both are bounded; beyond the
//! bound the platform waits in the kernel's buffers.

use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::select;
use futures_util::stream::{SplitSink, poll_fn};
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::chunks::{Chunks, Part};
use super::connect::{Arrived, Connection};
use super::discovery::{Endpoint, Failure, ping_interval};
use super::frame::{CONTROL, DATA, Frame};
use super::live::{Action, Input, Live};
use super::receive::{Arrival, answer, hand};
use super::{Shared, State};
use crate::clock::{self, Instant};
use crate::platform::Note;
use crate::strangers::Strangers;

/// Events without a verdict, and their bytes.
const PENDING_MAX: usize = 1024;
const PENDING_BYTES: usize = 8 * 1024 * 1024;
/// Messages waiting to be written. One more means that the platform does not read.
const OUT_MAX: usize = 4096;
/// Progress is told at most this often.
const PROGRESS: Duration = Duration::from_secs(1);
/// For events under way when the worker is told to stop, and then for closing.
const LAST_VERDICTS: Duration = Duration::from_secs(1);
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a connection ended.
pub(super) enum Ended {
    /// The worker is told to stop; the connection is closed.
    Stopped,
    /// It is lost.
    Lost(Failure),
}

/// Serves `connection` to its end.
pub(super) async fn serve(
    shared: &Shared,
    state: &mut State<'_>,
    connection: Connection,
    endpoint: &Endpoint,
) -> Ended {
    let (sink, mut stream) = connection.socket.split();
    let (out, queue) = mpsc::channel(OUT_MAX);
    let mut writing = pin!(write(sink, queue));
    let (arrive, mut arriving) = mpsc::channel(PENDING_MAX);
    let settling = poll_fn(|cx| arriving.poll_recv(cx))
        .then(|arrival| hand(shared, arrival))
        .map(|(arrival, handed)| async move {
            let bytes = arrival.payload.len();
            (bytes, answer(shared, arrival, handed).await)
        })
        .buffer_unordered(PENDING_MAX);
    let mut settling = pin!(settling);
    let (mut pending, mut pending_bytes) = (0, 0);
    let now = clock::now();
    let mut talk = Talk {
        out,
        service: endpoint.service,
        arrived: connection.arrived,
        counted: 0,
        live: Live::new(shared.limits.live, endpoint.ping, now),
        chunks: Chunks::new(super::decode::reads),
        dropped: Strangers::default(),
        told: None,
    };
    talk.ping();
    loop {
        let room = pending < PENDING_MAX && pending_bytes < PENDING_BYTES;
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Err(e) = &mut writing => return lost(&e),
            Some((bytes, answer)) = settling.next() => {
                pending -= 1;
                pending_bytes -= bytes;
                talk.answer(answer);
            }
            message = stream.next(), if room => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(e)) => return lost(&e),
                    None => return Ended::Lost(Failure::outage("the connection was cut")),
                };
                let now = clock::now();
                match talk.hear(message, now) {
                    Heard::Event(arrival) => {
                        state.works().await;
                        let bytes = arrival.payload.len();
                        // There is room, or nothing would have been read.
                        if arrive.try_send(arrival).is_ok() {
                            pending += 1;
                            pending_bytes += bytes;
                        }
                    }
                    Heard::Frame => state.works().await,
                    Heard::Nonsense => shared.report.tell(Note::Malformed).await,
                    Heard::Nothing => {}
                    Heard::Closed(why) => return Ended::Lost(Failure::outage(why)),
                }
                talk.progress(shared, now).await;
                // A flood of messages must not hold up our own pings.
                if now >= talk.live.deadline()
                    && let Some(why) = talk.tick(room, now)
                {
                    return Ended::Lost(Failure::outage(why));
                }
            }
            () = tokio::time::sleep_until(talk.live.deadline()) => {
                if let Some(why) = talk.tick(room, clock::now()) {
                    return Ended::Lost(Failure::outage(why));
                }
            }
        }
    }
    // Nothing new is read; what is under way may still be answered.
    drop(arrive);
    let answering = async {
        while let Some((_, answer)) = settling.next().await {
            talk.answer(answer);
        }
    };
    let answering = tokio::time::timeout(LAST_VERDICTS, answering);
    let _ = select(pin!(answering), &mut writing).await;
    leave(talk, writing, stream).await;
    Ended::Stopped
}

/// Says goodbye and waits a moment for the platform to do so, too.
async fn leave(
    talk: Talk,
    writing: Pin<&mut impl Future<Output = Result<(), WsError>>>,
    mut stream: impl Stream<Item = Result<Message, WsError>> + Unpin,
) {
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    talk.send(Message::Close(Some(goodbye)));
    drop(talk);
    let closing = async {
        if writing.await.is_ok() {
            let over =
                |message: &Result<Message, _>| matches!(message, Err(_) | Ok(Message::Close(_)));
            while stream.next().await.is_some_and(|message| !over(&message)) {}
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, closing).await;
}

/// Writes what comes, whatever is ready in one go. Ends well only when nothing can come any more.
async fn write(
    mut sink: SplitSink<impl futures_util::Sink<Message, Error = WsError> + Unpin, Message>,
    mut queue: mpsc::Receiver<Message>,
) -> Result<(), WsError> {
    while let Some(message) = queue.recv().await {
        sink.feed(message).await?;
        while let Ok(message) = queue.try_recv() {
            sink.feed(message).await?;
        }
        sink.flush().await?;
    }
    Ok(())
}

fn lost(error: &WsError) -> Ended {
    Ended::Lost(Failure::outage(format!("the connection broke: {error}")))
}

/// What a message was.
enum Heard {
    /// The last part of an event.
    Event(Arrival),
    /// Another frame of the platform.
    Frame,
    /// No frame, or one that makes no sense.
    Nonsense,
    /// A sign of life.
    Nothing,
    /// The platform says goodbye.
    Closed(String),
}

/// The state of one connection.
struct Talk {
    out: mpsc::Sender<Message>,
    service: i32,
    arrived: Arrived,
    counted: u64,
    live: Live,
    chunks: Chunks,
    /// Parts that make no sense.
    dropped: Strangers,
    told: Option<Instant>,
}

impl Talk {
    fn hear(&mut self, message: Message, now: Instant) -> Heard {
        self.counted = self.arrived.count();
        self.live.on(Input::Bytes, now);
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(frame) => {
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                return Heard::Closed(format!("the platform closed the connection ({code})"));
            }
            Message::Text(_) => return Heard::Nonsense,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Heard::Nothing,
        };
        let Some(mut frame) = Frame::read(&bytes) else { return Heard::Nonsense };
        self.live.on(Input::Frame, now);
        match frame.method {
            DATA => {
                let payload = frame.payload.take().unwrap_or_default();
                let part = self.chunks.on(
                    frame.header("message_id"),
                    frame.header("sum"),
                    frame.header("seq"),
                    payload,
                    now,
                );
                match part {
                    Part::Whole(payload) => {
                        Heard::Event(Arrival { frame, payload, at: now, doubtful: false })
                    }
                    Part::Doubtful(payload) => {
                        Heard::Event(Arrival { frame, payload, at: now, doubtful: true })
                    }
                    Part::Kept | Part::Repeated => Heard::Frame,
                    Part::Refused(why) => {
                        if let Some(times) = self.dropped.refused(why) {
                            tracing::warn!(why, times, "a part of an event is dropped");
                        }
                        Heard::Nonsense
                    }
                }
            }
            CONTROL => {
                let settings = frame.payload.as_deref().map(serde_json::from_slice::<Value>);
                if let Some(Ok(settings)) = settings
                    && let Some(interval) = ping_interval(&settings)
                {
                    self.live.on(Input::Interval(interval), now);
                }
                Heard::Frame
            }
            _ => Heard::Nonsense,
        }
    }

    /// Time passed. The reason to give up, if there is one.
    fn tick(&mut self, room: bool, now: Instant) -> Option<&'static str> {
        self.chunks.expire(now);
        let arrived = self.arrived.count();
        if arrived != self.counted {
            self.counted = arrived;
            self.live.on(Input::Bytes, now);
        }
        if !room {
            // While we do not read, silence is our own.
            self.live.on(Input::Frame, now);
        }
        for action in self.live.on(Input::Tick, now) {
            match action {
                Action::Ping => self.ping(),
                Action::Probe => self.send(Message::Ping(Vec::new().into())),
                Action::Dead(why) => return Some(why),
            }
        }
        None
    }

    fn ping(&self) {
        self.send(Message::Binary(Frame::ping(self.service).write().into()));
    }

    fn answer(&self, answer: Option<Frame>) {
        if let Some(frame) = answer {
            self.send(Message::Binary(frame.write().into()));
        }
    }

    /// A platform that does not read gets no answer, and repeats the event.
    fn send(&self, message: Message) {
        if self.out.try_send(message).is_err() {
            tracing::warn!("the platform does not read; something is not sent");
        }
    }

    async fn progress(&mut self, shared: &Shared, now: Instant) {
        if self.told.is_none_or(|told| now.duration_since(told) >= PROGRESS) {
            self.told = Some(now);
            shared.report.tell(Note::Progress).await;
        }
    }
}
