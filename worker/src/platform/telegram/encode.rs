//! A reply, from our shape into calls of the platform. Pure.
//!
//! A message has at most 4096 characters; whether these are units of UTF-16 is not documented, and counting
//! them satisfies either reading. Splitting the text that people see, with its styles beside it, leaves
//! nothing to be closed and opened again.

use protocol::event::Outbound;
use serde_json::{Value, json};

use super::markup::{Marked, Span, Style, marked};
use super::units::units;
use crate::text;

const TEXT_MAX: usize = 4096;
/// The platform drops styles beyond that many without a word.
const SPANS_MAX: usize = 100;
/// In a forum, the topic of everything that is in none. It has a number and must not be named.
const GENERAL: i64 = 1;

/// Where a reply goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct To {
    /// The chat.
    pub(super) chat: i64,
    /// The topic in it.
    pub(super) topic: Option<i64>,
    /// The message that it answers.
    pub(super) reply: Option<i64>,
}

impl To {
    /// Where `outbound` wants to go; `None` if its chat cannot be one.
    pub(super) fn of(outbound: &Outbound) -> Option<Self> {
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
        Some(Self {
            chat: outbound.chat_id.parse().ok().filter(|id| *id != 0)?,
            topic: number(&outbound.thread_id).filter(|id| *id != GENERAL),
            reply: number(&outbound.reply_to),
        })
    }
}

/// The messages that `text` becomes.
pub(super) fn parts(markdown: &str) -> Vec<Marked> {
    let whole = marked(markdown);
    let mut parts = Vec::new();
    let mut start = 0;
    while let Some(rest) = whole.text.get(start..).filter(|rest| !rest.is_empty()) {
        let end = match units(rest) {
            fits if fits <= TEXT_MAX => rest.len(),
            _ => text::cut(rest, TEXT_MAX, &char::len_utf16),
        };
        let part = rest.get(..end).unwrap_or(rest);
        // The platform trims as well, and would count on.
        let from = start + part.len() - part.trim_start().len();
        let to = from + part.trim().len();
        if from < to {
            parts.push(clip(&whole, from, to));
        }
        start += end;
    }
    parts
}

fn clip(whole: &Marked, from: usize, to: usize) -> Marked {
    let inside = whole.spans.iter().filter_map(|span| {
        let range = span.range.start.max(from)..span.range.end.min(to);
        let style = span.style.clone();
        (!range.is_empty()).then(|| Span { style, range: range.start - from..range.end - from })
    });
    let text = whole.text.get(from..to).unwrap_or_default().to_owned();
    Marked { text, spans: inside.take(SPANS_MAX).collect() }
}

/// The parameters that send `part`.
pub(super) fn body(part: &Marked, to: To) -> Value {
    let mut body = json!({"chat_id": to.chat, "text": part.text});
    let Some(members) = body.as_object_mut() else { return body };
    if !part.spans.is_empty() {
        let entities: Vec<_> = part.spans.iter().map(|span| entity(&part.text, span)).collect();
        members.insert("entities".to_owned(), entities.into());
    }
    if let Some(topic) = to.topic {
        members.insert("message_thread_id".to_owned(), topic.into());
    }
    if let Some(reply) = to.reply {
        // The message may be gone by now; the words are still worth saying.
        let reply = json!({"message_id": reply, "allow_sending_without_reply": true});
        members.insert("reply_parameters".to_owned(), reply);
    }
    body
}

fn entity(text: &str, span: &Span) -> Value {
    let slice = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let offset = units(slice(0..span.range.start));
    let length = units(slice(span.range.clone()));
    let kind = match &span.style {
        Style::Bold => "bold",
        Style::Italic => "italic",
        Style::Strike => "strikethrough",
        Style::Code => "code",
        Style::Pre(_) => "pre",
        Style::Link(_) => "text_link",
        Style::Quote => "blockquote",
    };
    match &span.style {
        Style::Link(url) => json!({"type": kind, "offset": offset, "length": length, "url": url}),
        Style::Pre(language) if !language.is_empty() => {
            json!({"type": kind, "offset": offset, "length": length, "language": language})
        }
        _ => json!({"type": kind, "offset": offset, "length": length}),
    }
}

