//! What a message says and answers, in words and parts, and whom it addresses. Pure.
//!
//! Whatever has no words is described in brackets. Addressing is told by entities, whose places count
//! units of UTF-16; text that merely looks like a mention is none.

use std::fmt::Write as _;

use protocol::event::{Mention, Part};
use serde_json::{Value, json};

use super::decode::Own;
use super::units::bytes;
use crate::json::{list_of, member, number_of, text_of};

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// Something for people.
    Words {
        /// As text.
        text: String,
        /// What text cannot hold.
        parts: Vec<Part>,
    },
    /// The platform tells what happened in the chat.
    Service,
    /// Something that did not exist when this was written.
    Unknown,
}

/// Kinds whose value is a file. An animation is a document as well, and comes first.
const FILES: [&str; 8] =
    ["photo", "animation", "video", "document", "audio", "voice", "video_note", "sticker"];
/// Kinds whose value is described.
const THINGS: [&str; 11] = [
    "venue",
    "location",
    "contact",
    "poll",
    "dice",
    "story",
    "game",
    "invoice",
    "paid_media",
    "checklist",
    "giveaway",
];
/// Members that make a message one of the platform.
const SERVICES: [&str; 24] = [
    "new_chat_members",
    "left_chat_member",
    "new_chat_title",
    "new_chat_photo",
    "delete_chat_photo",
    "group_chat_created",
    "supergroup_chat_created",
    "channel_chat_created",
    "message_auto_delete_timer_changed",
    "migrate_to_chat_id",
    "migrate_from_chat_id",
    "pinned_message",
    "forum_topic_created",
    "forum_topic_edited",
    "forum_topic_closed",
    "forum_topic_reopened",
    "general_forum_topic_hidden",
    "general_forum_topic_unhidden",
    "video_chat_scheduled",
    "video_chat_started",
    "video_chat_ended",
    "video_chat_participants_invited",
    "boost_added",
    "proximity_alert_triggered",
];

/// What `message` says.
pub(super) fn content(message: &Value) -> Content {
    match shown(message, words(message)) {
        Some((text, parts)) => Content::Words { text, parts },
        None if service(message).is_some() => Content::Service,
        None => Content::Unknown,
    }
}

/// What `message` answers, as it was said, with its files; of words that somebody has marked, those alone.
pub(super) fn answered(message: &Value) -> (Option<String>, Vec<Part>) {
    let marked = text_of(member(message, "quote"), "text");
    let marked = Some(marked.to_owned()).filter(|words| !words.is_empty());
    let [near, far, story] =
        ["reply_to_message", "external_reply", "reply_to_story"].map(|name| member(message, name));
    let said = if near.is_object() && (marked.is_some() || !is_root(message)) {
        let words = marked.or_else(|| words(near));
        shown(near, words).or_else(|| Some((format!("[{}]", service(near)?), Vec::new())))
    } else if story.is_object() {
        shown(&json!({ "story": story }), marked)
    } else {
        shown(far, marked)
    };
    said.map_or_else(Default::default, |(text, parts)| (Some(text), parts))
}

/// In a topic, every message that answers nothing answers the topic's first one.
pub(super) fn is_root(message: &Value) -> bool {
    let first = number_of(message, "message_thread_id");
    member(message, "is_topic_message").as_bool() == Some(true)
        && number_of(member(message, "reply_to_message"), "message_id") == first
}

/// What the platform tells with `message` of what happened in the chat.
fn service(message: &Value) -> Option<&'static str> {
    SERVICES.iter().find(|name| !member(message, name).is_null()).copied()
}

/// What people see of `message`, which says `words`, and its files; none: nothing that is known here.
fn shown(message: &Value, words: Option<String>) -> Option<(String, Vec<Part>)> {
    let has = |name: &&&str| !member(message, name).is_null();
    let mut out = head(message);
    let mut parts = Vec::new();
    if let Some(kind) = FILES.iter().find(has) {
        let file = file_of(message, kind);
        let handle = text_of(file, "file_id");
        if !handle.is_empty() {
            let name = Some(text_of(file, "file_name")).filter(|name| !name.is_empty());
            let (kind, handle) = ((*kind).to_owned(), handle.to_owned());
            let mime = Some(text_of(file, "mime_type")).filter(|mime| !mime.is_empty());
            parts.push(Part {
                kind,
                handle,
                name: name.map(str::to_owned),
                size: number_of(file, "file_size").and_then(|size| u64::try_from(size).ok()),
                mime: mime.map(str::to_owned),
            });
        }
        let detail = match text_of(file, "file_name") {
            "" => text_of(file, "emoji"),
            name => name,
        };
        push_described(&mut out, kind, detail);
    } else if let Some(kind) = THINGS.iter().find(has) {
        push_described(&mut out, kind, &detail(kind, member(message, kind)));
    } else if words.is_none() && member(message, "origin").is_null() {
        return None;
    }
    if let Some(words) = words {
        if out.ends_with(']') {
            out.push(' ');
        }
        out.push_str(&words);
    }
    Some((out, parts))
}

