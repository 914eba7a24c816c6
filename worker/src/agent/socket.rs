//! Agent `socket`: any program of the same user that connects and speaks the method set of
//! [`protocol::rpc`].
//!
//! One agent at a time. A second one is turned away while the first one's readiness holds, and takes
//! over otherwise: a hung program must not lock out its successor.

use std::path::PathBuf;

use protocol::event::Pause;
use protocol::worker::{FromWorker, Outside, Ready, SocketSettings};

use super::rpc::session::{Ended, Session};
use super::{Agent, Context};
use crate::Error;
use crate::connection::Connection;
use crate::socket::{Door, Halves};

/// The adapter.
#[derive(Debug)]
pub struct Socket {
    socket: PathBuf,
    concurrency: u32,
}

impl Socket {
    /// With its settings.
    pub fn new(settings: SocketSettings) -> Self {
        Self { socket: settings.socket, concurrency: settings.concurrency.max(1) }
    }
}

impl Agent for Socket {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let what = format!("listen at {}", self.socket.display());
        let mut door =
            Door::open(&self.socket).await.map_err(|source| Error::Os { what, source })?;
        let account = self.socket.display().to_string();
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        let mut next: Option<(Halves, Option<u32>)> = None;
        loop {
            let absent = "no agent is connected".to_owned();
            let remedy = Some(format!("start an agent that connects to {}", self.socket.display()));
            let down = Outside::Down { reason: absent, remedy };
            if next.is_none() {
                context.say.say(FromWorker::Outside(down)).await;
            }
            let (halves, pid) = if let Some(newcomer) = next.take() {
                newcomer
            } else {
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    // Nobody is there to take it; the supervisor knows and keeps it.
                    Some(_) = context.incoming.recv() => continue,
                    accepted = door.accept() => accepted?,
                }
            };
            tracing::info!(?pid, "an agent connected");
            let connection = Connection::new(halves);
            let mut session = Session::new(connection, self.concurrency);
            match session.serve(&mut context, Some(&mut door), None).await {
                Ended::Stopped => {
                    session.goodbye().await;
                    return Ok(());
                }
                Ended::Gone(reason) => {
                    tracing::info!(?pid, reason, "the agent is gone");
                    context.say.say(FromWorker::Paused(Pause::Lost)).await;
                }
                Ended::Replaced(newcomer) => {
                    tracing::warn!(?pid, "an agent that fell silent is replaced by a new one");
                    context.say.say(FromWorker::Paused(Pause::Lost)).await;
                    next = Some(newcomer);
                }
            }
        }
    }
}
