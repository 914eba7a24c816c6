//! One connection to the supervisor's socket, from its first byte: a worker or a tool.
//!
//! Each has tasks of its own, so a peer that is broken, oversized, slow or silent costs only its own
//! link. Frames go to the run loop in order and end with one [`Input::LinkDown`]; what the run loop
//! sends back waits in a bounded queue, which it never waits for.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use protocol::control::{Answer, Envelope, LINE_MAX, Refusal, Request};
use protocol::hello::{BuildId, FIRST_BYTE, Hello};
use protocol::id::{Generation, Instance};
use protocol::link::{self, Receiver, Sender};
use protocol::secret;
use protocol::step;
use protocol::worker::{FromWorker, ToWorker};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};
use tokio_util::sync::CancellationToken;

use crate::socket::{self, Peer, Stream};

/// From the connection to its first meaning.
const OPENING: Duration = Duration::from_secs(5);
/// How long a worker may refuse to read.
const UNREAD: Duration = Duration::from_secs(30);
/// How long what a worker said before it went may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Frames that may wait for a worker: more than all its windows together.
const QUEUE: usize = 16 * 1024;
/// Requests of one tool that are under way. It is heard further when an answer is written: whoever asks
/// without end, or reads nothing, keeps only itself waiting.
const TURNS: usize = 16;
/// Lines that may wait for a tool.
const LINES: usize = 1024;

/// What a link tells the run loop.
#[derive(Debug)]
pub enum Input {
    /// A worker says who it is; the answer lets it in or not.
    Hello {
        /// What it says.
        hello: Hello,
        /// Who it is, says the system.
        peer: Peer,
        /// Its link.
        handle: Handle,
        /// Lets it in.
        welcome: oneshot::Sender<()>,
    },
    /// A worker says something.
    Frame {
        /// Which worker.
        from: Who,
        /// What.
        frame: FromWorker,
    },
    /// A worker's link is over.
    LinkDown {
        /// Which worker.
        from: Who,
        /// Why.
        why: String,
    },
    /// A worker's link is read no more, as [`Handle::pause`] asked, and everything that was read has
    /// been told.
    LinkPaused {
        /// Which worker.
        from: Who,
        /// What was read and is no whole frame yet.
        rest: Vec<u8>,
        /// The connection.
        connection: OwnedFd,
    },
    /// A paused link, whose handles are gone, has written what it had to.
    LinkFlushed {
        /// Which worker.
        from: Who,
        /// All of it.
        all: bool,
    },
    /// A tool asks.
    Request {
        /// What.
        request: Request,
        /// Who.
        peer: Peer,
        /// What it may do, if it wants to be able to do less than all.
        token: Option<String>,
        /// Where the answer goes.
        reply: Reply,
    },
}

/// One link of one incarnation of one instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Who {
    /// The instance.
    pub instance: Instance,
    /// The incarnation.
    pub generation: Generation,
}

/// The run loop's end of a worker's link.
#[derive(Clone, Debug)]
pub struct Handle {
    frames: mpsc::Sender<ToWorker>,
    cut: CancellationToken,
    pause: CancellationToken,
}

impl Handle {
    /// Sends without waiting. A link that cannot take it is cut: its worker has stopped reading.
    pub fn send(&self, frame: ToWorker) {
        if self.frames.try_send(frame).is_err() {
            self.cut.cancel();
        }
    }

    /// Ends the link.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Reads nothing more, and ends the link's tasks once all handles are gone and everything is written;
    /// the connection stays. See [`Input::LinkPaused`] and [`Input::LinkFlushed`].
    pub fn pause(&self) {
        self.pause.cancel();
    }
}

/// Where the answer to one request goes.
#[derive(Debug)]
pub struct Reply {
    id: Option<Box<RawValue>>,
    turn: OwnedSemaphorePermit,
    lines: mpsc::Sender<Line>,
    cut: CancellationToken,
}

/// A line for a tool. An answer ends the turn of its request when it is written.
type Line = (String, Option<OwnedSemaphorePermit>);

/// A tool that listens to what changes.
#[derive(Debug)]
pub struct Listener {
    lines: mpsc::Sender<Line>,
    cut: CancellationToken,
}

impl Listener {
    /// Its connection has ended.
    pub fn is_gone(&self) -> bool {
        self.lines.is_closed()
    }

    /// Tells without waiting; false: it is gone, or so far behind that its connection is ended.
    pub fn tell(&self, line: String) -> bool {
        let told = self.lines.try_send((line, None)).is_ok();
        if !told {
            self.cut.cancel();
        }
        told
    }
}

impl Reply {
    /// Answers, without secrets.
    pub fn answer<T: serde::Serialize>(self, result: &T) {
        let Ok(mut result) = serde_json::to_value(result) else { return };
        secret::clean_json(&mut result);
        self.answer_with_content(&result);
    }

    /// Answers with what users and agents have said, to the last byte.
    pub fn answer_with_content<T: serde::Serialize>(self, result: &T) {
        let result = serde_json::value::to_raw_value(result).ok();
        let answer = Answer { id: self.id.clone(), result, error: None };
        self.put(&answer);
    }

