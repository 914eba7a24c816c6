//! What writers of Markdown mean where its readers see something else. Pure.
//!
//! By the rule of `CommonMark`, which was made for words between spaces, `**` beside a sign is often no emphasis
//! where words stand without spaces: of `这是**“重点”**的` people would see the stars, or `的` in bold. And one tilde is
//! no line through anything: `10~20, 30~40` are ranges.

use std::borrow::Cow;
use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::urls::addresses;

/// What makes it readable: both are shown as nothing, or as what was meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    /// Put between a `**` and the sign beside it.
    pub(crate) glue: char,
    /// In the place of a tilde that is a letter.
    pub(crate) tilde: &'static str,
}

/// Marks of quotes and of items before the words of a line; nobody sees more of them beside one another.
const MARKS_MAX: usize = 32;

/// The same Markdown, of which no line begins with more marks than that: readers of Markdown look at all that are open
/// for each line behind them. Further ones are made letters by `glue`.
pub(crate) fn shallow(markdown: &str, glue: char) -> Cow<'_, str> {
    let mut at = 0;
    let mut changes = Vec::new();
    for line in markdown.split_inclusive('\n') {
        if let Some(words) = within(line) {
            changes.push((at + line.len() - words.len(), 0, glue.to_string()));
        }
        at += line.len();
    }
    if changes.is_empty() {
        Cow::Borrowed(markdown)
    } else {
        Cow::Owned(changed(markdown, changes))
    }
}

/// What follows the marks at the beginning of a line, if it is one mark too many.
fn within(line: &str) -> Option<&str> {
    let unmarked = |line: &'_ str| {
        let line = line.trim_start_matches([' ', '\t']);
        let is_number = |c: char| c.is_ascii_digit();
        let item = line
            .strip_prefix(['-', '*', '+'])
            .or_else(|| line.trim_start_matches(is_number).strip_prefix(['.', ')']))
            .filter(|behind| behind.starts_with([' ', '\t']));
        line.strip_prefix('>').or(item).map(str::len)
    };
    let mut rest = line;
    for _ in 0..MARKS_MAX {
        rest = rest.get(rest.len() - unmarked(rest)?..)?;
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    unmarked(rest).map(|_| rest)
}

/// The same Markdown, in which readers find the emphasis that was meant, and lines through nothing but what two
/// tildes stand around.
pub(crate) fn meant(markdown: &str, options: Options, by: Means) -> Cow<'_, str> {
    if !markdown.contains("**") && !markdown.contains('~') {
        return Cow::Borrowed(markdown);
    }
    let marks = Marks::of(markdown, options);
    let tildes = marks.tildes.iter().map(|(at, _)| (*at, 1, by.tilde.to_owned()));
    let mut changes: Vec<_> = tildes.collect();
    if 2 * marks.right < marks.stars.len() {
        let glued = marks.glued(markdown).into_iter().map(|at| (at, 0, by.glue.to_string()));
        let glued: Vec<_> = glued.collect();
        let is_better = Marks::of(&changed(markdown, glued.clone()), options).right > marks.right;
        changes.extend(glued.into_iter().filter(|_| is_better));
    }
    if changes.is_empty() {
        return Cow::Borrowed(markdown);
    }
    Cow::Owned(changed(markdown, changes))
}

/// Where marks stand that may be meant otherwise.
#[derive(Default)]
struct Marks {
    /// Pairs of stars, whatever they are taken for, and the block that each is in.
    stars: Vec<(usize, usize)>,
    /// Tildes that stand alone, and the block that each is in: some readers take what is between two of them for
    /// struck through.
    tildes: Vec<(usize, usize)>,
    /// What stands between two of them, by the rule.
    strong: Vec<(usize, usize)>,
    /// How much of it stands between one that begins something and the next one.
    right: usize,
    /// Blocks so far.
    blocks: usize,
}

