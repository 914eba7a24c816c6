//! Files of replies on their way to the store: each gets a copy that belongs to its reply, since what a name means
//! is the agent's again as soon as the reply is accepted.
//!
//! One reply at a time, in order, beside the event loop; replies without files pass at once while none is copied.

use std::future::pending;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use protocol::id::Instance;
use protocol::worker::ReplyVerdict;

use crate::agent::Submitted;
use crate::exchange::{Exchange, Refused};

/// Makes copies.
pub(crate) struct Copies {
    exchange: Exchange,
    /// Whose replies these are: keys are an agent's own.
    agent: Instance,
    at_work: Option<BoxFuture<'static, Option<Submitted>>>,
}

impl Copies {
    pub(crate) fn new(exchange: Exchange, agent: Instance) -> Self {
        Self { exchange, agent, at_work: None }
    }

    /// Whether another reply may come.
    pub(crate) fn is_free(&self) -> bool {
        self.at_work.is_none()
    }

    /// Takes a reply; it comes back at once if it names no files.
    pub(crate) fn take(&mut self, submitted: Submitted) -> Option<Submitted> {
        if submitted.reply.content.files.is_empty() {
            return Some(submitted);
        }
        let made = copy(submitted, self.exchange.clone(), self.agent.clone());
        self.at_work = Some(made.boxed());
        None
    }

    /// The reply whose files have copies now; `None`: it has its verdict already.
    pub(crate) async fn made(&mut self) -> Option<Submitted> {
        let Some(at_work) = &mut self.at_work else { return pending().await };
        let made = at_work.await;
        self.at_work = None;
        made
    }
}

async fn copy(mut submitted: Submitted, exchange: Exchange, agent: Instance) -> Option<Submitted> {
    let reply = &mut submitted.reply;
    for (index, file) in reply.content.files.iter_mut().enumerate() {
        let verdict = match exchange.copy(file, (agent.as_str(), &reply.key, index)).await {
            Ok(copy) => {
                *file = copy;
                continue;
            }
            Err(Refused::Io(error)) => {
                tracing::warn!(file = file.file, %error, "a file of a reply is not copied");
                ReplyVerdict::Refused
            }
            Err(why) => ReplyVerdict::Rejected(format!("the file {:?}: {why}", file.file)),
        };
        let _ = submitted.verdict.send(verdict);
        return None;
    }
    Some(submitted)
}
