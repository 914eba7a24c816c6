//! What a program is asked, and what its answers come to.

use protocol::event::{Outbound, Outcome};
use protocol::rpc::Fault;
use protocol::rpc::platform::{self as rpc, Ability};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::course::{self, Course, Next};
use super::super::params::{fetched, ids};
use super::{Asked, Session};
use crate::clock;
use crate::platform::{Ask, Context, Note};

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'_, R, W> {
    /// Asks the program for something; its answer comes to [`Self::answered`].
    fn request<T: serde::Serialize>(&mut self, method: &str, params: &T, asked: Asked) {
        self.last += 1;
        self.connection.request(&self.last.to_string(), method, params);
        self.asked.insert(self.last, (clock::now(), self.connection.end(), asked));
    }

    /// The program is gone: what it cannot have read, nobody has sent.
    pub(crate) async fn give_back(&mut self, context: &Context) {
        for (_, end, asked) in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Send(course) = asked
                && !self.connection.is_written(end)
            {
                let reason = "the program ended before it could read it".to_owned();
                let outcome = Outcome::Retry { reason, after_ms: None };
                context.report.outcome(&course.outbound, outcome).await;
            }
        }
    }

    pub(super) async fn send(&mut self, outbound: Outbound, context: &Context) {
        match course::messages(&outbound, &self.manner) {
            Ok(messages) => {
                self.go_on(Box::new(Course::new(outbound, messages)), context).await;
            }
            Err(reason) => {
                context.report.outcome(&outbound, Outcome::Failed { reason }).await;
            }
        }
    }

    /// Sends the next message of a reply.
    async fn go_on(&mut self, course: Box<Course>, context: &Context) {
        let message = course.message().filter(|_| self.leaving.is_none()).cloned();
        let Some(message) = message else {
            let reason = "the worker is stopping".to_owned();
            let outcome = Outcome::Retry { reason, after_ms: None };
            return context.report.outcome(&course.outbound, outcome).await;
        };
        self.request("message.send", &message, Asked::Send(course));
    }

    pub(super) async fn ask(&mut self, ask: Ask, context: &Context) {
        let note = match ask {
            Ask::Draft(draft) if self.manner.can(Ability::Drafts) => {
                let text = self.manner.pieces(&draft.text).into_iter().next();
                let params = rpc::Draft {
                    key: draft.key.clone(),
                    chat_id: draft.lane.chat_id,
                    thread_id: draft.lane.thread_id,
                    reply_to: draft.reply_to,
                    text: text.unwrap_or_default(),
                    message_id: draft.message_id,
                };
                return self.request("message.draft", &params, Asked::Draft(draft.key));
            }
            Ask::Draft(draft) => Note::Drafted(draft.key, None),
            Ask::Busy(busy) => {
                if self.manner.can(Ability::Busy) {
                    self.connection.notify("busy", &busy);
                }
                return;
            }
            Ask::Fetch(ticket, fetch) if self.manner.can(Ability::Fetch) => {
                let (message_id, part) = (fetch.message_id.clone(), fetch.part.clone());
                let params = rpc::Fetch { message_id, part };
                return self.request("file.fetch", &params, Asked::Fetch(ticket, fetch));
            }
            Ask::Fetch(ticket, _) => {
                Note::Fetched(ticket, Err("the program of this platform brings no files".into()))
            }
            Ask::Order(ticket, _) => {
                Note::Ordered(ticket, Err("this platform has nothing of the kind".into()))
            }
        };
        context.report.tell(note).await;
    }

    pub(super) async fn answered(
        &mut self,
        asked: Asked,
        answer: Result<Value, Fault>,
        context: &Context,
    ) {
        match (asked, answer) {
            (Asked::Send(mut course), Ok(result)) => match course.sent(ids(&result)) {
                Next::Reached(progress) => {
                    let id = course.outbound.id;
                    context.report.tell(Note::Reached(id, progress)).await;
                    self.go_on(course, context).await;
                }
                Next::End(outcome) => context.report.outcome(&course.outbound, outcome).await,
            },
            (Asked::Send(course), Err(fault)) => {
                context.report.outcome(&course.outbound, course.refused(&fault)).await;
            }
            (Asked::Draft(key), answer) => {
                let shown = answer.ok().and_then(|it| {
                    serde_json::from_value::<rpc::Drafted>(it).unwrap_or_default().message_id
                });
                context.report.tell(Note::Drafted(key, shown)).await;
            }
            (Asked::Fetch(ticket, fetch), answer) => {
                let fetched = match answer {
                    Ok(result) => fetched(result, &fetch, &context.exchange).await,
                    Err(fault) => Err(fault.message),
                };
                context.report.tell(Note::Fetched(ticket, fetched)).await;
            }
        }
    }
}
