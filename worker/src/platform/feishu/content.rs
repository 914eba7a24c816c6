//! What a message says, as plain text, and the parts that text cannot hold. Pure.
//!
//! The content of a message is JSON in a string, of another shape for each type. Mentions stand in it as
//! keys (`@_user_1`) that a list beside it explains; they become `@Name`, the bot's own included, because
//! where in a sentence it was named may matter to the agent. What cannot be shown is named in brackets.

mod post;

use std::time::{Duration, UNIX_EPOCH};

use protocol::event::Part;
use protocol::secret::excerpt;
use serde_json::Value;

use self::post::Page;
use crate::json::{lenient, list_of, member, text_of};

/// Everybody, as it stands in a text.
pub(super) const ALL: &str = "@_all";

/// In the place of a card of schema 2.0 that the platform does not tell.
const UNTOLD: &str = "请升级至最新版本客户端，以查看内容";
/// Of a message of the platform itself, in bytes.
const SYSTEM_MAX: usize = 4000;
/// Of messages within one that forwards them.
const FORWARDED_BYTES: usize = 64 * 1024;
/// Of what nobody knows yet.
const UNKNOWN_BYTES: usize = 16 * 1024;

/// One entry of a message's list of mentions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mentioned {
    /// What stands in the text for it.
    pub(super) key: String,
    /// Whose it is, within this app.
    pub(super) open_id: String,
    /// Whose it is, within the company. `all` for everybody.
    pub(super) user_id: String,
    /// What people call it.
    pub(super) name: String,
}

/// Whom a message mentions. An event names each by all ids, an answer of the platform by one.
pub(super) fn mentions(message: &Value) -> Vec<Mentioned> {
    let mentioned = |entry: &Value| {
        let id = |name| match (member(entry, "id"), text_of(entry, "id_type")) {
            (Value::String(id), "") if name == "open_id" => id.clone(),
            (Value::String(id), kind) if kind == name => id.clone(),
            (ids, _) => text_of(ids, name).to_owned(),
        };
        Mentioned {
            key: text_of(entry, "key").to_owned(),
            open_id: id("open_id"),
            user_id: id("user_id"),
            name: text_of(entry, "name").to_owned(),
        }
    };
    list_of(message, "mentions").iter().map(mentioned).collect()
}

/// A message in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Content {
    /// The words.
    pub(super) text: String,
    /// The rest.
    pub(super) parts: Vec<Part>,
}

/// Puts the content of a message of this type into words.
pub(super) fn render(kind: &str, content: &Value, mentions: &[Mentioned]) -> Content {
    let mut parts = Vec::new();
    let text = match kind {
        "text" => named(text_of(content, "text"), mentions),
        "post" => Page { mentions, parts: &mut parts }.post(content),
        "interactive" => {
            // As it was made, where the platform tells that beside a form of its own.
            let made = lenient(text_of(content, "user_dsl").as_bytes()).filter(Value::is_object);
            let content = made.as_ref().unwrap_or(content);
            let words = Page { mentions, parts: &mut parts }.card(content);
            if words.replace("[image]", "").trim() == UNTOLD {
                return Content { text: "[card]".to_owned(), parts: Vec::new() };
            }
            let is_bare = words.is_empty() && !post::has_rows(content);
            bracketed("card", &if is_bare { as_it_came(content) } else { words })
        }
        "image" => {
            part(&mut parts, "image", content, "image_key");
            "[image]".to_owned()
        }
        "file" | "folder" | "audio" | "media" | "sticker" => {
            let word = if kind == "media" { "video" } else { kind };
            part(&mut parts, word, content, "file_key");
            bracketed(word, text_of(content, "file_name"))
        }
        "share_chat" => bracketed("shared chat", text_of(content, "chat_id")),
        "share_user" => bracketed("shared contact", text_of(content, "user_id")),
        "location" => location(content),
        "todo" => todo(content, mentions, &mut parts),
        "vote" => list("vote", text_of(content, "topic"), list_of(content, "options")),
        "system" => system(content),
        "calendar" | "general_calendar" | "share_calendar_event" => {
            spanned("calendar event", text_of(content, "summary"), content)
        }
        "video_chat" => spanned("video call", text_of(content, "topic"), content),
        "hongbao" => bracketed("red packet", text_of(content, "text")),
        // What it forwards has to be asked for: see `forwarded`.
        "merge_forward" => "[forwarded messages]".to_owned(),
        "" => "[message]".to_owned(),
        other => bracketed(other, &as_it_came(content)),
    };
    Content { text, parts }
}

