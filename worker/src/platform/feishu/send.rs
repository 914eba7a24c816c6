//! Replies on their way out: several chats at once, one chat in order, each reply with one outcome.
//!
//! Whatever goes wrong on the way, a repetition of the whole reply is safe, because the platform knows
//! each part by its `uuid`. So nothing here ever ends as unknown. It forgets a `uuid` after an hour: the
//! supervisor is told of each part that has arrived, so that no later attempt sends it again.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::poll_fn;
use protocol::content::{Act, Button};
use protocol::event::{self, Outbound, Outcome, Rest};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::answer::Said;
use super::compose::{self, Form, Message, Step};
use super::drafts::{self, Finish};
use super::encode::Name;
use super::place::Place;
use super::{Shared, edit, react, upload};
use crate::platform::Note;

/// Replies under way at once. The platform takes 50 a second of an app.
const AT_ONCE: usize = 16;
/// For each file of it, as large as the platform takes one, over a slow line.
const FILE_LIMIT: Duration = Duration::from_secs(600);
const UNFINISHED_MAX: usize = 1024;
/// For replies under way when the worker is told to stop.
const LAST: Duration = Duration::from_secs(3);

/// Sends what comes until the worker is told to stop, and reports what became of each.
pub(super) async fn run(shared: &Shared, mut outbound: mpsc::Receiver<Outbound>) {
    let turns = Turns::default();
    let arriving = poll_fn(|cx| outbound.poll_recv(cx)).take_until(shared.stop.cancelled());
    let sending = arriving.map(|outbound| one(shared, &turns, outbound)).buffer_unordered(AT_ONCE);
    sending.for_each(|()| std::future::ready(())).await;
    while let Ok(outbound) = outbound.try_recv() {
        shared.report.outcome(&outbound, retry("the worker is stopping")).await;
    }
}

async fn one(shared: &Shared, turns: &Turns, outbound: Outbound) {
    let outcome = turns.wait(&outbound.chat_id, async {
        let files = u32::try_from(outbound.content.files.len()).unwrap_or(u32::MAX);
        let limit = shared.limits.reply.saturating_add(FILE_LIMIT.saturating_mul(files));
        match select(pin!(send(shared, &outbound)), pin!(too_late(&shared.stop, limit))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((why, _)) => retry(why),
        }
    });
    let outcome = outcome.await;
    shared.report.outcome(&outbound, outcome).await;
}

async fn too_late(stop: &CancellationToken, limit: Duration) -> &'static str {
    if tokio::time::timeout(limit, stop.cancelled()).await.is_err() {
        return "no answer in time";
    }
    tokio::time::sleep(LAST).await;
    "the worker is stopping"
}

async fn send(shared: &Shared, outbound: &Outbound) -> Outcome {
    match &outbound.content.act {
        Act::Say => say(shared, outbound).await,
        Act::Edit { message_id } => edit::edit(shared, outbound, message_id).await,
        Act::Recall { message_id } => edit::recall(shared, message_id).await,
        Act::React { message_id, emoji } => react::react(shared, message_id, emoji).await,
    }
}

/// The end of a part: the id of its message, if the platform told it, or why there is none.
pub(super) type Done = Result<Option<String>, String>;

/// How far a reply has come that could not be finished at once.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Parts that have come to their end.
    done: Vec<Done>,
    /// A file that has been uploaded and not been shown yet.
    uploaded: Option<Message>,
}

/// Replies that could not be finished at once. What is done is not done again, however long the rest
/// takes: the platform knows a `uuid` for an hour only.
#[derive(Default)]
pub(super) struct Unfinished(Mutex<HashMap<u64, Progress>>);

impl Unfinished {
    fn go_on(&self, id: u64) -> Going<'_> {
        let progress = self.lock().remove(&id).unwrap_or_default();
        Going { all: self, id, progress, is_over: false }
    }

    fn keep(&self, id: u64, progress: Progress) {
        let mut kept = self.lock();
        if kept.len() >= UNFINISHED_MAX {
            // Any: what is lost is the knowledge of one reply, for which the platform's own stands in.
            let any = kept.keys().next().copied();
            any.and_then(|any| kept.remove(&any));
        }
        kept.insert(id, progress);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them on its way. However an attempt ends, also in the middle by its limit, what is done is kept for
/// the next.
struct Going<'a> {
    all: &'a Unfinished,
    id: u64,
    progress: Progress,
    is_over: bool,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.all.keep(self.id, std::mem::take(&mut self.progress));
        }
    }
}

