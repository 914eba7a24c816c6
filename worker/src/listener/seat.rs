//! The place of a connection among those that a listener has: when it last said or took something, and
//! whether it is being answered. Where all are taken, one that rests makes room for the next.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Instant};

/// One connection's.
#[derive(Debug)]
pub(super) struct Seat {
    moved: Mutex<Instant>,
    busy: AtomicBool,
    /// Told when one begins or ends to be answered.
    turns: Arc<Notify>,
    /// Cancelled: it is another one's.
    pub(super) lost: CancellationToken,
}

impl Seat {
    fn moves(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = clock::now();
    }

    fn moved(&self) -> Instant {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is whole, and is being answered until what this returns is dropped.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        self.busy.store(true, Ordering::Relaxed);
        self.turns.notify_one();
        Work(self.clone())
    }
}

/// Somebody works on an answer.
#[derive(Debug)]
pub(super) struct Work(Arc<Seat>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
        self.0.moves();
        self.0.turns.notify_one();
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: Vec<Weak<Seat>>,
    turns: Arc<Notify>,
}

impl Seats {
    /// Whoever comes takes one.
    pub(super) fn take(&mut self) -> Arc<Seat> {
        self.seats.retain(|seat| seat.strong_count() > 0);
        let (moved, busy) = (Mutex::new(clock::now()), AtomicBool::new(false));
        let seat = Seat { moved, busy, turns: self.turns.clone(), lost: CancellationToken::new() };
        let seat = Arc::new(seat);
        self.seats.push(Arc::downgrade(&seat));
        seat
    }

    /// The one that has been still for longest and is not being answered, and since when.
    pub(super) fn resting(&self) -> Option<(Arc<Seat>, Instant)> {
        let seats = self.seats.iter().filter_map(Weak::upgrade);
        let resting =
            seats.filter(|seat| !seat.busy.load(Ordering::Relaxed) && !seat.lost.is_cancelled());
        resting.map(|seat| (seat.clone(), seat.moved())).min_by_key(|(_, since)| *since)
    }

    /// Told when one begins or ends to be answered.
    pub(super) fn turns(&self) -> Arc<Notify> {
        self.turns.clone()
    }
}

/// A connection that notes in its seat that something moves.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) stream: TcpStream,
    pub(super) seat: Arc<Seat>,
}

impl Noted {
    fn note<T>(&self, moved: Poll<T>) -> Poll<T> {
        if moved.is_ready() {
            self.seat.moves();
        }
        moved
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(read)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
