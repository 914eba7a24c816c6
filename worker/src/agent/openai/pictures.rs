//! Pictures within an answer: Markdown whose address is the picture itself. Pure, and bounded.
//!
//! A model that draws writes `![alt](data:image/png;base64,…)`, in pieces of any size. People are shown
//! neither the bytes nor a part of them: what may become such a picture is held back until that is certain.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// All pictures of one answer, as base64.
const BYTES: usize = 8 * 1024 * 1024;
/// Pictures of one answer.
const PICTURES: usize = 10;
/// The longest text in the place of a picture.
const ALT: usize = 300;
/// How the address of a picture begins that is one.
const DATA: &str = "data:image/";
/// In code, a longer one is a picture all the same: nobody reads so many bytes.
const CODE: usize = 4096;
/// What stands in the place of one that is not taken.
const LOST: &str = "[a picture whose bytes cannot be read]";
const LARGE: &str = "[a picture that is too large]";
const MANY: &str = "[a picture: there are more than ten]";

/// A picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Picture {
    /// What it shows, if that is told.
    pub(super) title: Option<String>,
    /// What it says it is.
    pub(super) mime: String,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// Takes pictures out of a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Pictures {
    /// What may become a picture: nothing, or a text that begins with `!`.
    held: String,
    /// No end of it is in so many bytes of what is held.
    searched: usize,
    /// Of what is held the most was dropped.
    is_dropped: bool,
    code: Code,
    found: Vec<Picture>,
    bytes: usize,
}

/// What a text that begins with `!` is.
enum Start {
    /// No picture.
    Plain,
    /// Nobody knows yet.
    Open,
    /// Its address is the picture; where that begins.
    Data(usize),
}

impl Pictures {
    /// Moves what is certainly text from `piece` to `text`.
    pub(super) fn feed(&mut self, piece: &str, text: &mut String) {
        if self.held.is_empty() && !piece.contains('!') {
            text.push_str(piece);
            return;
        }
        self.held.push_str(piece);
        while let Some(at) = self.held.find('!') {
            if at > 0 {
                text.extend(self.held.drain(..at));
            }
            match start(&self.held) {
                Start::Open => return,
                Start::Plain => {
                    text.push('!');
                    self.held.remove(0);
                }
                Start::Data(from) => {
                    let from_search = self.searched.max(from);
                    let rest = self.held.get(from_search..).unwrap_or_default();
                    let Some(end) = rest.find(')').map(|end| from_search + end) else {
                        self.searched = self.held.len();
                        // One that never ends is not kept, but waited for.
                        if self.held.len() > BYTES {
                            self.held.truncate(from + DATA.len());
                            (self.searched, self.is_dropped) = (0, true);
                        }
                        return;
                    };
                    self.searched = 0;
                    let is_dropped = std::mem::take(&mut self.is_dropped);
                    if end <= CODE && !is_dropped && self.code.holds_the_end_of(text) {
                        text.push('!');
                        self.held.remove(0);
                        continue;
                    }
                    let picture: String = self.held.drain(..=end).collect();
                    let title = picture.get(2..from.saturating_sub(2)).unwrap_or_default();
                    let url = picture.get(from..end).unwrap_or_default();
                    // Behind the address there may be a title.
                    let url = url.split_whitespace().next().unwrap_or_default();
                    match self.take(url, Some(title)) {
                        Ok(()) => {}
                        Err(_) if is_dropped => text.push_str(LARGE),
                        Err(why) => text.push_str(why),
                    }
                }
            }
        }
        text.push_str(&std::mem::take(&mut self.held));
    }

