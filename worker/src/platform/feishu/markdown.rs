//! Markdown as the platform reads it, and words without any. Pure.
//!
//! It wants four spaces for each level of a list, takes signs for marks where a reader would not, and knows no
//! pictures but those that it keeps itself. Source:
//! <https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/im-v1/message/create_json>.

use std::borrow::Cow;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::compose::{Form, cost};
use crate::meant::{self, Means, meant};
use crate::urls::shielded;

/// Of words that are put as the platform reads them, in bytes of a request's body: where they would be more, they stay
/// as they were written.
const MEANT_MAX: usize = 27_000;
/// A space of no width, and the sign that the platform's own pages write in the place of a tilde.
const MEANS: Means = Means { glue: '\u{200b}', tilde: "∼" };

/// The same Markdown, which can be read in no time.
pub(super) fn shallow(markdown: &str) -> Cow<'_, str> {
    meant::shallow(markdown, MEANS.glue)
}

/// The same Markdown as the platform reads it.
pub(super) fn readable(markdown: &str) -> String {
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES;
    let meant = meant(markdown, options, MEANS);
    let readable = without_pictures(&indented(&meant)).into_owned();
    let bytes: usize = readable.chars().map(cost).sum();
    if bytes > MEANT_MAX { without_pictures(markdown).into_owned() } else { readable }
}

/// Words without what keeps signs from being marks, for where there are none.
pub(super) fn unescaped(markdown: &str) -> Cow<'_, str> {
    if !markdown.contains('\\') {
        return Cow::Borrowed(markdown);
    }
    let mut text = String::with_capacity(markdown.len());
    let (mut at, mut text_end) = (0, 0);
    for (event, range) in Parser::new_ext(markdown, Options::empty()).into_offset_iter() {
        let place = match event {
            // What is between two texts is no text.
            Event::Text(_) => {
                let is_apart = range.start > text_end;
                text_end = range.end;
                is_apart.then(|| range.start - 1)
            }
            Event::HardBreak => Some(range.start),
            _ => None,
        };
        let is_escape = |place: &usize| markdown.as_bytes().get(*place) == Some(&b'\\');
        if let Some(place) = place.filter(is_escape) {
            text.push_str(markdown.get(at..place).unwrap_or_default());
            at = place + 1;
        }
    }
    text.push_str(markdown.get(at..).unwrap_or_default());
    Cow::Owned(text)
}

/// The same, with links in the place of pictures of the web: the platform shows those that it keeps itself, and
/// refuses the others with all around them.
fn without_pictures(markdown: &str) -> Cow<'_, str> {
    if !markdown.contains("![") {
        return Cow::Borrowed(markdown);
    }
    let mut text = String::with_capacity(markdown.len());
    let (mut at, mut links) = (0, 0u32);
    for (event, range) in Parser::new_ext(markdown, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Link { .. }) => links += 1,
            Event::End(TagEnd::Link) => links = links.saturating_sub(1),
            Event::Start(Tag::Image { dest_url, title, .. }) if dest_url.contains("://") => {
                let source = markdown.get(range.clone()).unwrap_or_default();
                let words = source.strip_prefix("![").and_then(|rest| rest.split_once(']'));
                let Some((words, _)) = words.filter(|_| range.start >= at) else { continue };
                text.push_str(markdown.get(at..range.start).unwrap_or_default());
                text.push_str(&match words.trim() {
                    "" if title.is_empty() => dest_url.into_string(),
                    "" => format!("[{title}]({dest_url})"),
                    words if links > 0 => words.to_owned(),
                    _ => source.trim_start_matches('!').to_owned(),
                });
                at = range.end;
            }
            _ => {}
        }
    }
    text.push_str(markdown.get(at..).unwrap_or_default());
    Cow::Owned(text)
}

