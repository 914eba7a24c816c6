//! One accepted TCP connection, with the faults of a network: silence and reset.
//!
//! A [`Wire`] is the stream that hyper and tungstenite read and write; its [`Line`] is the handle by which a test holds
//! it still or ends it. Only bytes: it knows nothing of HTTP or frames.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// A connection that trickles writes so many bytes, and waits so long.
const DROP: usize = 64;
const DRIP: Duration = Duration::from_millis(20);

/// The handle of one TCP connection.
pub(crate) struct Line {
    pub(crate) id: u64,
    /// Cancelled when the connection is to end; whoever holds the stream then drops it.
    pub(crate) over: CancellationToken,
    reset: AtomicBool,
    trickles: AtomicBool,
    still: Mutex<Still>,
}

#[derive(Default)]
struct Still {
    held: bool,
    app: Option<String>,
    waiting: Vec<Waker>,
}

impl Line {
    pub(crate) fn new(id: u64, over: CancellationToken) -> Arc<Self> {
        let (reset, trickles) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { id, over, reset, trickles, still: Mutex::default() })
    }

    /// The app whose requests came over this connection last.
    pub(crate) fn app(&self) -> Option<String> {
        self.still().app.clone()
    }

    pub(crate) fn belongs_to(&self, app: &str) {
        self.still().app = Some(app.to_owned());
    }

    /// Stops (or resumes) reading and writing, without closing.
    pub(crate) fn hold(&self, held: bool) {
        let woken = {
            let mut still = self.still();
            still.held = held;
            std::mem::take(&mut still.waiting)
        };
        for waker in woken {
            waker.wake();
        }
    }

    /// Ends the connection with a reset instead of an orderly close.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
        self.over.cancel();
    }

    /// From now on little is written at a time.
    pub(crate) fn trickle(&self) {
        self.trickles.store(true, Ordering::Relaxed);
    }

    /// Ends the connection with an orderly TCP close, and nothing before it.
    pub(crate) fn drop_it(&self) {
        self.over.cancel();
    }

    fn still(&self) -> MutexGuard<'_, Still> {
        self.still.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_held(&self, context: &Context<'_>) -> bool {
        let mut still = self.still();
        if still.held {
            still.waiting.push(context.waker().clone());
        }
        still.held
    }
}

/// A TCP stream that obeys its [`Line`].
pub(crate) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
    drip: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line, drip: None }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.reset.load(Ordering::Relaxed) {
            // Without lingering, closing sends RST. If it fails the peer has gone already.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.line.is_held(context) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.line.is_held(context) {
            return Poll::Pending;
        }
        if !self.line.trickles.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        if let Some(drip) = &mut self.drip {
            ready!(drip.as_mut().poll(context));
        }
        self.drip = Some(Box::pin(sleep(DRIP)));
        let bytes = bytes.get(..DROP).unwrap_or(bytes);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.is_held(context) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