/// Whom `message` addresses.
pub(super) fn mention(message: &Value, own: &Own) -> Mention {
    let mut found = Mention::None;
    for (text, entities) in [("text", "entities"), ("caption", "caption_entities")] {
        let text = text_of(message, text);
        for entity in list_of(message, entities) {
            let addressed = match text_of(entity, "type") {
                "mention" => named(slice(text, entity).strip_prefix('@'), own),
                // A command without a name is for every bot that hears it.
                "bot_command" => match slice(text, entity).split_once('@') {
                    Some((_, name)) => named(Some(name), own),
                    None => Mention::Me,
                },
                "text_mention" if number_of(member(entity, "user"), "id") == Some(own.id) => {
                    Mention::Me
                }
                "text_mention" => Mention::Other,
                _ => continue,
            };
            match addressed {
                Mention::Me => return Mention::Me,
                other => found = other,
            }
        }
    }
    found
}

fn named(name: Option<&str>, own: &Own) -> Mention {
    match name {
        Some(name) if name.eq_ignore_ascii_case(&own.username) => Mention::Me,
        _ => Mention::Other,
    }
}

/// From where it was forwarded; of what is answered elsewhere, where that is.
fn head(message: &Value) -> String {
    let mut out = String::new();
    let (forwarded, elsewhere) = (member(message, "forward_origin"), member(message, "origin"));
    if forwarded.is_object() {
        push_described(&mut out, "forwarded", author(forwarded));
    }
    if elsewhere.is_object() {
        let mut names = vec![author(elsewhere), text_of(member(message, "chat"), "title")];
        names.dedup();
        push_described(&mut out, "from", &joined(&names));
    }
    out
}

/// Who wrote what has this origin.
fn author(origin: &Value) -> &str {
    let names = [
        text_of(member(origin, "sender_user"), "first_name"),
        text_of(origin, "sender_user_name"),
        text_of(member(origin, "chat"), "title"),
        text_of(member(origin, "sender_chat"), "title"),
    ];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

/// Text or caption, with the addresses that its links hide.
fn words(message: &Value) -> Option<String> {
    let (text, entities) = match text_of(message, "text") {
        "" => (text_of(message, "caption"), list_of(message, "caption_entities")),
        text => (text, list_of(message, "entities")),
    };
    if text.is_empty() {
        return None;
    }
    let links = entities.iter().filter(|entity| text_of(entity, "type") == "text_link");
    let mut links: Vec<_> =
        links.filter_map(|link| Some((place(text, link)?.end, text_of(link, "url")))).collect();
    links.sort_unstable();
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (end, url) in links {
        out.push_str(text.get(done..end).unwrap_or_default());
        let _ = write!(out, " ({url})");
        done = end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    Some(out)
}

fn place(text: &str, entity: &Value) -> Option<std::ops::Range<usize>> {
    let number = |name| usize::try_from(number_of(entity, name)?).ok();
    bytes(text, number("offset")?, number("length")?)
}

fn slice<'a>(text: &'a str, entity: &Value) -> &'a str {
    place(text, entity).and_then(|place| text.get(place)).unwrap_or_default()
}

/// A photo comes in several sizes, the largest last.
fn file_of<'a>(message: &'a Value, kind: &str) -> &'a Value {
    match member(message, kind) {
        Value::Array(sizes) => sizes.last().unwrap_or(&Value::Null),
        file => file,
    }
}

fn detail(kind: &str, thing: &Value) -> String {
    let place = |place: &Value| {
        let (latitude, longitude) = (member(place, "latitude"), member(place, "longitude"));
        format!("{latitude}, {longitude}")
    };
    match kind {
        "venue" => {
            let place = place(member(thing, "location"));
            joined(&[text_of(thing, "title"), text_of(thing, "address"), &place])
        }
        "location" => place(thing),
        "contact" => joined(&[
            text_of(thing, "first_name"),
            text_of(thing, "last_name"),
            text_of(thing, "phone_number"),
        ]),
        "poll" => {
            let options = list_of(thing, "options").iter().map(|option| text_of(option, "text"));
            let options: Vec<_> = options.collect();
            format!("{} {}", text_of(thing, "question"), options.join(" / "))
        }
        "dice" => {
            let value = number_of(thing, "value").unwrap_or_default();
            format!("{} {value}", text_of(thing, "emoji"))
        }
        "story" => {
            let chat = member(thing, "chat");
            let names = [text_of(chat, "title"), text_of(chat, "first_name")];
            joined(&names)
        }
        _ => text_of(thing, "title").to_owned(),
    }
}

fn joined(words: &[&str]) -> String {
    words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(", ")
}

fn push_described(out: &mut String, word: &str, detail: &str) {
    if out.ends_with(']') {
        out.push(' ');
    }
    let _ = match detail {
        "" => write!(out, "[{word}]"),
        _ => write!(out, "[{word}: {detail}]"),
    };
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
