//! What a reply looks like on the platform: a text, a post or a card. Pure.
//!
//! A text shows no markup, a post shows most of it but neither tables nor headings, a card shows all of
//! it. So words get the plainest form that shows what they contain. A form that the platform refuses
//! gives way to the next plainer one: words arrive, if less beautifully.

use std::collections::BTreeMap;

use protocol::content::{Button, Content, File, Press};
use serde_json::{Map, Value, json};

use super::markdown::{readable, shallow, unescaped};
use super::tags;
use crate::text;

/// Of a part, in bytes of a request's body. The platform takes 30 KB of a post or a card, with everything around the
/// words, and buttons have to fit as well. The same in every form: how far a reply has come is the number of its parts,
/// also for an attempt that shows them in another form.
const PART_MAX: usize = 24_000;
/// Of the buttons of a card; more are below each other, in several.
const BUTTONS_MAX: usize = 4_000;
/// Of a card that an agent made itself.
const RAW_MAX: usize = 29_000;
/// The part of a card that shows words; streaming grows it.
pub(super) const ELEMENT: &str = "words";
/// The member of a button's value that holds its data.
pub(super) const DATA: &str = "data";

/// How words are shown, the plainest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Form {
    /// As they stand.
    Text,
    /// With markup.
    Post,
    /// With all markup, and with buttons.
    Card,
}

/// One message of a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Words, with the buttons below them.
    Words {
        /// In Markdown.
        text: String,
        /// The form that shows them best.
        form: Form,
        /// Row by row; only a card has some.
        buttons: Vec<Vec<Button>>,
    },
    /// The buttons of the words before them, in a card of their own where the platform does not take both in one.
    Buttons(Vec<Vec<Button>>),
    /// A card that an agent made itself.
    Card(String),
    /// A file.
    File(File),
}

/// A message as the platform takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    /// The platform's word for its type.
    pub(super) kind: &'static str,
    /// JSON, as text.
    pub(super) content: String,
}

impl Message {
    /// A message of this type.
    pub(super) fn new(kind: &'static str, content: &Value) -> Self {
        Self { kind, content: content.to_string() }
    }
}

impl Form {
    /// The next plainer form.
    pub(super) fn plainer(self) -> Option<Self> {
        match self {
            Self::Card => Some(Self::Post),
            Self::Post => Some(Self::Text),
            Self::Text => None,
        }
    }
}

/// The messages that `content` becomes, or why it cannot be sent. `first`: how its first words must look.
pub(super) fn steps(content: &Content, first: Option<Form>) -> Result<Vec<Step>, String> {
    let card = content.card.as_deref().map(own_card).transpose()?;
    let mut steps = words(&content.text, first);
    let mut pages = pages(&content.buttons).into_iter();
    if let Some(Step::Words { form, buttons, .. }) = steps.last_mut()
        && let Some(rows) = pages.next()
    {
        (*form, *buttons) = (Form::Card, rows.clone());
        steps.push(Step::Buttons(rows));
    }
    steps.extend(pages.map(|buttons| {
        let (text, form) = (String::new(), Form::Card);
        Step::Words { text, form, buttons }
    }));
    steps.extend(card.map(Step::Card));
    steps.extend(content.files.iter().cloned().map(Step::File));
    Ok(steps)
}

fn words(text: &str, first: Option<Form>) -> Vec<Step> {
    let text = shallow(text);
    let form = first.unwrap_or_else(|| Form::of(&text));
    let parts = text::split(&text, PART_MAX, cost);
    parts.into_iter().map(|text| Step::Words { text, form, buttons: Vec::new() }).collect()
}

/// Rows of buttons, as many together as go into a card.
fn pages(rows: &[Vec<Button>]) -> Vec<Vec<Vec<Button>>> {
    let bytes = |rows: &[Vec<Button>]| buttons_json(rows).to_string().len();
    let rows = rows.iter().flat_map(|row| grouped(row, |button| bytes(&[vec![button.clone()]])));
    let rows: Vec<_> = rows.collect();
    grouped(&rows, |row| bytes(std::slice::from_ref(row)))
}

