//! Places in a text: the platform counts units of UTF-16, we count bytes of UTF-8; and sizes of files as people
//! read them. Pure.

use std::ops::Range;

/// How many units `text` has.
pub(super) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The bytes of `text` that `length` units from `offset` on are, if they exist and cut no character.
pub(super) fn bytes(text: &str, offset: usize, length: usize) -> Option<Range<usize>> {
    let end = offset.checked_add(length)?;
    let (mut start, mut at) = (None, 0);
    for (byte, c) in text.char_indices() {
        if at == offset {
            start = start.or(Some(byte));
        }
        if at == end {
            return Some(start?..byte);
        }
        at += c.len_utf16();
    }
    if at == offset {
        start = start.or(Some(text.len()));
    }
    (at == end).then_some(start?..text.len())
}

/// How large a file is, for people.
pub(super) fn amount(bytes: u64) -> String {
    let units = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, word)) => format!("{} {word}", bytes.div_ceil(unit)),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_found_and_no_character_is_cut() {
        let text = "aé😀z";
        assert_eq!(units(text), 5);
        assert_eq!(bytes(text, 2, 2), Some(3..7));
        assert_eq!(bytes(text, 4, 1), Some(7..8));
        assert_eq!(bytes(text, 0, 5), Some(0..8));
        assert_eq!(bytes(text, 5, 0), Some(8..8));
        for (offset, length) in [(3, 1), (2, 1), (5, 1), (0, 6), (usize::MAX, 2), (6, 0)] {
            assert_eq!(bytes(text, offset, length), None, "{offset} {length}");
        }
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let told = [0, 5, 1024, 5000, 1 << 20, (50 << 20) + 1, 3 << 30].map(amount);
        assert_eq!(told, ["0 bytes", "5 bytes", "1 KB", "5 KB", "1 MB", "51 MB", "3 GB"]);
    }

    proptest! {
        #[test]
        fn every_place_is_found_again(text in "[aé中😀\u{301}]{0,20}", from in 0usize..20, to in 0usize..20) {
            let borders: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let (from, to) = (borders[from.min(borders.len() - 1)], borders[to.min(borders.len() - 1)]);
            let range = from.min(to)..from.max(to);
            let (offset, length) = (units(&text[..range.start]), units(&text[range.clone()]));
            prop_assert_eq!(bytes(&text, offset, length), Some(range));
        }
    }
}
