//! Agent `exec`: a program that we start, which speaks the method set of [`protocol::rpc`] on its
//! standard input and output.
//!
//! One run of the program is one life of this worker. A program that stays silent although it should have renewed its
//! readiness hangs, and is ended.

use std::time::Duration;

use protocol::worker::{ExecSettings, FromWorker, Outside, Ready};

use super::rpc::session::{Ended, Session};
use super::{Agent, Context};
use crate::Error;
use crate::connection::Connection;
use crate::program::Running;

/// How long the program may be silent when it should speak.
const PATIENCE: Duration = Duration::from_secs(120);

/// The adapter.
#[derive(Debug)]
pub struct Exec {
    settings: ExecSettings,
}

impl Exec {
    /// With its settings.
    pub fn new(settings: ExecSettings) -> Self {
        Self { settings }
    }
}

impl Agent for Exec {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let ExecSettings { command, dir, variables, .. } = &self.settings;
        let (mut program, pipes) = Running::start(command, dir, variables)?;
        let account = command.join(" ");
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        let reason = "the program has not introduced itself yet".to_owned();
        context.say.say(FromWorker::Outside(Outside::Down { reason, remedy: None })).await;
        let mut session = Session::new(Connection::new(pipes), self.settings.concurrency);
        let served = program.during(session.serve(&mut context, None, Some(PATIENCE))).await;
        let reason = match served.unwrap_or_else(|| Ended::Gone("it left".to_owned())) {
            Ended::Stopped => {
                session.goodbye().await;
                "it was told to end".to_owned()
            }
            Ended::Gone(reason) => reason,
            Ended::Replaced(_) => return Err(Error::Unexpected("a rival without a door")),
        };
        drop(session);
        program.end(&reason, &context.stop).await
    }
}
