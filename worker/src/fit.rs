//! Makes whatever a platform tells fit into a frame. Pure.
//!
//! A platform may tell anything of any length, and it tells it again until it is taken: an event that no frame
//! can hold would end its worker each time, and nothing behind it would ever be heard. So the platform's own JSON
//! is left out first; then names are cut, then what was said; parts for which there is still no room are left out
//! last. What identifies something is never cut, or two things might become one: it is hashed where it is longer
//! than any that platforms make.

use protocol::event::Inbound;
use protocol::frame::{CARRIED_MAX, MAX};
use protocol::worker::Cursor;
use protocol::{frame, id};

/// The largest resume point, in bytes. Without one more is heard twice, and nothing is lost.
const CURSOR_MAX: usize = MAX / 2;
/// What surrounds an event and its resume point in a frame, in bytes.
const AROUND: usize = 8192;
/// The longest id.
const ID_MAX: usize = 256;
/// The longest handle of a part.
const HANDLE_MAX: usize = 4096;
/// Most texts that identify one event; the strongest come first.
const KEYS_MAX: usize = 512;
/// What remains of a name.
const NAME_MAX: usize = 1024;
/// What remains of what was said, if everything else leaves room, and in any case.
const SAID: [usize; 3] = [512 * 1024, 256 * 1024, 128 * 1024];
/// Stands where something was cut.
const MARK: &str = " […]";

/// `event` as a frame can hold it beside `cursor`: unchanged, unless it is too large.
pub(crate) fn fit(mut event: Inbound, cursor: Option<&Cursor>) -> Inbound {
    let beside = AROUND + cursor.map_or(0, |cursor| cursor.0.len());
    let most = CARRIED_MAX.min(MAX - beside);
    let fits = |event: &Inbound| frame::size(event).is_ok_and(|size| size <= most);
    identify(&mut event);
    if !fits(&event) {
        event.raw = Vec::new();
    }
    if !fits(&event) {
        name(&mut event);
    }
    for most in SAID {
        if !fits(&event) {
            cut(&mut event.text, most);
            event.quote.iter_mut().for_each(|quote| cut(quote, most));
        }
    }
    if !fits(&event) && !event.parts.is_empty() {
        event.text.push_str(MARK);
    }
    while !fits(&event) && !event.parts.is_empty() {
        event.parts.truncate(event.parts.len() / 2);
    }
    event
}

/// A resume point, if a frame can hold it.
pub(crate) fn fitting(cursor: Cursor) -> Option<Cursor> {
    let bytes = cursor.0.len();
    if bytes > CURSOR_MAX {
        tracing::warn!(bytes, "what is to be remembered is too much, and is not");
    }
    Some(cursor).filter(|_| bytes <= CURSOR_MAX)
}

/// The same each time that it comes, however large the rest of it is.
fn identify(event: &mut Inbound) {
    event.keys.truncate(KEYS_MAX);
    let ids = [&mut event.chat_id, &mut event.sender.user_id].into_iter();
    let ids = ids.chain(&mut event.keys).chain(&mut event.thread_id).chain(&mut event.message_id);
    for id in ids.chain(&mut event.reply_to).chain(&mut event.album) {
        hash(id, ID_MAX);
    }
    for part in &mut event.parts {
        hash(&mut part.handle, HANDLE_MAX);
    }
}

fn name(event: &mut Inbound) {
    let names = event.sender.name.iter_mut().chain(&mut event.chat_name);
    let parts = event
        .parts
        .iter_mut()
        .flat_map(|part| [&mut part.kind].into_iter().chain(&mut part.name).chain(&mut part.mime));
    for name in names.chain(parts) {
        cut(name, NAME_MAX);
    }
}

fn hash(id: &mut String, most: usize) {
    if id.len() > most {
        let digest = ring::digest::digest(&ring::digest::SHA256, id.as_bytes());
        *id = format!("sha256:{}", id::hex(digest.as_ref()));
    }
}