impl Marks {
    fn of(markdown: &str, options: Options) -> Self {
        let mut marks = Self::default();
        let mut in_code = false;
        // What is text up to there, and from where.
        let (mut from, mut to) = (0, 0);
        for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
            let source = markdown.get(range.clone()).unwrap_or_default();
            match event {
                Event::Start(Tag::CodeBlock(_)) => in_code = true,
                Event::End(TagEnd::CodeBlock) => in_code = false,
                Event::Start(Tag::Paragraph | Tag::Heading { .. } | Tag::Item | Tag::TableCell) => {
                    marks.seen(markdown, from..to);
                    (from, to) = (range.start, range.start);
                    marks.blocks += 1;
                }
                Event::Start(Tag::Strong) if source.starts_with("**") => {
                    marks.star(markdown, range.start);
                    marks.star(markdown, range.end - 2);
                    marks.strong.push((range.start, range.end - 2));
                }
                Event::Start(Tag::Strikethrough) if !source.starts_with("~~") => {
                    marks.tildes.extend([range.start, range.end - 1].map(|at| (at, marks.blocks)));
                }
                Event::Text(_) if !in_code => {
                    if range.start != to {
                        marks.seen(markdown, from..to);
                        from = range.start;
                    }
                    to = range.end;
                }
                _ => {}
            }
        }
        marks.seen(markdown, from..to);
        marks.stars.sort_unstable();
        marks.strong.sort_unstable();
        let is_right = |pair: &(usize, usize)| marks.strong.binary_search(pair).is_ok();
        marks.right = marks.pairs().filter(is_right).count();
        let addresses = addresses(markdown);
        marks.tildes.retain(|(at, _)| {
            let next = addresses.partition_point(|address| address.end <= *at);
            addresses.get(next).is_none_or(|address| *at < address.start)
        });
        marks.tildes.sort_unstable();
        let rows = marks.tildes.chunk_by(|(_, block), (_, next)| block == next);
        marks.tildes = rows.filter(|row| row.len() > 1).flatten().copied().collect();
        marks
    }

    fn seen(&mut self, markdown: &str, text: Range<usize>) {
        let words = markdown.get(text.clone()).unwrap_or_default();
        let tildes = words.match_indices('~').map(|(at, _)| text.start + at);
        let tildes = tildes.filter(|at| is_alone(markdown, *at));
        self.tildes.extend(tildes.map(|at| (at, self.blocks)));
        for (at, _) in words.match_indices("**") {
            self.star(markdown, text.start + at);
        }
    }

    fn star(&mut self, markdown: &str, at: usize) {
        self.stars.extend(is_pair(markdown, at).then_some((at, self.blocks)));
    }

    /// Where stars are to be parted from the sign beside them.
    fn glued(&self, markdown: &str) -> Vec<usize> {
        self.pairs().flat_map(|(from, to)| glue(markdown, from, to)).flatten().collect()
    }

    /// In each block every second pair of stars ends what the one before it began.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.stars.chunk_by(|(_, block), (_, next)| block == next);
        let pair = |pair: &[(usize, usize)]| Some((pair.first()?.0, pair.get(1)?.0));
        rows.flat_map(move |row| row.chunks(2).filter_map(pair))
    }
}

/// Whether a tilde stands alone, and neither begins a path nor a name in one.
fn is_alone(markdown: &str, at: usize) -> bool {
    let (before, rest) = markdown.split_at_checked(at).unwrap_or_default();
    !before.ends_with(['~', '\\', '/']) && !rest.starts_with("~~") && !rest.starts_with("~/")
}

/// Whether exactly two stars stand there, and mean something.
fn is_pair(markdown: &str, at: usize) -> bool {
    let (before, rest) = markdown.split_at_checked(at).unwrap_or_default();
    let behind = rest.strip_prefix("**");
    !before.ends_with(['*', '\\']) && behind.is_some_and(|behind| !behind.starts_with('*'))
}

/// Where to part the stars that begin something, and those that end it, from the sign within, if that keeps them from
/// it: on their other side is a letter, and something beside them is of a script without spaces.
fn glue(markdown: &str, from: usize, to: usize) -> [Option<usize>; 2] {
    let beside = |at: usize| {
        let (before, stars) = markdown.split_at_checked(at).unwrap_or_default();
        [before.chars().next_back(), stars.chars().nth(2)]
    };
    let ([before, first], [last, behind]) = (beside(from), beside(to));
    let is_dense = [before, first, last, behind].into_iter().flatten().any(|c| !c.is_ascii());
    let parts = |within: Option<char>, beyond: Option<char>| {
        let is_sign = within.is_some_and(|c| !c.is_alphanumeric() && !c.is_whitespace());
        is_dense && is_sign && beyond.is_some_and(char::is_alphanumeric)
    };
    [parts(first, before).then_some(from + 2), parts(last, behind).then_some(to)]
}

