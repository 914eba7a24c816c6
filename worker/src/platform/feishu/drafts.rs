//! Replies in the making: a card that grows, else a message that is edited.
//!
//! A card that streams may grow ten times a second and shows only what is new; the platform ends that ten
//! minutes after the beginning, after which the card can still be changed as a whole. Where the app may
//! not make such cards, or a server of one's own has none, a message is edited instead: about twenty
//! times, says the platform, so the pauses grow and one edit is kept for the reply.
//!
//! All operations on a card need ever larger numbers. They are taken from the clock, so that another run
//! of this worker, which knows nothing of the card, can still finish it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use protocol::content::{Button, Draft};
use protocol::event::Outbound;
use ring::digest::{SHA256, digest};
use tokio::sync::Mutex as AsyncMutex;

use super::answer::Said;
use super::compose::{self, ELEMENT, Form, card, card_markdown};
use super::encode::{self, Name};
use super::markdown::shallow;
use super::place::Place;
use super::{Shared, edit};
use crate::clock::{self, Instant};
use crate::text;

/// Replies in the making that are known. More are not shown.
const MOST: usize = 256;
/// One that nobody has grown for so long is forgotten; its card has stopped streaming by itself.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// So long after its reply a draft may still come, and is not shown.
const LATE: Duration = Duration::from_mins(1);
/// The platform ends streaming after ten minutes; the way there and back counts.
const STREAMING: Duration = Duration::from_secs(9 * 60 + 30);
/// Between two changes of a card that streams, of one that does not, and of a message.
const GROW: Duration = Duration::from_millis(300);
const CHANGE: Duration = Duration::from_millis(1500);
const EDIT: Duration = Duration::from_millis(1200);
/// Edits for drafts: of about twenty, some are left for the reply.
const EDITS: u32 = 15;
/// How long the other way is taken after cards were refused.
const NO_CARDS: Duration = Duration::from_mins(10);
/// Of a draft, in bytes of a request. What comes after is shown by the reply.
const SHOWN_MAX: usize = 20_000;
/// So long after its first draft a run may meet what another run of this worker has begun: the platform knows
/// that message by its `uuid` for an hour and gives it instead of a new one, with another card than the one
/// just made.
const YOUNG: Duration = Duration::from_mins(61);
/// A reply waits no longer than this for a pause that the platform asks for of what shows it.
const PAUSE_MOST_MS: u64 = 5000;
/// Says that there is more to come.
const MORE: &str = " …";

/// The replies in the making.
#[derive(Default)]
pub(super) struct Drafts {
    known: Mutex<HashMap<String, Arc<AsyncMutex<Shown>>>>,
    no_cards: Mutex<Option<Instant>>,
    /// When this run began its first.
    first: OnceLock<Instant>,
}

/// One of them.
struct Shown {
    way: Way,
    message_id: Option<String>,
    /// Its message was asked for: without an answer it may be there all the same, with the card of then.
    asked: bool,
    /// Its reply is there: what is still on its way is too old.
    over: bool,
    /// Its reply is, or may be, a message of its own: a second one would be it again.
    apart: bool,
    changed: Instant,
    edits: u32,
}

/// What shows it. A message without a way is one of which the platform has not told yet what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Way {
    Nothing,
    Card { id: String, since: Instant, streams: bool, sequence: u32 },
    Message,
}

/// What became of turning what is shown into the reply.
pub(super) enum Finish {
    /// It is the reply now.
    Done(String),
    /// Nothing is shown.
    Nothing,
    /// Not now.
    Later(Said),
    /// It cannot be: the reply needs a message of its own, and this one is to go.
    Cannot(String),
}