impl Form {
    /// The plainest form that shows what is in `markdown`.
    pub(super) fn of(markdown: &str) -> Self {
        let options =
            Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
        let mut form = Self::Text;
        let meant = meant(markdown, options, MEANS);
        for event in Parser::new_ext(&shielded(&meant, options), options) {
            let Event::Start(tag) = event else {
                if matches!(event, Event::Code(_) | Event::Rule) {
                    form = Self::Post;
                }
                continue;
            };
            match tag {
                Tag::Table(_) | Tag::Heading { .. } => return Self::Card,
                Tag::CodeBlock(CodeBlockKind::Fenced(_))
                | Tag::Strong
                | Tag::Emphasis
                | Tag::Strikethrough
                | Tag::List(_)
                | Tag::BlockQuote(_)
                | Tag::Link { .. }
                | Tag::Image { .. } => form = Self::Post,
                _ => {}
            }
        }
        form
    }
}

/// Of a level, in columns; a long number takes more.
const LEVEL: usize = 4;
/// Of a tab.
const TAB: usize = 4;

/// An item that begins its line.
#[derive(Clone, Debug)]
struct Item {
    range: Range<usize>,
    /// The column in which its mark stands, and is to stand.
    was: usize,
    is: usize,
    /// The columns of its mark.
    mark: usize,
}

/// The same Markdown, with the lines of lists moved to where the platform looks for them.
pub(super) fn indented(markdown: &str) -> Cow<'_, str> {
    let items = items(markdown);
    if items.iter().all(|item| item.was == item.is) {
        return Cow::Borrowed(markdown);
    }
    let mut out = String::with_capacity(markdown.len() + markdown.len() / 8);
    let mut coming = items.iter().peekable();
    let mut open: Vec<&Item> = Vec::new();
    let mut at = 0;
    for line in markdown.split_inclusive('\n') {
        let words = line.trim_start_matches([' ', '\t']);
        let lead = line.get(..line.len() - words.len()).unwrap_or_default();
        let place = at + lead.len();
        at += line.len();
        while let Some(item) = coming.next_if(|item| item.range.start <= place) {
            open.push(item);
        }
        while open.last().is_some_and(|item| item.range.end <= place) {
            open.pop();
        }
        match open.last().filter(|_| !words.trim().is_empty()) {
            Some(item) => {
                let column = (columns(lead) + item.is).saturating_sub(item.was);
                out.push_str(&" ".repeat(column));
                out.push_str(words);
            }
            None => out.push_str(line),
        }
    }
    Cow::Owned(out)
}

fn items(markdown: &str) -> Vec<Item> {
    let (mut found, mut open): (Vec<Item>, Vec<Option<Item>>) = (Vec::new(), Vec::new());
    let options = Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Item) => {
                let within = open.iter().rev().flatten().next();
                let item = item(markdown, range, within);
                found.extend(item.clone());
                open.push(item);
            }
            Event::End(TagEnd::Item) => drop(open.pop()),
            _ => {}
        }
    }
    found
}

fn item(markdown: &str, range: Range<usize>, within: Option<&Item>) -> Option<Item> {
    // What is before its mark may count as its own.
    let words = markdown.get(range.clone())?.trim_start_matches([' ', '\t', '\n']);
    let range = range.end - words.len()..range.end;
    let (before, from) = markdown.split_at_checked(range.start)?;
    let lead = before.rsplit('\n').next().unwrap_or_default();
    if !lead.chars().all(|c| matches!(c, ' ' | '\t')) {
        return None;
    }
    let mark = from.find([' ', '\t', '\n']).unwrap_or(from.len()) + 1;
    let is = within.map_or(0, |outer| outer.is + outer.mark.max(LEVEL));
    Some(Item { range, was: columns(lead), is, mark })
}