/// With these bytes, so many from there on, replaced.
fn changed(markdown: &str, mut changes: Vec<(usize, usize, String)>) -> String {
    changes.sort_unstable();
    let mut out = String::with_capacity(markdown.len() + 4 * changes.len());
    let mut from = 0;
    for (at, length, text) in changes {
        out.push_str(markdown.get(from..at).unwrap_or_default());
        out.push_str(&text);
        from = at + length;
    }
    out.push_str(markdown.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options() -> Options {
        Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES
    }

    fn read(markdown: &str) -> String {
        let read = meant(markdown, options(), Means { glue: '\u{200b}', tilde: "-" });
        read.replace('\u{200b}', "|")
    }

    #[test]
    fn emphasis_beside_signs_is_what_was_meant() {
        for (markdown, expected) in [
            ("这是**“重点”**的", "这是**|“重点”|**的"),
            ("**注意：**请看", "**注意：|**请看"),
            ("请**“甲”**和**“乙”**。", "请**|“甲”|**和**|“乙”**。"),
            ("用**`cargo build`**命令", "用**|`cargo build`|**命令"),
            ("用**`npm`**v8", "用**|`npm`|**v8"),
            ("- 甲（**乙**）：**丙。**丁", "- 甲（**乙**）：**丙。|**丁"),
            // Here all would be bold, and no star is seen.
            ("- **甲：**乙**丙**丁", "- **甲：|**乙**丙**丁"),
        ] {
            assert_eq!(read(markdown), expected);
            let glued = expected.replace('|', "\u{200b}");
            let marks = Marks::of(&glued, options());
            assert_eq!(2 * marks.right, marks.stars.len(), "{expected}");
        }
        for same in [
            "**中文**后面",
            "a **b** c",
            "2**“",
            "`中**“x”**中`",
            "```\n中**“x”**中\n```",
            r"中\**“x”\**中",
            "**open，中",
            "a**.b.**c",
            "[中](https://x.y/**。**a)",
        ] {
            assert_eq!(read(same), same);
        }
    }

    #[test]
    fn one_tilde_is_a_letter() {
        assert_eq!(read("约10~20，30~40"), "约10-20，30-40");
        assert_eq!(read("~a~ (~1) ~~b~~ c~d"), "-a- (-1) ~~b~~ c-d");
        for same in [
            "HEAD~1",
            "- about ~5\n- or ~6",
            "x.edu/~a or y.edu/~b",
            "~~gone~~",
            "~/a and ~/b",
            "`1~2~3`",
            "~~~\n1~2\n~~~",
            "https://x.y/~a~b",
            r"\~a\~",
        ] {
            assert_eq!(read(same), same);
        }
    }

    #[test]
    fn no_line_begins_with_marks_without_end() {
        for mark in [">", "> ", "- ", "1. ", "> * ", "+\t", "12) > "] {
            let deep = format!("a\n{}b\n", mark.repeat(1000));
            let read = shallow(&deep, '|');
            assert_eq!(read.replace('|', ""), deep);
            let line = read.lines().nth(1).unwrap();
            let (marks, words) = line.split_once('|').unwrap();
            let marks = marks.matches(['>', '-', '*', '+', '.', ')']).count();
            assert!(marks == MARKS_MAX && !words.starts_with(' '), "{line}");
        }
        for same in ["> > > a", &"-".repeat(99), &"*".repeat(99), "1.2.3", &"> ".repeat(MARKS_MAX)]
        {
            assert_eq!(shallow(same, '|'), same);
        }
    }

    proptest! {
        #[test]
        fn nothing_but_glue_is_added(markdown in "([a中“。`~ ]|\\*\\*|\\*|\n){0,40}") {
            let read = meant(&markdown, options(), Means { glue: '\u{200b}', tilde: "~" });
            prop_assert_eq!(read.replace('\u{200b}', ""), markdown);
        }
    }
}
