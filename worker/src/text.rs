//! Splitting a text that is too long for one message, in whatever unit a platform counts.
//!
//! A cut falls, if possible, behind an empty line, else behind a line, else behind a word, else between
//! two characters as a reader sees them (a flag or a letter with its accents is one). Nothing is left
//! out. Markup is not torn: a cut avoids links, emphasis and code within a line; a fenced block that it
//! falls into is closed before it and opened again behind it, and a table shows its head again.

mod markup;

use unicode_segmentation::UnicodeSegmentation as _;

use self::markup::{barred, blocks, is_barred, open_block};

/// A part of a text. The bodies of all parts are the text, nothing more and nothing less.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// Opens again what was open.
    pub opening: String,
    /// The text itself.
    pub body: &'a str,
    /// Closes what is open.
    pub closing: String,
}

/// Splits `text` into parts of which none costs more than `limit`, where the cost of a part is that of
/// its characters. Parts of nothing but white space are dropped. A `limit` too small for a single
/// character is exceeded by that character.
pub fn split(text: &str, limit: usize, cost: impl Fn(char) -> usize) -> Vec<String> {
    let mut parts: Vec<String> = pieces(text, limit, cost)
        .into_iter()
        .map(|piece| piece.opening + piece.body + &piece.closing)
        .collect();
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The same, with what belongs to the text told from what was added, and with every part.
pub fn pieces(text: &str, limit: usize, cost: impl Fn(char) -> usize) -> Vec<Piece<'_>> {
    let price = |text: &str| text.chars().map(&cost).sum::<usize>();
    let blocks = blocks(text);
    if price(text) <= limit && blocks.iter().all(|block| block.closed) {
        let whole = Piece { opening: String::new(), body: text, closing: String::new() };
        return if text.is_empty() { Vec::new() } else { vec![whole] };
    }
    let barred = barred(text, &blocks);
    let inside = |at: usize| blocks.iter().find(|block| block.head <= at && at < block.end);
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let opening = match inside(at) {
            Some(block) if block.is_fence || text[..at].ends_with('\n') => block.again.clone(),
            _ => String::new(),
        };
        let left = limit.saturating_sub(price(&opening));
        let open_end = blocks.iter().find(|block| !block.closed).map(|block| block.close.clone());
        let last_cost = open_end.as_deref().map_or(0, |close| price(close) + price("\n"));
        if price(rest) <= left.saturating_sub(last_cost) {
            let closing = open_end.map(|close| closing(rest, &close)).unwrap_or_default();
            parts.push(Piece { opening, body: rest, closing });
            break;
        }
        // What may have to be closed is not known before the cut: room for the longest.
        let most = blocks.iter().map(|block| price(&block.close) + price("\n")).max();
        let room = left.saturating_sub(most.unwrap_or(0));
        let length = cut_outside(rest, room, &cost, |place| is_barred(&barred, at + place));
        let body = rest.get(..length).unwrap_or(rest);
        at += body.len();
        let closing = match inside(at).or(open_block(&blocks, at)) {
            Some(block) if block.is_fence => closing(body, &block.close),
            _ => String::new(),
        };
        parts.push(Piece { opening, body, closing });
    }
    parts
}

fn closing(body: &str, close: &str) -> String {
    let line_end = if body.ends_with('\n') { "" } else { "\n" };
    format!("{line_end}{close}")
}

/// Where to cut `text` so that what is before costs at most `room`, wherever that may be: never at 0.
pub fn cut(text: &str, room: usize, cost: &impl Fn(char) -> usize) -> usize {
    cut_outside(text, room, cost, |_| false)
}