/// Of a type that nobody knows yet.
fn as_it_came(content: &Value) -> String {
    match (text_of(content, "text"), content.as_object()) {
        ("", Some(members)) if !members.is_empty() => excerpt(&content.to_string(), UNKNOWN_BYTES),
        (text, _) => text.to_owned(),
    }
}

/// What a message says of which the platform was asked.
pub(super) fn words(item: &Value) -> String {
    let inner = text_of(member(item, "body"), "content");
    let content = lenient(inner.as_bytes()).unwrap_or_default();
    render(text_of(item, "msg_type"), &content, &mentions(item)).text
}

/// What a message of ours says: of a card nothing but its words.
pub(super) fn own_words(item: &Value) -> String {
    let words = words(item);
    if text_of(item, "msg_type") != "interactive" {
        return words;
    }
    let inside = words.strip_prefix("[card: ").and_then(|words| words.strip_suffix(']'));
    inside.unwrap_or_default().to_owned()
}

/// Messages that one forwards, as the platform tells of them. What there is no room for is counted.
pub(super) fn forwarded(items: &[Value]) -> String {
    let mut text = "[forwarded messages]".to_owned();
    let mut left = items.iter();
    while text.len() < FORWARDED_BYTES
        && let Some(item) = left.next()
    {
        let words = words(item).replace('\n', "\n> ");
        text.push_str(&match text_of(member(item, "sender"), "id") {
            "" => format!("\n> {words}"),
            sender => format!("\n> {sender}: {words}"),
        });
        if text.len() > FORWARDED_BYTES {
            text.truncate(text.floor_char_boundary(FORWARDED_BYTES));
            text.push_str(" […]");
        }
    }
    if left.len() > 0 {
        text.push_str(&format!("\n[{} more messages]", left.len()));
    }
    text
}

