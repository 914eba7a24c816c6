//! Addresses that stand in a text as they are.
//!
//! Markdown knows them only between angle brackets. Else a pair of `_` or `*` in one is emphasis and vanishes,
//! and the address leads nowhere. People who write one mean every letter of it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag};

use crate::meant::shallow;

/// The same Markdown, in which the marks of such addresses are nothing but letters. A mark at the end of one
/// stays what it is where it ends what began before the address, as in `**https://x.y**`.
pub fn shielded(markdown: &str, options: Options) -> Cow<'_, str> {
    let found = addresses(markdown);
    if found.iter().all(|range| !markdown.get(range.clone()).unwrap_or_default().contains(is_mark))
    {
        return Cow::Borrowed(markdown);
    }
    let begins_outside = |style: &Range<usize>| {
        let within = found.partition_point(|it| it.end <= style.start);
        found.get(within).is_none_or(|it| style.start < it.start)
    };
    // What shows or leads as it is written, and where the styles end that began outside of an address.
    let mut exact: Vec<Range<usize>> = Vec::new();
    let mut styles: HashSet<usize> = HashSet::new();
    for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough) => {
                styles.extend(begins_outside(&range).then_some(range.end));
            }
            Event::Start(Tag::CodeBlock(_) | Tag::Link { .. } | Tag::Image { .. })
            | Event::Code(_)
            | Event::Html(_)
            | Event::InlineHtml(_) => exact.push(range),
            _ => {}
        }
    }
    exact.sort_by_key(|range| range.start);
    let mut shielded = String::with_capacity(markdown.len() + 16);
    let mut at = 0;
    for address in &found {
        let next = exact.partition_point(|range| range.end <= address.start);
        if exact.get(next).is_some_and(|range| range.start < address.end) {
            continue;
        }
        let text = markdown.get(address.clone()).unwrap_or_default();
        let last = address.start + text.trim_end_matches(is_trailing).len();
        // One mark or two end a style.
        let ends = |place: usize| {
            place >= last && (styles.contains(&(place + 1)) || styles.contains(&(place + 2)))
        };
        let mut escaped = false;
        for (offset, c) in text.char_indices() {
            let place = address.start + offset;
            if is_mark(c) && !escaped && !ends(place) {
                shielded.push_str(markdown.get(at..place).unwrap_or_default());
                shielded.push('\\');
                at = place;
            }
            escaped = c == '\\' && !escaped;
        }
    }
    shielded.push_str(markdown.get(at..).unwrap_or_default());
    Cow::Owned(shielded)
}

/// A link of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Where it stands, with all of its marks.
    pub range: Range<usize>,
    /// Where it leads.
    pub to: String,
    /// What people read, in Markdown.
    pub words: String,
}

/// The links of a text, in order: those with words of their own. One that takes too long to be read has none.
pub fn links(markdown: &str) -> Vec<Link> {
    if matches!(shallow(markdown, ' '), Cow::Owned(_)) {
        return Vec::new();
    }
    let link = |(event, range): (Event<'_>, Range<usize>)| {
        let Event::Start(Tag::Link { link_type: LinkType::Inline, dest_url, .. }) = event else {
            return None;
        };
        let words = markdown.get(range.clone())?.strip_prefix('[')?.rsplit_once("](")?.0;
        Some(Link { range, to: dest_url.into_string(), words: words.to_owned() })
    };
    Parser::new_ext(markdown, Options::ENABLE_TABLES).into_offset_iter().filter_map(link).collect()
}

fn is_mark(c: char) -> bool {
    matches!(c, '_' | '*' | '~')
}

/// What ends a sentence or a style rather than belongs to an address.
fn is_trailing(c: char) -> bool {
    is_mark(c) || matches!(c, '.' | ',' | ':' | ';' | '!' | '?' | '\'' | ')' | ']' | '}')
}

/// Where such addresses are, in order.
pub(crate) fn addresses(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.match_indices("://") {
        let before = text.get(..at).unwrap_or_default();
        let scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let start = before.trim_end_matches(scheme).len();
        if start == at || found.last().is_some_and(|last| start < last.end) {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let mut mark = false;
        let length = rest.find(|c: char| {
            let ends = match c {
                '<' | '>' | '"' | '`' | '|' => true,
                c if c.is_ascii() => !c.is_ascii_graphic(),
                // Where words stand without spaces, a style ends directly before the next one.
                c => mark || !c.is_alphanumeric(),
            };
            mark = is_mark(c);
            ends
        });
        found.push(start..at + length.unwrap_or(rest.len()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shield(markdown: &str) -> String {
        shielded(markdown, Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES).into_owned()
    }

    #[test]
    fn marks_within_an_address_are_letters() {
        for (markdown, expected) in [
            ("https://x.y/__init__.py", r"https://x.y/\_\_init\_\_.py"),
            ("a https://x.y/_next_/s b", r"a https://x.y/\_next\_/s b"),
            (r"https://x.y/a\_b_c", r"https://x.y/a\_b\_c"),
            ("https://x.y/_, https://x.y/_,", r"https://x.y/\_, https://x.y/\_,"),
            ("https://x.y/日_a_/b", r"https://x.y/日\_a\_/b"),
            ("ftp://x.y/~a~b", r"ftp://x.y/\~a\~b"),
        ] {
            assert_eq!(shield(markdown), expected);
        }
    }

    #[test]
    fn styles_around_an_address_stay() {
        for markdown in [
            "**https://x.y/a**",
            "*see https://x.y/a*, and _https://x.y_.",
            "**看https://x.y/a**然后**b**",
            "(**https://x.y/a**)",
            "~~https://x.y/a~~ b",
        ] {
            assert_eq!(shield(markdown), markdown);
        }
        assert_eq!(shield("**https://x.y/_a_/b**"), r"**https://x.y/\_a\_/b**");
    }

    /// One look at all of the others for each mark would take minutes here, while nothing else is served.
    #[test]
    fn a_text_full_of_styles_and_addresses_is_read_once() {
        for (line, expected) in [
            ("*a* b://c_ ", r"*a* b://c\_ "),
            ("- **https://example.org/path/123**\n", "- **https://example.org/path/123**\n"),
        ] {
            let times = (1 << 19) / line.len();
            assert_eq!(shield(&line.repeat(times)), expected.repeat(times));
        }
    }

    #[test]
    fn links_of_a_text_that_takes_minutes_to_read_stay_in_it() {
        let link = "[a](https://x.y)";
        assert_eq!(links(&format!("> - {link}")).len(), 1);
        let (quotes, lines) = (">".repeat(1 << 17), "\nb".repeat(1 << 17));
        assert_eq!(links(&format!("{quotes}{link}{lines}")), []);
    }

    #[test]
    fn what_shows_as_it_is_written_is_left_alone() {
        for markdown in [
            "`https://x.y/_a_`",
            "```\nhttps://x.y/_a_\n```",
            "[t](https://x.y/_a_)",
            "<https://x.y/_a_>",
            "<a href=\"https://x.y/_a_\">",
            "no _address_ at all: //x/_a_",
        ] {
            assert_eq!(shield(markdown), markdown);
        }
    }
}
