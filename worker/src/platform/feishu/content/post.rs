//! Posts and cards in words: elements in rows, and elements within elements. Pure.
//!
//! A card arrives in a reduced form that is built like a post, or as it was made. There are elements of many sorts,
//! and there will be more. What is known is shown as people see it, of all others whatever words are in them,
//! wherever these are, and one without words is named, with what it has instead.

use protocol::event::Part;
use protocol::secret::excerpt;
use serde_json::{Map, Value};

use super::{ALL, Mentioned, bracketed, named, part, push_name};
use crate::json::{list_of, member, text_of};

/// Members in which words and elements are, in the order in which people see them.
const SHOWN: [&str; 15] = [
    "header",
    "title",
    "subtitle",
    "text",
    "content",
    "label",
    "placeholder",
    "fields",
    "body",
    "elements",
    "columns",
    "actions",
    "options",
    "rows",
    "img_list",
];
/// Members in which nothing is that people see.
const UNSEEN: [&str; 9] =
    ["tag", "behaviors", "confirm", "config", "hover_tips", "icon", "style", "text_style", "value"];
/// Elements that are nothing but their words.
const PLAIN: [&str; 7] = ["text", "md", "markdown", "plain_text", "lark_md", "div", "button"];
/// Of what nobody knows, in bytes.
const UNKNOWN_BYTES: usize = 1024;

/// What is being read.
pub(super) struct Page<'a> {
    pub(super) mentions: &'a [Mentioned],
    /// What words cannot hold goes here.
    pub(super) parts: &'a mut Vec<Part>,
}