/// Cut where the next one would be too much.
fn grouped<T: Clone>(items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let bytes = bytes(item);
        if let Some(group) = groups.last_mut().filter(|_| bytes <= room) {
            group.push(item.clone());
        } else {
            room = BUTTONS_MAX;
            groups.push(vec![item.clone()]);
        }
        room = room.saturating_sub(bytes);
    }
    groups
}

/// Words in this form.
pub(super) fn say(text: &str, form: Form, buttons: &[Vec<Button>]) -> Message {
    match form {
        Form::Text => {
            let text = tags::settled(&unescaped(text), Form::Text);
            Message::new("text", &json!({ "text": text }))
        }
        Form::Post => Message::new("post", &post(text)),
        Form::Card => Message::new("interactive", &card(text, buttons, false)),
    }
}

fn post(text: &str) -> Value {
    let text = tags::settled(&readable(text), Form::Post);
    json!({"zh_cn": {"title": "", "content": [[{"tag": "md", "text": text}]]}})
}

/// A card that shows these words; `growing`: they are not all yet.
pub(super) fn card(text: &str, buttons: &[Vec<Button>], growing: bool) -> Value {
    let text = card_markdown(text);
    let mut elements = vec![json!({"tag": "markdown", "element_id": ELEMENT, "content": text})];
    if text.is_empty() {
        elements.clear();
    }
    if let Value::Array(rows) = buttons_json(buttons) {
        elements.extend(rows);
    }
    // Without `update_multi` a card can never be changed.
    let mut config = json!({"update_multi": true, "width_mode": "fill"});
    if let Some(config) = config.as_object_mut() {
        config.insert("streaming_mode".to_owned(), json!(growing));
    }
    json!({"schema": "2.0", "config": config, "body": {"elements": elements}})
}

/// What the element that shows words says.
pub(super) fn card_markdown(text: &str) -> String {
    tags::settled(&readable(text), Form::Card)
}

fn buttons_json(buttons: &[Vec<Button>]) -> Value {
    let rows = buttons.iter().filter(|row| !row.is_empty()).map(|row| {
        let columns: Vec<_> = row
            .iter()
            .map(|button| {
                let behavior = match &button.press {
                    Press::Data(data) => json!({"type": "callback", "value": {DATA: data}}),
                    Press::Url(url) => json!({"type": "open_url", "default_url": url}),
                };
                let label = json!({"tag": "plain_text", "content": button.label});
                let button = json!({"tag": "button", "text": label, "behaviors": [behavior]});
                json!({"tag": "column", "width": "auto", "elements": [button]})
            })
            .collect();
        json!({"tag": "column_set", "flex_mode": "flow", "columns": columns})
    });
    rows.collect()
}

/// A card of an agent, made changeable.
fn own_card(card: &str) -> Result<String, String> {
    let mut card: Map<String, Value> =
        serde_json::from_str(card).map_err(|e| format!("its card is no JSON object: {e}"))?;
    let is_template = card.get("type").is_some_and(|kind| kind == "template" || kind == "card");
    if !is_template
        && let Some(config) = card.entry("config").or_insert_with(|| json!({})).as_object_mut()
    {
        config.entry("update_multi").or_insert(json!(true));
    }
    let mut card = Value::Object(card);
    settle(&mut card);
    let card = card.to_string();
    let bytes: usize = card.chars().map(cost).sum();
    // Within the body it is a text in a text; the platform counts the body.
    if bytes > RAW_MAX {
        return Err(format!("its card needs {bytes} bytes, the platform takes {RAW_MAX}"));
    }
    Ok(card)
}

