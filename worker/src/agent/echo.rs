//! Agent `echo`: says what it hears. For trying and for tests.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use protocol::content::Content;
use protocol::event::{Delivery, InboundKind, Reply};
use protocol::worker::{FromWorker, Ready, ReplyVerdict};

use super::{Agent, Context, ToAgent};
use crate::Error;

const LEASE: Duration = Duration::from_secs(60);
const CONCURRENCY: u32 = 16;

/// The adapter.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Agent for Echo {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let ready = Ready { account: "echo".into(), idempotent_ms: None };
        context.say.say(FromWorker::Ready(ready)).await;
        let mut renewal = tokio::time::interval(LEASE / 3);
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                _ = renewal.tick() => {
                    let ttl_ms = u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX);
                    let lease = FromWorker::Lease { ttl_ms, concurrency: CONCURRENCY };
                    context.say.say(lease).await;
                }
                Some(incoming) = context.incoming.recv() => {
                    if let ToAgent::Deliver(delivery) = incoming {
                        answers.push(answer(&context, *delivery));
                    }
                }
                Some(frame) = answers.next() => context.say.say(frame).await,
            }
        }
    }
}

fn answer(context: &Context, delivery: Delivery) -> impl Future<Output = FromWorker> + use<> {
    let replies = context.replies.clone();
    async move {
        let Delivery { event_id, lane, event, .. } = delivery;
        if event.kind != InboundKind::Message {
            return FromWorker::Ack { event_id };
        }
        let reply = Reply {
            key: format!("echo:{event_id}"),
            lane,
            reply_to: event.message_id,
            content: Content::text(if event.text.is_empty() {
                "(no text)".into()
            } else {
                event.text
            }),
        };
        match replies.submit(reply).await {
            Some(ReplyVerdict::Accepted(_)) => FromWorker::Ack { event_id },
            Some(ReplyVerdict::Rejected(reason)) => {
                FromWorker::Nack { event_id, reason, after_ms: None }
            }
            Some(ReplyVerdict::Refused) | None => {
                FromWorker::Nack { event_id, reason: "the outbox is busy".into(), after_ms: None }
            }
        }
    }
}
