//! What a chat completion says so far, and whether it is whole. Pure.
//!
//! A stream is whole when it told a reason to finish. One that ends without any, or with a reason like
//! `abort` or `error`, died half way, although its HTTP status was good. An error may come as an event.

use serde_json::Value;

use super::pictures::{Picture, Pictures};
use crate::json;

/// The largest answer.
const TEXT_MAX: usize = 512 * 1024;
/// Events in a row that are no JSON.
const NOISE_MAX: u32 = 5;
/// Tools that are shown at once.
const TOOLS: usize = 3;

/// What was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// In words.
    pub(super) text: String,
    /// And besides.
    pub(super) pictures: Vec<Picture>,
    /// Why it is not all that was to be said.
    pub(super) mark: Option<&'static str>,
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// A whole answer.
    Answer(Answer),
    /// A whole answer that says nothing, and why.
    Nothing(String),
    /// It died half way.
    Broken(String),
}

/// What an event means for the limits on silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// Something was said or done.
    Content,
    /// Only the connection lives.
    Alive,
    /// Nothing more is to be read.
    Over,
}

/// A turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    text: String,
    pictures: Pictures,
    refusal: String,
    finish: Option<String>,
    error: Option<String>,
    noise: u32,
    is_done: bool,
    /// Tools that are at work: what each is called, and what is shown of it.
    tools: Vec<(String, String)>,
}

impl Turn {
    /// What has been said, without an end yet.
    pub(super) fn so_far(&self) -> &str {
        self.text.trim()
    }

    /// It told a reason to finish: only the end of the stream is to come.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The answer in the making, and the tools that are at work.
    pub(super) fn shown(&self) -> String {
        let mut shown = self.text.clone();
        for (_, label) in self.tools.iter().rev().take(TOOLS) {
            if !shown.is_empty() {
                shown.push_str("\n\n");
            }
            shown.push_str(label);
        }
        shown
    }

    /// A Hermes Agent says what its tools are at.
    fn tool(&mut self, data: &str) {
        let Some(value) = json::lenient(data.as_bytes()) else { return };
        let word = |names: &[&str]| {
            names.iter().find_map(|name| {
                value.get(*name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
            })
        };
        let Some(tool) = word(&["tool", "name"]) else { return };
        let call = word(&["toolCallId", "tool_call_id", "id"]).unwrap_or(tool).to_owned();
        self.tools.retain(|(known, _)| *known != call);
        let is_over = matches!(word(&["status"]), Some("completed" | "failed" | "done" | "error"));
        if !is_over {
            let sign = word(&["emoji"]).unwrap_or("⚙");
            let label: String =
                word(&["label", "preview"]).unwrap_or(tool).chars().take(100).collect();
            self.tools.push((call, format!("{sign} {}", label.replace(['\n', '\r'], " "))));
        }
    }

    /// Takes an event of a stream.
    pub(super) fn event(&mut self, name: &str, data: &str) -> Sign {
        if !name.is_empty() {
            // A tool of the agent at work.
            self.tool(data);
            return Sign::Content;
        }
        if data.trim() == "[DONE]" {
            self.is_done = true;
            return Sign::Over;
        }
        let Some(value) = json::lenient(data.as_bytes()) else {
            self.noise += 1;
            // One that was to be an object may have been a part of the answer.
            if self.noise < NOISE_MAX && !data.trim_start().starts_with('{') {
                return Sign::Alive;
            }
            self.error = Some("it sends what is no JSON".into());
            return Sign::Over;
        };
        self.noise = 0;
        if let Some(error) = error_of(&value) {
            self.error = Some(error);
            return Sign::Over;
        }
        let Some(choice) = first(&value) else { return Sign::Alive };
        let sign = self.add(choice.get("delta").unwrap_or(&Value::Null));
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(reason.to_owned());
        }
        if self.text.len() > TEXT_MAX {
            self.finish = Some("stop".into());
            return Sign::Over;
        }
        sign
    }

    fn add(&mut self, message: &Value) -> Sign {
        let part = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        self.pictures.feed(part("content"), &mut self.text);
        self.refusal.push_str(part("refusal"));
        // Some servers have a list of parts, or of pictures, beside or in the place of the text.
        let list = |name: &str| message.get(name).and_then(Value::as_array).into_iter().flatten();
        let mut parts = false;
        for part in list("content").chain(list("images")) {
            parts = true;
            let word = |at: &str| part.pointer(at).and_then(Value::as_str);
            if let Some(text) = word("/text") {
                self.pictures.feed(text, &mut self.text);
            } else if let Some(url) = word("/image_url/url").or_else(|| word("/image_url"))
                && let Err(lost) = self.pictures.take(url, None)
            {
                let link = if url.starts_with("data:") { lost } else { url };
                self.text.push_str(&format!("\n{link}"));
            }
        }
        let said = ["content", "refusal", "reasoning", "reasoning_content"];
        let tools = message.get("tool_calls").is_some_and(|calls| !calls.is_null());
        let something = parts || tools || said.iter().any(|name| !part(name).is_empty());
        if something { Sign::Content } else { Sign::Alive }
    }

