//! Standard error, which nobody may read any more: a log collector that has stopped, a terminal that is held.
//! A log is no reason to wait: what cannot be written at once is counted, and the count told later.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where poll(2) says that a pipe can be written to, so many bytes fit in (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

/// How long one that is slow for once is waited for.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Pieces that nobody could read, since somebody last did.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Writes `text`, if it can be written now.
pub fn write(text: &[u8]) {
    let mut to = std::io::stderr().lock();
    let lost = LOST.load(Ordering::Relaxed);
    let first = if lost == 0 { PATIENCE } else { Timespec::default() };
    if lost > 0 && takes(&to, first) {
        LOST.store(0, Ordering::Relaxed);
        let _ = writeln!(to, "hermes-gw: nobody read this for a while; {lost} lines are lost");
    }
    for piece in text.chunks(PIECE) {
        if !takes(&to, first) {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let _ = to.write_all(piece);
    }
}

fn takes(to: impl AsFd, within: Timespec) -> bool {
    let mut asked = [PollFd::new(&to, PollFlags::OUT)];
    // An error is told by the write itself.
    !matches!(poll(&mut asked, Some(&within)), Ok(0))
}
