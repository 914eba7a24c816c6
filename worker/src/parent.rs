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
use tokio_util::sync::CancellationToken;

use crate::{Error, family};

/// From the end of the leash to the end of the process, at most.
const LAST_BREATH: Duration = Duration::from_millis(1500);
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

/// Watches the rest of standard input; `stop` is cancelled at its end. The process ends when the
/// returned guard is not dropped in time after that.
pub fn watch(stop: CancellationToken) -> std::io::Result<mpsc::Sender<()>> {
    let (finished, done) = mpsc::channel();
    std::thread::Builder::new().name("leash".into()).spawn(move || {
        let mut sink = [0; 256];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut sink).is_ok_and(|n| n > 0) {}
        stop.cancel();
        if done.recv_timeout(LAST_BREATH) == Err(mpsc::RecvTimeoutError::Timeout) {
            family::end();
            std::process::exit(69);
        }
    })?;
    Ok(finished)
}