/// The same, but not at a place that is barred, unless there is no other.
fn cut_outside(
    text: &str,
    room: usize,
    cost: &impl Fn(char) -> usize,
    barred: impl Fn(usize) -> bool,
) -> usize {
    // The best place of each sort so far, best sort first.
    let mut places = [0; 3];
    let mut spent = 0;
    let (mut end, mut free) = (0, 0);
    for (at, cluster) in text.grapheme_indices(true) {
        let price = cluster.chars().map(cost).sum::<usize>();
        if spent + price > room {
            break;
        }
        spent += price;
        end = at + cluster.len();
        if barred(end) {
            continue;
        }
        free = end;
        let [paragraph, line, word] = &mut places;
        // A place in the first half would make parts needlessly small.
        if spent * 2 >= room && cluster.chars().all(char::is_whitespace) {
            *word = end;
            if cluster.ends_with('\n') {
                *line = end;
                if text.get(..at).is_some_and(|before| before.ends_with('\n')) {
                    *paragraph = end;
                }
            }
        }
    }
    match places.into_iter().find(|place| *place > 0) {
        Some(place) => place,
        None if free > 0 => free,
        None if end > 0 => end,
        None => within_cluster(text, room, cost),
    }
}

/// The first cluster alone is too large (a pile of accents): cut between its characters.
fn within_cluster(text: &str, room: usize, cost: &impl Fn(char) -> usize) -> usize {
    let mut spent = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        spent += cost(c);
        if end > 0 && spent > room {
            break;
        }
        end = at + c.len_utf8();
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_segmentation::UnicodeSegmentation as _;

    fn split(text: &str, limit: usize) -> Vec<String> {
        super::split(text, limit, char::len_utf8)
    }

    #[test]
    fn what_fits_stays_whole() {
        assert_eq!(split("one two", 7), ["one two"]);
        assert!(split("", 7).is_empty());
        assert!(split(" \n ", 7).is_empty());
    }

    #[test]
    fn cuts_prefer_paragraphs_then_lines_then_words() {
        let text = "aaaa bb\n\ncccc d\neeee ffff gggg hhhh iiii jjjj";
        assert_eq!(
            split(text, 16),
            ["aaaa bb\n\n", "cccc d\neeee ", "ffff gggg hhhh ", "iiii jjjj"]
        );
        assert_eq!(split(&"x".repeat(25), 10), ["xxxxxxxxxx", "xxxxxxxxxx", "xxxxx"]);
    }

    #[test]
    fn a_cluster_is_never_cut() {
        // A family is one cluster of 25 bytes.
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}";
        let text = family.repeat(5);
        let parts = split(&text, 60);
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|part| part.len() % family.len() == 0));
    }

    #[test]
    fn a_fence_is_closed_and_opened_again() {
        let text = format!("see:\n```rust\n{}```\nend", "let a = 1;\n".repeat(8));
        let parts = split(&text, 60);
        assert!(parts.len() > 2);
        for part in &parts {
            assert!(part.len() <= 60);
            assert_eq!(part.matches("```").count() % 2, 0, "{part}");
        }
        assert!(parts[1].starts_with("```rust\n"));
    }

    #[test]
    fn markup_within_a_line_is_not_torn() {
        let text = format!(
            "{} [a link with words](https://example.org/x) and `code with words` end",
            "w ".repeat(20)
        );
        for limit in 50..100 {
            let parts = split(&text, limit);
            assert_eq!(parts.concat(), text);
            for atom in ["[a link with words](https://example.org/x)", "`code with words`"] {
                assert!(parts.iter().any(|part| part.contains(atom)), "{limit}: {parts:?}");
            }
        }
    }

    #[test]
    fn other_fences_keep_their_marks_and_their_place() {
        let cases = [
            ("````md\n```\nin\n```\n", "````", "````md\n"),
            ("~~~\n", "~~~", "~~~\n"),
            ("1. ```sh\n", "   ```", "   ```sh\n"),
            ("> ```\n", "> ```", "> ```\n"),
        ];
        for (opening, close, again) in cases {
            let text = format!("{opening}{}{close}\nend\n", "echo\n".repeat(40));
            let parts = split(&text, 100);
            assert!(parts.len() > 2, "{opening}");
            for part in &parts[1..parts.len() - 1] {
                assert!(part.starts_with(again) && part.ends_with(close), "{part}");
            }
        }
        // What only looks like one is none, and one that is never closed is closed.
        assert_eq!(split("```a``` b", 50), ["```a``` b"]);
        assert_eq!(split("```\na", 50), ["```\na\n```"]);
    }

    #[test]
    fn a_table_shows_its_head_again() {
        let text = format!("| a | b |\n|---|---|\n{}", "| 1 | 2 |\n".repeat(20));
        let parts = split(&text, 80);
        assert!(parts.len() > 2);
        assert!(parts.iter().all(|part| part.starts_with("| a | b |\n|---|---|\n| 1 ")));
        assert_eq!(parts.concat().matches("| 1 | 2 |").count(), 20);
    }

    /// Lines that open or close a fence, and what is open at the end.
    fn fences(part: &str) -> (usize, Option<(char, usize)>) {
        let mut open: Option<(char, usize)> = None;
        let mut count = 0;
        for line in part.lines() {
            let line = line.trim_start_matches([' ', '\t', '>']).trim_end();
            let Some(mark @ ('`' | '~')) = line.chars().next() else { continue };
            let marks = line.chars().take_while(|c| *c == mark).count();
            let rest = &line[marks..];
            match open {
                None if marks >= 3 && !(mark == '`' && rest.contains('`')) => {
                    (open, count) = (Some((mark, marks)), count + 1);
                }
                Some((of, many)) if of == mark && marks >= many && rest.is_empty() => {
                    (open, count) = (None, count + 1);
                }
                _ => {}
            }
        }
        (count, open)
    }

    fn words() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            6 => "[a-zé中\u{301} ]{1,12}",
            2 => Just("\n".to_owned()),
            1 => Just("\n\n".to_owned()),
            1 => Just("\n```rust\n".to_owned()),
            1 => Just("\n```\n".to_owned()),
            1 => Just("\n~~~\n".to_owned()),
            1 => Just("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{1f1e9}\u{1f1ea}".to_owned()),
            1 => Just("[a b](https://x.y/z)".to_owned()),
            1 => Just("`a b` **c d**".to_owned()),
            1 => Just("\n| a | b |\n|---|---|\n| 1 | 2 |\n".to_owned()),
            1 => Just("\r\n\u{0}\\\"<at>".to_owned()),
        ];
        prop::collection::vec(word, 1..60).prop_map(|words| words.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// F38, up to 200 kB.
        #[test]
        fn parts_are_whole_within_limits_and_balanced(text in words(), bytes in 1usize..200_000, limit in 600usize..30_000) {
            let text = text.repeat(bytes / text.len() + 1);
            let parts = super::pieces(&text, limit, char::len_utf8);
            let joined: String = parts.iter().map(|piece| piece.body).collect();
            prop_assert_eq!(&joined, &text);
            let mut at = 0;
            let mut starts = text.grapheme_indices(true).map(|(at, _)| at).peekable();
            for piece in &parts {
                while starts.peek().is_some_and(|start| *start < at) {
                    starts.next();
                }
                prop_assert_eq!(starts.peek(), Some(&at), "a grapheme is torn");
                at += piece.body.len();
                let whole = format!("{}{}{}", piece.opening, piece.body, piece.closing);
                prop_assert!(whole.len() <= limit, "{} > {limit}", whole.len());
                prop_assert_eq!(fences(&whole).1, None, "{}", whole);
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_part_is_too_large(text in "[ab \né\u{1f600}\u{301}]{0,300}", limit in 14usize..60) {
            let parts = split(&text, limit);
            prop_assert!(parts.iter().all(|part| part.len() <= limit));
            let joined: String = parts.concat();
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(bare(&joined), bare(&text));
        }

        #[test]
        fn no_text_and_no_limit_can_hang_it(text in "\\PC{0,200}", limit in 0usize..30) {
            split(&text, limit);
        }

        #[test]
        fn nor_can_fences(text in "(```\n|a| |\n){0,60}", limit in 0usize..30) {
            let parts = split(&text, limit);
            let letters = |text: &str| text.matches('a').count();
            prop_assert_eq!(parts.iter().map(|part| letters(part)).sum::<usize>(), letters(&text));
        }
    }
}