/// Whatever the words in a card of an agent are for, they mention as its other words do.
fn settle(card: &mut Value) {
    match card {
        Value::String(words) => *words = tags::settled(words, Form::Card),
        Value::Array(all) => all.iter_mut().for_each(settle),
        Value::Object(all) => all.values_mut().for_each(settle),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The bytes of a character in a request: twice escaped, because the content is JSON in a string.
pub(super) fn cost(c: char) -> usize {
    match c {
        '"' | '\\' => 4,
        '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 3,
        // With what makes it no tag.
        '<' => 4,
        c if c < ' ' => 7,
        c => c.len_utf8(),
    }
}

/// The platform's word for a reaction. Agents may name it, or write the sign itself.
pub(super) fn emoji(sign: &str) -> Option<String> {
    let known: BTreeMap<&str, &str> = EMOJI.into_iter().collect();
    if let Some(word) = known.get(sign.trim_end_matches('\u{fe0f}')) {
        return Some((*word).to_owned());
    }
    let plain = sign.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    (plain && (1..=40).contains(&sign.len())).then(|| sign.to_owned())
}

const EMOJI: [(&str, &str); 32] = [
    ("👍", "THUMBSUP"),
    ("👎", "ThumbsDown"),
    ("👌", "OK"),
    ("🙏", "THANKS"),
    ("💪", "MUSCLE"),
    ("👏", "APPLAUSE"),
    ("👊", "FISTBUMP"),
    ("🙂", "SMILE"),
    ("😊", "BLUSH"),
    ("😄", "LAUGH"),
    ("😂", "LOL"),
    ("😍", "LOVE"),
    ("😉", "WINK"),
    ("😎", "PROUD"),
    ("🤔", "THINKING"),
    ("😭", "CRY"),
    ("😢", "SOB"),
    ("😡", "ANGRY"),
    ("😱", "TERROR"),
    ("😅", "SWEAT"),
    ("❤", "HEART"),
    ("💔", "HEARTBROKEN"),
    ("🎉", "PARTY"),
    ("🌹", "ROSE"),
    ("🍺", "BEER"),
    ("🎂", "CAKE"),
    ("🔥", "Fire"),
    ("✅", "DONE"),
    ("✔", "CheckMark"),
    ("❌", "CrossMark"),
    ("👀", "GLANCE"),
    ("💯", "Hundred"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::content::FileKind;

    use super::*;

    fn only(content: &Content) -> Step {
        let mut steps = steps(content, None).unwrap();
        assert_eq!(steps.len(), 1);
        steps.remove(0)
    }

    #[test]
    fn words_get_the_plainest_form_that_shows_them() {
        let cases = [
            ("hello, 2 * 3 * 4 = 24", Form::Text),
            ("snake_case_name and a@b.c, https://x.y", Form::Text),
            ("https://x.y/__init__.py", Form::Text),
            ("    indented\n\n    as well", Form::Text),
            ("a **b** c", Form::Post),
            ("`x`", Form::Post),
            ("- a\n- b", Form::Post),
            ("> a", Form::Post),
            ("[a](https://x.y)", Form::Post),
            ("```rust\nfn f() {}\n```", Form::Post),
            ("# Title\n\ntext", Form::Card),
            ("**x**\n\n| a | b |\n|---|---|\n| 1 | 2 |", Form::Card),
        ];
        for (text, form) in cases {
            assert_eq!(Form::of(text), form, "{text}");
        }
    }

    #[test]
    fn messages_are_as_the_platform_wants_them() {
        assert_eq!(
            say("a\"b\n", Form::Text, &[]),
            Message { kind: "text", content: r#"{"text":"a\"b\n"}"#.to_owned() }
        );
        let post = say("**a**", Form::Post, &[]);
        assert_eq!(post.kind, "post");
        let inner: Value = serde_json::from_str(&post.content).unwrap();
        assert_eq!(inner["zh_cn"]["content"], json!([[{"tag": "md", "text": "**a**"}]]));
        let press = |press| Button { label: "L".to_owned(), press };
        let rows = [vec![press(Press::Data("d".into())), press(Press::Url("https://x".into()))]];
        let card = say("<at user_id=\"ou_1\"></at>", Form::Card, &rows);
        let inner: Value = serde_json::from_str(&card.content).unwrap();
        assert_eq!((card.kind, &inner["schema"]), ("interactive", &json!("2.0")));
        assert_eq!(inner["config"]["update_multi"], json!(true));
        assert_eq!(inner["body"]["elements"][0]["content"], json!("<at id=\"ou_1\"></at>"));
        let columns = &inner["body"]["elements"][1]["columns"];
        let behavior = |index: usize| columns[index]["elements"][0]["behaviors"][0].clone();
        assert_eq!(behavior(0), json!({"type": "callback", "value": {"data": "d"}}));
        assert_eq!(behavior(1), json!({"type": "open_url", "default_url": "https://x"}));
    }

    #[test]
    fn a_reply_becomes_its_messages_in_order() {
        let file = |name: &str| File { kind: FileKind::File, file: name.into(), title: None };
        let button = Button { label: "L".to_owned(), press: Press::Data("d".into()) };
        let content = Content {
            files: vec![file("a"), file("b")],
            buttons: vec![vec![], vec![button]],
            ..Content::text("x ".repeat(20_000))
        };
        let steps = steps(&content, None).unwrap();
        let last = Step::File(file("b"));
        assert_eq!((steps.len(), steps.last()), (5, Some(&last)));
        assert!(
            matches!(&steps[0], Step::Words { form: Form::Text, buttons, .. } if buttons.is_empty())
        );
        assert!(
            matches!(&steps[1], Step::Words { form: Form::Card, buttons, .. } if buttons.len() == 1)
        );
        assert!(super::steps(&Content::text(" \n"), None).unwrap().is_empty());
    }

    /// Each line would have to be compared with all marks that are open, for minutes.
    #[test]
    fn quotes_in_quotes_are_read_once() {
        let deep = format!("{}a{}", ">".repeat(1 << 17), "\nb".repeat(1 << 17));
        let steps = steps(&Content::text(deep), None).unwrap();
        let words = |step: &Step| matches!(step, Step::Words { form: Form::Post, .. });
        assert!(steps.len() > 10 && steps.iter().all(words));
    }

    #[test]
    fn a_card_of_an_agent_is_checked_and_made_changeable() {
        let card = |text: &str| Content { card: Some(text.to_owned()), ..Content::text("") };
        let Step::Card(sent) = only(&card(r#"{"schema":"2.0","body":{}}"#)) else { panic!() };
        assert!(sent.contains(r#""update_multi":true"#), "{sent}");
        let Step::Card(sent) = only(&card(r#"{"config":{"update_multi":false}}"#)) else {
            panic!()
        };
        assert!(sent.contains(r#""update_multi":false"#), "{sent}");
        let template = r#"{"data":{"template_id":"t"},"type":"template"}"#;
        assert_eq!(only(&card(template)), Step::Card(template.to_owned()));
        let file = File { file: "a.txt".into(), kind: FileKind::File, title: None };
        let all = Content { text: "words".into(), files: vec![file.clone()], ..card(template) };
        let [Step::Words { text, .. }, Step::Card(_), Step::File(last)] =
            &steps(&all, None).unwrap()[..]
        else {
            panic!()
        };
        assert_eq!((text.as_str(), last), ("words", &file));
        for wrong in ["", "[]", "\"x\"", &json!({"x": "y".repeat(40_000)}).to_string()] {
            assert!(steps(&card(wrong), None).is_err());
        }
    }

    #[test]
    fn a_reaction_is_a_word_of_the_platform() {
        assert_eq!(emoji("👍").as_deref(), Some("THUMBSUP"));
        assert_eq!(emoji("❤️").as_deref(), Some("HEART"));
        assert_eq!(emoji("Typing").as_deref(), Some("Typing"));
        assert_eq!(emoji("").or(emoji("🦀")).or(emoji("a/b")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_part_is_larger_than_the_platform_takes(text in r#"([a"\\\n\x01é中😀 #|*<]{1,40}|<at ){1,20}"#, times in 1usize..200) {
            let content = Content::text(text.repeat(times));
            for step in steps(&content, None).unwrap() {
                let Step::Words { text, form, buttons } = step else { panic!() };
                let message = say(&text, form, &buttons);
                let body = json!({"msg_type": message.kind, "content": message.content, "uuid": "u".repeat(50)});
                let most = if form == Form::Text { 30_500 } else { 30 * 1024 };
                prop_assert!(body.to_string().len() <= most, "{}", body.to_string().len());
            }
        }
    }
}
