//! Splitting a text that is too long for one message, in whatever unit a platform counts.
//!
//! A cut falls, if possible, behind an empty line, else behind a line, else behind a word, else between
//! two characters as a reader sees them (a flag or a letter with its accents is one). Nothing is left
//! out. A fenced block of code that a cut falls into is closed before it and opened again behind it.

use unicode_segmentation::UnicodeSegmentation as _;

const FENCE: &str = "```";
const CLOSE: &str = "\n```";
/// The opening line of a fence is repeated if it is at most this long, without its language otherwise.
const OPENING_MAX: usize = 32;

/// Splits `text` into parts of which none costs more than `limit`, where the cost of a part is that of
/// its characters. Parts of nothing but white space are dropped. A `limit` too small for a single
/// character is exceeded by that character.
pub fn split(text: &str, limit: usize, cost: impl Fn(char) -> usize) -> Vec<String> {
    let price = |text: &str| text.chars().map(&cost).sum::<usize>();
    let mut parts = Vec::new();
    let mut rest = text;
    let mut fence: Option<&str> = None;
    while !rest.is_empty() {
        let prefix = fence.map(|opening| format!("{opening}\n")).unwrap_or_default();
        let left = limit.saturating_sub(price(&prefix));
        if price(rest) <= left {
            parts.push(prefix + rest);
            break;
        }
        let room = left.saturating_sub(price(CLOSE));
        let (part, after) = rest.split_at(cut(rest, room, &cost));
        fence = open_fence(fence, part);
        let mut part = prefix + part;
        if fence.is_some() {
            part.push_str(if part.ends_with('\n') { FENCE } else { CLOSE });
        }
        parts.push(part);
        rest = after;
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Where to cut `text` so that what is before costs at most `room`, wherever that may be: never at 0.
pub fn cut(text: &str, room: usize, cost: &impl Fn(char) -> usize) -> usize {
    // The best place of each sort so far, best sort first.
    let mut places = [0; 3];
    let mut spent = 0;
    let mut end = 0;
    for (at, cluster) in text.grapheme_indices(true) {
        let price = cluster.chars().map(cost).sum::<usize>();
        if spent + price > room {
            break;
        }
        spent += price;
        end = at + cluster.len();
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

/// The opening line of the fence that is open at the end of `part`.
fn open_fence<'a>(before: Option<&'a str>, part: &'a str) -> Option<&'a str> {
    part.lines().fold(before, |open, line| match (open, line.trim_start().starts_with(FENCE)) {
        (open, false) => open,
        (Some(_), true) => None,
        (None, true) if line.len() <= OPENING_MAX => Some(line),
        (None, true) => Some(FENCE),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            split(text, 20),
            ["aaaa bb\n\n", "cccc d\neeee ", "ffff gggg hhhh ", "iiii jjjj"]
        );
        assert_eq!(split(&"x".repeat(25), 14), ["xxxxxxxxxx", "xxxxxxxxxx", "xxxxx"]);
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