    /// Takes an answer that came in one piece.
    pub(super) fn whole(body: &[u8]) -> End {
        let Some(value) = json::lenient(body) else {
            return End::Broken("it answers with what is no JSON".into());
        };
        let mut turn = Self { error: error_of(&value), is_done: true, ..Self::default() };
        if let Some(choice) = first(&value) {
            turn.add(choice.get("message").unwrap_or(&Value::Null));
            let reason = choice.get("finish_reason").and_then(Value::as_str);
            turn.finish = Some(reason.unwrap_or("stop").to_owned());
        } else if turn.error.is_none() {
            return End::Broken("it answers without a choice".into());
        }
        turn.end()
    }

    /// The stream is over.
    pub(super) fn end(self) -> End {
        if let Some(error) = self.error {
            return End::Broken(error);
        }
        let reason = match (self.finish.as_deref(), self.is_done) {
            (Some(reason), _) => reason,
            (None, true) => "stop",
            (None, false) => return End::Broken("the stream ended in the middle".into()),
        };
        let mark = match reason {
            "stop" => None,
            "length" => Some("cut: the model's limit"),
            "content_filter" => Some("cut: the model's filter"),
            "tool_calls" | "function_call" => Some("it wants tools, and none are offered"),
            _ => return End::Broken(format!("it gave up: {reason}")),
        };
        let mut text = self.text;
        let pictures = self.pictures.end(&mut text);
        let mut text = if text.trim().is_empty() { self.refusal } else { text };
        if text.len() > TEXT_MAX {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            text.push_str(" […]");
        }
        let is_silent = text.trim().is_empty() && pictures.is_empty();
        match (is_silent, reason) {
            (false, _) => End::Answer(Answer { text, pictures, mark }),
            (true, "tool_calls" | "function_call") => {
                End::Nothing("it wants tools, and none are offered".into())
            }
            (true, reason) => End::Nothing(format!("it said nothing ({reason})")),
        }
    }
}

fn first(value: &Value) -> Option<&Value> {
    let choices = value.get("choices")?.as_array()?;
    let index = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
    choices.iter().find(index)
}

