//! What a message says, in words and parts, and whom it addresses. Pure.
//!
//! Whatever has no words is described in brackets. Addressing is told by entities, whose places count
//! units of UTF-16; text that merely looks like a mention is none.

use std::fmt::Write as _;

use protocol::event::{Mention, Part};
use serde_json::Value;

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
    let has = |name: &&&str| !member(message, name).is_null();
    let mut out = head(message);
    let mut parts = Vec::new();
    let words = words(message);
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
    } else if words.is_none() {
        let is_service = SERVICES.iter().any(|name| has(&name));
        return if is_service { Content::Service } else { Content::Unknown };
    }
    if let Some(words) = words {
        if out.ends_with(']') {
            out.push(' ');
        }
        out.push_str(&words);
    }
    Content::Words { text: out, parts }
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

/// From where it was forwarded. What it quotes stands beside the text, which may be a command.
fn head(message: &Value) -> String {
    let mut out = String::new();
    let origin = member(message, "forward_origin");
    if origin.is_object() {
        let (user, chat) = (member(origin, "sender_user"), member(origin, "chat"));
        let names = [
            text_of(user, "first_name"),
            text_of(origin, "sender_user_name"),
            text_of(chat, "title"),
            text_of(member(origin, "sender_chat"), "title"),
        ];
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        push_described(&mut out, "forwarded", name);
    }
    out
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
    let joined = |words: &[&str]| {
        words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(", ")
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
        _ => text_of(thing, "title").to_owned(),
    }
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
mod tests {
    use serde_json::json;

    use super::*;

    fn own() -> Own {
        Own { id: 7, username: "Test_Bot".to_owned() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
    fn words(message: Value) -> (String, usize) {
        match content(&message) {
            Content::Words { text, parts } => (text, parts.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_has_words() {
        let file = json!({"file_id": "f", "file_name": "a.pdf", "emoji": "🙂"});
        for (message, text, parts) in [
            (json!({"text": "hi"}), "hi", 0),
            (
                json!({"photo": [{"file_id": "s"}, {"file_id": "l"}], "caption": "c"}),
                "[photo] c",
                1,
            ),
            (json!({"document": file}), "[document: a.pdf]", 1),
            (json!({"animation": file, "document": file}), "[animation: a.pdf]", 1),
            (json!({"voice": {"file_id": "v"}}), "[voice]", 1),
            (json!({"sticker": {"file_id": "v", "emoji": "🙂"}}), "[sticker: 🙂]", 1),
            (json!({"photo": []}), "[photo]", 0),
            (json!({"location": {"latitude": 1.5, "longitude": 2}}), "[location: 1.5, 2]", 0),
            (
                json!({"venue": {"title": "T", "address": "", "location": {"latitude": 1, "longitude": 2}}, "location": {}}),
                "[venue: T, 1, 2]",
                0,
            ),
            (json!({"contact": {"first_name": "A", "phone_number": "+1"}}), "[contact: A, +1]", 0),
            (
                json!({"poll": {"question": "Q?", "options": [{"text": "a"}, {"text": "b"}]}}),
                "[poll: Q? a / b]",
                0,
            ),
            (json!({"dice": {"emoji": "🎲", "value": 3}}), "[dice: 🎲 3]", 0),
            (json!({"story": {}}), "[story]", 0),
            (
                json!({"text": "x", "forward_origin": {"type": "user", "sender_user": {"first_name": "Bob"}}}),
                "[forwarded: Bob] x",
                0,
            ),
            (json!({"text": "x", "quote": {"text": "a\nb"}}), "x", 0),
        ] {
            assert_eq!(words(message), (text.to_owned(), parts));
        }
        let named = match content(&json!({"document": file})) {
            Content::Words { parts, .. } => parts[0].name.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(named.as_deref(), Some("a.pdf"));
        assert_eq!(content(&json!({"pinned_message": {}})), Content::Service);
        assert_eq!(content(&json!({"hologram": {}})), Content::Unknown);
    }

    #[test]
    fn hidden_addresses_are_shown_where_they_belong() {
        let link = |offset: u64, length: u64, url: &str| json!({"type": "text_link", "offset": offset, "length": length, "url": url});
        let message = json!({
            "text": "😀 here, there", "entities": [link(9, 5, "u2"), link(3, 4, "u1"), link(99, 1, "no")],
        });
        assert_eq!(words(message).0, "😀 here (u1), there (u2)");
    }

    #[test]
    fn only_entities_address() {
        let mentioned = |text: &str, kind: &str, offset: u64, length: u64, more: Value| {
            let mut entity = json!({"type": kind, "offset": offset, "length": length});
            entity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (caption, plain) = (
                json!({"caption": text, "caption_entities": [entity.clone()]}),
                json!({"text": text, "entities": [entity]}),
            );
            assert_eq!(mention(&caption, &own()), mention(&plain, &own()));
            mention(&plain, &own())
        };
        let none = json!({});
        assert_eq!(mentioned("😀 @test_bot", "mention", 3, 9, none.clone()), Mention::Me);
        assert_eq!(mentioned("@test_bot2", "mention", 0, 10, none.clone()), Mention::Other);
        assert_eq!(mentioned("@test_bot", "bold", 0, 9, none.clone()), Mention::None);
        assert_eq!(mentioned("/x@Test_Bot", "bot_command", 0, 11, none.clone()), Mention::Me);
        assert_eq!(mentioned("/x@other", "bot_command", 0, 8, none.clone()), Mention::Other);
        assert_eq!(mentioned("/x", "bot_command", 0, 2, none), Mention::Me);
        let me = json!({"user": {"id": 7}});
        assert_eq!(mentioned("Bot", "text_mention", 0, 3, me), Mention::Me);
        assert_eq!(
            mentioned("Bot", "text_mention", 0, 3, json!({"user": {"id": 8}})),
            Mention::Other
        );
        assert_eq!(mention(&json!({"text": "@test_bot"}), &own()), Mention::None);
    }
}
