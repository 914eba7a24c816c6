//! A reply in Markdown, as text and the styles of its parts. Pure.
//!
//! The platform has markup languages of its own, in which one forgotten backslash fails the whole message.
//! Text with places beside it cannot fail: whatever an agent writes, its words arrive. What the platform
//! cannot show (lists, tables, rules) is drawn with characters.

use std::fmt::Write as _;
use std::mem::take;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::labels;
use super::tables::widened;
use crate::meant::{Means, meant, shallow};
use crate::urls::shielded;

/// No letter of anybody's: what is put beside marks so that they are read as they were meant.
const MEANS: Means = Means { glue: '\u{fffe}', tilde: "\\~" };
/// Letters of a column; no screen shows more of them in a line.
const COLUMN_MAX: usize = 80;
/// Levels of lists; no screen shows more of them beside one another.
const LEVELS_MAX: usize = 8;
/// Of the words of a link, in bytes, in which its address is looked for.
const WORDS_MAX: usize = 4096;

/// A text and its styles.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Marked {
    /// As people read it.
    pub(super) text: String,
    /// Which bytes of it look how.
    pub(super) spans: Vec<Span>,
}

/// A styled part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// How it looks.
    pub(super) style: Style,
    /// Which bytes.
    pub(super) range: Range<usize>,
}

/// A look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// Heavy.
    Bold,
    /// Slanted.
    Italic,
    /// Struck through.
    Strike,
    /// Code in a line.
    Code,
    /// Code of its own, in a language if one is named.
    Pre(String),
    /// Leads to an address.
    Link(String),
    /// What somebody else said.
    Quote,
}

/// Reads Markdown. What has no words left is taken as it stands.
pub(super) fn marked(markdown: &str) -> Marked {
    let options =
        Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    let shallow = shallow(markdown, MEANS.glue);
    let meant = meant(&shallow, options, MEANS);
    let shielded = shielded(&meant, options);
    let widened = widened(&shielded, options);
    let mut lines = labels::unused(&widened, options).into_iter().peekable();
    let mut writer = Writer::default();
    for (event, range) in Parser::new_ext(&widened, options).into_offset_iter() {
        let place = if matches!(event, Event::End(_)) { range.end } else { range.start };
        while let Some((_, line)) = lines.next_if(|(at, _)| *at < place) {
            writer.line(&line);
        }
        writer.take(event);
    }
    lines.for_each(|(_, line)| writer.line(&line));
    let mut marked = writer.done;
    if marked.text.trim().is_empty() {
        return Marked { text: markdown.to_owned(), spans: Vec::new() };
    }
    marked.spans.retain(|span| !span.range.is_empty());
    marked.spans.sort_by_key(|span| (span.range.start, std::cmp::Reverse(span.range.end)));
    marked
}

/// What ends with the next end of its sort.
enum Open {
    Span(Style, usize),
    /// Its words begin there. What the platform cannot show as a link is written behind them.
    Link {
        address: String,
        title: String,
        start: usize,
        shown: bool,
    },
    /// Looks like what it is in.
    Nothing,
}