    /// Takes a picture by its address. An error is what stands in its place.
    pub(super) fn take(&mut self, url: &str, title: Option<&str>) -> Result<(), &'static str> {
        let parsed = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        let (mime, data) = parsed.filter(|(mime, _)| mime.starts_with("image/")).ok_or(LOST)?;
        if self.found.len() >= PICTURES {
            return Err(MANY);
        }
        self.bytes += data.len();
        if self.bytes > BYTES {
            return Err(LARGE);
        }
        let bytes = STANDARD.decode(data).map_err(|_| LOST)?;
        let title = title.map(str::trim).filter(|title| !title.is_empty()).map(str::to_owned);
        self.found.push(Picture { title, mime: mime.to_owned(), bytes });
        Ok(())
    }

    /// There is no more: what was held back is text, if it is no part of a picture.
    pub(super) fn end(mut self, text: &mut String) -> Vec<Picture> {
        match start(&self.held) {
            Start::Data(_) if self.is_dropped => text.push_str(LARGE),
            Start::Data(_) if self.held.len() > CODE || !self.code.holds_the_end_of(text) => {
                text.push_str(LOST);
            }
            Start::Data(_) => text.push_str(&self.held),
            Start::Plain | Start::Open => text.push_str(&self.held),
        }
        self.found
    }
}

/// Which code a text that grows ends in.
#[derive(Clone, Debug, Default)]
struct Code {
    /// So many bytes of the text are read.
    at: usize,
    /// What opened it: a run of so many of these, as a fence or within a line.
    open: Option<(char, usize, bool)>,
    /// The last line has more than what may stand before a fence: the marks of lists and quotations.
    has_words: bool,
    /// It has anything.
    has_marks: bool,
}

impl Code {
    /// Whether what follows `text` is code. The text must not end within a run of marks.
    fn holds_the_end_of(&mut self, text: &str) -> bool {
        let mut rest = text.get(self.at..).unwrap_or_default().chars().peekable();
        self.at = text.len();
        while let Some(c) = rest.next() {
            match c {
                '\n' => {
                    let is_within_line = matches!(self.open, Some((_, _, false)));
                    if is_within_line && !self.has_marks {
                        self.open = None;
                    }
                    (self.has_words, self.has_marks) = (false, false);
                }
                '`' | '~' => {
                    let mut length = 1;
                    while rest.next_if_eq(&c).is_some() {
                        length += 1;
                    }
                    self.run(c, length);
                    (self.has_words, self.has_marks) = (true, true);
                }
                c => {
                    self.has_marks |= !c.is_whitespace();
                    self.has_words |=
                        !(c.is_whitespace() || c.is_ascii_digit() || "->*+.)".contains(c));
                }
            }
        }
        self.open.is_some()
    }

    fn run(&mut self, mark: char, length: usize) {
        let is_fence = length >= 3 && !self.has_words;
        match self.open {
            None if is_fence => self.open = Some((mark, length, true)),
            None if mark == '`' => self.open = Some((mark, length, false)),
            Some((of, least, true)) if is_fence && of == mark && length >= least => {
                self.open = None;
            }
            Some((of, exactly, false)) if of == mark && length == exactly => self.open = None,
            None | Some(_) => {}
        }
    }
}

