//! The round trip of one small frame over a worker's link, between two processes, and that of as many
//! bare bytes over a bare socket.
//!
//! Both ends run on a single-threaded runtime, as the program's own do. The link goes through what the
//! program uses: `interprocess`, split halves, [`Sender`] and [`Receiver`].

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use interprocess::local_socket::tokio::{Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use protocol::frame;
use protocol::id::{EventId, Seq};
use protocol::link::{Receiver, Sender};
use protocol::worker::{FromWorker, ToWorker, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::stats::{Pairs, Slice};
use super::table::Goal;
use super::{Bench, PATIENCE, Row, Table, clock, fault};

/// What the other process is told to be.
pub const ECHO_LINK: &str = "echo-link";
/// The same for the baseline.
pub const ECHO_BARE: &str = "echo-bare";

/// A frame each way: what is said about an event that has been accepted.
fn there() -> ToWorker {
    ToWorker::Verdict { seq: Seq(70_000), verdict: Verdict::Accepted(EventId(70_000)) }
}

fn back() -> FromWorker {
    FromWorker::Ack { event_id: EventId(70_000) }
}

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let pairs = runtime()?.block_on(pairs(bench))?;
    let of = |slice: &Slice| slice.p50;
    let ratio = pairs.ratio(of);
    let us = |ms: f64| format!("{:.1} µs", ms * 1e3);
    table.push(
        Row::new("round trip of a frame over a link, p50", us(pairs.thing(of)))
            .against(format!("{} bare socket", us(pairs.baseline(of))), ratio)
            .goal(Goal::AtMost(2.0), ratio, "×"),
    );
    Ok(())
}

/// The median round trip over a bare socket, in milliseconds.
pub(super) fn bare_ping(bench: &Bench) -> io::Result<f64> {
    Ok(runtime()?.block_on(pairs(bench))?.baseline(|slice| slice.p50))
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn pairs(bench: &Bench) -> io::Result<Pairs> {
    let (link, bare) =
        (bench.ground.sockets.path().join("link"), bench.ground.sockets.path().join("bare"));
    for left in [&link, &bare] {
        let _ = std::fs::remove_file(left);
    }
    let listener = ListenerOptions::new()
        .name(link.as_path().to_fs_name::<GenericFilePath>()?)
        .create_tokio()?;
    let bare_listener = UnixListener::bind(&bare)?;
    let _others = (Other::start(bench, ECHO_LINK, &link)?, Other::start(bench, ECHO_BARE, &bare)?);
    let connect =
        async { io::Result::Ok((listener.accept().await?, bare_listener.accept().await?)) };
    let late = |_| fault("the other process does not connect");
    let (stream, (mut bare, _)) = tokio::time::timeout(PATIENCE, connect).await.map_err(late)??;
    let mut link = Link::over(stream);
    let mut bytes = [size(&there())?, size(&back())?].map(|size| vec![0; size]);
    let mut pairs = Pairs::default();
    for round in 0..=bench.rounds {
        let thing = link.ping(bench.slice).await?;
        let baseline = ping_bare(&mut bare, &mut bytes, bench.slice).await?;
        // The first one warms up.
        if round > 0 {
            pairs.push(thing, baseline);
        }
    }
    Ok(pairs)
}

fn size<T: serde::Serialize>(value: &T) -> io::Result<usize> {
    let mut out = BytesMut::new();
    frame::encode(value, &mut out).map_err(io::Error::other)?;
    Ok(out.len())
}

struct Link {
    receiver: Receiver<ReadHalf<Stream>>,
    sender: Sender<WriteHalf<Stream>>,
}

impl Link {
    fn over(stream: Stream) -> Self {
        let (receive, send) = tokio::io::split(stream);
        Self { receiver: Receiver::new(receive), sender: Sender::new(send) }
    }

    async fn ping(&mut self, length: Duration) -> io::Result<Slice> {
        let (since, mut times) = (clock::now(), Vec::new());
        loop {
            let one = clock::now();
            self.sender.send(&there()).await.map_err(io::Error::other)?;
            let answer: Option<FromWorker> =
                self.receiver.next().await.map_err(io::Error::other)?;
            if answer != Some(back()) {
                return Err(fault("the other process says something else"));
            }
            times.push(clock::ms_since(one));
            let passed = clock::now().duration_since(since);
            if passed >= length {
                return Ok(Slice::of(&times, 1, passed.as_secs_f64()));
            }
        }
    }
}

async fn ping_bare(
    stream: &mut UnixStream,
    [there, back]: &mut [Vec<u8>; 2],
    length: Duration,
) -> io::Result<Slice> {
    let (since, mut times) = (clock::now(), Vec::new());
    loop {
        let one = clock::now();
        stream.write_all(there).await?;
        stream.read_exact(back).await?;
        times.push(clock::ms_since(one));
        let passed = clock::now().duration_since(since);
        if passed >= length {
            return Ok(Slice::of(&times, 1, passed.as_secs_f64()));
        }
    }
}

/// The other process. It ends with its connection.
struct Other(Child);

impl Other {
    fn start(bench: &Bench, role: &str, socket: &Path) -> io::Result<Self> {
        let mut command = Command::new(&bench.own);
        command.arg(role).arg(socket).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The whole life of the other process: answers until its connection ends.
pub fn other(role: &str, socket: &Path) -> io::Result<()> {
    runtime()?.block_on(async {
        if role == ECHO_LINK {
            let stream = Stream::connect(socket.to_fs_name::<GenericFilePath>()?).await?;
            let mut link = Link::over(stream);
            while let Ok(Some(ToWorker::Verdict { .. })) = link.receiver.next().await {
                link.sender.send(&back()).await.map_err(io::Error::other)?;
            }
            return Ok(());
        }
        let mut stream = UnixStream::connect(socket).await?;
        let [mut heard, answer] = [size(&there())?, size(&back())?].map(|size| vec![0; size]);
        while stream.read_exact(&mut heard).await.is_ok() {
            stream.write_all(&answer).await?;
        }
        Ok(())
    })
}