#[derive(Default)]
struct Writer {
    done: Marked,
    open: Vec<Open>,
    /// The styles of it in their order, and whether people see a link there: what is open may be as deep as a text is
    /// long.
    looks: Vec<Style>,
    in_link: bool,
    /// Line ends before what comes next.
    gap: usize,
    /// The next number of each open list, if it is numbered.
    lists: Vec<Option<u64>>,
    /// The rows of the open table.
    table: Option<Vec<Vec<String>>>,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.push(&text),
            Event::Code(text) => {
                self.open(Style::Code);
                self.push(&text);
                self.close();
            }
            Event::Html(text) => {
                self.push(text.trim_end_matches('\n'));
                self.gap(1);
            }
            Event::InlineHtml(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.push(&text);
            }
            Event::FootnoteReference(name) => self.push(&format!("[^{name}]")),
            Event::SoftBreak | Event::HardBreak => {
                self.gap += 1;
                self.settle(self.lists.len());
            }
            Event::Rule => {
                self.gap(2);
                self.push("———");
                self.gap(2);
            }
            Event::TaskListMarker(done) => self.push(if done { "☑ " } else { "☐ " }),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } => {
                self.gap(2);
                self.open(Style::Bold);
            }
            Tag::BlockQuote(_) => {
                self.gap(1);
                self.open(Style::Quote);
            }
            Tag::CodeBlock(kind) => {
                self.gap(1);
                let info = match kind {
                    CodeBlockKind::Fenced(info) => info,
                    CodeBlockKind::Indented => "".into(),
                };
                let language = language(info.trim());
                self.open(Style::Pre(language.unwrap_or_default().to_owned()));
                if language.is_none() {
                    // What somebody began on the line of the fence itself.
                    self.push(info.trim());
                    self.push("\n");
                }
            }
            Tag::List(first) => {
                self.gap(1);
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Table(_) => {
                self.gap(2);
                self.open(Style::Pre(String::new()));
                self.table = Some(Vec::new());
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(rows) = &mut self.table {
                    rows.push(Vec::new());
                }
            }
            Tag::TableCell => {
                if let Some(row) = self.table.as_mut().and_then(|rows| rows.last_mut()) {
                    row.push(String::new());
                }
            }
            Tag::Emphasis => self.open(Style::Italic),
            Tag::Strong => self.open(Style::Bold),
            Tag::Strikethrough => self.open(Style::Strike),
            Tag::Link { dest_url, title, .. } | Tag::Image { dest_url, title, .. } => {
                self.link(&dest_url, title.into_string());
            }
            Tag::Paragraph
            | Tag::HtmlBlock
            | Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.gap(2),
            TagEnd::Heading(_) | TagEnd::BlockQuote(_) => {
                self.close();
                self.gap(2);
            }
            TagEnd::CodeBlock => {
                // The last line end of the code; before an empty block stands what is not its own.
                let own = matches!(self.open.last(), Some(Open::Span(_, start)) if self.done.text.len() > *start);
                // A word before no code is no language.
                if let (false, Some(Open::Span(Style::Pre(language), _))) =
                    (own, self.open.last_mut())
                {
                    let word = take(language);
                    self.push(&word);
                }
                if own && self.done.text.ends_with('\n') {
                    self.done.text.pop();
                }
                self.close();
                self.gap(2);
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.gap(if self.lists.is_empty() { 2 } else { 1 });
            }
            TagEnd::Item => self.gap(1),
            TagEnd::Table => {
                let rows = self.table.take().unwrap_or_default();
                self.push(&drawn(&rows));
                self.close();
                self.gap(2);
            }
            TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Link
            | TagEnd::Image => self.close(),
            TagEnd::TableHead
            | TagEnd::TableRow
            | TagEnd::TableCell
            | TagEnd::FootnoteDefinition
            | TagEnd::DefinitionList
            | TagEnd::DefinitionListTitle
            | TagEnd::DefinitionListDefinition
            | TagEnd::Superscript
            | TagEnd::Subscript
            | TagEnd::MetadataBlock(_) => {}
        }
    }

    fn line(&mut self, line: &str) {
        self.gap(1);
        self.push(line);
        self.gap(1);
    }

    fn item(&mut self) {
        self.gap(1);
        self.settle(self.lists.len().saturating_sub(1));
        let mut head = String::new();
        match self.lists.last_mut() {
            Some(Some(number)) => {
                let _ = write!(head, "{number}. ");
                *number = number.saturating_add(1);
            }
            _ => head.push_str("• "),
        }
        self.push(&head);
    }

    /// Of nested links the platform shows one, and none in a table, which is drawn.
    fn link(&mut self, address: &str, title: String) {
        if self.table.is_none() {
            self.settle(self.lists.len());
        }
        let shown = self.table.is_none() && !self.in_link && is_taken(address);
        self.in_link |= shown;
        let start = self.target().len();
        let address = address.strip_prefix("mailto:").unwrap_or(address).to_owned();
        self.open.push(Open::Link { address, title, start, shown });
    }

    /// What is written to.
    fn target(&mut self) -> &mut String {
        let cell = self.table.as_mut().and_then(|rows| rows.last_mut()?.last_mut());
        cell.unwrap_or(&mut self.done.text)
    }

    /// At least so many line ends come before what comes next.
    fn gap(&mut self, lines: usize) {
        self.gap = self.gap.max(lines);
    }

    fn push(&mut self, text: &str) {
        if text.contains(MEANS.glue) {
            return self.push(&text.replace(MEANS.glue, ""));
        }
        if let Some(cell) = self.table.as_mut().and_then(|rows| rows.last_mut()?.last_mut()) {
            cell.push_str(&text.replace('\n', " "));
            return;
        }
        self.settle(self.lists.len());
        self.done.text.push_str(text);
    }

    /// Writes the gap, except at the very beginning, and begins the line behind it so far in.
    fn settle(&mut self, levels: usize) {
        let lines = take(&mut self.gap);
        if lines > 0 && !self.done.text.is_empty() {
            let there = self.done.text.len() - self.done.text.trim_end_matches('\n').len();
            self.done.text.push_str(&"\n".repeat(lines.saturating_sub(there)));
            self.done.text.push_str(&"  ".repeat(levels.min(LEVELS_MAX)));
        }
    }

    fn open(&mut self, style: Style) {
        // A style in itself shows nothing more, and costs one of those that a message may have. Of code in a
        // link the platform shows only the code.
        if self.looks.contains(&style) || style == Style::Code && self.in_link {
            self.open.push(Open::Nothing);
            return;
        }
        if self.table.is_none() {
            // Blocks of their own begin their line.
            let is_block = matches!(style, Style::Pre(_) | Style::Quote);
            self.settle(if is_block { 0 } else { self.lists.len() });
        }
        self.looks.push(style.clone());
        self.open.push(Open::Span(style, self.done.text.len()));
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Open::Span(style, start)) => {
                self.looks.pop();
                let range = start..self.done.text.len();
                self.done.spans.push(Span { style, range });
            }
            Some(Open::Link { address, title, start, shown }) => {
                self.in_link &= !shown;
                let words = self.target().get(start..).unwrap_or_default().trim();
                let is_told =
                    title.is_empty() || words.len() <= WORDS_MAX && words.contains(&title);
                match (words.is_empty(), is_told) {
                    (true, true) => return self.push(&address),
                    (true, false) => self.push(&title),
                    (false, true) => {}
                    (false, false) => self.push(&format!(" ({title})")),
                }
                let range = start..self.target().len();
                let words = self.target().get(range.clone()).unwrap_or_default();
                if shown {
                    self.done.spans.push(Span { style: Style::Link(address), range });
                } else if words.len() > WORDS_MAX || !words.contains(&address) {
                    self.push(&format!(" ({address})"));
                }
            }
            Some(Open::Nothing) | None => {}
        }
    }
}

/// Whether the platform takes links to it: to itself, and to the web where the host has a dot. Others it
/// drops without a word.
pub(super) fn is_taken(address: &str) -> bool {
    if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return false;
    }
    let Some((scheme, rest)) = address.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => host.contains('.') || host.starts_with('['),
        "tg" => true,
        _ => false,
    }
}

/// The word for a language, if it is one.
fn language(info: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-#_.".contains(c);
    (info.len() <= 32 && info.chars().all(plain)).then_some(info)
}

/// A table whose columns stand below one another where every letter is as wide as the others, as far as a line can
/// show it: a cell that is longer moves what is behind it, and nothing else.
fn drawn(rows: &[Vec<String>]) -> String {
    let wide = |text: &String| Some(text.chars().count()).filter(|wide| *wide <= COLUMN_MAX);
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| wide(row.get(column)?)).max().unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join(" | ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "markup_tests.rs"]
mod tests;