fn start(held: &str) -> Start {
    let Some(rest) = held.strip_prefix("![") else {
        return if held == "!" { Start::Open } else { Start::Plain };
    };
    let Some((alt, rest)) = rest.split_once("](") else {
        let is_short = rest.len() <= ALT && !rest.contains('\n');
        return if is_short { Start::Open } else { Start::Plain };
    };
    if alt.len() > ALT || alt.contains('\n') {
        return Start::Plain;
    }
    if rest.starts_with(DATA) {
        Start::Data("![](".len() + alt.len())
    } else if DATA.starts_with(rest) {
        Start::Open
    } else {
        Start::Plain
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (String, Vec<Picture>) {
        let (mut pictures, mut text) = (Pictures::default(), String::new());
        for piece in pieces {
            pictures.feed(piece, &mut text);
            assert!(!text.contains("base64"), "{text}");
        }
        let found = pictures.end(&mut text);
        (text, found)
    }

    fn picture(title: Option<&str>) -> Picture {
        let title = title.map(str::to_owned);
        Picture { title, mime: "image/png".into(), bytes: b"12345".to_vec() }
    }

    const ANSWER: &str = "See! ![a cat](data:image/png;base64,MTIzNDU=) and ![](data:image/png;base64,MTIzNDU= \"x\"), \
                          ![linked](https://e.org/x.png) [data:image/png;base64](x) wow! ![";

    #[test]
    fn pictures_leave_the_text_and_links_stay() {
        let told = read(["no picture! [at](all)"]);
        assert_eq!(told, ("no picture! [at](all)".into(), Vec::new()));
        let (text, found) = read(["a ![x](data:image/png;base64,MTI"]);
        assert_eq!((text, found.len()), (format!("a {LOST}"), 0), "one without an end");
        let (text, found) = read(["![x](data:image/png;base64,?)b"]);
        assert_eq!((text, found.len()), (format!("{LOST}b"), 0), "no base64");
        let (text, _) = read(["![x](data:image/svg+xml,<svg/>)b"]);
        assert_eq!(text, format!("{LOST}b"));
    }

    /// Whoever is told how a picture is written wants to read it.
    #[test]
    fn what_stands_in_code_is_text() {
        let one = "![x](data:image/png;base64,MTIzNDU=)";
        for code in [
            format!("so:\n```md\n{one}\n```\nand `{one}` too"),
            format!("~~~\n```\n{one}\n~~~\nend"),
            format!("1. a\n   ````\n   ```\n   {one}\n   ````"),
            format!("``a ` {one}``"),
        ] {
            assert_eq!(taken(&code), (code.clone(), 0), "{code}");
        }
        for (text, shown) in [
            (format!("```\ncode\n```\n{one}"), "```\ncode\n```\n"),
            (format!("`code` {one}"), "`code` "),
            (format!("a ` alone\n\n{one}"), "a ` alone\n\n"),
        ] {
            assert_eq!(taken(&text), (shown.to_owned(), 1), "{text}");
        }
        let large = format!("```\n![x](data:image/png;base64,{})\n```", "A".repeat(8000));
        assert_eq!(taken(&large).1, 1, "nobody reads so much");
    }

    /// In pieces of one byte.
    fn taken(text: &str) -> (String, usize) {
        let (mut pictures, mut out) = (Pictures::default(), String::new());
        for c in text.chars() {
            pictures.feed(c.encode_utf8(&mut [0; 4]), &mut out);
        }
        let found = pictures.end(&mut out);
        (out, found.len())
    }

    #[test]
    fn there_are_bounds() {
        let one = "![](data:image/png;base64,MTIzNDU=)";
        let (text, found) = read([one; PICTURES + 3]);
        assert_eq!((text, found.len()), (MANY.repeat(3), PICTURES));
        let piece = "A".repeat(1024 * 1024);
        let (mut pictures, mut text) = (Pictures::default(), String::new());
        pictures.feed("![x](data:image/png;base64,", &mut text);
        for _ in 0..20 {
            pictures.feed(&piece, &mut text);
            assert!(pictures.held.len() <= BYTES + piece.len());
        }
        pictures.feed(") and on", &mut text);
        assert_eq!((text.as_str(), pictures.found.len()), (&*format!("{LARGE} and on"), 0));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_comes_out(cuts in prop::collection::vec(1..9_usize, 1..200)) {
            let (mut rest, mut pieces) = (ANSWER, Vec::new());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at(rest.ceil_char_boundary(cut.min(rest.len())));
                pieces.push(now);
                rest = later;
            }
            let (mut pictures, mut text) = (Pictures::default(), String::new());
            for piece in pieces { pictures.feed(piece, &mut text); }
            let found = pictures.end(&mut text);
            prop_assert_eq!(text, "See!  and , ![linked](https://e.org/x.png) [data:image/png;base64](x) wow! ![");
            prop_assert_eq!(found, vec![picture(Some("a cat")), picture(None)]);
        }

        #[test]
        fn what_is_no_picture_is_left_as_it_is(text in "[a!\\[\\]()\n]{0,60}", cut in 0..60_usize) {
            let (one, two) = text.split_at(text.floor_char_boundary(cut));
            prop_assert_eq!(read([one, two]), (text.clone(), Vec::new()));
        }
    }
}
