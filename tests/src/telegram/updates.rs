//! `getUpdates` and the webhook, with the conflicts between them and between two polls.
//!
//! The server does not notice that the connection of a held poll died: it stays held until another one
//! ends it, its time is over or there is something to say.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::answer::Answer;
use super::observe::{Observation, Rule};
use super::params::Params;
use super::state::{Bot, Held, Hook, Shared};

const LIMIT: i64 = 100;
const HOLD: i64 = 50;
const PACE: Duration = Duration::from_secs(3);
/// What comes right after the first update goes with it.
const GATHER: Duration = Duration::from_millis(2);
const HOOKED: &str = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
const OTHER: &str = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
const HOOK: &str = "Conflict: terminated by setWebhook request";

/// How a poll begins.
enum Begun {
    Done(Answer),
    Refused(&'static str),
    Held(Poll),
}

struct Poll {
    number: u64,
    offset: i64,
    limit: usize,
    hold: Duration,
    end: watch::Receiver<Option<&'static str>>,
    grown: watch::Receiver<usize>,
}

pub(crate) async fn get(shared: &Arc<Shared>, token: &str, params: &Params) -> Answer {
    let mut poll = match begin(shared, token, params) {
        Begun::Done(answer) => return answer,
        Begun::Refused(description) => return conflict(shared, token, description).await,
        Begun::Held(poll) => poll,
    };
    let mut ending = poll.end.clone();
    tokio::select! {
        () = async { drop(ending.wait_for(Option::is_some).await) } => {}
        _ = timeout(poll.hold, poll.grown.changed()) => {}
        () = shared.stop.cancelled() => {}
    }
    tokio::time::sleep(GATHER).await;
    // It may have ended while more was gathered.
    let ended = *poll.end.borrow();
    if let Some(description) = ended {
        return conflict(shared, token, description).await;
    }
    let mut state = shared.state();
    let Some(bot) = state.bots.get_mut(token) else { return unauthorized() };
    bot.held.take_if(|held| held.number == poll.number);
    Answer::good(read(shared, bot, poll.offset, poll.limit))
}

fn begin(shared: &Shared, token: &str, params: &Params) -> Begun {
    let offset = params.number("offset").unwrap_or(0);
    let limit = params.number("limit").unwrap_or(LIMIT).clamp(1, LIMIT);
    let hold = params.number("timeout").unwrap_or(0).clamp(0, HOLD);
    let mut state = shared.state();
    let number = state.fresh_number();
    let Some(bot) = state.bots.get_mut(token) else { return Begun::Done(unauthorized()) };
    if bot.webhook.is_some() {
        return Begun::Refused(HOOKED);
    }
    if let Some(allowed) = params.json("allowed_updates") {
        bot.allowed = Some(allowed);
    }
    let now = Instant::now();
    let (mut limit, mut hold) = (usize::try_from(limit).unwrap_or(1), hold.unsigned_abs());
    if let Some((before, at)) = bot.previous
        && before == offset
    {
        if now < at + PACE {
            hold = hold.max(3);
        }
        if now < at + PACE / 6 {
            limit = 1;
        }
    }
    bot.previous = Some((offset, now));
    shared.journal.note(&bot.username, Observation::Poll { offset, limit, timeout: hold });
    let found = read(shared, bot, offset, limit);
    if !found.is_empty() || hold == 0 {
        return Begun::Done(Answer::good(found));
    }
    if let Some(held) = bot.held.take() {
        held.end.send_replace(Some(OTHER));
    }
    let (say, end) = watch::channel(None);
    bot.held = Some(Held { number, end: say });
    let (grown, hold) = (bot.grown.subscribe(), Duration::from_secs(hold));
    Begun::Held(Poll { number, offset, limit, hold, end, grown })
}

fn read(shared: &Shared, bot: &mut Bot, offset: i64, limit: usize) -> Vec<Value> {
    let (forgotten, found) = bot.queue.read(offset, limit);
    if offset < 0 || forgotten.iter().any(|id| *id > bot.handed) {
        let detail = format!("offset {offset} drops {forgotten:?}");
        shared.violation(&bot.username, Rule::Drop, detail);
    }
    if !forgotten.is_empty() {
        shared.journal.note(&bot.username, Observation::Confirmed { ids: forgotten });
    }
    let ids: Vec<_> = bot.queue.all().take(found.len()).map(|(id, _)| id).collect();
    if let Some(last) = ids.last() {
        bot.handed = *last;
        shared.journal.note(&bot.username, Observation::Handed { ids });
    }
    found
}

/// The first refusal is immediate, others are slowed down.
async fn conflict(shared: &Arc<Shared>, token: &str, description: &str) -> Answer {
    let wait = {
        let mut state = shared.state();
        let Some(bot) = state.bots.get_mut(token) else { return unauthorized() };
        let description = description.to_owned();
        shared.journal.note(&bot.username, Observation::Conflict { description });
        let now = Instant::now();
        if now >= bot.next_conflict {
            bot.next_conflict = now + PACE;
            Duration::ZERO
        } else {
            PACE
        }
    };
    tokio::time::sleep(wait).await;
    Answer::bad(409, description)
}

pub(crate) fn set_webhook(
    shared: &Arc<Shared>,
    bot: &mut Bot,
    token: &str,
    url: &str,
    params: &Params,
) -> Answer {
    if !url.is_empty() && url::Url::parse(url).is_err() {
        return Answer::bad(400, "Bad Request: bad webhook: invalid URL");
    }
    if params.flag("drop_pending_updates") {
        shared.journal.note(&bot.username, Observation::Dropped { updates: bot.queue.len() });
        bot.queue.clear();
    }
    if let Some(allowed) = params.json("allowed_updates") {
        bot.allowed = Some(allowed);
    }
    let former = bot.webhook.take();
    if let Some(former) = &former {
        former.over.cancel();
    }
    if !url.is_empty() {
        let connections = params.number("max_connections").unwrap_or(40);
        let connections = usize::try_from(connections).unwrap_or(40);
        let hook = Hook::new(url, params.text("secret_token"), connections);
        // One that another program has set leads to nobody here.
        if params.text("url").is_some() {
            super::push::start(shared, token, hook.clone());
        }
        bot.webhook = Some(hook);
        if let Some(held) = bot.held.take() {
            held.end.send_replace(Some(HOOK));
        }
    }
    let description = match (former.is_some(), url.is_empty()) {
        (_, false) => "Webhook was set",
        (true, true) => "Webhook was deleted",
        (false, true) => "Webhook is already deleted",
    };
    let mut answer = Answer::good(true);
    if let Some(members) = answer.body.as_object_mut() {
        members.insert("description".to_owned(), description.into());
    }
    answer
}

pub(crate) fn webhook_info(bot: &Bot) -> Answer {
    let url = bot.webhook.as_ref().map_or("", |hook| hook.url.as_str());
    let mut info = json!({
        "url": url, "has_custom_certificate": false, "pending_update_count": bot.queue.len(),
    });
    if let (Some(members), Some((date, message))) = (info.as_object_mut(), &bot.hook_error) {
        members.insert("last_error_date".to_owned(), (*date).into());
        members.insert("last_error_message".to_owned(), message.clone().into());
    }
    Answer::good(info)
}

pub(crate) fn unauthorized() -> Answer {
    Answer::bad(401, "Unauthorized")
}
