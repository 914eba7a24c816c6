//! Replies on their way out, each with one outcome.
//!
//! The platform has no keys by which it would know a repetition. So a reply is only repeated if it
//! certainly did not leave, or if the platform said no; what left and was never answered ends as unknown.
//! Where the settings prefer a message twice to one that is missing, it is sent once more before that. A wait is
//! not slept here: the supervisor keeps the reply meanwhile, and other chats have the room. Only within a reply of
//! several messages, or where something was learned that only this attempt knows, the next call waits here; the
//! supervisor is told, and gives its room to others. It is told of each message that has arrived, too, so that
//! another attempt, also of another life, goes on behind it.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::poll_fn;
use protocol::content::{Act, Content};
use protocol::event::{Outbound, Outcome};
use protocol::id::OutboundId;
use protocol::worker::{Outside, Unanswered};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::amend::Amended;
use super::answer::Said;
use super::course::{Course, knows};
use super::encode::{To, hint};
use super::steps::{Step, steps, unsendable};
use crate::clock;
use crate::json::number_of;
use crate::platform::Note;

/// Replies under way at once, with those that wait in the middle. Without these the supervisor sends 16.
const AT_ONCE: usize = 256;
/// Signs for pressed buttons under way at once.
const SIGNS: usize = 8;
/// For replies under way when the worker is told to stop.
const LAST: Duration = Duration::from_secs(3);
/// A wait that is not worth to be told.
const SHORT: Duration = Duration::from_millis(200);
/// Before a message within a reply is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Before a message is tried that would probably be lost.
const AWAY: Duration = Duration::from_secs(1);
/// Beyond the time that the platform wants.
const MARGIN: Duration = Duration::from_millis(300);

/// What the platform says if the message that another one answers is gone.
const REPLIED_GONE: &str = "message to be replied not found";
/// Why no message of a group can be changed that goes on under another id.
const MOVED: &str =
    "the group has moved to another chat, where its messages of before have other numbers";

/// Sends what comes until the worker is told to stop, and reports what became of each.
pub(super) async fn run(shared: &Shared, mut outbound: mpsc::Receiver<Outbound>) {
    let arriving = poll_fn(|cx| outbound.poll_recv(cx)).take_until(shared.stop.cancelled());
    let sending = arriving.map(|outbound| one(shared, outbound)).buffer_unordered(AT_ONCE);
    sending.for_each(|()| std::future::ready(())).await;
    while let Ok(outbound) = outbound.try_recv() {
        shared.report.outcome(&outbound, stopping()).await;
    }
}

/// Lets whoever pressed a button know that it was noticed.
pub(super) async fn notice(shared: &Shared, mut pressed: mpsc::Receiver<String>) {
    let pressed = poll_fn(|cx| pressed.poll_recv(cx)).take_until(shared.stop.cancelled());
    let signs = pressed.map(|id| async move {
        let body = json!({"callback_query_id": id});
        // Too late is the only refusal there is, and of no use to anybody.
        let _ = shared.api.ask("answerCallbackQuery", &body).await;
    });
    signs.buffer_unordered(SIGNS).for_each(|()| std::future::ready(())).await;
}

async fn one(shared: &Shared, outbound: Outbound) {
    let course = Course::default();
    let sending = pin!(send(shared, &outbound, &course));
    let outcome = match select(sending, pin!(too_late(&shared.stop))).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), _)) if course.calling.get() => {
            let why = "the worker stopped before the answer";
            if resends(shared) {
                retry(why, None)
            } else {
                course.within(Outcome::Unknown { reason: why.to_owned() })
            }
        }
        Either::Right(((), _)) => stopping(),
    };
    if !matches!(outcome, Outcome::Retry { .. }) {
        shared.drafts.forget(&outbound.draft_key);
    }
    shared.report.outcome(&outbound, outcome).await;
}

async fn too_late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST).await;
}