impl Drafts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<AsyncMutex<Shown>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, key: &str, now: Instant) -> Option<Arc<AsyncMutex<Shown>>> {
        let mut known = self.lock();
        if let Some(shown) = known.get(key) {
            return Some(shown.clone());
        }
        let keep = |it: &Shown, late| {
            now.duration_since(it.changed) < if it.over { late } else { FORGOTTEN }
        };
        for late in [LATE, Duration::ZERO] {
            if known.len() >= MOST {
                known.retain(|_, shown| shown.try_lock().map_or(true, |it| keep(&it, late)));
            }
        }
        if known.len() >= MOST {
            return None;
        }
        let shown = Arc::new(AsyncMutex::new(Shown::new(now)));
        known.insert(key.to_owned(), shown.clone());
        Some(shown)
    }

    /// A reply goes out: a draft of it that is still on its way here is too old. Whether something shows it,
    /// or is about to.
    pub(super) fn close(&self, outbound: &Outbound) -> bool {
        let key = outbound.draft_key.as_str();
        let entry = if key.is_empty() { None } else { self.entry(key, clock::now()) };
        let is_shown = entry.is_some_and(|shown| match shown.try_lock() {
            Ok(mut shown) => {
                shown.over = true;
                shown.message_id.is_some()
            }
            // A call is under way.
            Err(_) => true,
        });
        is_shown || outbound.draft_id.is_some()
    }

    fn cards(&self, now: Instant) -> bool {
        let mut no_cards = self.no_cards.lock().unwrap_or_else(PoisonError::into_inner);
        no_cards.take_if(|until| now >= *until);
        no_cards.is_none()
    }

    fn no_cards(&self, why: &str) {
        let mut no_cards = self.no_cards.lock().unwrap_or_else(PoisonError::into_inner);
        if no_cards.is_none() {
            tracing::warn!(reason = why, "no streaming cards; messages are edited instead");
        }
        *no_cards = Some(clock::now() + NO_CARDS);
    }
}

/// Shows `draft`; the id of the message that does.
pub(super) async fn show(shared: &Shared, draft: &Draft) -> Option<String> {
    let words = beginning(&draft.text);
    if words.trim().is_empty() {
        return None;
    }
    let shown = shared.drafts.entry(&draft.key, clock::now())?;
    // The reply must not wait for our pace.
    let due = shown.lock().await.due();
    tokio::time::sleep_until(due).await;
    let mut shown = shown.lock().await;
    if shown.over {
        return None;
    }
    if shown.way == Way::Nothing
        && let Some(message_id) = &shown.message_id
    {
        match way_of(shared, message_id).await {
            Ok(way) => shown.way = way,
            Err(_) => return shown.message_id.clone(),
        }
    }
    match shown.way.clone() {
        Way::Nothing => begin(shared, draft, &words, &mut shown).await,
        Way::Card { id, since, streams, sequence } => {
            grow(shared, &mut shown, &id, since, streams, sequence, &words).await;
        }
        Way::Message if shown.edits < EDITS => {
            shown.edits += 1;
            let message = compose::say(&format!("{words}{MORE}"), Form::Post, &[]);
            if let Some(call) =
                shown.message_id.as_deref().and_then(|id| encode::edit(id, &message))
            {
                // The next one, or the reply, will show it.
                let _ = shared.api.call(&call).await;
            }
        }
        Way::Message => {}
    }
    shown.changed = clock::now();
    shown.message_id.clone()
}

async fn begin(shared: &Shared, draft: &Draft, words: &str, shown: &mut Shown) {
    let now = clock::now();
    let mut made = None;
    if shared.drafts.cards(now) {
        let answered = shared.api.call(&encode::card(&card(words, &[], true))).await;
        match answered.said {
            Said::Done => made = answered.id("card_id"),
            Said::Later { reason, .. } if answered.absent => shared.drafts.no_cards(&reason),
            Said::Later { .. } | Said::Token => return,
            said => shared.drafts.no_cards(&said.why()),
        }
    }
    let message = match &made {
        Some(card_id) => encode::card_message(card_id),
        None => compose::say(&format!("{words}{MORE}"), Form::Post, &[]),
    };
    let thread = draft.lane.thread_id.as_deref();
    let mut place = Place::new(&draft.lane.chat_id, thread, draft.reply_to.as_deref());
    let key = name_of(&draft.key);
    // A card is known by its own number, so a second one is another message.
    let detour = made.is_none().then_some(Form::Post);
    let name = Name { key: &key, index: 0, detour, instead: 0 };
    let again = std::mem::replace(&mut shown.asked, true);
    let answered = place.send(shared, name, &message).await;
    let Some(message_id) = answered.id("message_id").filter(|_| answered.said == Said::Done) else {
        if made.is_some() && matches!(answered.said, Said::Never { .. }) {
            shared.drafts.no_cards(&answered.said.why());
        }
        return;
    };
    let chat = answered.id("chat_id").unwrap_or_else(|| draft.lane.chat_id.clone());
    shared.memory().sent(&message_id, &chat, thread, message.kind, words);
    let young = now.duration_since(*shared.drafts.first.get_or_init(|| now)) < YOUNG;
    shown.way = match made {
        // What is written to another card than the one in the message, nobody sees.
        Some(_) if again || young => way_of(shared, &message_id).await.unwrap_or(Way::Nothing),
        Some(id) => Way::Card { id, since: now, streams: true, sequence: 0 },
        None => Way::Message,
    };
    shown.message_id = Some(message_id);
}

