//! A `.env` as a Hermes Agent reads it, which is by python-dotenv: what is quoted may go over several lines, what is not
//! ends with its line, whatever is in it. Pure.

use std::collections::HashMap;

/// What a Hermes Agent reads, by name.
pub(super) type Variables = HashMap<String, String>;

const BLANK: [char; 2] = [' ', '\t'];

/// The variables, and how many lines are none that can be told: what other variables are put into is not known here.
pub(super) fn read(text: &str) -> (Variables, usize) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let (mut variables, mut odd) = (Variables::new(), 0);
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let behind = if rest.starts_with('#') {
            None
        } else {
            let found = variable(rest).filter(|(_, value, _)| !value.contains("${"));
            odd += usize::from(found.is_none());
            found.map(|(name, value, behind)| {
                variables.insert(name.to_owned(), value);
                behind
            })
        };
        rest = behind.unwrap_or_else(|| line(rest).1).trim_start();
    }
    (variables, odd)
}

/// The variable at the beginning of a text, its value, and what is behind its lines.
fn variable(text: &str) -> Option<(&str, String, &str)> {
    let exported = text.strip_prefix("export").filter(|text| text.starts_with(BLANK));
    let text = exported.unwrap_or(text).trim_start_matches(BLANK);
    let end = text.find(|c: char| c == '=' || c == '#' || c.is_whitespace())?;
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start_matches(BLANK).strip_prefix('=')?;
    if name.is_empty() || name.starts_with('\'') {
        return None;
    }
    let value = rest.trim_start_matches(BLANK);
    let Some(quote) = value.chars().next().filter(|c| ['\'', '"'].contains(c)) else {
        let (words, behind) = line(rest);
        let comment = [" #", "\t#"].iter().filter_map(|mark| words.find(mark)).min();
        let words = words.get(..comment.unwrap_or(words.len())).unwrap_or(words);
        return Some((name, words.trim().to_owned(), behind));
    };
    let (value, behind) = quoted(value.strip_prefix(quote)?, quote)?;
    let (end, behind) = line(behind);
    let end = end.trim_start();
    (end.is_empty() || end.starts_with('#')).then_some((name, value, behind))
}

/// What stands before the closing quote, and what behind it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Some((value, text.get(at + 1..)?));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let escaped = chars.next()?.1;
        match (quote, escaped) {
            (_, '\\' | '\'') | ('"', '"') => value.push(escaped),
            ('"', 'n') => value.push('\n'),
            ('"', 'r') => value.push('\r'),
            ('"', 't') => value.push('\t'),
            (_, other) => value.extend(['\\', other]),
        }
    }
    None
}

/// The first line of a text, and what is behind it.
fn line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_is_what_the_agent_has() {
        let text = "\u{feff}BOM=1\r\nexport A=x\nB = y # not z\nC=42, 43\nD=it's a#b\nE='a # b' # c\n  F=\"a\\n\\\"b\"\n\
            # G=no\nH='two\nlines'\nI=\nJ=pa$word\nexport=K\nL='\\d\\''\nM=http://u:p@h/#f\nN= #x\nO=#x\nP=last ";
        let (variables, odd) = read(text);
        let expected = [
            ("BOM", "1"),
            ("A", "x"),
            ("B", "y"),
            ("C", "42, 43"),
            ("D", "it's a#b"),
            ("E", "a # b"),
            ("F", "a\n\"b"),
            ("H", "two\nlines"),
            ("I", ""),
            ("J", "pa$word"),
            ("export", "K"),
            ("L", "\\d'"),
            ("M", "http://u:p@h/#f"),
            ("N", ""),
            ("O", "#x"),
            ("P", "last"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables, Variables::from(expected));
        assert_eq!(odd, 0);
    }

    #[test]
    fn a_line_that_cannot_be_told_takes_no_other_along() {
        let (variables, odd) = read("what is this\nA='open\nB='x' y\n=z\nC=${A}x\nD=1\nE=2\\");
        let expected = [("D", "1"), ("E", "2\\")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((variables, odd), (Variables::from(expected), 5));
    }
}