fn columns(lead: &str) -> usize {
    lead.chars().fold(0, |column, c| if c == '\t' { column / TAB * TAB + TAB } else { column + 1 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::compose::{Message, card_markdown, say};
    use super::*;

    /// What a message says in this form.
    fn said(markdown: &str, form: Form) -> String {
        let Message { content, .. } = say(markdown, form, &[]);
        let content: Value = serde_json::from_str(&content).unwrap();
        let place = if form == Form::Text { "/text" } else { "/zh_cn/content/0/0/text" };
        content.pointer(place).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn a_text_has_no_escapes() {
        for (markdown, text) in [
            (r"2 \* 3 = 6, snake\_case\.", "2 * 3 = 6, snake_case."),
            (r"1\. a, \# b, C:\dir and \\\\host", r"1. a, # b, C:\dir and \\host"),
            ("a\\\nb", "a\nb"),
            ("    in \\* code", "    in \\* code"),
            (r"\<at user_id=ou_1>A</at>", "<at user_id=\"ou_1\">A</at>"),
            (r"约 10\~20", "约 10~20"),
        ] {
            assert_eq!(Form::of(markdown), Form::Text, "{markdown}");
            assert_eq!(said(markdown, Form::Text), text, "{markdown}");
        }
    }

    /// Ranges with tildes, bold beside signs of scripts without spaces, lists of two spaces a level.
    #[test]
    fn what_was_meant_is_put_as_the_platform_reads_it() {
        let markdown = "**注意：**约10~20，30~40\n\n- a\n  - b";
        let expected = "**注意：\u{200b}**约10∼20，30∼40\n\n- a\n    - b";
        assert_eq!(card_markdown(markdown), expected);
        assert_eq!(said(markdown, Form::Post), expected);
        assert_eq!(Form::of("约10~20，30~40"), Form::Text);
        assert_eq!(said("约10~20，30~40", Form::Text), "约10~20，30~40");
        assert_eq!(Form::of("这是**“重点”**的"), Form::Post);
    }

    #[test]
    fn a_picture_of_the_web_becomes_a_link() {
        for (markdown, expected) in [
            ("a ![b](https://x.y/b.png) c", "a [b](https://x.y/b.png) c"),
            ("![](https://x.y/b.png)", "https://x.y/b.png"),
            ("![](https://x.y/b.png \"t\")", "[t](https://x.y/b.png)"),
            ("[![b](https://x.y/b.png)](https://x.y)", "[b](https://x.y)"),
            ("![b][1]\n\n[1]: https://x.y", "[b][1]\n\n[1]: https://x.y"),
            ("![b](img_v3_key) `![c](https://x.y)`", "![b](img_v3_key) `![c](https://x.y)`"),
        ] {
            assert_eq!(card_markdown(markdown), expected);
            assert_eq!(said(markdown, Form::Post), expected);
        }
    }

    #[test]
    fn each_level_has_four_spaces() {
        for (markdown, expected) in [
            ("- a\n  - b\n    - c\n- d", "- a\n    - b\n        - c\n- d"),
            ("1. a\n   - b\n   - c\n2. d\n   e", "1. a\n    - b\n    - c\n2. d\n   e"),
            ("- a\n    - b", "- a\n    - b"),
            (" - a\n   - b\n\n   more\n\nend", "- a\n    - b\n\n  more\n\nend"),
            ("- a\n\t- b\n\t\t- c", "- a\n\t- b\n\t\t- c"),
            (
                "- a\n  ```\n  x\n    y\n  ```\n  - b\n    ```\n    z\n    ```",
                "- a\n  ```\n  x\n    y\n  ```\n    - b\n      ```\n      z\n      ```",
            ),
            ("> - a\n>   - b", "> - a\n>   - b"),
            ("1000. a\n      - b", "1000. a\n      - b"),
            (
                "```\n- a\n  - b\n```\n    - c\n      - d",
                "```\n- a\n  - b\n```\n    - c\n      - d",
            ),
        ] {
            assert_eq!(indented(markdown), expected);
        }
    }

    /// How deep each item is.
    fn depths(markdown: &str) -> Vec<usize> {
        let (mut depth, mut found) = (0, Vec::new());
        for event in Parser::new(markdown) {
            match event {
                Event::Start(Tag::List(_)) => depth += 1,
                Event::End(TagEnd::List(_)) => depth -= 1,
                Event::Start(Tag::Item) => found.push(depth),
                _ => {}
            }
        }
        found
    }

    proptest! {
        #[test]
        fn words_and_levels_stay(markdown in "(\n {0,6}|\n\n|\n {0,6}[-*] |\n {0,6}1\\. |a|\n```\n|\t|>|b c){0,24}") {
            let read = indented(&markdown);
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&read), letters(&markdown));
        }
    }

    #[test]
    fn levels_stay_what_they_are() {
        let markdown = "- a\n  - b\n    1. c\n       - d\n  - e\n10. f\n    - g\n      - h";
        assert_eq!(depths(&indented(markdown)), depths(markdown));
    }
}