async fn send(shared: &Shared, outbound: &Outbound, course: &Course) -> Outcome {
    let mut to = match To::of(outbound) {
        Ok(to) => to,
        Err(reason) => return Outcome::Failed { reason },
    };
    let now = shared.now_to(to);
    if now.chat != to.chat && outbound.content.act != Act::Say {
        return Outcome::Failed { reason: MOVED.to_owned() };
    }
    to = now;
    let draft = shared.drafts.over(outbound, to.chat).await;
    let there = there(shared, outbound).await;
    // What is lost now may have arrived in an earlier attempt; if not, its own message fails.
    let whole = Content { files: outbound.content.files.clone(), ..there.content.clone() };
    let is_known = |steps: &[Step]| {
        let steps: Vec<_> = steps.iter().filter(|step| !step.is_aside()).cloned().collect();
        knows(outbound, &steps)
    };
    let planned = match steps(&whole, &there.with_lost, draft) {
        Ok(steps) if is_known(&steps) => Ok((steps, &[][..])),
        _ => steps(&there.content, &there.sizes, draft).map(|steps| (steps, &there.lost[..])),
    };
    let (steps, lost) = match planned {
        Ok(planned) => planned,
        Err(_) if !there.lost.is_empty() => {
            return Outcome::Failed { reason: there.lost.join("; ") };
        }
        Err(reason) => return Outcome::Failed { reason },
    };
    let (aside, steps): (Vec<_>, Vec<_>) = steps.into_iter().partition(Step::is_aside);
    let due = course.resume(outbound, &steps);
    for step in aside {
        // What it only showed may stand there: what it says comes all the same.
        if let Err(outcome @ Outcome::Retry { .. }) =
            perform(shared, step, &mut to, (outbound.id, course)).await
        {
            return outcome;
        }
    }
    for (n, step) in due {
        if n > 0 {
            // Only the first message answers another.
            to.reply = None;
        }
        match perform(shared, step.clone(), &mut to, (outbound.id, course)).await {
            Ok(ids) => {
                course.found(n);
                course.arrived(ids);
            }
            Err(Outcome::Failed { reason }) => {
                // What else it says arrives all the same, and so do other files.
                let saved = step.saved(&reason);
                let is_files = |step: &Step| matches!(step, Step::Files { .. });
                if saved.is_none() && !is_files(&step) {
                    return course.within(Outcome::Failed { reason });
                }
                course.lose(reason);
                if is_files(&step) && !saved.as_ref().is_some_and(is_files) {
                    course.miss(n);
                }
                if let Some(saved) = saved {
                    match perform(shared, saved, &mut to, (outbound.id, course)).await {
                        Ok(ids) => course.arrived(ids),
                        Err(outcome) => return course.within(outcome),
                    }
                }
            }
            Err(outcome) => return course.within(outcome),
        }
        if let Some(reached) = course.pass(n, &steps) {
            shared.report.tell(Note::Reached(outbound.id, reached)).await;
        }
    }
    for why in lost {
        course.lose(why.clone());
    }
    course.end()
}

/// A reply without the files that are not there or that the platform does not take.
struct There {
    content: Content,
    sizes: Vec<u64>,
    /// Why the others are not.
    lost: Vec<String>,
    /// The sizes of all, as far as they are known.
    with_lost: Vec<u64>,
}

async fn there(shared: &Shared, outbound: &Outbound) -> There {
    let content = Content { files: Vec::new(), ..outbound.content.clone() };
    let mut there = There { content, sizes: Vec::new(), lost: Vec::new(), with_lost: Vec::new() };
    for file in &outbound.content.files {
        match shared.exchange.open(&file.file).await {
            Ok((_, size)) => {
                if let Some(why) = unsendable(size, shared.api.is_public()) {
                    there.lost.push(format!("send the file {:?}: {why}", file.file));
                } else {
                    there.content.files.push(file.clone());
                    there.sizes.push(size);
                }
                there.with_lost.push(size);
            }
            Err(error) => {
                there.lost.push(format!("open the file {:?}: {error}", file.file));
                there.with_lost.push(1);
            }
        }
    }
    there
}

