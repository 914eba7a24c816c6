//! A reply, from our shape into calls of the platform. Pure.
//!
//! A message has at most 4096 characters; whether these are units of UTF-16 is not documented, and counting
//! them satisfies either reading. Splitting the text that people see, with its styles beside it, leaves
//! nothing to be closed and opened again.

use std::ops::Range;

use protocol::event::Outbound;
use serde_json::{Value, json};

use super::markup::{Marked, Span, Style, marked};
use super::units::units;
use crate::text;

/// A message of text.
pub(super) const TEXT_MAX: usize = 4096;
/// What is said below a file.
pub(super) const CAPTION_MAX: usize = 1024;
/// Stands for what was said before.
const EARLIER: &str = "…\n";
/// The platform drops styles beyond that many without a word.
const SPANS_MAX: usize = 100;
const TOO_MANY_BUTTONS: &str = "Telegram takes at most 100 buttons and 10 kB of them";
/// In a forum, the topic of everything that is in none. It has a number and must not be named.
const GENERAL: i64 = 1;

/// Where a reply goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct To {
    /// The chat.
    pub(super) chat: i64,
    /// The topic in it.
    pub(super) topic: Option<i64>,
    /// The message that it answers.
    pub(super) reply: Option<i64>,
}

impl To {
    /// Where `outbound` wants to go. The error, for the agent: its chat or its topic cannot be one.
    pub(super) fn of(outbound: &Outbound) -> Result<Self, String> {
        let Outbound { chat_id, thread_id, reply_to, .. } = outbound;
        Self::at(chat_id, thread_id.as_deref(), reply_to.as_deref())
    }

    /// The same in words. What names no topic must not go to all of the chat.
    pub(super) fn at(chat: &str, topic: Option<&str>, reply: Option<&str>) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i64>().ok();
        let no_topic =
            |topic| format!("{topic:?} is no topic of this platform: those have numbers");
        let own = |topic| number(topic).filter(|id| *id > 0).ok_or_else(|| no_topic(topic));
        let topic = topic.filter(|topic| !topic.is_empty()).map(own).transpose()?;
        let no_chat = || format!("{chat:?} is no chat of this platform");
        Ok(Self {
            chat: number(chat).filter(|id| *id != 0).ok_or_else(no_chat)?,
            topic: topic.filter(|id| *id != GENERAL),
            reply: reply.and_then(number),
        })
    }
}

/// The messages that `markdown` becomes, with lines behind it that are none.
pub(super) fn parts(markdown: &str, plain: &str) -> Vec<Marked> {
    let mut whole = marked(markdown);
    whole.text.push_str(plain);
    let ranges = ranges(&whole, TEXT_MAX, SPANS_MAX);
    ranges.into_iter().filter_map(|range| clip(&whole, range)).collect()
}

/// The newest words of a text in the making that one message holds. It begins anew when half of it is full, and not
/// with every word.
pub(super) fn newest(markdown: &str) -> Option<Marked> {
    let whole = marked(markdown);
    if ranges(&whole, TEXT_MAX, SPANS_MAX).len() > 1 {
        let halves = ranges(&whole, (TEXT_MAX - units(EARLIER)) / 2, SPANS_MAX / 2);
        let start = halves.iter().rev().nth(1).map_or(0, |half| half.start);
        let mut shown = clip(&whole, start..whole.text.len())?;
        shown.text.insert_str(0, EARLIER);
        for span in &mut shown.spans {
            span.range = span.range.start + EARLIER.len()..span.range.end + EARLIER.len();
        }
        return Some(shown);
    }
    clip(&whole, 0..whole.text.len())
}

/// Where each message begins and ends that holds so much text and so many styles at most.
fn ranges(whole: &Marked, most: usize, spans: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while let Some(rest) = whole.text.get(start..).filter(|rest| !rest.is_empty()) {
        // No more styles than a message may have: the first too many is in the next one.
        let crowd = crowd(whole, start, spans).and_then(|end| rest.get(..end - start));
        let room = crowd.map_or(most, units).min(most);
        // No letter has more bytes than three for a unit: of a long text not all is counted each time.
        let is_last = rest.len() <= 3 * room && units(rest) <= room;
        let end = if is_last { rest.len() } else { text::cut(rest, room, &char::len_utf16) };
        ranges.push(start..start + end);
        start += end;
    }
    ranges
}

/// Where the first style begins that a message which begins at `start` has no room for.
fn crowd(whole: &Marked, start: usize, most: usize) -> Option<usize> {
    let inside = whole.spans.iter().filter(|span| span.range.end > start);
    // Ordered by where they begin. No more than one of each look is open anywhere.
    inside.map(|span| span.range.start).nth(most).filter(|at| *at > start)
}