/// What a person can do about a refusal.
pub(super) fn hint(refusal: &str) -> Option<&'static str> {
    let hints = [
        ("blocked by the user", "the user has to start the bot again"),
        ("can't initiate conversation", "the user has to write to the bot first"),
        ("user is deactivated", "this account is gone"),
        ("kicked", "add the bot to the group again"),
        ("not a member", "add the bot to the chat"),
        ("not enough rights", "let the bot write in the chat"),
        ("CHAT_WRITE_FORBIDDEN", "let the bot write in the chat"),
        ("chat not found", "the user has to write to the bot first, or the id is wrong"),
        ("TOPIC_CLOSED", "open the topic again, or let the bot manage topics"),
        ("thread not found", "the topic was deleted"),
    ];
    hints.into_iter().find(|(words, _)| refusal.contains(words)).map(|(_, hint)| hint)
}

/// Whether a refusal is about styles, so that the words alone would do.
pub(super) fn is_about_styles(refusal: &str) -> bool {
    let refusal = refusal.to_lowercase();
    ["entit", "url"].iter().any(|word| refusal.contains(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::id::OutboundId;

    use super::super::units::bytes;
    use protocol::content::Content;

    use super::*;

    fn outbound(change: impl FnOnce(&mut Outbound)) -> Outbound {
        let mut outbound = Outbound {
            id: OutboundId(1),
            key: "k".to_owned(),
            chat_id: "-100".to_owned(),
            thread_id: None,
            reply_to: None,
            content: Content::text("x".to_owned()),
            attempt: 1,
            draft_key: String::new(),
            draft_id: None,
        };
        change(&mut outbound);
        outbound
    }

    #[test]
    fn a_reply_goes_to_its_chat_topic_and_message() {
        let plain = outbound(|_| {});
        assert_eq!(To::of(&plain), Some(To { chat: -100, topic: None, reply: None }));
        let full = outbound(|it| {
            it.thread_id = Some("7".into());
            it.reply_to = Some("8".into());
        });
        let to = To::of(&full).unwrap();
        assert_eq!(to, To { chat: -100, topic: Some(7), reply: Some(8) });
        let general = outbound(|it| it.thread_id = Some("1".into()));
        assert_eq!(To::of(&general).unwrap().topic, None);
        let odd = outbound(|it| it.reply_to = Some("om_1".into()));
        assert_eq!(To::of(&odd).unwrap().reply, None);
        for chat in ["oc_1", "", "0", "1/x", "9".repeat(30).as_str()] {
            assert_eq!(To::of(&outbound(|it| it.chat_id = chat.to_owned())), None);
        }
        let body = body(&parts("**a** b")[0], to);
        let expected = json!({
            "chat_id": -100, "text": "a b", "message_thread_id": 7,
            "entities": [{"type": "bold", "offset": 0, "length": 1}],
            "reply_parameters": {"message_id": 8, "allow_sending_without_reply": true},
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_style_goes_on_behind_a_cut() {
        let code = "let a = \"😀\";\n".repeat(900);
        let parts = parts(&format!("before\n```rust\n{code}```\n**after**"));
        assert!(parts.len() > 2);
        for part in &parts {
            assert!(units(&part.text) <= 4096);
            assert!(part.spans.iter().any(|span| span.style == Style::Pre("rust".to_owned())));
            assert!(!part.text.contains("```"));
        }
        let joined: String = parts.iter().map(|part| part.text.clone() + "\n").collect();
        assert_eq!(joined.matches("let a").count(), 900);
    }

    #[test]
    fn an_empty_block_takes_nothing_from_the_one_before_it() {
        let markdown = "```\na\n\n\n```\n```\n```\n****";
        let part = &parts(markdown)[0];
        let body = body(part, To { chat: 1, topic: None, reply: None });
        assert_eq!(body["entities"], json!([{"type": "pre", "offset": 0, "length": 3}]));
        assert_eq!(part.text, "a\n\n———");
    }

    #[test]
    fn blank_replies_have_no_parts() {
        assert!(parts("").is_empty() && parts(" \n\t ").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn places_lie_in_their_part(
            piece in "([a-z]{1,9}|\\*\\*|_|`|\n|```\n| |😀|中){1,40}", times in 1usize..300,
        ) {
            let markdown = piece.repeat(times);
            for part in parts(&markdown) {
                prop_assert!(units(&part.text) <= TEXT_MAX);
                prop_assert_eq!(part.text.trim(), part.text.as_str());
                let body = body(&part, To { chat: 1, topic: None, reply: None });
                for entity in body["entities"].as_array().into_iter().flatten() {
                    let number = |name: &str| usize::try_from(entity[name].as_u64().unwrap()).unwrap();
                    let place = bytes(&part.text, number("offset"), number("length"));
                    prop_assert!(place.is_some_and(|place| !place.is_empty()));
                }
            }
        }
    }
}
