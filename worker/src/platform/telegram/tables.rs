//! Tables whose rows have more cells than their heads. Readers of Markdown drop those cells; here the head gets
//! empty ones, so that every word arrives. Pure.

use std::borrow::Cow;

use pulldown_cmark::{Event, Options, Parser, Tag};

/// `markdown` with heads as wide as the widest of their rows.
pub(super) fn widened(markdown: &str, options: Options) -> Cow<'_, str> {
    let mut more = Vec::new();
    for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
        let Event::Start(Tag::Table(columns)) = event else { continue };
        let table = markdown.get(range.clone()).unwrap_or_default();
        let widest = table.lines().map(cells).max().unwrap_or_default();
        let missing = widest.saturating_sub(columns.len());
        if missing == 0 {
            continue;
        }
        let mut at = range.start;
        for (line, cell) in table.split_inclusive('\n').zip([" ", "---"]) {
            let end = line.trim_end();
            let open = if ends_open(end) { "|" } else { "" };
            more.push((at + end.len(), format!("{open}{}", format!("{cell}|").repeat(missing))));
            at += line.len();
        }
    }
    if more.is_empty() {
        return Cow::Borrowed(markdown);
    }
    let mut out = String::with_capacity(markdown.len());
    let mut from = 0;
    for (at, text) in more {
        out.push_str(markdown.get(from..at).unwrap_or_default());
        out.push_str(&text);
        from = at;
    }
    out.push_str(markdown.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// The cells of a row as it stands.
fn cells(line: &str) -> usize {
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '>');
    let line = line.strip_prefix('|').unwrap_or(line);
    let mut is_escaped = false;
    let mut bars = 0;
    for c in line.chars() {
        bars += usize::from(c == '|' && !is_escaped);
        is_escaped = c == '\\' && !is_escaped;
    }
    bars + usize::from(ends_open(line))
}

/// Whether no bar closes the last cell.
fn ends_open(line: &str) -> bool {
    let Some(before) = line.strip_suffix('|') else { return true };
    let escapes = before.len() - before.trim_end_matches('\\').len();
    escapes % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_as_wide_as_their_rows() {
        for (markdown, expected) in [
            ("a|b\n-|-\n1|2\n", "a|b\n-|-\n1|2\n"),
            ("a|b\n-|-\n1|2|3\n", "a|b| |\n-|-|---|\n1|2|3\n"),
            (
                "| a | b |\n| - | - |\n| 1 | 2 | 3 | 4 |",
                "| a | b | | |\n| - | - |---|---|\n| 1 | 2 | 3 | 4 |",
            ),
            ("> a|b\n> -|-\n> 1|2|3\n", "> a|b| |\n> -|-|---|\n> 1|2|3\n"),
            ("a|b\n-|-\n1|2\\|3\n", "a|b\n-|-\n1|2\\|3\n"),
            ("no | table | at all", "no | table | at all"),
        ] {
            let options = Options::ENABLE_TABLES;
            assert_eq!(widened(markdown, options), expected);
            // Every cell of it is read then.
            let read = widened(markdown, options).into_owned();
            assert_eq!(widened(&read, options), read);
        }
    }
}
