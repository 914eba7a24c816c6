//! Replies on their way out, each with one outcome.
//!
//! The platform has no keys by which it would know a repetition. So a reply is only repeated if it
//! certainly did not leave, or if the platform said no; what left and was never answered ends as unknown,
//! unless the settings prefer a message twice to one that is missing. A wait is not slept here: the
//! supervisor keeps the reply meanwhile, and other chats have the room. Only within a reply of several
//! messages the next one waits here, because what was sent cannot be sent again.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::poll_fn;
use protocol::event::{Outbound, Outcome};
use protocol::worker::Unanswered;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::Said;
use super::encode::{To, body, hint, is_about_styles, parts};
use super::markup::Marked;
use crate::clock;
use crate::json::number_of;
use crate::platform::Note;

/// Replies under way at once.
const AT_ONCE: usize = 16;
/// For replies under way when the worker is told to stop.
const LAST: Duration = Duration::from_secs(3);
/// A wait that is not worth a way to the supervisor and back.
const SHORT: Duration = Duration::from_millis(200);
/// Before a message within a reply is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Before a message is tried that would probably be lost.
const AWAY: Duration = Duration::from_secs(1);
/// While a person has to mend the credentials.
const CREDENTIALS: Duration = Duration::from_mins(1);
/// Beyond the time that the platform wants.
const MARGIN: Duration = Duration::from_millis(300);

/// How far a reply has come.
#[derive(Default)]
struct Progress {
    ids: Cell<usize>,
    calling: Cell<bool>,
}

/// Sends what comes until the worker is told to stop, and reports what became of each.
pub(super) async fn run(shared: &Shared, mut outbound: mpsc::Receiver<Outbound>) {
    let arriving = poll_fn(|cx| outbound.poll_recv(cx)).take_until(shared.stop.cancelled());
    let sending = arriving.map(|outbound| one(shared, outbound)).buffer_unordered(AT_ONCE);
    sending.for_each(|()| std::future::ready(())).await;
    while let Ok(outbound) = outbound.try_recv() {
        report(shared, &outbound, retry("the worker is stopping", None)).await;
    }
}

/// Lets whoever pressed a button know that it was noticed.
pub(super) async fn notice(shared: &Shared, mut pressed: mpsc::Receiver<String>) {
    while let Some(Some(id)) = shared.stop.run_until_cancelled(pressed.recv()).await {
        let body = json!({"callback_query_id": id});
        // Too late is the only refusal there is, and of no use to anybody.
        let _ = shared.api.ask("answerCallbackQuery", &body).await;
    }
}

async fn one(shared: &Shared, outbound: Outbound) {
    let progress = Progress::default();
    let sending = pin!(send(shared, &outbound, &progress));
    let outcome = match select(sending, pin!(too_late(&shared.stop))).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), _)) => cut_short(shared, &progress),
    };
    report(shared, &outbound, outcome).await;
}

async fn too_late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST).await;
}

fn cut_short(shared: &Shared, progress: &Progress) -> Outcome {
    match (progress.ids.get(), progress.calling.get()) {
        (0, false) => retry("the worker is stopping", None),
        (0, true) => unclear(shared, "the worker stopped before the answer"),
        (sent, _) => Outcome::Unknown {
            reason: format!("the worker stopped when {sent} of its messages were sent"),
        },
    }
}

async fn report(shared: &Shared, outbound: &Outbound, outcome: Outcome) {
    tracing::debug!(
        outbound_id = outbound.id.0,
        attempt = outbound.attempt,
        sent = matches!(outcome, Outcome::Sent { .. }),
        "reply"
    );
    shared.report.tell(Note::Outcome(outbound.id, outbound.attempt, outcome)).await;
}