fn location(content: &Value) -> String {
    let degrees = |name| match member(content, name) {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let (latitude, longitude) = (degrees("latitude"), degrees("longitude"));
    let place = match (latitude.is_empty() || longitude.is_empty(), text_of(content, "name")) {
        (true, name) => name.to_owned(),
        (false, "") => format!("{latitude}, {longitude}"),
        (false, name) => format!("{name} ({latitude}, {longitude})"),
    };
    bracketed("location", &place)
}

fn todo(content: &Value, mentions: &[Mentioned], parts: &mut Vec<Part>) -> String {
    let summary = match member(content, "summary") {
        Value::String(text) => text.clone(),
        summary => Page { mentions, parts }.post(summary),
    };
    match time(member(content, "due_time")) {
        Some(due) => bracketed("task", &format!("{}, due {due}", summary.trim())),
        None => bracketed("task", summary.trim()),
    }
}

fn list(word: &str, title: &str, options: &[Value]) -> String {
    let option = |value: &Value| match value {
        Value::String(text) => format!("\n- {text}"),
        other => format!("\n- {}", text_of(other, "text")),
    };
    bracketed(word, title) + &options.iter().take(100).map(option).collect::<String>()
}

/// A sentence with places for names. One pass, and bounded: a name may look like a place.
fn system(content: &Value) -> String {
    let mut text = String::new();
    let mut rest = text_of(content, "template");
    while text.len() < SYSTEM_MAX
        && let Some((before, after)) = rest.split_once('{')
        && let Some((name, behind)) = after.split_once('}')
    {
        text.push_str(before);
        match member(content, name) {
            Value::String(value) => text.push_str(value),
            Value::Array(values) => {
                let name =
                    |it: &'_ Value| it.as_str().unwrap_or_else(|| text_of(it, "name")).to_owned();
                let names: Vec<_> =
                    values.iter().map(name).filter(|it| !it.is_empty()).take(20).collect();
                text.push_str(&names.join(", "));
            }
            _ => {}
        }
        rest = behind;
    }
    text.push_str(rest);
    if text.trim().is_empty() {
        text_of(member(content, "divider_text"), "text").clone_into(&mut text);
    }
    let text = text.trim();
    bracketed(
        "system message",
        text.get(..text.floor_char_boundary(SYSTEM_MAX)).unwrap_or_default(),
    )
}

fn spanned(word: &str, title: &str, content: &Value) -> String {
    let (start, end) = (time(member(content, "start_time")), time(member(content, "end_time")));
    let span = match (start, end) {
        (Some(start), Some(end)) => format!("{start} to {end}"),
        (Some(start), None) => start,
        _ => String::new(),
    };
    let parts: Vec<_> = [title, &span].into_iter().filter(|part| !part.is_empty()).collect();
    bracketed(word, &parts.join(", "))
}

/// Milliseconds since 1970, also as text, for people.
fn time(value: &Value) -> Option<String> {
    let ms = value.as_i64().or_else(|| value.as_str()?.parse().ok())?;
    let ms = u64::try_from(ms).ok().filter(|ms| (1..4_102_444_800_000).contains(ms))?;
    let at = UNIX_EPOCH + Duration::from_millis(ms);
    Some(humantime::format_rfc3339_seconds(at).to_string())
}

/// Replaces the keys in `text` by names. One pass, so that a name that looks like a key stays a name.
fn named(text: &str, mentions: &[Mentioned]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let fitting =
            mentions.iter().filter(|m| !m.key.is_empty() && starts_with_key(from, &m.key));
        let key = match fitting.max_by_key(|mentioned| mentioned.key.len()) {
            Some(mentioned) if mentioned.key != ALL => {
                push_name(&mut out, &mentioned.name);
                mentioned.key.as_str()
            }
            _ if starts_with_key(from, ALL) => {
                out.push_str("@all");
                ALL
            }
            _ => {
                out.push('@');
                "@"
            }
        };
        rest = from.strip_prefix(key).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// `@_user_1` is not in `@_user_10`, whether or not that one is listed, and `@_all` in no longer word.
fn starts_with_key(text: &str, key: &str) -> bool {
    let goes_on = |c: char| match key {
        ALL => c.is_ascii_alphanumeric() || c == '_',
        _ => c.is_ascii_digit() && key.ends_with(|c: char| c.is_ascii_digit()),
    };
    text.strip_prefix(key).is_some_and(|after| !after.starts_with(goes_on))
}

/// Whether a text calls everybody.
pub(super) fn calls_all(text: &str) -> bool {
    let mut places = text.match_indices(ALL);
    places.any(|(at, _)| text.get(at..).is_some_and(|from| starts_with_key(from, ALL)))
}

fn push_name(out: &mut String, name: &str) {
    out.push('@');
    out.push_str(if name.is_empty() { "?" } else { name });
}

fn part(parts: &mut Vec<Part>, kind: &str, holder: &Value, key: &str) {
    let handle = text_of(holder, key);
    if !handle.is_empty() {
        let name = Some(text_of(holder, "file_name")).filter(|name| !name.is_empty());
        let (kind, handle) = (kind.to_owned(), handle.to_owned());
        parts.push(Part { kind, handle, name: name.map(str::to_owned), size: None, mime: None });
    }
}

fn bracketed(word: &str, detail: &str) -> String {
    if detail.is_empty() { format!("[{word}]") } else { format!("[{word}: {detail}]") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mentioned(key: &str, open_id: &str, name: &str) -> Mentioned {
        let text = str::to_owned;
        Mentioned { key: text(key), open_id: text(open_id), user_id: text(""), name: text(name) }
    }

    #[test]
    fn keys_become_names_the_longest_first_and_once() {
        let mentions = [
            mentioned("@_user_1", "ou_a", "Ann"),
            mentioned("@_user_10", "ou_b", "@_user_1"),
            mentioned("@_user_2", "ou_c", ""),
        ];
        let text = |text: &str| render("text", &json!({ "text": text }), &mentions).text;
        assert_eq!(text("@_user_1 @_user_10"), "@Ann @@_user_1");
        assert_eq!(text("@_user_2@_user_1"), "@?@Ann");
        assert_eq!(text("@_user_11 a@b @"), "@_user_11 a@b @");
        assert_eq!(text("@_all hear"), "@all hear");
        assert_eq!(text("@_all，大家 @_all"), "@all，大家 @all");
        for longer in ["@_all_employees", "@_allies", "@_all2 x"] {
            assert_eq!(text(longer), longer);
        }
        assert_eq!(text("你好 @_user_1！"), "你好 @Ann！");
    }

    #[test]
    fn a_post_becomes_lines() {
        let body = json!({"title": "Plan", "content": [
            [{"tag": "text", "text": "see "}, {"tag": "a", "text": "this", "href": "https://x.y"}],
            [{"tag": "at", "user_id": "@_user_1", "user_name": "no"}, {"tag": "at", "user_id": "all"}],
            [{"tag": "img", "image_key": "img_1"}, {"tag": "media", "file_key": "file_1"}],
            [{"tag": "emotion", "emoji_type": "SMILE"}, {"tag": "hr"}],
            [{"tag": "code_block", "language": "RUST", "text": "fn main() {}\n"}],
            [{"tag": "md", "text": "**bold** @_user_1"}, {"tag": "new", "text": "er"}, {"tag": 3}],
        ]});
        let mentions = [mentioned("@_user_1", "ou_a", "Ann")];
        let expected = "Plan\nsee [this](https://x.y)\n@Ann@all\n[image][video]\n[SMILE]---\n\
            ```rust\nfn main() {}\n```\n**bold** @Anner";
        let content = render("post", &body, &mentions);
        assert_eq!(content.text, expected);
        let handles: Vec<_> = content.parts.iter().map(|p| (&*p.kind, &*p.handle)).collect();
        assert_eq!(handles, [("image", "img_1"), ("video", "file_1")]);
        assert_eq!(render("post", &json!({ "zh_cn": body }), &mentions), content);
    }

    #[test]
    fn other_types_are_named() {
        let cases = [
            ("image", json!({"image_key": "k"}), "[image]", Some(("image", None))),
            (
                "file",
                json!({"file_key": "k", "file_name": "a.pdf"}),
                "[file: a.pdf]",
                Some(("file", Some("a.pdf"))),
            ),
            ("audio", json!({"file_key": "k", "duration": 900}), "[audio]", Some(("audio", None))),
            ("media", json!({"file_key": "k", "image_key": "i"}), "[video]", Some(("video", None))),
            ("sticker", json!({"file_key": "k"}), "[sticker]", Some(("sticker", None))),
            ("share_chat", json!({"chat_id": "oc_1"}), "[shared chat: oc_1]", None),
            ("location", json!({"name": "here"}), "[location: here]", None),
            (
                "interactive",
                json!({"title": "T", "elements": [[{"tag": "text", "text": "x"}]]}),
                "[card: T\nx]",
                None,
            ),
            (
                "location",
                json!({"name": "here", "latitude": "52.5", "longitude": 13.4}),
                "[location: here (52.5, 13.4)]",
                None,
            ),
            (
                "todo",
                json!({"summary": {"title": "", "content": [[{"tag": "text", "text": "do"}]]}, "due_time": "1700000000000"}),
                "[task: do, due 2023-11-14T22:13:20Z]",
                None,
            ),
            (
                "vote",
                json!({"topic": "t", "options": ["a", {"text": "b"}]}),
                "[vote: t]\n- a\n- b",
                None,
            ),
            (
                "system",
                json!({"template": "{from_user} invited {to_chatters}", "from_user": ["Ann"], "to_chatters": [{"name": "Bob"}, "Cy"]}),
                "[system message: Ann invited Bob, Cy]",
                None,
            ),
            (
                "share_calendar_event",
                json!({"summary": "s", "start_time": 1_700_000_000_000_u64}),
                "[calendar event: s, 2023-11-14T22:13:20Z]",
                None,
            ),
            ("video_chat", json!({"topic": "t"}), "[video call: t]", None),
            (
                "folder",
                json!({"file_key": "k", "file_name": "d"}),
                "[folder: d]",
                Some(("folder", Some("d"))),
            ),
            ("hongbao", json!({"text": "x"}), "[red packet: x]", None),
            (
                "interactive",
                json!({"elements": [[{"tag": "img", "image_key": "k"}, {"tag": "text", "text": UNTOLD}]]}),
                "[card]",
                None,
            ),
            (
                "interactive",
                json!({"elements": [[{"tag": "text", "text": UNTOLD}]], "user_dsl":
                    "{\"schema\":\"2.0\",\"body\":{\"elements\":[{\"tag\":\"markdown\",\"content\":\"words\"}]}}"}),
                "[card: words]",
                None,
            ),
            ("brand_new", json!({}), "[brand_new]", None),
            ("brand_new", json!({"text": "words"}), "[brand_new: words]", None),
            ("brand_new", json!({"a": ["b"]}), "[brand_new: {\"a\":[\"b\"]}]", None),
            ("image", json!(null), "[image]", None),
        ];
        for (kind, content, text, part) in cases {
            let found = render(kind, &content, &[]);
            assert_eq!(found.text, text);
            let first = found.parts.first().map(|part| (&*part.kind, part.name.as_deref()));
            assert_eq!(first, part, "{kind}");
        }
    }
}