impl Page<'_> {
    /// Title and lines. They arrive without a level for the language; posts that were sent have one.
    pub(super) fn post(&mut self, content: &Value) -> String {
        let levels = content.as_object().into_iter().flatten();
        let post = if has_rows(content) {
            content
        } else {
            levels.map(|(_, level)| level).find(|level| has_rows(level)).unwrap_or(content)
        };
        let mut lines = Vec::new();
        let title = text_of(post, "title");
        if !title.is_empty() {
            lines.push(title.to_owned());
        }
        for row in [list_of(post, "content"), list_of(post, "elements")].into_iter().flatten() {
            lines.push(self.row(row));
        }
        lines.join("\n")
    }

    pub(super) fn card(&mut self, content: &Value) -> String {
        let is_whole = ["header", "body"].iter().any(|name| member(content, name).is_object());
        if !is_whole && has_rows(content) {
            return self.post(content);
        }
        match content.as_object() {
            Some(members) => self.other("", members),
            None => String::new(),
        }
    }

    /// Elements that stand side by side, or one alone.
    fn row(&mut self, row: &Value) -> String {
        match row {
            Value::Array(elements) => elements.iter().map(|it| self.element(it)).collect(),
            single => self.element(single),
        }
    }

    fn element(&mut self, element: &Value) -> String {
        let text = text_of(element, "text");
        let tag = text_of(element, "tag");
        let has_text = member(element, "text").is_string();
        match tag {
            "a" => linked(text, text_of(element, "href")),
            "at" => self.at(element),
            "img" => {
                let key =
                    if member(element, "img_key").is_string() { "img_key" } else { "image_key" };
                part(self.parts, "image", element, key);
                "[image]".to_owned()
            }
            "media" => {
                part(self.parts, "video", element, "file_key");
                "[video]".to_owned()
            }
            "audio" | "file" => {
                part(self.parts, tag, element, "file_key");
                bracketed(tag, text_of(element, "file_name"))
            }
            "emotion" => bracketed(text_of(element, "emoji_type"), ""),
            "code_block" => {
                let language = text_of(element, "language").to_lowercase();
                format!("```{language}\n{}\n```", text.trim_end_matches('\n'))
            }
            "hr" => "---".to_owned(),
            "text" | "md" if has_text => named(text, self.mentions),
            "button" => {
                let label = self.shown(member(element, "text"));
                linked(&label, address(element))
            }
            "note" if member(element, "elements").is_array() => {
                self.row(member(element, "elements"))
            }
            "table" => self.table(element),
            "" if member(element, "img_key").is_string() => {
                part(self.parts, "image", element, "img_key");
                "[image]".to_owned()
            }
            _ => element.as_object().map(|members| self.other(tag, members)).unwrap_or_default(),
        }
    }

    fn at(&self, element: &Value) -> String {
        let who = text_of(element, "user_id");
        let own = |m: &&Mentioned| !who.is_empty() && (m.key == who || m.open_id == who);
        let mut out = String::new();
        if who == ALL || who == "all" {
            out.push_str("@all");
        } else if let Some(mentioned) = self.mentions.iter().find(own) {
            push_name(&mut out, &mentioned.name);
        } else {
            push_name(&mut out, text_of(element, "user_name"));
        }
        out
    }

    /// One that has no form of its own here.
    fn other(&mut self, tag: &str, members: &Map<String, Value>) -> String {
        let mut lines = Vec::new();
        for name in SHOWN {
            lines.extend(members.get(name).map(|value| self.shown(value)));
        }
        let is_more = |name: &str| !SHOWN.contains(&name) && !UNSEEN.contains(&name);
        for (name, value) in members.iter().filter(|(name, _)| is_more(name)) {
            match value {
                // Within these are elements, if anything that people see.
                Value::Array(values) if values.iter().all(Value::is_object) => {
                    lines.push(self.shown(value));
                }
                Value::Object(_) => lines.push(self.shown(value)),
                Value::String(chosen) if name.starts_with("initial_") => lines.push(chosen.clone()),
                _ => {}
            }
        }
        lines.retain(|line| !line.is_empty());
        let words = lines.join("\n");
        let is_choice = members.contains_key("options") || members.contains_key("placeholder");
        if tag.is_empty() || PLAIN.contains(&tag) || (!words.is_empty() && !is_choice) {
            return words;
        }
        if is_choice {
            return bracketed(tag, &words.replace('\n', ", "));
        }
        let rest = members.iter().filter(|(name, _)| *name != "tag");
        let rest: Map<_, _> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
        if rest.is_empty() {
            return bracketed(tag, "");
        }
        bracketed(tag, &excerpt(&Value::Object(rest).to_string(), UNKNOWN_BYTES))
    }

    /// The words of whatever is in a member.
    fn shown(&mut self, value: &Value) -> String {
        match value {
            Value::String(words) => named(words, self.mentions),
            Value::Array(values) => {
                let lines = values.iter().map(|it| match it {
                    Value::String(words) => words.clone(),
                    it => self.row(it),
                });
                let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
                lines.join("\n")
            }
            Value::Object(_) => self.element(value),
            Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
        }
    }

    fn table(&mut self, table: &Value) -> String {
        let columns = list_of(table, "columns");
        let head = columns.iter().map(|it| match text_of(it, "display_name") {
            "" => text_of(it, "name").to_owned(),
            name => name.to_owned(),
        });
        let mut lines = vec![head.collect::<Vec<_>>().join(" | ")];
        for row in list_of(table, "rows") {
            let cells = columns.iter().map(|it| match member(row, text_of(it, "name")) {
                cell @ (Value::Number(_) | Value::Bool(_)) => cell.to_string(),
                cell => self.shown(cell).replace('\n', ", "),
            });
            lines.push(cells.collect::<Vec<_>>().join(" | "));
        }
        lines.join("\n")
    }
}

pub(super) fn has_rows(value: &Value) -> bool {
    ["content", "elements"].iter().any(|name| member(value, name).is_array())
}

fn linked(text: &str, href: &str) -> String {
    match text {
        "" => href.to_owned(),
        _ if href.is_empty() || href == text => text.to_owned(),
        _ => format!("[{text}]({href})"),
    }
}