/// What a message of ours is, as the platform says; the error: it does not say now.
async fn way_of(shared: &Shared, message_id: &str) -> Result<Way, Said> {
    let answered = shared.api.call(&encode::card_of(message_id)).await;
    match answered.said {
        Said::Done => Ok(match answered.id("card_id") {
            Some(id) => Way::Card { id, since: clock::now(), streams: true, sequence: 0 },
            None => Way::Message,
        }),
        Said::Later { .. } if answered.absent => Ok(Way::Message),
        said @ (Said::Later { .. } | Said::Token) => Err(said),
        Said::Never { .. } | Said::Gone(_) | Said::Denied(_) => Ok(Way::Message),
    }
}

async fn grow(
    shared: &Shared,
    shown: &mut Shown,
    id: &str,
    since: Instant,
    streams: bool,
    sequence: u32,
    words: &str,
) {
    let mut streams = streams && clock::now().duration_since(since) < STREAMING;
    let sequence = next(sequence);
    if streams {
        let markdown = card_markdown(words);
        let call = encode::card_words(id, ELEMENT, &markdown, sequence);
        let Some(call) = call else { return };
        let said = shared.api.call(&call).await.said;
        // Whatever it is, the words are refused: from now on the card is changed as a whole.
        streams = !matches!(said, Said::Never { .. } | Said::Gone(_) | Said::Denied(_));
        if !streams {
            tracing::debug!(reason = said.why(), "a card streams no more");
        }
    } else if let Some(call) = encode::card_whole(id, &card(words, &[], false), sequence) {
        let _ = shared.api.call(&call).await;
    }
    shown.way = Way::Card { id: id.to_owned(), since, streams, sequence };
}

/// Turns what is shown for `outbound` into these words, the reply's first.
pub(super) async fn finish(
    shared: &Shared,
    outbound: &Outbound,
    words: &str,
    buttons: &[Vec<Button>],
) -> Finish {
    let shown = match outbound.draft_key.as_str() {
        "" => None,
        key => shared.drafts.entry(key, clock::now()),
    };
    let mut own = Shown::new(clock::now());
    let mut held = match &shown {
        Some(shown) => Some(shown.lock().await),
        None => None,
    };
    let shown = held.as_deref_mut().unwrap_or(&mut own);
    shown.over = true;
    let Some(message_id) = shown.message_id.clone().or_else(|| outbound.draft_id.clone()) else {
        return Finish::Nothing;
    };
    if shown.apart {
        return Finish::Cannot(message_id);
    }
    if shown.way == Way::Nothing {
        // Another run of this worker has shown it, or this one could not find out.
        match way_of(shared, &message_id).await {
            Ok(way) => shown.way = way,
            Err(said) => {
                shown.apart = is_enough(&said, outbound.attempt);
                return if shown.apart { Finish::Cannot(message_id) } else { Finish::Later(said) };
            }
        }
    }
    shown.message_id = Some(message_id.clone());
    let said = match shown.way.clone() {
        Way::Card { id, streams, sequence, .. } => {
            end_card(shared, shown, &id, streams, sequence, words, buttons).await
        }
        Way::Message | Way::Nothing => end_message(shared, &message_id, words, buttons).await,
    };
    match said {
        Said::Done => Finish::Done(message_id),
        said @ (Said::Later { .. } | Said::Token) if !is_enough(&said, outbound.attempt) => {
            Finish::Later(said)
        }
        _ => {
            shown.apart = true;
            Finish::Cannot(message_id)
        }
    }
}

/// Whether a reply has waited long enough for what shows it: that may be all that is out of order.
fn is_enough(said: &Said, attempt: u32) -> bool {
    match said {
        Said::Later { after_ms: Some(pause), .. } => *pause > PAUSE_MOST_MS,
        Said::Later { after_ms: None, .. } => attempt > 1,
        _ => false,
    }
}

/// Takes away what is shown for `outbound`, which has no words that it could become.
pub(super) async fn withdraw(shared: &Shared, outbound: &Outbound) {
    let shown = match outbound.draft_key.as_str() {
        "" => None,
        key => shared.drafts.entry(key, clock::now()),
    };
    let mut shown = match &shown {
        Some(shown) => Some(shown.lock().await),
        None => None,
    };
    let own = shown.as_deref_mut().and_then(|shown| shown.message_id.take());
    if let Some(message_id) = own.or_else(|| outbound.draft_id.clone()) {
        // A beginning that stays costs nothing that was said.
        let _ = edit::recall(shared, &message_id).await;
    }
}