async fn send(shared: &Shared, outbound: &Outbound, progress: &Progress) -> Outcome {
    let Some(mut to) = To::of(outbound) else {
        let reason = format!("{:?} is no chat of this platform", outbound.chat_id);
        return Outcome::Failed { reason };
    };
    if let Some(reason) = outbound.content.beyond_text() {
        return Outcome::Failed { reason };
    }
    let parts = parts(&outbound.content.text);
    if parts.is_empty() {
        return Outcome::Failed { reason: "the reply is empty".to_owned() };
    }
    to.chat = shared.now_at(to.chat);
    let mut message_ids = Vec::new();
    for part in &parts {
        match message(shared, part, &mut to, progress).await {
            Ok(id) => message_ids.push(id.to_string()),
            Err(outcome) => return within(outcome, message_ids.len(), parts.len()),
        }
        progress.ids.set(message_ids.len());
        // Only the first message answers another.
        to.reply = None;
    }
    Outcome::Sent { message_ids }
}

/// What becomes of the reply if one of its messages came to this.
fn within(outcome: Outcome, sent: usize, of: usize) -> Outcome {
    let tell = |reason: String| match sent {
        0 => reason,
        _ => format!("{sent} of {of} messages were sent: {reason}"),
    };
    match outcome {
        Outcome::Failed { reason } => Outcome::Failed { reason: tell(reason) },
        Outcome::Unknown { reason } => Outcome::Unknown { reason: tell(reason) },
        other @ (Outcome::Sent { .. } | Outcome::Retry { .. }) => other,
    }
}

/// Sends one message; its id.
async fn message(
    shared: &Shared,
    part: &Marked,
    to: &mut To,
    progress: &Progress,
) -> Result<i64, Outcome> {
    let is_first = progress.ids.get() == 0;
    let mut part = part.clone();
    loop {
        if is_first && shared.is_away() {
            // What is sent into an outage ends as unknown all too often.
            return Err(retry("the platform does not answer", Some(AWAY)));
        }
        let turn = shared.pace().ask(to.chat, clock::now());
        if let Err(wait) = turn {
            if is_first && wait > SHORT {
                return Err(retry("it waits for its turn", Some(wait)));
            }
            tokio::time::sleep(wait).await;
            continue;
        }
        progress.calling.set(true);
        let said = shared.api.perform("sendMessage", &body(&part, *to)).await;
        progress.calling.set(false);
        let again = match said {
            Said::Done(message) => return Ok(number_of(&message, "message_id").unwrap_or_default()),
            Said::Limited(pause) => {
                let pause = pause + MARGIN + clock::jitter(MARGIN);
                tracing::info!(
                    delay_ms = pause.as_millis(),
                    "the platform wants a pause in a chat"
                );
                shared.pace().limited(to.chat, pause, clock::now());
                retry("the platform wants a pause", Some(pause))
            }
            Said::Moved(chat) if chat != to.chat => {
                shared.moved(to.chat, chat);
                to.chat = chat;
                continue;
            }
            Said::Refused(why) if is_about_styles(&why) && !part.spans.is_empty() => {
                tracing::warn!(reason = why, "styles were refused; sending the words alone");
                part.spans.clear();
                continue;
            }
            Said::Refused(why) => {
                let reason = match hint(&why) {
                    Some(hint) => format!("{why} ({hint})"),
                    None => why,
                };
                return Err(Outcome::Failed { reason });
            }
            Said::Away(why) => retry(&why, None),
            Said::Unclear(why) => unclear(shared, &why),
            Said::Credentials(why) => retry(&why, Some(CREDENTIALS)),
            Said::Conflict(_) | Said::Moved(_) => {
                return Err(Outcome::Failed { reason: "the platform contradicts itself".into() });
            }
        };
        match again {
            Outcome::Retry { after_ms, .. } if !is_first => {
                let pause = after_ms.map_or(AGAIN, Duration::from_millis);
                tokio::time::sleep(pause).await;
            }
            outcome => return Err(outcome),
        }
    }
}

/// It left, and nobody knows more.
fn unclear(shared: &Shared, why: &str) -> Outcome {
    match shared.api.settings().unanswered {
        Unanswered::Report => Outcome::Unknown { reason: why.to_owned() },
        Unanswered::Resend => retry(why, None),
    }
}

fn retry(reason: &str, after: Option<Duration>) -> Outcome {
    let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Outcome::Retry { reason: reason.to_owned(), after_ms }
}