    /// Refuses.
    pub fn refuse(self, mut refusal: Refusal) {
        refusal.message = secret::cleaned(refusal.message);
        let answer = Answer { id: self.id.clone(), result: None, error: Some(refusal) };
        self.put(&answer);
    }

    /// Where notices go from now on.
    pub fn subscribe(self) -> Listener {
        Listener { lines: self.lines, cut: self.cut }
    }

    fn put(self, answer: &Answer) {
        if let Ok(line) = serde_json::to_string(answer) {
            // A tool that hung up has waived its answer.
            let _ = self.lines.try_send((line, Some(self.turn)));
        }
    }
}

/// Serves one connection until it ends.
pub async fn serve(mut stream: Stream, peer: Peer, build: BuildId, inputs: mpsc::Sender<Input>) {
    let first = tokio::time::timeout(OPENING, stream.read_u8()).await;
    match first {
        Ok(Ok(FIRST_BYTE)) => {
            match worker(stream, peer, build, inputs).await {
                Ok(()) => {}
                // It is gone, perhaps with its process, whose end is told elsewhere.
                Err(protocol::Error::Io(e)) if e.kind() != ErrorKind::TimedOut => {
                    tracing::debug!(pid = ?peer.pid, error = %e, "a worker's link ended early");
                }
                Err(e) => {
                    tracing::warn!(pid = ?peer.pid, error = %e, "refused a worker's link");
                }
            }
        }
        Ok(Ok(first)) => tool(stream, first, peer, inputs).await,
        Ok(Err(_)) => {}
        Err(_) => tracing::debug!(pid = ?peer.pid, "a connection said nothing"),
    }
}

async fn worker(
    mut stream: Stream,
    peer: Peer,
    build: BuildId,
    inputs: mpsc::Sender<Input>,
) -> Result<(), protocol::Error> {
    let timed_out = |_| protocol::Error::Io(ErrorKind::TimedOut.into());
    let preamble = async {
        link::send_preamble(&mut stream, build).await?;
        link::read_preamble(&mut stream, &[FIRST_BYTE]).await
    };
    tokio::time::timeout(OPENING, preamble).await.map_err(timed_out)??;
    let connection = socket::spare(&stream).map_err(protocol::Error::Io)?;
    let (receive, send) = tokio::io::split(stream);
    let mut receiver = Receiver::new(receive);
    let hello =
        tokio::time::timeout(OPENING, receiver.next::<Hello>()).await.map_err(timed_out)??;
    let Some(hello) = hello else { return Ok(()) };
    let from = Who { instance: hello.instance.clone(), generation: hello.generation };
    let (handle, ends) = Handle::new();
    let (welcome, welcomed) = oneshot::channel();
    if inputs.send(Input::Hello { hello, peer, handle, welcome }).await.is_err() {
        return Ok(());
    }
    if welcomed.await.is_err() {
        return Ok(());
    }
    converse(receiver, send, connection, ends, from, inputs).await;
    Ok(())
}

/// Goes on with a link that was paused, perhaps by a supervisor before us in this same process.
pub fn resume(
    connection: OwnedFd,
    rest: &[u8],
    from: Who,
    inputs: mpsc::Sender<Input>,
) -> std::io::Result<(Handle, impl Future<Output = ()> + use<>)> {
    let spare = connection.try_clone()?;
    let (receive, send) = tokio::io::split(socket::stream(connection)?);
    let receiver = Receiver::resumed(receive, rest);
    let (handle, ends) = Handle::new();
    Ok((handle, converse(receiver, send, spare, ends, from, inputs)))
}

/// The link's own ends of a [`Handle`].
struct Ends {
    outgoing: mpsc::Receiver<ToWorker>,
    cut: CancellationToken,
    pause: CancellationToken,
}

impl Handle {
    fn new() -> (Self, Ends) {
        let (frames, outgoing) = mpsc::channel(QUEUE);
        let (cut, pause) = (CancellationToken::new(), CancellationToken::new());
        let ends = Ends { outgoing, cut: cut.clone(), pause: pause.clone() };
        (Self { frames, cut, pause }, ends)
    }
}

async fn converse(
    mut receiver: Receiver<ReadHalf<Stream>>,
    send: WriteHalf<Stream>,
    connection: OwnedFd,
    ends: Ends,
    from: Who,
    inputs: mpsc::Sender<Input>,
) {
    let Ends { outgoing, cut, pause } = ends;
    let writing = tokio::spawn(write(send, outgoing, cut.clone()));
    match read(&mut receiver, &from, &inputs, &cut, &pause).await {
        Over::Down(why) => {
            cut.cancel();
            let _ = writing.await;
            let _ = inputs.send(Input::LinkDown { from, why }).await;
        }
        Over::Paused => {
            let rest = receiver.rest().to_vec();
            let paused = Input::LinkPaused { from: from.clone(), rest, connection };
            let _ = inputs.send(paused).await;
            let all = writing.await.unwrap_or(false);
            let _ = inputs.send(Input::LinkFlushed { from, all }).await;
        }
    }
}