async fn say(shared: &Shared, outbound: &Outbound) -> Outcome {
    let drafted = shared.drafts.close(outbound);
    let first = drafted.then_some(Form::Card);
    let steps = match compose::steps(&outbound.content, first) {
        Ok(steps) if steps.is_empty() => {
            return Outcome::Failed { reason: "the reply is empty".to_owned() };
        }
        Ok(steps) => steps,
        Err(reason) => return Outcome::Failed { reason },
    };
    let mut going = shared.unfinished.go_on(outbound.id.0);
    let arrived = arrived(outbound);
    let mut place =
        Place::new(&outbound.chat_id, outbound.thread_id.as_deref(), outbound.reply_to.as_deref());
    for (index, step) in steps.iter().enumerate().skip(going.progress.done.len()) {
        let progress = &mut going.progress;
        if index < progress.done.len() {
            continue;
        }
        if let Some(Ok(id)) = arrived.get(index) {
            progress.done.push(Ok(id.clone()));
            continue;
        }
        let mut part = Part { shared, outbound, index, place: &mut place };
        let said = part.send(step, &mut progress.uploaded).await;
        if index == 0 && said.is_ok() && !matches!(step, Step::Words { .. }) {
            // Nothing of it could become this, so it is in the way.
            drafts::withdraw(shared, outbound).await;
        }
        match said {
            Ok(Shown { id, apart }) => {
                progress.done.push(Ok(id));
                if !apart && matches!(steps.get(index + 1), Some(Step::Buttons(_))) {
                    // They are there as well.
                    progress.done.push(Ok(None));
                }
                if progress.done.len() < steps.len() {
                    tell(shared, outbound, &progress.done).await;
                }
            }
            Err(Said::Never { reason, .. } | Said::Gone(reason)) => {
                progress.done.push(Err(reason));
                // Words that are not wanted mean that nothing is; a file or a button may be at fault alone.
                if !matches!(step, Step::File(_) | Step::Buttons(_)) {
                    break;
                }
            }
            Err(said) => {
                let so_far = so_far(&progress.done, steps.len());
                return later(said, so_far.as_deref());
            }
        }
    }
    going.is_over = true;
    told(&steps, &going.progress.done)
}

/// Tells which parts have come to their end: every later attempt is told so.
pub(super) async fn tell(shared: &Shared, outbound: &Outbound, done: &[Done]) {
    let note = serde_json::to_vec(done).unwrap_or_default();
    let progress = event::Progress { message_ids: ids(done), note };
    shared.report.tell(Note::Reached(outbound.id, progress)).await;
}

/// The messages that are there.
pub(super) fn ids(done: &[Done]) -> Vec<String> {
    done.iter().flatten().flatten().cloned().collect()
}

/// The parts that came to their end in earlier attempts, also in those of another life. What failed by then is
/// tried again.
pub(super) fn arrived(outbound: &Outbound) -> Vec<Done> {
    let known = outbound.progress.as_ref();
    known.and_then(|known| serde_json::from_slice(&known.note).ok()).unwrap_or_default()
}

/// What a person has to grant is waited for. The reason is what remains if the reply grows too old meanwhile.
pub(super) fn later(said: Said, so_far: Option<&str>) -> Outcome {
    let after_ms = match &said {
        Said::Later { after_ms, .. } => *after_ms,
        _ => None,
    };
    let reason = match so_far {
        Some(so_far) => format!("{so_far}; {}", said.why()),
        None => said.why(),
    };
    Outcome::Retry { reason, after_ms }
}

/// Which of its parts are there, if one is.
fn so_far(done: &[Done], of: usize) -> Option<String> {
    let sent = done.iter().flatten().count();
    let ids: Vec<&str> = done.iter().flatten().flatten().map(String::as_str).collect();
    (sent > 0).then(|| format!("{sent} of {of} parts were sent ({})", ids.join(", ")))
}

/// Sent is what is there as a whole. What is there in part is said part by part.
fn told(steps: &[Step], done: &[Done]) -> Outcome {
    let message_ids = ids(done);
    let mut failures: Vec<String> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let what = match step {
            Step::File(file) => format!("file {}", upload::title(file)),
            Step::Buttons(_) => "its buttons".to_owned(),
            Step::Words { .. } | Step::Card(_) => format!("part {}", index + 1),
        };
        match done.get(index) {
            Some(Ok(_)) => {}
            Some(Err(why)) => failures.push(format!("{what}: {why}")),
            None => failures.push(format!("{what}: not tried")),
        }
    }
    if failures.is_empty() {
        return Outcome::Sent { message_ids };
    }
    if let ([Err(why), ..], true) = (done, message_ids.is_empty())
        && matches!(steps, [Step::Words { .. } | Step::Card(_)] | [_, Step::Buttons(_)])
    {
        return Outcome::Failed { reason: why.clone() };
    }
    let failures = failures.join("; ");
    match so_far(done, steps.len()) {
        None => Outcome::Failed { reason: format!("nothing was sent; {failures}") },
        Some(so_far) => {
            let reason = format!("{so_far}; {failures}");
            Outcome::Partly { message_ids, rest: Rest::Failed, reason }
        }
    }
}

/// One message of a reply, on its way.
struct Part<'a> {
    shared: &'a Shared,
    outbound: &'a Outbound,
    index: usize,
    place: &'a mut Place,
}

/// A part that arrived.
struct Shown {
    /// The id of its message, if the platform told it.
    id: Option<String>,
    /// Its buttons are still to come.
    apart: bool,
}