/// `text` in at most so many bytes.
pub(crate) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - MARK.len()));
        text.push_str(MARK);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use protocol::event::{ChatType, InboundKind, Mention, Part, Sender, SenderKind};
    use protocol::id::Seq;
    use protocol::worker::FromWorker;

    use super::*;

    fn fit(event: Inbound) -> Inbound {
        super::fit(event, None)
    }

    fn fits(event: &Inbound) -> bool {
        frame::size(event).is_ok_and(|size| size <= CARRIED_MAX)
    }

    /// As short as most are, or longer than a frame.
    fn text() -> impl Strategy<Value = String> {
        let len = prop_oneof![8 => 0usize..300, 1 => 0usize..5000, 1 => 0usize..1_300_000];
        (len, prop_oneof![Just("a"), Just("é"), Just("\u{1f600}")])
            .prop_map(|(len, letter)| letter.repeat(len / letter.len()))
    }

    /// The same ones again and again, as far as memory is no matter.
    fn many<T: Clone + serde::Serialize>(some: Vec<T>, times: usize) -> Vec<T> {
        let largest = some.iter().map(|it| frame::size(it).unwrap()).max().unwrap_or(0);
        let room = 4_000_000 / (largest + 1);
        some.into_iter().cycle().take(times.min(room).max(1)).collect()
    }

    fn part() -> impl Strategy<Value = Part> {
        let size = option::of(any::<u64>());
        (text(), text(), option::of(text()), size, option::of(text()))
            .prop_map(|(kind, handle, name, size, mime)| Part { kind, handle, name, size, mime })
    }

    fn event() -> impl Strategy<Value = Inbound> {
        let ids = (text(), option::of(text()), option::of(text()), option::of(text()), text());
        let said = (text(), option::of(text()), vec(part(), 0..4), 0usize..20_000, text());
        let names = (option::of(text()), option::of(text()), option::of(text()));
        (vec(text(), 1..4), 1usize..3000, ids, said, names).prop_map(
            |(keys, of_keys, ids, (text, quote, parts, of_parts, raw), names)| Inbound {
                kind: InboundKind::Message,
                keys: many(keys, of_keys),
                origin_ms: i64::MIN,
                chat_id: ids.0,
                chat_type: ChatType::Group,
                thread_id: ids.1,
                message_id: ids.2,
                reply_to: ids.3,
                sender: Sender { user_id: ids.4, name: names.0, kind: SenderKind::User },
                mention: Mention::None,
                text,
                parts: many(parts, of_parts),
                raw: raw.into_bytes(),
                chat_name: names.1,
                quote,
                album: names.2,
            },
        )
    }

    fn plain() -> Inbound {
        Inbound {
            kind: InboundKind::Message,
            keys: vec!["message:1".into()],
            origin_ms: 1,
            chat_id: "9".into(),
            chat_type: ChatType::Direct,
            thread_id: None,
            message_id: Some("1".into()),
            reply_to: None,
            sender: Sender { user_id: "9".into(), name: None, kind: SenderKind::User },
            mention: Mention::None,
            text: "hello".into(),
            parts: Vec::new(),
            raw: b"{}".to_vec(),
            chat_name: None,
            quote: None,
            album: None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_told_fits(event in event()) {
            let fitted = fit(event.clone());
            let cursor = Some(Cursor(vec![0; 8192]));
            let inbound = FromWorker::Inbound {
                seq: Seq(u64::MAX), event: Box::new(fitted.clone()), cursor, former: None,
            };
            prop_assert!(protocol::frame::encode(&inbound, &mut BytesMut::new()).is_ok());
            prop_assert!(fits(&fitted));
            prop_assert_eq!(fitted.keys.len(), event.keys.len().min(KEYS_MAX), "they stay");
            let pairs = || event.keys.iter().zip(&fitted.keys).take(8);
            for (was, is) in pairs() {
                prop_assert!(was.len() > ID_MAX || was == is);
                prop_assert!(pairs().all(|(other, fitted)| (was == other) == (is == fitted)));
            }
            prop_assert_eq!(fit(fitted.clone()), fitted, "and is left alone then");
        }
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        assert_eq!(fit(plain()), plain());
        let large = Inbound { text: "x".repeat(400_000), raw: vec![b'x'; 500_000], ..plain() };
        assert_eq!(fit(large.clone()), large);
    }

    #[test]
    fn the_platforms_json_goes_first_then_names_are_cut_then_words_then_parts() {
        let long = || "ü".repeat(600_000);
        let event = Inbound { raw: vec![b'x'; CARRIED_MAX], ..plain() };
        assert_eq!(fit(event), Inbound { raw: Vec::new(), ..plain() });
        let mut event = plain();
        (event.sender.name, event.text) = (Some(long()), "x".repeat(900_000));
        let fitted = fit(event.clone());
        assert_eq!(fitted.text, event.text, "a name is worth less than what was said");
        let name = fitted.sender.name.unwrap();
        assert!(name.len() <= NAME_MAX && name.starts_with("üü") && name.ends_with("ü […]"));
        let quoting = fit(Inbound { quote: Some(long()), ..plain() });
        assert_eq!(quoting.text, "hello");
        assert!(quoting.quote.is_some_and(|quote| quote.len() > 500_000 && quote.ends_with(MARK)));
        let part = |handle: &str| Part {
            kind: "image".into(),
            handle: handle.into(),
            name: None,
            size: None,
            mime: None,
        };
        let parts: Vec<_> = (0..200_000).map(|n| part(&n.to_string())).collect();
        let many = fit(Inbound { parts, ..plain() });
        assert!(many.parts.len() >= 25_000 && many.parts[1].handle == "1");
        assert_eq!(many.text, "hello […]");
    }

    #[test]
    fn what_identifies_is_hashed_where_it_is_too_long() {
        let (one, other) = ("x".repeat(2000) + "1", "x".repeat(2000) + "2");
        let fitted = |key: &str| fit(Inbound { keys: vec![key.to_owned()], ..plain() }).keys;
        assert_ne!(fitted(&one), fitted(&other));
        assert_eq!(fitted(&one), fitted(&one));
        assert_eq!(fitted(&"x".repeat(ID_MAX)), ["x".repeat(ID_MAX)]);
        let there = |id: &str| fit(Inbound { chat_id: id.to_owned(), ..plain() }).chat_id;
        assert!(there(&one) != there(&other) && there(&one).len() <= ID_MAX);
    }
}
