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
/// What stands in the place of one that is not taken.
const LOST: &str = "[a picture that is too large or not whole]";

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
                            self.searched = 0;
                        }
                        return;
                    };
                    let picture: String = self.held.drain(..=end).collect();
                    self.searched = 0;
                    let title = picture.get(2..from.saturating_sub(2)).unwrap_or_default();
                    let url = picture.get(from..end).unwrap_or_default();
                    // Behind the address there may be a title.
                    let url = url.split_whitespace().next().unwrap_or_default();
                    if !self.take(url, Some(title)) {
                        text.push_str(LOST);
                    }
                }
            }
        }
        text.push_str(&std::mem::take(&mut self.held));
    }

    /// Takes a picture by its address; whether it is one, and there is room.
    pub(super) fn take(&mut self, url: &str, title: Option<&str>) -> bool {
        let parsed = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        let Some((mime, data)) = parsed.filter(|(mime, _)| mime.starts_with("image/")) else {
            return false;
        };
        self.bytes += data.len();
        if self.bytes > BYTES || self.found.len() >= PICTURES {
            return false;
        }
        let Ok(bytes) = STANDARD.decode(data) else { return false };
        let title = title.map(str::trim).filter(|title| !title.is_empty()).map(str::to_owned);
        self.found.push(Picture { title, mime: mime.to_owned(), bytes });
        true
    }

    /// There is no more: what was held back is text, if it is no part of a picture.
    pub(super) fn end(self, text: &mut String) -> Vec<Picture> {
        match start(&self.held) {
            Start::Data(_) => text.push_str(LOST),
            Start::Plain | Start::Open => text.push_str(&self.held),
        }
        self.found
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

    #[test]
    fn there_are_bounds() {
        let one = "![](data:image/png;base64,MTIzNDU=)";
        assert_eq!(read([one; PICTURES + 3]).1.len(), PICTURES);
        let piece = "A".repeat(1024 * 1024);
        let (mut pictures, mut text) = (Pictures::default(), String::new());
        pictures.feed("![x](data:image/png;base64,", &mut text);
        for _ in 0..20 {
            pictures.feed(&piece, &mut text);
            assert!(pictures.held.len() <= BYTES + piece.len());
        }
        pictures.feed(") and on", &mut text);
        assert_eq!((text.as_str(), pictures.found.len()), (&*format!("{LOST} and on"), 0));
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
