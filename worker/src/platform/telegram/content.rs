//! What a message says and answers, in words and parts, and whom it addresses. Pure.
//!
//! Whatever has no words is described in brackets. Addressing is told by entities, whose places count
//! units of UTF-16; text that merely looks like a mention is none.

use std::fmt::Write as _;

use protocol::event::{Mention, Part};
use protocol::secret::excerpt;
use serde_json::{Value, json};

use super::decode::Own;
use super::rich;
use super::things::{self, joined};
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
pub(super) const FILES: [&str; 8] =
    ["photo", "animation", "video", "document", "audio", "voice", "video_note", "sticker"];
/// Kinds whose value is described.
const THINGS: [&str; 17] = [
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
    "gift",
    "users_shared",
    "chat_shared",
    "web_app_data",
    "successful_payment",
    "refunded_payment",
];
/// Members that make a message one of the platform.
const SERVICES: [&str; 32] = [
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
    "chat_owner_left",
    "chat_owner_changed",
    "chat_background_set",
    "connected_website",
    "write_access_allowed",
    "giveaway_created",
    "paid_message_price_changed",
    "direct_message_price_changed",
    "proximity_alert_triggered",
];

/// Members of a message that say where it belongs and how it is shown.
const MARGIN: [&str; 36] = [
    "message_id",
    "ephemeral_message_id",
    "message_thread_id",
    "direct_messages_topic",
    "from",
    "sender_chat",
    "sender_boost_count",
    "sender_business_bot",
    "sender_tag",
    "receiver_user",
    "date",
    "business_connection_id",
    "chat",
    "forward_origin",
    "is_topic_message",
    "is_automatic_forward",
    "reply_to_message",
    "external_reply",
    "quote",
    "reply_to_story",
    "reply_to_checklist_task_id",
    "reply_to_poll_option_id",
    "via_bot",
    "edit_date",
    "has_protected_content",
    "is_from_offline",
    "is_paid_post",
    "media_group_id",
    "author_signature",
    "paid_star_count",
    "link_preview_options",
    "suggested_post_info",
    "effect_id",
    "show_caption_above_media",
    "has_media_spoiler",
    "reply_markup",
];
/// Of what nobody knows yet, in bytes.
const UNKNOWN_BYTES: usize = 16 * 1024;

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

/// What nobody knows yet, in brackets; never nothing.
pub(super) fn as_it_came(message: &Value) -> String {
    let mut out = String::new();
    let members = message.as_object().into_iter().flatten();
    let is_told =
        |(name, value): &(&String, &Value)| !value.is_null() && !MARGIN.contains(&name.as_str());
    for (name, value) in members.filter(is_told) {
        push_described(&mut out, name, &value.to_string());
    }
    if out.is_empty() {
        push_described(&mut out, "message", "");
    }
    excerpt(&out, UNKNOWN_BYTES)
}

/// What people see of `message`, which says `words`, and its files; none: nothing that is known here.
fn shown(message: &Value, words: Option<String>) -> Option<(String, Vec<Part>)> {
    let has = |name: &&&str| !member(message, name).is_null();
    let mut out = head(message);
    let mut parts = Vec::new();
    if let Some(kind) = FILES.iter().find(has) {
        let file = member(message, kind);
        parts.extend(part(kind, file));
        push_described(&mut out, kind, &things::file(kind, file_of(file)));
    } else if let Some(kind) = THINGS.iter().find(has) {
        let thing = member(message, kind);
        push_described(&mut out, things::word(kind, thing), &things::detail(kind, thing));
    } else if words.is_none() && member(message, "origin").is_null() {
        return None;
    }
    rich::files(member(message, "rich_message"), &mut parts);
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
    let (rich, mut texts) = (member(message, "rich_message"), Vec::new());
    for kind in ["mention", "text_mention", "bot_command"] {
        rich::find(rich, kind, &mut texts);
    }
    for text in texts {
        let command = text_of(text, "bot_command").split_once('@').map(|(_, name)| name);
        let addressed = match text_of(text, "type") {
            "mention" => named(Some(text_of(text, "username").trim_start_matches('@')), own),
            "bot_command" => command.map_or(Mention::Me, |name| named(Some(name), own)),
            _ if number_of(member(text, "user"), "id") == Some(own.id) => Mention::Me,
            _ => Mention::Other,
        };
        match addressed {
            Mention::Me => return Mention::Me,
            other => found = other,
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

/// Text or caption, with the addresses that its links hide; or what else is said.
fn words(message: &Value) -> Option<String> {
    let (text, entities) = match text_of(message, "text") {
        "" => (text_of(message, "caption"), list_of(message, "caption_entities")),
        text => (text, list_of(message, "entities")),
    };
    if text.is_empty() {
        let rich = rich::words(member(message, "rich_message"));
        let data = text_of(member(message, "web_app_data"), "data");
        let gift = text_of(member(message, "gift"), "text");
        let found = [rich.as_str(), data, gift].into_iter().find(|words| !words.is_empty());
        return found.map(str::to_owned);
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

/// A file of a message, to be fetched.
pub(super) fn part(kind: &str, file: &Value) -> Option<Part> {
    let file = file_of(file);
    let told = |name| Some(text_of(file, name).to_owned()).filter(|text| !text.is_empty());
    Some(Part {
        kind: kind.to_owned(),
        handle: told("file_id")?,
        name: told("file_name"),
        size: number_of(file, "file_size").and_then(|size| u64::try_from(size).ok()),
        mime: told("mime_type"),
    })
}

/// A photo comes in several sizes, the largest last.
fn file_of(file: &Value) -> &Value {
    match file {
        Value::Array(sizes) => sizes.last().unwrap_or(&Value::Null),
        file => file,
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
#[path = "content_tests.rs"]
mod tests;
