//! Where a worker comes from and how it knows that its supervisor is gone: the leash.
//!
//! Standard input holds one line (where to connect, whom to be, the nonce) and then stays open. Its end
//! means that the supervisor is gone, however it went. A plain thread waits for that, so that an event
//! loop that hangs cannot keep a platform connection alive: it asks for a polite end and, when that
//! takes too long, ends the process itself.

use std::io::{BufRead, Read};
use std::sync::mpsc;
use std::time::Duration;

use protocol::hello::Leash;
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// From the end of the leash to the end of the process, at most.
const LAST_BREATH: Duration = Duration::from_millis(1500);
/// Between the end of a link and the end of the leash when both have the same reason.
const MOMENT: Duration = Duration::from_millis(200);
const LINE_MAX: u64 = 8 * 1024;

/// Reads the line on standard input. Blocks until it is there.
pub fn leash() -> Result<Leash, Error> {
    let mut line = Vec::new();
    std::io::stdin()
        .lock()
        .take(LINE_MAX)
        .read_until(b'\n', &mut line)
        .map_err(|e| Error::Leash(e.to_string()))?;
    serde_json::from_slice(&line).map_err(|_| {
        Error::Leash("standard input holds no leash; `hermes-gw supervise` starts workers".into())
    })
}

/// The leash, watched.
#[derive(Debug)]
pub struct Watch {
    finished: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// Watches the rest of standard input; `stop` is cancelled at its end. The process ends when
/// [`Watch::finish`] is not called in time after that.
pub fn watch(stop: CancellationToken) -> std::io::Result<Watch> {
    let (finished, done) = mpsc::channel();
    let (tell, ended) = mpsc::channel();
    std::thread::Builder::new().name("leash".into()).spawn(move || {
        let mut sink = [0; 256];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut sink).is_ok_and(|n| n > 0) {}
        stop.cancel();
        let _ = tell.send(());
        if done.recv_timeout(LAST_BREATH) == Err(mpsc::RecvTimeoutError::Timeout) {
            end_group();
            std::process::exit(69);
        }
    })?;
    Ok(Watch { finished, ended })
}

impl Watch {
    /// The worker has done its work. If its supervisor is gone, what it has started ends here. `lost`:
    /// the link broke, and the end of the leash may be a moment behind.
    pub fn finish(self, lost: bool) {
        drop(self.finished);
        let moment = if lost { MOMENT } else { Duration::ZERO };
        if self.ended.recv_timeout(moment).is_ok() {
            end_group();
        }
    }
}

/// Ends this process with everything that it has started. A supervisor does that for a worker that it
/// buries; one that is gone cannot.
fn end_group() {
    // A worker that somebody started by hand shares its group with others.
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
}
