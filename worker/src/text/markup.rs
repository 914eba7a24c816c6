//! What of Markdown a cut must not tear: fenced blocks, tables, and what stands within a line.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag};

/// The opening line of a fence, or the head of a table, is repeated if it is at most this long: else a
/// fence is repeated without its language, and a head not at all.
const OPENING_MAX: usize = 32;
const HEAD_MAX: usize = 400;
/// A longer line is no beginning of a fence, whatever it begins with.
const FENCE_LINE_MAX: usize = 200;

/// A block that must not lose its beginning: `head..end` are its lines behind the opening.
#[derive(Debug)]
pub(super) struct Block {
    start: usize,
    pub(super) head: usize,
    /// Where its closing line begins.
    tail: usize,
    pub(super) end: usize,
    pub(super) again: String,
    pub(super) close: String,
    pub(super) is_fence: bool,
    pub(super) closed: bool,
}

/// A fence that runs to the end of the text is open there, too.
pub(super) fn open_block(blocks: &[Block], at: usize) -> Option<&Block> {
    blocks.iter().find(|block| !block.closed && block.head <= at && at <= block.end)
}

/// The fenced blocks and tables of `text`, in order.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut fence: Option<(Opening, Block)> = None;
    let mut before: Option<Range<usize>> = None;
    let mut table: Option<Block> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        if let Some((opening, block)) = &mut fence {
            if opening.is_closed_by(line) {
                (block.tail, block.end, block.closed) = (start, end, true);
                found.extend(fence.take().map(|(_, block)| block));
            }
            continue;
        }
        let is_row = line.contains('|');
        if let Some(block) = &mut table {
            if is_row {
                (block.tail, block.end) = (end, end);
                continue;
            }
            found.extend(table.take());
        }
        if let Some(opening) = Opening::read(line) {
            let block = Block {
                start,
                head: end,
                tail: text.len(),
                end: text.len(),
                again: opening.again(),
                close: opening.close(),
                is_fence: true,
                closed: false,
            };
            fence = Some((opening, block));
        } else if is_row
            && is_delimiter(line)
            && let Some(head) = before.take()
        {
            let again = text.get(head.start..end).filter(|it| it.len() <= HEAD_MAX);
            table = Some(Block {
                start: head.start,
                head: end,
                tail: end,
                end,
                again: again.unwrap_or_default().to_owned(),
                close: String::new(),
                is_fence: false,
                closed: true,
            });
        }
        before = is_row.then_some(start..end);
    }
    found.extend(table);
    found.extend(fence.map(|(_, block)| block));
    found
}

/// The opening line of a fence.
#[derive(Debug)]
struct Opening {
    lead: String,
    mark: char,
    marks: usize,
    language: String,
}

impl Opening {
    fn read(line: &str) -> Option<Self> {
        if line.len() > FENCE_LINE_MAX {
            return None;
        }
        let lead: String = line.chars().take_while(|c| matches!(c, ' ' | '\t' | '>')).collect();
        let rest = line.get(lead.len()..)?;
        // A fence may be the first thing in an item of a list.
        let item = rest.find(['`', '~']).filter(|at| {
            let marker = rest.get(..*at).unwrap_or_default();
            let word = marker.trim_end_matches(' ');
            marker.ends_with(' ')
                && (matches!(word, "-" | "*" | "+")
                    || word.strip_suffix(['.', ')']).is_some_and(|number| {
                        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
                    }))
        });
        let lead = lead + &" ".repeat(item.unwrap_or(0));
        let rest = rest.get(item.unwrap_or(0)..)?;
        let mark = rest.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let marks = rest.chars().take_while(|c| *c == mark).count();
        let language = rest.get(marks..)?.trim().to_owned();
        let is_fence = marks >= 3 && !(mark == '`' && language.contains('`'));
        is_fence.then_some(Self { lead, mark, marks, language })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let rest = line.trim_start_matches([' ', '\t', '>']).trim_end();
        rest.len() >= self.marks && rest.chars().all(|c| c == self.mark)
    }

    fn again(&self) -> String {
        let language = Some(self.language.as_str()).filter(|it| it.len() <= OPENING_MAX);
        format!("{}{}\n", self.close(), language.unwrap_or_default())
    }

    fn close(&self) -> String {
        format!("{}{}", self.lead, self.mark.to_string().repeat(self.marks))
    }
}

/// The line below the head of a table.
fn is_delimiter(line: &str) -> bool {
    line.contains('-')
        && line.trim().chars().all(|c| matches!(c, '|' | '-' | ':' | ' ' | '\t' | '>'))
}

/// Where a cut would tear something, in order and apart from one another.
pub(super) fn barred(text: &str, blocks: &[Block]) -> Vec<Range<usize>> {
    let mut barred: Vec<Range<usize>> = blocks
        .iter()
        .flat_map(|block| {
            let opening = block.start..block.head + 1;
            let closing = block.tail.saturating_sub(1)..block.end;
            [Some(opening), (block.is_fence && block.closed).then_some(closing)]
        })
        .flatten()
        .collect();
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES;
    let in_line = Parser::new_ext(text, options).into_offset_iter().filter(|(event, _)| {
        matches!(
            event,
            Event::Code(_)
                | Event::Start(
                    Tag::Link { .. }
                        | Tag::Image { .. }
                        | Tag::Emphasis
                        | Tag::Strong
                        | Tag::Strikethrough
                )
        )
    });
    barred.extend(in_line.map(|(_, range)| range));
    barred.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::with_capacity(barred.len());
    for range in barred {
        match apart.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

pub(super) fn is_barred(barred: &[Range<usize>], at: usize) -> bool {
    let next = barred.partition_point(|range| range.end <= at);
    barred.get(next).is_some_and(|range| range.start < at)
}
