//! Platform `exec`: a program of the user's that speaks to a platform with whatever SDK, and to us in the method set of
//! [`protocol::rpc::platform`] on its standard input and output.
//!
//! One run of the program is one life of this worker. What it tells is durable before it is told so, its resume point
//! is kept with that, and what it is to send is asked of it one message at a time in each chat. It proves that it
//! hears by a lease. A program that does not speak or does not answer in time hangs, and is ended.

mod course;
mod news;
mod owed;
mod params;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use protocol::worker::ExecPlatformSettings;

use self::session::{Ended, Session};
use super::{Context, Platform};
use crate::Error;
use crate::connection::Connection;
use crate::program::Running;

/// How long the program may be silent when it should speak.
const PATIENCE: Duration = Duration::from_secs(120);

/// The adapter.
#[derive(Debug)]
pub struct Exec {
    settings: ExecPlatformSettings,
}

impl Exec {
    /// With its settings.
    pub fn new(settings: ExecPlatformSettings) -> Self {
        Self { settings }
    }
}

impl Platform for Exec {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let ExecPlatformSettings { command, dir, variables, .. } = &self.settings;
        let (mut program, pipes) = Running::start(command, dir, variables)?;
        let mut session = Session::new(Connection::new(pipes), &self.settings);
        let served = program.during(session.serve(&mut context, PATIENCE)).await;
        let reason = match served.unwrap_or_else(|| Ended::Gone("it left".to_owned())) {
            Ended::Stopped => {
                session.goodbye().await;
                "it was told to end".to_owned()
            }
            Ended::Gone(reason) => {
                session.give_back(&context).await;
                match session.news.trouble() {
                    // It knows best why: only the log has what it printed.
                    Some(trouble) => format!("{reason} ({trouble})"),
                    None => reason,
                }
            }
        };
        drop(session);
        program.end(&reason, &context.stop).await
    }
}