async fn end_card(
    shared: &Shared,
    shown: &mut Shown,
    id: &str,
    streams: bool,
    sequence: u32,
    words: &str,
    buttons: &[Vec<Button>],
) -> Said {
    let mut sequence = next(sequence);
    let mut whole = !streams || !buttons.is_empty();
    let mut said = Said::Done;
    if streams {
        let growing = encode::card_words(id, ELEMENT, &card_markdown(words), sequence);
        let done = encode::card_done(id, next(sequence));
        for call in [growing, done].into_iter().flatten() {
            said = shared.api.call(&call).await.said;
            whole |= !matches!(said, Said::Done | Said::Later { .. } | Said::Token);
            if said != Said::Done {
                break;
            }
        }
        sequence = next(next(sequence));
    }
    if whole && !matches!(said, Said::Later { .. } | Said::Token) {
        let card = card(words, buttons, false);
        if let Some(call) = encode::card_whole(id, &card, sequence) {
            said = shared.api.call(&call).await.said;
        }
    }
    shown.way =
        Way::Card { id: id.to_owned(), since: shown.changed, streams: streams && !whole, sequence };
    said
}

async fn end_message(
    shared: &Shared,
    message_id: &str,
    words: &str,
    buttons: &[Vec<Button>],
) -> Said {
    let cannot = |reason: &str| Said::Never { code: 0, reason: reason.to_owned() };
    if !buttons.is_empty() {
        return cannot("a message cannot become a card");
    }
    let mut form = Form::Post;
    loop {
        let Some(call) = encode::edit(message_id, &compose::say(words, form, &[])) else {
            return cannot("this is no id of a message");
        };
        let said = shared.api.call(&call).await.said;
        match (&said, form.plainer()) {
            (Said::Never { code, .. }, Some(plainer)) if super::send::is_of_form(*code) => {
                form = plainer;
            }
            _ => return said,
        }
    }
}

impl Shown {
    fn new(now: Instant) -> Self {
        Self {
            way: Way::Nothing,
            message_id: None,
            asked: false,
            over: false,
            apart: false,
            changed: now,
            edits: 0,
        }
    }

    /// When it may be changed again.
    fn due(&self) -> Instant {
        let pause = match &self.way {
            Way::Nothing => Duration::ZERO,
            Way::Card { streams: true, .. } => GROW,
            Way::Card { .. } => CHANGE,
            Way::Message => EDIT * (1 + self.edits / 3),
        };
        self.changed + pause
    }
}

/// Tenths of a second, as the platform takes ten operations a second. They begin anew every three
/// years, and a card lives 14 days.
pub(super) fn next(sequence: u32) -> u32 {
    let tenths = clock::unix_ms() / 100;
    let tenths = u32::try_from(tenths.rem_euclid(1 << 30)).unwrap_or(0);
    tenths.max(sequence + 1)
}

fn beginning(words: &str) -> String {
    let mut parts = text::split(&shallow(words), SHOWN_MAX, compose::cost);
    if parts.is_empty() { String::new() } else { parts.swap_remove(0) }
}

/// At most 33 characters for a key of any length.
fn name_of(key: &str) -> String {
    let hash = digest(&SHA256, key.as_bytes());
    let hash = hash.as_ref().get(..16).unwrap_or_default();
    format!("d{}", protocol::id::hex(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_only_grow_whatever_the_clock_does() {
        let first = next(0);
        assert!(first >= 1);
        assert_eq!(next(first + 5000), first + 5001);
        assert!(next(first) > first);
    }

    /// The platform takes 30 KB, and counts what the way costs.
    #[test]
    fn what_is_shown_of_a_draft_fits_whatever_it_says() {
        for words in ["\"{}\": ".repeat(9000), "<a\n".repeat(9000), "1~2 ".repeat(9000)] {
            let words = beginning(&words);
            let calls = [
                Some(encode::card(&card(&words, &[], true))),
                encode::edit("om_1", &compose::say(&format!("{words}{MORE}"), Form::Post, &[])),
            ];
            for call in calls.into_iter().flatten() {
                let bytes = call.body.to_string().len();
                assert!((10_000..30_000).contains(&bytes), "{bytes}");
            }
        }
    }

    #[test]
    fn a_key_of_any_length_has_a_short_name_of_its_own() {
        let names = [name_of("a/1"), name_of("a/2"), name_of(&"x".repeat(300))];
        assert!(names.iter().all(|name| name.len() == 33));
        assert!(names[0] != names[1] && name_of("a/1") == names[0]);
    }
}