/// Performs one step; the ids of the messages that it made or changed.
async fn perform(
    shared: &Shared,
    mut step: Step,
    to: &mut To,
    (id, course): (OutboundId, &Course),
) -> Result<Vec<String>, Outcome> {
    // Another message has arrived before; or what is known by now would be forgotten on the way to the supervisor
    // and back: what was refused, how it was amended, that it may have arrived. Then it waits here.
    let mut stays = course.is_under_way();
    let mut is_repeated = false;
    loop {
        if stays && shared.stop.is_cancelled() {
            // Another life goes on from here.
            return Err(stopping());
        }
        if shared.is_away() {
            // What is sent into an outage ends as unknown all too often.
            if !stays {
                return Err(retry("the platform does not answer", Some(AWAY)));
            }
            pause(shared, course, id, AWAY).await?;
            continue;
        }
        let turn = shared.turn(to.chat);
        let turn = turn.lock().await;
        let allowed = shared.pace().ask(id.0, to.chat, step.cost(), clock::now());
        if let Err(wait) = allowed {
            drop(turn);
            if !stays {
                return Err(retry("it waits for its turn", Some(wait)));
            }
            pause(shared, course, id, wait).await?;
            continue;
        }
        let changes = step.changes();
        course.calling.set(changes.is_none());
        let said = shared.api.perform(&step.call(*to), &shared.exchange).await;
        course.calling.set(false);
        if matches!(said, Said::Away(_) | Said::Unclear(_)) {
            shared.doubt.notify_one();
        } else if !matches!(said, Said::Credentials(_)) {
            let now_known = shared.standing().taken();
            tell(shared, now_known).await;
        }
        let again = match said {
            Said::Credentials(why) => retry(&why, Some(refused(shared, &why).await)),
            Said::Done(result) => return Ok(changes.map_or_else(|| made(&result), named)),
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
                *to = To { chat, reply: None, ..*to };
                match step.anew() {
                    Some(other) => step = other,
                    None => return Err(Outcome::Failed { reason: MOVED.to_owned() }),
                }
                continue;
            }
            // It was told to do without where it has to.
            Said::Refused(why) if to.reply.is_some() && why.contains(REPLIED_GONE) => {
                to.reply = None;
                stays = true;
                continue;
            }
            Said::Refused(why) => match step.amend(&why) {
                Amended::Done => return Ok(changes.map(named).unwrap_or_default()),
                Amended::Try(other) => {
                    tracing::warn!(reason = why, "refused; trying what loses no words");
                    step = other;
                    stays = true;
                    continue;
                }
                Amended::No => {
                    let reason = match hint(&why) {
                        Some(hint) => format!("{why} ({hint})"),
                        None => why,
                    };
                    return Err(Outcome::Failed { reason });
                }
            },
            Said::Away(why) => retry(&why, None),
            // Changing a message twice is changing it once.
            Said::Unclear(why) if changes.is_some() => retry(&why, None),
            Said::Unclear(why) if resends(shared) && !is_repeated => {
                (is_repeated, stays) = (true, true);
                retry(&why, None)
            }
            Said::Unclear(reason) => return Err(Outcome::Unknown { reason }),
            Said::Conflict(_) | Said::Moved(_) => {
                return Err(Outcome::Failed { reason: "the platform contradicts itself".into() });
            }
        };
        drop(turn);
        match again {
            Outcome::Retry { after_ms, .. } if stays => {
                let span = after_ms.map_or(AGAIN, Duration::from_millis);
                pause(shared, course, id, span).await?;
            }
            outcome => return Err(outcome),
        }
    }
}

/// A call was refused as by a wrong token: how long to wait.
async fn refused(shared: &Shared, why: &str) -> Duration {
    let (pause, now_known) = shared.standing().refused(why, clock::now());
    tracing::info!(reason = why, delay_ms = pause.as_millis(), "a reply is refused");
    tell(shared, now_known).await;
    pause
}

/// What a person is to know now, if anything is new.
async fn tell(shared: &Shared, outside: Option<Outside>) {
    if let Some(outside) = outside {
        shared.report.tell(Note::Outside(outside)).await;
    }
}

/// Waits in the middle of a reply, unless the worker is told to stop.
async fn pause(
    shared: &Shared,
    course: &Course,
    id: OutboundId,
    span: Duration,
) -> Result<(), Outcome> {
    if span > SHORT && !course.waits.replace(true) {
        shared.report.tell(Note::Waits(id)).await;
    }
    let pause = tokio::time::sleep(span);
    shared.stop.run_until_cancelled(pause).await.ok_or_else(stopping)
}

fn stopping() -> Outcome {
    retry("the worker is stopping", None)
}

fn named(id: i64) -> Vec<String> {
    vec![id.to_string()]
}

/// The ids of a message, or of all of an album.
fn made(result: &Value) -> Vec<String> {
    let one = |message: &Value| number_of(message, "message_id").map(|id| id.to_string());
    match result {
        Value::Array(album) => album.iter().filter_map(one).collect(),
        message => one(message).into_iter().collect(),
    }
}

/// Whether somebody prefers a message twice to one that is missing.
fn resends(shared: &Shared) -> bool {
    shared.api.settings().unanswered == Unanswered::Resend
}

fn retry(reason: &str, after: Option<Duration>) -> Outcome {
    let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Outcome::Retry { reason: reason.to_owned(), after_ms }
}
