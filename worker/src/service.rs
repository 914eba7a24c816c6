//! What an adapter of a service is given: occasions to tell, and where it says what became of them.

pub mod hooks;

use protocol::hook::HookEvent;
use protocol::id::Seq;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::Say;

/// The adapter's side of the pump.
#[derive(Debug)]
pub struct Context {
    /// Brings occasions, each to be answered by [`HookDone`](protocol::worker::FromWorker::HookDone) with its number.
    pub occasions: mpsc::Receiver<(Seq, Box<HookEvent>)>,
    /// Takes everything: `Ready`, `Outside`, `HookDone`.
    pub say: Say,
    /// Cancelled when the adapter must return.
    pub stop: CancellationToken,
}