/// Why a link is read no more.
enum Over {
    /// It is over.
    Down(String),
    /// Somebody else goes on.
    Paused,
}

async fn read<R: AsyncRead + Unpin>(
    receiver: &mut Receiver<R>,
    from: &Who,
    inputs: &mpsc::Sender<Input>,
    cut: &CancellationToken,
    pause: &CancellationToken,
) -> Over {
    loop {
        let frame = tokio::select! {
            () = cut.cancelled() => return Over::Down("cut by the supervisor".into()),
            () = pause.cancelled() => return Over::Paused,
            frame = receiver.next() => frame,
        };
        match frame {
            Ok(Some(frame)) => {
                step::pass("supervisor-hears", &frame);
                if inputs.send(Input::Frame { from: from.clone(), frame }).await.is_err() {
                    return Over::Down("the supervisor ends".into());
                }
            }
            Ok(None) => return Over::Down("closed".into()),
            Err(e) => return Over::Down(e.to_string()),
        }
    }
}

/// Whether everything was written, and nobody has more.
async fn write(
    send: WriteHalf<Stream>,
    mut outgoing: mpsc::Receiver<ToWorker>,
    cut: CancellationToken,
) -> bool {
    let mut sender = Sender::new(send);
    loop {
        let first = tokio::select! {
            () = cut.cancelled() => break,
            first = outgoing.recv() => first,
        };
        let Some(first) = first else { return true };
        let mut feed = |frame: &ToWorker| {
            step::pass("supervisor-says", frame);
            sender.feed(frame)
        };
        let mut fed = feed(&first);
        for _ in 0..64 {
            let Ok(next) = outgoing.try_recv() else { break };
            fed = fed.and_then(|()| feed(&next));
        }
        let flushed = match fed {
            Ok(()) => tokio::time::timeout(UNREAD, sender.flush()).await,
            Err(e) => Ok(Err(e)),
        };
        match flushed {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                tracing::debug!(error = %e, "cannot write to a worker");
                // It is gone, and its last words may not be read yet: the reading side finds the end.
                let rest = async { while outgoing.recv().await.is_some() {} };
                tokio::select! {
                    () = cut.cancelled() => {}
                    () = tokio::time::sleep(LAST_WORDS) => {}
                    () = rest => {}
                }
                break;
            }
            Err(_) => {
                tracing::warn!("a worker reads nothing");
                break;
            }
        }
    }
    cut.cancel();
    false
}

async fn tool(stream: Stream, first: u8, peer: Peer, inputs: mpsc::Sender<Input>) {
    let (receive, send) = tokio::io::split(stream);
    let first = std::io::Cursor::new([first]);
    let codec = LinesCodec::new_with_max_length(LINE_MAX);
    let mut reader = FramedRead::new(AsyncReadExt::chain(first, receive), codec);
    let (lines, outgoing) = mpsc::channel(LINES);
    let cut = CancellationToken::new();
    let writing = tokio::spawn(write_lines(send, outgoing, cut.clone()));
    let mut listens = false;
    let turns = Arc::new(Semaphore::new(TURNS));
    let mut next = async || {
        let turn = turns.clone().acquire_owned().await.ok()?;
        reader.next().await.map(|line| (turn, line))
    };
    while let Some((turn, line)) = tokio::select! {
        () = cut.cancelled() => None,
        line = next() => line,
    } {
        let reply = |id| Reply { id, turn, lines: lines.clone(), cut: cut.clone() };
        let bad = |why: String| Refusal { code: 76, message: why, hint: None };
        let line = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => line,
            Err(e) => {
                reply(None).refuse(bad(format!("read a request: {e}")));
                break;
            }
        };
        let envelope = match serde_json::from_str::<Envelope<'_>>(&line) {
            Ok(envelope) => envelope,
            Err(e) => {
                let broken = bad(format!("read a request: {e}"));
                // JSON it is, and no request.
                let refusal = if e.is_data() { Refusal { code: 64, ..broken } } else { broken };
                reply(None).refuse(refusal);
                continue;
            }
        };
        let reply = reply(envelope.id.map(ToOwned::to_owned));
        match Request::parse(&envelope) {
            Ok(request) => {
                listens |= matches!(request, Request::Events(_));
                let token = envelope.token;
                let request = Input::Request { request, peer, token, reply };
                if inputs.send(request).await.is_err() {
                    break;
                }
            }
            Err(refusal) => reply.refuse(refusal),
        }
    }
    // What was asked goes on; its answers are still written while the tool reads them. Who listens
    // has to stay for it.
    drop(lines);
    if listens {
        cut.cancel();
    }
    let _ = writing.await;
}

async fn write_lines<W: AsyncWrite + Unpin>(
    send: W,
    mut outgoing: mpsc::Receiver<Line>,
    cut: CancellationToken,
) {
    let mut writer = FramedWrite::new(send, LinesCodec::new());
    while let Some((line, _turn)) = tokio::select! {
        biased;
        line = outgoing.recv() => line,
        () = cut.cancelled() => None,
    } {
        let written = tokio::time::timeout(UNREAD, writer.send(line)).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    cut.cancel();
}