/// The error that an answer carries, in whatever shape; its words, without what could be a page.
pub(super) fn error_of(value: &Value) -> Option<String> {
    let told = |name| value.get(name).filter(|it: &&Value| !it.is_null());
    let found = told("error").or_else(|| told("detail")).or_else(|| {
        let alone = value.get("choices").is_none();
        alone.then(|| value.get("message")).flatten()
    })?;
    let text = match found {
        Value::String(text) => text.clone(),
        Value::Object(_) => match found.get("message").and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => found.to_string(),
        },
        other => other.to_string(),
    };
    Some(protocol::secret::excerpt(&text, 200))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn half_a_character_is_read_and_half_an_object_is_no_answer() {
        let half = delta("AAA").replace("AAA", r"AAA \ud83d");
        assert_eq!(streamed(&[half, finish("stop")]), answer("AAA \u{fffd}"));
        let torn = delta("AAA").split_off(9);
        let torn = format!("{{{torn}");
        assert!(matches!(streamed(&[torn, delta("BBB"), finish("stop")]), End::Broken(_)));
        let whole = br#"{"choices":[{"message":{"content":"x \ude00"}}]}"#;
        assert_eq!(Turn::whole(whole), answer("x \u{fffd}"));
    }

    fn answer(text: &str) -> End {
        End::Answer(Answer { text: text.into(), pictures: Vec::new(), mark: None })
    }

    fn marked(text: &str, mark: &'static str) -> End {
        End::Answer(Answer { text: text.into(), pictures: Vec::new(), mark: Some(mark) })
    }

    fn delta(text: &str) -> String {
        json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }).to_string()
    }

    fn finish(reason: &str) -> String {
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }).to_string()
    }

    fn streamed(events: &[String]) -> End {
        let mut turn = Turn::default();
        for event in events {
            if turn.event("", event) == Sign::Over {
                break;
            }
        }
        turn.end()
    }

    #[test]
    fn an_answer_is_whole_only_with_a_reason_to_finish() {
        let done = || "[DONE]".to_owned();
        let two = || vec![delta("good "), delta("day")];
        let answer = answer("good day");
        assert_eq!(streamed(&[two(), vec![finish("stop")]].concat()), answer);
        assert_eq!(streamed(&[two(), vec![done()]].concat()), answer);
        assert!(matches!(streamed(&two()), End::Broken(_)));
        for reason in ["abort", "error", "whatever"] {
            let broken = streamed(&[two(), vec![finish(reason), done()]].concat());
            assert!(matches!(broken, End::Broken(_)), "{reason}");
        }
        assert!(matches!(streamed(&[finish("tool_calls")]), End::Nothing(_)));
        let usage = json!({ "choices": [], "usage": {} }).to_string();
        for (reason, mark) in [
            ("length", "cut: the model's limit"),
            ("content_filter", "cut: the model's filter"),
            ("tool_calls", "it wants tools, and none are offered"),
        ] {
            let cut = [two(), vec![usage.clone(), finish(reason)]].concat();
            assert_eq!(streamed(&cut), marked("good day", mark), "what is no end is told");
        }
    }

    #[test]
    fn an_error_in_the_middle_is_one() {
        for error in [
            json!({ "error": { "message": "engine died" } }),
            json!({ "error": "engine died" }),
            json!({ "detail": "engine died" }),
            json!({ "message": "engine died" }),
        ] {
            let broken = streamed(&[delta("good"), error.to_string(), finish("stop")]);
            assert_eq!(broken, End::Broken("engine died".into()));
        }
        let noise = vec!["no JSON".to_owned(); 5];
        assert!(matches!(streamed(&noise), End::Broken(_)));
        assert_eq!(
            streamed(&[noise[..4].to_vec(), vec![delta("x"), finish("stop")]].concat()),
            answer("x")
        );
        let quiet =
            json!({ "error": null, "detail": null, "choices": [{ "delta": { "content": "x" } }] });
        assert_eq!(streamed(&[quiet.to_string(), finish("stop")]), answer("x"));
    }

    #[test]
    fn tools_are_shown_while_they_work_and_are_no_part_of_the_answer() {
        let mut turn = Turn::default();
        turn.event("", &delta("Let me see."));
        let tool = |status: &str| json!({ "tool": "web", "toolCallId": "c", "emoji": "🔍", "label": "Look\nup", "status": status });
        turn.event("hermes.tool.progress", &tool("running").to_string());
        assert_eq!(turn.shown(), "Let me see.\n\n🔍 Look up");
        turn.event("hermes.tool.progress", &tool("completed").to_string());
        turn.event("hermes.tool.progress", "no JSON");
        assert_eq!((turn.shown().as_str(), turn.so_far()), ("Let me see.", "Let me see."));
    }

    #[test]
    fn an_answer_in_one_piece() {
        let whole =
            json!({ "choices": [{ "message": { "content": "x" }, "finish_reason": "stop" }] });
        assert_eq!(Turn::whole(whole.to_string().as_bytes()), answer("x"));
        assert!(matches!(Turn::whole(b"<html>"), End::Broken(_)));
        assert!(matches!(Turn::whole(b"{}"), End::Broken(_)));
    }

    #[test]
    fn pictures_come_within_the_text_and_beside_it() {
        let url = "data:image/png;base64,MTIzNDU=";
        let image = json!({ "type": "image_url", "image_url": { "url": url } });
        let beside = json!({ "choices": [{ "delta": { "content": "see", "images": [image] } }] });
        let within = delta(&format!(" ![a cat]({url})"));
        let End::Answer(said) = streamed(&[beside.to_string(), within, finish("stop")]) else {
            panic!()
        };
        assert_eq!(said.text, "see ");
        let titles: Vec<_> = said.pictures.iter().map(|it| it.title.as_deref()).collect();
        assert_eq!(titles, [None, Some("a cat")]);
        assert!(said.pictures.iter().all(|it| it.bytes == b"12345" && it.mime == "image/png"));
        let parts = json!([{ "type": "text", "text": "here" }, image]);
        let whole = json!({ "choices": [{ "message": { "content": parts } }] });
        let End::Answer(said) = Turn::whole(whole.to_string().as_bytes()) else { panic!() };
        assert_eq!((said.text.as_str(), said.pictures.len()), ("here", 1));
        let mut turn = Turn::default();
        turn.event("", &delta(&format!("half ![a cat]({}", &url[..30])));
        assert_eq!((turn.shown().as_str(), turn.so_far()), ("half ", "half"), "never its bytes");
    }

    #[test]
    fn a_huge_answer_is_cut() {
        let many: Vec<_> = (0..20).map(|_| delta(&"断".repeat(20_000))).collect();
        let End::Answer(Answer { text, .. }) = streamed(&many) else { panic!() };
        assert!(text.len() <= TEXT_MAX + 10 && text.ends_with("[…]"));
        // Also one that comes in one piece, in the answer's own member or in that of its refusal.
        for member in ["content", "refusal"] {
            let whole = json!({ "choices": [{ "message": { member: "断".repeat(400_000) } }] });
            let End::Answer(Answer { text, .. }) = Turn::whole(whole.to_string().as_bytes()) else {
                panic!()
            };
            assert!(text.len() <= TEXT_MAX + 10 && text.ends_with("[…]"), "{}", text.len());
        }
    }

    proptest! {
        #[test]
        fn no_events_make_it_panic(events in prop::collection::vec("\\PC{0,40}|\\{\"choices\":\\[[0-9{}\":a-z]{0,9}\\]\\}", 0..9)) {
            let _ = streamed(&events);
        }
    }
}