impl Part<'_> {
    async fn send(&mut self, step: &Step, uploaded: &mut Option<Message>) -> Result<Shown, Said> {
        let outbound = self.outbound;
        let whole = |id| Shown { id, apart: false };
        match step {
            Step::Words { text, form, buttons } => {
                if self.index == 0 {
                    match drafts::finish(self.shared, outbound, text, buttons).await {
                        Finish::Done(id) => return Ok(whole(Some(id))),
                        Finish::Nothing => {}
                        Finish::Later(said) => return Err(said),
                        Finish::Cannot(shown) => {
                            let said = self.words(text, *form, buttons).await?;
                            // What stays is a beginning of what is there as a whole.
                            let _ = edit::recall(self.shared, &shown).await;
                            return Ok(said);
                        }
                    }
                }
                self.words(text, *form, buttons).await
            }
            Step::Buttons(rows) => {
                let message = compose::say("", Form::Card, rows);
                self.message(&message, None, "").await.map(whole)
            }
            Step::Card(card) => {
                let message = Message { kind: "interactive", content: card.clone() };
                self.message(&message, None, "").await.map(whole)
            }
            Step::File(file) => {
                let message = match uploaded.take() {
                    Some(message) => message,
                    None => upload::upload(self.shared, file).await?,
                };
                let sent = self.message(&message, None, &upload::title(file)).await;
                if matches!(sent, Err(Said::Later { .. } | Said::Token | Said::Denied(_))) {
                    *uploaded = Some(message);
                }
                sent.map(whole)
            }
        }
    }

    /// In the best form that the platform takes.
    async fn words(
        &mut self,
        text: &str,
        best: Form,
        mut buttons: &[Vec<Button>],
    ) -> Result<Shown, Said> {
        let (mut form, mut apart) = (best, false);
        loop {
            let message = compose::say(text, form, buttons);
            let detour = (form != best || apart).then_some(form);
            let (code, reason) = match self.message(&message, detour, text).await {
                Ok(id) => return Ok(Shown { id, apart }),
                Err(Said::Never { code, reason }) if is_of_form(code) => (code, reason),
                Err(said) => return Err(said),
            };
            form = match form.plainer() {
                // Without its buttons it may be what the platform takes.
                Some(_) if !buttons.is_empty() && !text.is_empty() => {
                    (buttons, apart) = (&[], true);
                    Form::of(text)
                }
                Some(plainer) if buttons.is_empty() => plainer,
                _ => return Err(Said::Never { code, reason }),
            };
            tracing::warn!(reason, "a reply is sent in a plainer form");
        }
    }

    async fn message(
        &mut self,
        message: &Message,
        detour: Option<Form>,
        words: &str,
    ) -> Result<Option<String>, Said> {
        let outbound = self.outbound;
        let name = Name { detour, ..Name::new(outbound, self.index) };
        let answered = self.place.send(self.shared, name, message).await;
        if answered.said != Said::Done {
            return Err(answered.said);
        }
        let id = answered.id("message_id");
        if let Some(id) = &id {
            let thread = outbound.thread_id.as_deref();
            let chat = answered.id("chat_id").unwrap_or_else(|| outbound.chat_id.clone());
            self.shared.memory().sent(id, &chat, thread, message.kind, words);
        }
        Ok(id)
    }
}

/// Whether the platform objects to the form of a message: it may take the words in another one.
pub(super) fn is_of_form(code: i64) -> bool {
    matches!(code, 11_310 | 230_001 | 230_025 | 230_099 | 99_992_402)
        || (200_000..201_000).contains(&code)
        || (300_000..301_000).contains(&code)
}

fn retry(reason: &str) -> Outcome {
    Outcome::Retry { reason: reason.to_owned(), after_ms: None }
}

/// Chats in which a reply is under way, and who waits for it.
#[derive(Default)]
struct Turns(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Turns {
    /// Does `work` when everything that came earlier for `chat` is done.
    async fn wait<T>(&self, chat: &str, work: impl Future<Output = T>) -> T {
        let turn = self
            .lock()
            .entry(chat.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(1)))
            .clone();
        // Never closed, and fair: who asks first is first.
        let permit = turn.acquire().await;
        let done = work.await;
        drop(permit);
        let mut turns = self.lock();
        // Ours and the table's: nobody waits.
        if Arc::strong_count(&turn) == 2 {
            turns.remove(chat);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_chat_keeps_its_order_and_the_table_stays_small() {
        let turns = Turns::default();
        let log = Mutex::new(Vec::new());
        let step = |chat, number, ms| {
            let log = &log;
            turns.wait(chat, async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                log.lock().unwrap().push(number);
            })
        };
        tokio::join!(step("a", 1, 50), step("a", 2, 1), step("b", 3, 10), step("a", 4, 1));
        assert_eq!(*log.lock().unwrap(), [3, 1, 2, 4]);
        assert!(turns.lock().is_empty());
    }
}
