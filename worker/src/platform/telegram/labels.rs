//! Where labels lead: `[1]: https://…`. Readers of Markdown show no such lines, and know one for each label. Where nothing
//! leads there, they are words that people are to see. Pure.

use std::collections::HashSet;
use std::iter::once;

use pulldown_cmark::{Event, Options, Parser, Tag};

/// The lines to which nothing leads, with their places, in order.
pub(super) fn unused(markdown: &str, options: Options) -> Vec<(usize, String)> {
    let parser = Parser::new_ext(markdown, options);
    let known = parser.reference_definitions().iter().map(|(label, known)| {
        let title = known.title.as_ref().map(|title| format!(" \"{title}\"")).unwrap_or_default();
        let words = format!("[{label}]: {}{title}", known.dest);
        (known.span.clone(), known.dest.to_string(), words)
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|(span, ..)| span.start);
    // What no block has.
    let (mut gaps, mut at) = (Vec::new(), 0);
    let mut used = HashSet::new();
    for (event, range) in parser.into_offset_iter() {
        gaps.extend((at < range.start).then_some(at..range.start));
        at = at.max(range.end);
        if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
            used.insert(dest_url.into_string());
        }
    }
    gaps.push(at..markdown.len());
    let mut lines = Vec::new();
    for gap in gaps {
        let mut from = gap.start;
        let first = known.partition_point(|(span, ..)| span.start < gap.start);
        let inside = known.iter().skip(first).take_while(|(span, ..)| span.start < gap.end);
        for to in inside.map(|(span, ..)| span.clone()).chain(once(gap.end..gap.end)) {
            // A label of which another line was the first.
            let words = markdown.get(from..to.start).unwrap_or_default().trim();
            lines.extend((!words.is_empty()).then(|| (from, plain(words))));
            from = to.end;
        }
    }
    let unused = known.into_iter().filter(|(_, address, _)| !used.contains(address));
    lines.extend(unused.map(|(span, _, words)| (span.start, words)));
    lines.sort_unstable();
    lines
}

/// Without what keeps the marks of an address from being any.
fn plain(words: &str) -> String {
    ["_", "*", "~"]
        .iter()
        .fold(words.to_owned(), |words, mark| words.replace(&format!("\\{mark}"), mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_to_which_nothing_leads_are_words() {
        for (markdown, expected) in [
            ("[a] and [b][c]\n\n[a]: x\n[c]: y", vec![]),
            ("a\n\n[c]: z 'z'\n\nb\n\n[b]: y\n[a]: x", vec!["[c]: z \"z\"", "[b]: y", "[a]: x"]),
            ("[a]: x\n[a]: \\_y\\_ 't'\n\n[a]\n\n[a]: z", vec!["[a]: _y_ 't'", "[a]: z"]),
            ("- b\n\n  [a]: x\n- c\n\n> [d]: y", vec!["[a]: x", "[d]: y"]),
            ("```\n[a]: x\n```\n    [b]: y", vec![]),
        ] {
            let found = unused(markdown, Options::empty());
            let words: Vec<_> = found.iter().map(|(_, words)| words.as_str()).collect();
            assert_eq!(words, expected, "{markdown}");
        }
    }
}