fn clip(whole: &Marked, range: Range<usize>) -> Option<Marked> {
    // The platform trims as well, and would count on.
    let part = whole.text.get(range.clone()).unwrap_or_default();
    let from = range.start + part.len() - part.trim_start().len();
    let to = from + part.trim().len();
    if from >= to {
        return None;
    }
    let inside = whole.spans.iter().filter_map(|span| {
        let range = span.range.start.max(from)..span.range.end.min(to);
        let style = span.style.clone();
        (!range.is_empty()).then(|| Span { style, range: range.start - from..range.end - from })
    });
    let text = whole.text.get(from..to).unwrap_or_default().to_owned();
    Some(Marked { text, spans: inside.collect() })
}

/// Whether a caption of at most `most` units can hold it.
pub(super) fn fits(part: &Marked, most: usize) -> bool {
    units(&part.text) <= most
}

/// The beginning of a name.
pub(super) fn cut(name: &str, most: usize) -> &str {
    name.get(..name.floor_char_boundary(most)).unwrap_or_default()
}

/// The styles of `part`, as the platform writes them.
pub(super) fn marks(part: &Marked) -> Vec<Value> {
    part.spans.iter().map(|span| entity(&part.text, span)).collect()
}

impl To {
    /// Says in `body` where a call goes; a new message also has its topic and what it answers.
    pub(super) fn address(self, body: &mut Value, new: bool) {
        let Some(members) = body.as_object_mut() else { return };
        members.insert("chat_id".to_owned(), self.chat.into());
        if let Some(topic) = self.topic.filter(|_| new) {
            members.insert("message_thread_id".to_owned(), topic.into());
        }
        if let Some(reply) = self.reply.filter(|_| new) {
            // The message may be gone by now; the words are still worth saying.
            let reply = json!({"message_id": reply, "allow_sending_without_reply": true});
            members.insert("reply_parameters".to_owned(), reply);
        }
    }
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
        ("CHAT_SEND_", "the chat does not allow messages of this kind"),
        ("chat not found", "the user has to write to the bot first, or the id is wrong"),
        ("TOPIC_CLOSED", "open the topic again, or let the bot manage topics"),
        ("thread not found", "the topic was deleted"),
        ("to edit not found", "the message was deleted"),
        (
            "can't be edited",
            "a bot can edit what it sent itself, and in some chats only for 48 hours",
        ),
        ("can't be deleted", "a bot can delete what it sent itself, for 48 hours"),
        ("to react not found", "the message was deleted"),
        ("REACTION_INVALID", "Telegram takes only the reactions of its own list, such as 👍 ❤ 🔥"),
        ("BUTTON_", "look at the labels, data and addresses of the buttons"),
        ("REPLY_MARKUP_TOO_LONG", TOO_MANY_BUTTONS),
        ("reply markup is too long", TOO_MANY_BUTTONS),
        ("Request Entity Too Large", "the file is too large for this server"),
        ("file is too big", "the file is too large for this server"),
    ];
    hints.into_iter().find(|(words, _)| refusal.contains(words)).map(|(_, hint)| hint)
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
            progress: None,
        };
        change(&mut outbound);
        outbound
    }

    fn body(markdown: &str, to: To) -> Value {
        let part = parts(markdown, "").remove(0);
        super::super::steps::Step::Text { part, buttons: Vec::new() }.call(to).body
    }

    #[test]
    fn a_reply_goes_to_its_chat_topic_and_message() {
        let plain = outbound(|_| {});
        assert_eq!(To::of(&plain), Ok(To { chat: -100, topic: None, reply: None }));
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
        let none = outbound(|it| it.thread_id = Some(String::new()));
        assert_eq!(To::of(&none).unwrap().topic, None);
        for topic in ["omt_1", " ", "0", "-7", "7 ", "9".repeat(30).as_str()] {
            let why = To::of(&outbound(|it| it.thread_id = Some(topic.to_owned()))).unwrap_err();
            assert!(why.contains("no topic"), "{why}");
        }
        for chat in ["oc_1", "", "0", "1/x", "9".repeat(30).as_str()] {
            let why = To::of(&outbound(|it| it.chat_id = chat.to_owned())).unwrap_err();
            assert!(why.contains("no chat"), "{why}");
        }
        let body = body("**a** b", to);
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
        let parts = parts(&format!("before\n```rust\n{code}```\n**after**"), "");
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
    fn the_newest_words_are_shown_and_do_not_move_with_each_of_them() {
        let line = |n: u32| format!("**line** {n}\n");
        let mut text = String::new();
        let mut beginnings = Vec::new();
        for n in 0..1000 {
            text.push_str(&line(n));
            let shown = newest(&text).unwrap();
            assert!(shown.text.ends_with(&format!("line {n}")) && units(&shown.text) <= TEXT_MAX);
            assert!(shown.spans.len() <= SPANS_MAX);
            let bold = shown.spans.iter().all(|span| &shown.text[span.range.clone()] == "line");
            assert!(bold, "{shown:?}");
            beginnings.push(shown.text.chars().take(12).collect::<String>());
        }
        assert_eq!(newest(&line(1)), parts(&line(1), "").pop());
        assert!(newest(" \n").is_none() && newest("").is_none());
        beginnings.dedup();
        assert!(beginnings.len() <= 1000 / (SPANS_MAX / 2 - 1) + 1, "{beginnings:?}");
    }

    #[test]
    fn an_empty_block_takes_nothing_from_the_one_before_it() {
        let markdown = "```\na\n\n\n```\n```\n```\n****";
        let part = &parts(markdown, "")[0];
        assert_eq!(marks(part), [json!({"type": "pre", "offset": 0, "length": 3})]);
        assert_eq!(part.text, "a\n\n———");
    }

    #[test]
    fn no_message_has_more_styles_than_the_platform_takes() {
        let list = |items: std::ops::Range<u32>| {
            items.fold(String::new(), |list, i| {
                list + &format!("- **{i}** [t](https://e.com/{i})\n")
            })
        };
        let text = parts(&list(0..60), "");
        assert_eq!(text.iter().map(|part| part.spans.len()).sum::<usize>(), 120);
        assert!(text.len() == 2 && text.iter().all(|part| part.spans.len() <= SPANS_MAX));
        assert_eq!(text[1].text.lines().next(), Some("• 50 t"), "cut between lines");
        assert_eq!(parts(&list(0..50), "").len(), 1);
    }

    /// Text with addresses in it, each in a shape of its own.
    fn addressed() -> impl Strategy<Value = (String, Vec<String>)> {
        let shape = prop::sample::select(vec![
            "{}",
            "{} ",
            "**{}** ",
            "_{}_, ",
            "~~{}~~",
            "*see {}* ",
            "({})",
            "**{}",
            "[t]({}) ",
            "**[b]({})** ",
            "[`c`]({}) ",
            "[]({})",
            "![]({}) ",
            "![alt]({}) ",
            "<{}>",
            "`{}`",
            "[![a]({})](https://o.p) ",
            "\n- {}\n",
            "\n- **n** [t]({})\n",
            "\n> [q]({})\n",
            "\n# [h]({})\n",
            "\n\n| a | b |\n|---|---|\n| **x** | [t]({}) |\n| {} | |\n\n",
            "\n\n[r#]: {}\n\n",
            "\n```\n{}\n```\n",
            " *",
            " _a",
            "** ",
            "~",
            "words ",
            "中文",
        ]);
        let path = prop::sample::select(vec![
            "__init__.py",
            "_next_/s",
            "a*b*c",
            "~me~/x",
            "a_b?c_d=e_f&g=1",
            "a_(b)_/c",
            "日_x_/y",
            "",
        ]);
        let host = prop::sample::select(vec!["https://h.x", "http://localhost:80", "HTTPS://H.X"]);
        prop::collection::vec((shape, host, path), 1..200).prop_map(|pieces| {
            let mut text = String::new();
            let mut addresses = Vec::new();
            for (number, (shape, host, path)) in pieces.into_iter().enumerate() {
                let address = format!("{host}/{number}/{path}");
                text.push_str(
                    &shape.replace("{}", &address).replace("[r#", &format!("[r{number}")),
                );
                text.push_str(if shape.contains("{}") { " " } else { "" });
                addresses.extend(shape.contains("{}").then_some(address));
            }
            (text, addresses)
        })
    }

    #[test]
    fn blank_replies_have_no_parts() {
        assert!(parts("", "").is_empty() && parts(" \n\t ", "").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_address_arrives((markdown, addresses) in addressed()) {
            let parts = parts(&markdown, "");
            let whole: String = parts.iter().map(|part| part.text.as_str()).collect();
            let marks: Vec<_> = parts.iter().map(marks).collect();
            prop_assert!(marks.iter().all(|marks| marks.len() <= SPANS_MAX));
            for address in addresses {
                let leads = marks.iter().flatten().any(|mark| mark["url"] == address.as_str());
                prop_assert!(leads || whole.contains(&address), "{address} in {whole}");
            }
        }

        #[test]
        fn places_lie_in_their_part(
            piece in "([a-z]{1,9}|\\*\\*|_|`|\n|```\n| |😀|中){1,40}", times in 1usize..300,
        ) {
            let markdown = piece.repeat(times);
            for part in parts(&markdown, "").into_iter().chain(newest(&markdown)) {
                prop_assert!(units(&part.text) <= TEXT_MAX);
                prop_assert!(part.spans.len() <= SPANS_MAX);
                prop_assert_eq!(part.text.trim(), part.text.as_str());
                for entity in marks(&part) {
                    let number = |name: &str| usize::try_from(entity[name].as_u64().unwrap()).unwrap();
                    let place = bytes(&part.text, number("offset"), number("length"));
                    prop_assert!(place.is_some_and(|place| !place.is_empty()));
                }
            }
        }
    }
}
