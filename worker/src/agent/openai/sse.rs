//! Server-sent events, from bytes however they are cut. Pure, and bounded.
//!
//! Lines end with LF, CR LF or CR; a line that starts with a colon is a comment, which only says that
//! the connection lives.

/// The largest event: a picture may come as one.
const EVENT_MAX: usize = 8 * 1024 * 1024;

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Read {
    /// An event: its name, empty for a plain one, and its data.
    Event { name: String, data: String },
    /// A comment.
    Alive,
}

/// More than one event may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooLarge;

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Sse {
    line: Vec<u8>,
    after_cr: bool,
    has_begun: bool,
    name: String,
    data: Vec<String>,
    size: usize,
}

impl Sse {
    /// Takes bytes; everything that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Read>, TooLarge> {
        let mut found = Vec::new();
        for byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&String::from_utf8_lossy(&line), &mut found);
                }
                byte => {
                    self.line.push(*byte);
                    self.size += 1;
                    if self.size > EVENT_MAX {
                        return Err(TooLarge);
                    }
                }
            }
        }
        Ok(found)
    }

    fn end_line(&mut self, line: &str, found: &mut Vec<Read>) {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let line = if has_begun { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            if !self.data.is_empty() {
                found.push(Read::Event { name, data: self.data.join("\n") });
            }
            self.data.clear();
            self.size = 0;
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => found.push(Read::Alive),
            "data" => self.data.push(value.to_owned()),
            "event" if value != "message" => value.clone_into(&mut self.name),
            _ => {}
        }
        if self.data.is_empty() {
            // Comments for ever are no event.
            self.size = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = ": hi\r\n\r\ndata: {\"a\":1}\n\nevent: tool\rdata:x\rdata: y\r\rid: 7\nretry: 5\nunknown\n\ndata: 断\n\n";

    fn expected() -> Vec<Read> {
        let event = |name: &str, data: &str| Read::Event { name: name.into(), data: data.into() };
        vec![Read::Alive, event("", "{\"a\":1}"), event("tool", "x\ny"), event("", "断")]
    }

    #[test]
    fn too_much_is_too_much_and_comments_are_not() {
        let mut sse = Sse::default();
        for _ in 0..9000 {
            assert_eq!(sse.feed(format!(": {}\n", "x".repeat(1000)).as_bytes()).unwrap().len(), 1);
        }
        assert_eq!(sse.feed(&vec![b'x'; EVENT_MAX + 1]), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_comes_out(cuts in prop::collection::vec(1..9_usize, 1..80)) {
            let (mut sse, mut rest, mut found) = (Sse::default(), STREAM.as_bytes(), Vec::new());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                found.extend(sse.feed(now).unwrap());
                rest = later;
            }
            prop_assert_eq!(found, expected());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Sse::default().feed(&bytes);
        }
    }
}