/// Where a button leads.
fn address(button: &Value) -> &str {
    let mut behaviors = list_of(button, "behaviors").iter();
    let opened = behaviors.find(|it| text_of(it, "type") == "open_url");
    let opened = opened.map_or("", |it| text_of(it, "default_url"));
    let found = [text_of(button, "url"), text_of(member(button, "multi_url"), "url"), opened];
    found.into_iter().find(|address| !address.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::render;

    #[test]
    fn nothing_vanishes_from_a_post() {
        let body = json!({"title": "", "content": [
            [{"tag": "file", "file_key": "file_p", "file_name": "p.pdf"}, {"tag": "audio", "file_key": "file_a"}],
            [{"tag": "quote", "elements": [[{"tag": "text", "text": "quoted"}, {"tag": "a", "href": "https://x.y"}], [{"tag": "text", "text": "words"}]]}],
            [{"tag": "ul", "content": [[{"tag": "text", "text": "one"}], [{"tag": "text", "text": "two"}]]}],
            [{"tag": "seal", "by": "Ann"}, {"tag": "line"}, {"tag": "text", "text": ""}],
        ]});
        let content = render("post", &body, &[]);
        let expected = "[file: p.pdf][audio]\nquotedhttps://x.y\nwords\none\ntwo\n[seal: {\"by\":\"Ann\"}][line]";
        assert_eq!(content.text, expected);
        let parts: Vec<_> = content.parts.iter().map(|p| (&*p.kind, &*p.handle)).collect();
        assert_eq!(parts, [("file", "file_p"), ("audio", "file_a")]);
        assert_eq!(content.parts[0].name.as_deref(), Some("p.pdf"));
    }

    #[test]
    fn nothing_vanishes_from_a_card() {
        let card = json!({"title": "T", "elements": [
            [{"tag": "button", "text": "Yes", "type": "primary"}],
            [{"tag": "text", "text": "at"}, {"tag": "img", "image_key": "img_a"}],
            [{"tag": "note", "elements": [{"tag": "img", "image_key": "img_n"}, {"tag": "text", "text": "note"}]}],
            [{"tag": "select_static", "options": ["one", {"text": "two"}], "placeholder": "choose"}],
            [{"tag": "overflow", "options": ["more"]}],
            [{"tag": "date_picker", "placeholder": "when", "initial_date": "2021-1-1"}],
        ]});
        let content = render("interactive", &card, &[]);
        let expected = "[card: T\nYes\nat[image]\n[image]note\n[select_static: choose, one, two]\n\
            [overflow: more]\n[date_picker: when, 2021-1-1]]";
        assert_eq!(content.text, expected);
        let handles: Vec<_> = content.parts.iter().map(|part| &*part.handle).collect();
        assert_eq!(handles, ["img_a", "img_n"]);
    }

    #[test]
    fn a_card_as_it_was_made_is_read() {
        let plain = |text: &str| json!({"tag": "plain_text", "content": text});
        let open = json!([{"type": "open_url", "default_url": "https://x.y"}]);
        let card = json!({
            "schema": "2.0",
            "config": {"summary": {"content": "unseen"}},
            "header": {"title": plain("Title"), "subtitle": plain("sub"), "template": "blue"},
            "body": {"direction": "vertical", "elements": [
                {"tag": "markdown", "content": "**words**"},
                {"tag": "div", "text": plain("a div"), "fields": [{"is_short": true, "text": plain("a field")}]},
                {"tag": "column_set", "columns": [{"tag": "column", "elements": [{"tag": "markdown", "content": "left"}]},
                    {"tag": "column", "elements": [{"tag": "img", "img_key": "img_c", "alt": plain("")}]}]},
                {"tag": "collapsible_panel", "header": {"title": plain("more")}, "elements": [{"tag": "hr"}]},
                {"tag": "table", "columns": [{"name": "a", "display_name": "A"}, {"name": "b"}],
                    "rows": [{"a": "x", "b": 1.5}, {"a": [{"text": "tag"}]}]},
                {"tag": "form", "name": "f", "elements": [
                    {"tag": "input", "name": "i", "label": plain("Name"), "placeholder": plain("who")},
                    {"tag": "button", "text": plain("Open"), "behaviors": open, "name": "b"}]},
                {"tag": "person", "user_id": "ou_1"},
                {"tag": "chart", "chart_spec": {"type": "pie"}},
            ]},
        });
        let content = render("interactive", &card, &[]);
        let expected = "[card: Title\nsub\n**words**\na div\na field\nleft\n[image]\nmore\n---\nA | b\nx | 1.5\ntag | \n\
            [input: Name, who]\n[Open](https://x.y)\n[person: {\"user_id\":\"ou_1\"}]\n\
            [chart: {\"chart_spec\":{\"type\":\"pie\"}}]]";
        assert_eq!(content.text, expected);
        assert_eq!(content.parts.len(), 1);
        let first = json!({"header": {"title": plain("Old")}, "elements": [
            {"tag": "div", "text": {"tag": "lark_md", "content": "words"}},
            {"tag": "action", "actions": [{"tag": "button", "text": plain("Go"), "url": "https://x.y"}]}]});
        assert_eq!(
            render("interactive", &first, &[]).text,
            "[card: Old\nwords\n[Go](https://x.y)]"
        );
        let template = json!({"type": "template", "data": {"template_id": "AAq"}});
        let raw = "[card: {\"data\":{\"template_id\":\"AAq\"},\"type\":\"template\"}]";
        assert_eq!(render("interactive", &template, &[]).text, raw);
        assert_eq!(render("interactive", &json!({"elements": []}), &[]).text, "[card]");
    }
}
