//! What the book knows after kills and absences.

use super::*;
use crate::clock;
use crate::platform::feishu::decode::unreadable;

const LIMITS: Limits = crate::platform::feishu::LIMITS.absence;
const DAY: Duration = Duration::from_hours(24);
/// Some moment.
const NOW: i64 = 1_800_000_000_000;

fn said(chat: &str) -> Inbound {
    let chat_id = chat.to_owned();
    Inbound { kind: InboundKind::Message, chat_id, ..unreadable(b"{}", NOW) }
}

/// What was said in a chat.
fn at(chat: &str, at_ms: i64) -> Said {
    Said { chat: chat.to_owned(), topic: None, at_ms }
}

/// A life that knows these chats, the last one heard last, and heard everything until then.
fn heard(chats: &[&str], until_ms: i64) -> Book {
    let mut book = Book::default();
    for (chat, ms) in chats.iter().zip(until_ms - 1000..) {
        book.spoke(&said(chat), ms);
    }
    book.alive(until_ms, &LIMITS, DAY);
    book
}

/// The life after a kill.
fn after(book: &mut Book) -> Book {
    Book::recall(book.cursor().as_ref())
}

/// All that is due, the most urgent first.
fn due(book: &Book, waited: impl Fn(&str) -> Option<Instant>) -> Vec<(String, i64)> {
    let mut taken = HashSet::new();
    std::iter::from_fn(|| {
        let due = book.next(&taken, &waited)?;
        taken.insert(due.chat.clone());
        Some((due.chat, due.since_ms))
    })
    .collect()
}

fn unawaited(book: &Book) -> Vec<(String, i64)> {
    due(book, |_| None)
}

/// However often somebody kills it, with frames in a flow or none but pongs: it knows how long nobody listened.
#[test]
fn kills_in_a_row_are_no_absence() {
    for (frames_ms, life_ms, away_ms) in [
        (10, 7_000, 300),
        (5000, 7_000, 300),
        (5000, 40_000, 4_900),
        (10, 12_900, 4_900),
        (1, 5, 14_000),
    ] {
        let mut now = NOW;
        let mut kept = heard(&["oc_1"], now).cursor();
        for _ in 0..100 {
            now += away_ms;
            let mut book = Book::recall(kept.as_ref());
            for frame in 0..=life_ms / frames_ms {
                let alive = book.alive(now + frame * frames_ms, &LIMITS, DAY);
                assert_eq!(alive.owed, Vec::<String>::new(), "{frames_ms} {life_ms} {away_ms}");
                if alive.news {
                    kept = book.cursor().or(kept);
                }
            }
            now += life_ms;
        }
    }
}

/// A flow of frames is no flow of cursors.
#[test]
fn a_cursor_is_told_every_few_seconds() {
    let mut book = Book::default();
    let mut told = 0;
    for ms in 0..60_000 {
        if book.alive(NOW + ms, &LIMITS, DAY).news {
            assert!(book.cursor().is_some());
            told += 1;
        }
    }
    assert_eq!(told, 8);
    assert!(book.cursor().is_some() && book.cursor().is_none(), "only what is new");
}

#[test]
fn what_is_owed_begins_where_nobody_listened_any_more() {
    let mut book = heard(&["oc_1", "oc_2"], NOW);
    book.gone();
    assert_eq!(book.alive(NOW + 14_999, &LIMITS, DAY).owed.len(), 0);
    book.gone();
    let back = NOW + 30_000;
    assert_eq!(book.alive(back, &LIMITS, DAY).owed.len(), 2);
    let since = NOW + 14_999 - MARGIN_MS;
    assert_eq!(unawaited(&book), [("oc_2".to_owned(), since), ("oc_1".to_owned(), since)]);
    let due = book.next(&HashSet::new(), |_| None).unwrap();
    assert_eq!((due.until_ms, due.kind), (back, ChatType::Group));
    // Not farther back than is wanted, and not at all where that is nothing.
    for (hours, since) in [(1, Some(NOW + 7_200_000 - 3_600_000)), (0, None)] {
        let mut book = after(&mut heard(&["oc_1"], NOW));
        let owed = book.alive(NOW + 7_200_000, &LIMITS, Duration::from_hours(hours)).owed;
        assert_eq!(owed.len(), usize::from(since.is_some()));
        assert_eq!(unawaited(&book).first().map(|(_, since)| *since), since);
    }
    // Nor at a first start.
    assert_eq!(Book::default().alive(NOW, &LIMITS, DAY).owed.len(), 0);
}

/// What one life has read, the next one does not read again; what it has not, it does, however soon it comes.
#[test]
fn reading_goes_on_where_a_kill_cut_it_short() {
    let mut book = after(&mut heard(&["oc_1", "oc_2", "oc_3"], NOW));
    let back = NOW + 60_000;
    assert_eq!(book.alive(back, &LIMITS, DAY).owed.len(), 3);
    let mut taken = HashSet::new();
    for (chat, read_ms) in [("oc_3", None), ("oc_2", Some(NOW + 5000)), ("oc_1", Some(0))] {
        let due = book.next(&taken, |_| None).unwrap();
        assert_eq!(due.chat, chat);
        taken.insert(due.chat.clone());
        match read_ms {
            None => assert!(book.paid(&due, Some(0))),
            Some(ms) => book.reached(&due, ms),
        }
    }
    let left = [("oc_2".to_owned(), NOW + 5000), ("oc_1".to_owned(), NOW - MARGIN_MS)];
    assert_eq!(unawaited(&book), left);
    for life in 1..10 {
        book = after(&mut book);
        let owed = book.alive(back + life * 300, &LIMITS, DAY).owed;
        assert_eq!(owed.len(), 2, "the next life begins with it");
        assert_eq!(unawaited(&book), left);
    }
    // Also when nobody listens for long once more: then the others are owed what they have missed since.
    let again = after(&mut book).alive(back + 60_000, &LIMITS, DAY);
    assert_eq!(again.owed.len(), 3);
}

/// Who reads because of an absence has not read what was said in a later one.
#[test]
fn a_later_absence_is_owed_as_well() {
    let mut book = after(&mut heard(&["oc_1"], NOW));
    book.alive(NOW + 60_000, &LIMITS, DAY);
    let first = book.next(&HashSet::new(), |_| None).unwrap();
    book.reached(&first, NOW + 50_000);
    book.gone();
    assert_eq!(book.alive(NOW + 90_000, &LIMITS, DAY).owed, ["oc_1"]);
    book.reached(&first, NOW + 70_000);
    assert!(!book.paid(&first, Some(0)));
    assert_eq!(unawaited(&book), [("oc_1".to_owned(), NOW + 50_000)]);
    let second = book.next(&HashSet::new(), |_| None).unwrap();
    assert!(book.paid(&second, Some(0)) && book.paid(&second, Some(0)));
    assert_eq!(unawaited(&book), []);
}

/// What the platform tells again after 15 s comes too late for what is said meanwhile, so chats in which something
/// is said are asked, once for each gap.
#[test]
fn what_comes_after_a_short_gap_waits_for_what_was_said_in_it() {
    let mut book = after(&mut heard(&["oc_1", "oc_2", "oc_3"], NOW));
    let back = NOW + 5000;
    assert!(!book.comes("oc_1", back, &LIMITS), "nobody listens");
    assert_eq!(book.alive(back, &LIMITS, DAY).owed, Vec::<String>::new());
    assert!(!book.comes("oc_unknown", back, &LIMITS));
    assert_eq!(unawaited(&book), []);
    for (at, chat, waits) in [
        (back, "oc_1", true),
        (back, "oc_1", false),
        (back + 14_999, "oc_2", true),
        (back + 15_000, "oc_3", false),
    ] {
        assert_eq!(book.comes(chat, at, &LIMITS), waits, "{at} {chat}");
    }
    let since = NOW - MARGIN_MS;
    assert_eq!(unawaited(&book), [("oc_2".to_owned(), since), ("oc_1".to_owned(), since)]);
    let first = book.next(&HashSet::new(), |_| None).unwrap();
    assert!(first.is_brief && book.paid(&first, Some(0)));
    assert!(!book.comes(&first.chat, back, &LIMITS), "it has been asked");
    // Once more, while it is being read: whoever reads it does not know all.
    let second = book.next(&HashSet::new(), |_| None).unwrap();
    book.gone();
    book.alive(back + 2000, &LIMITS, DAY);
    assert!(!book.comes(&second.chat, back + 2000, &LIMITS), "it is waited for already");
    assert!(!book.paid(&second, Some(0)));
    assert_eq!(unawaited(&book), [(second.chat, since)]);
    assert!(book.comes(&first.chat, back + 2000, &LIMITS));
    // Nothing is asked for at a first start, nor where nobody wants it.
    for (book, back) in [(&mut Book::default(), DAY), (&mut heard(&[], NOW), Duration::ZERO)] {
        book.gone();
        book.spoke(&said("oc_1"), NOW);
        book.alive(NOW, &LIMITS, back);
        assert!(!book.comes("oc_1", NOW, &LIMITS));
    }
}

#[test]
fn whoever_waits_longest_is_first_then_who_spoke_last() {
    let mut book = after(&mut heard(&["oc_1", "oc_2", "oc_3", "oc_4"], NOW));
    book.alive(NOW + 60_000, &LIMITS, DAY);
    let now = clock::now();
    let waited = |chat: &str| match chat {
        "oc_1" => Some(now),
        "oc_2" => Some(now - Duration::from_secs(1)),
        _ => None,
    };
    let order: Vec<_> = due(&book, waited).into_iter().map(|(chat, _)| chat).collect();
    assert_eq!(order, ["oc_2", "oc_1", "oc_4", "oc_3"]);
}

#[test]
fn it_forgets_who_spoke_longest_ago_but_nobody_who_is_owed_something() {
    let many: Vec<_> = (0..CHATS_MAX).map(|number| format!("oc_{number}")).collect();
    let chats: Vec<_> = many.iter().map(String::as_str).collect();
    let mut book = after(&mut heard(&chats, NOW));
    assert_eq!(book.chats.len(), CHATS_MAX);
    book.spoke(&said("oc_new"), NOW);
    assert!(book.chats.contains_key("oc_new") && !book.chats.contains_key("oc_0"));
    book.alive(NOW + 60_000, &LIMITS, DAY);
    while book.chats["oc_1"].owed.is_none() || book.chats["oc_2"].owed.is_some() {
        let due = book.next(&HashSet::new(), |chat| (chat == "oc_2").then(clock::now)).unwrap();
        assert_eq!(due.chat, "oc_2");
        book.paid(&due, Some(0));
    }
    book.spoke(&said("oc_newer"), NOW + 60_000);
    assert!(book.chats.contains_key("oc_1") && !book.chats.contains_key("oc_2"));
}

/// Nothing is taken in its chat but what is read, until that has come to what was refused last.
#[test]
fn nothing_overtakes_what_was_refused() {
    let mut book = heard(&["oc_1", "oc_2"], NOW);
    assert!(!book.refused(&at("oc_unknown", NOW)) && !book.is_owed());
    assert!(book.refused(&at("oc_1", NOW + 1)));
    assert!(!book.refused(&at("oc_1", NOW + 2)), "it is being read already");
    for (chat, ms, overtakes) in [
        ("oc_1", NOW, false),
        ("oc_1", NOW + 1, true),
        ("oc_1", NOW + 9, true),
        ("oc_2", NOW + 9, false),
    ] {
        assert_eq!(book.overtakes(&at(chat, ms)), overtakes, "{chat} {ms}");
    }
    let first = book.next(&HashSet::new(), |_| None).unwrap();
    assert_eq!((first.since_ms, first.refused_ms), (NOW + 1, Some(NOW + 2)));
    // Meanwhile more is said, and there is another absence.
    book.refused(&at("oc_1", NOW + 3));
    book.reached(&first, NOW + 2);
    assert!(!book.overtakes(&at("oc_1", NOW + 1)), "it is known by now");
    assert!(!book.paid(&first, Some(NOW + 2)));
    book.gone();
    book.alive(NOW + 60_000, &LIMITS, DAY);
    assert!(!book.paid(&first, Some(NOW + 3)));
    let second = book.next(&HashSet::from(["oc_2".to_owned()]), |_| None).unwrap();
    assert_eq!(second.refused_ms, Some(NOW + 3));
    assert!(book.paid(&second, Some(NOW + 3)) && !book.overtakes(&at("oc_1", NOW + 9)));
    // The next life owes it as after an absence.
    book.refused(&at("oc_1", NOW + 61_000));
    assert!(unawaited(&after(&mut book)).contains(&("oc_1".to_owned(), NOW + 61_000)));
}

/// Where the history does not tell it, or not now, nothing waits for it, until it is known to tell something.
#[test]
fn nothing_waits_for_what_cannot_be_read() {
    let mut book = heard(&["oc_1"], NOW);
    for is_told in [false, true] {
        assert!(book.refused(&at("oc_1", NOW)));
        let due = book.next(&HashSet::new(), |_| None).unwrap();
        if is_told {
            book.shut("oc_1");
            assert!(book.is_owed(), "it may be read later");
        } else {
            assert!(book.paid(&due, None));
        }
        assert!(!book.refused(&at("oc_1", NOW + 1)) && !book.overtakes(&at("oc_1", NOW + 2)));
        book.gone();
        book.alive(NOW + 60_000, &LIMITS, DAY);
        let due = book.next(&HashSet::new(), |_| None).unwrap();
        assert!(book.paid(&due, Some(NOW)));
    }
}

/// A topic has a history of its own, and is forgotten when that is read.
#[test]
fn what_was_refused_in_a_topic_keeps_nothing_back_elsewhere() {
    let in_topic = |at_ms| Said { topic: Some("omt_1".to_owned()), ..at("oc_1", at_ms) };
    let mut person = said("oc_1");
    person.chat_type = ChatType::Direct;
    let mut book = heard(&["oc_2"], NOW);
    book.spoke(&person, NOW);
    assert!(book.refused(&in_topic(NOW + 1)));
    assert!(book.overtakes(&in_topic(NOW + 2)) && !book.overtakes(&in_topic(NOW)));
    let other = Said { topic: Some("omt_2".to_owned()), ..in_topic(NOW + 2) };
    assert!(!book.overtakes(&at("oc_1", NOW + 2)) && !book.overtakes(&other));
    // The next life knows where it was, and what an absence costs it.
    let mut book = after(&mut book);
    book.alive(NOW + 60_000, &LIMITS, DAY);
    let chats = HashSet::from(["oc_1".to_owned(), "oc_2".to_owned()]);
    let due = book.next(&chats, |_| None).unwrap();
    assert_eq!((due.chat.as_str(), due.is_topic, due.kind), ("omt_1", true, ChatType::Direct));
    assert_eq!(due.since_ms, NOW - MARGIN_MS);
    assert!(book.paid(&due, Some(NOW + 2)) && !book.chats.contains_key("omt_1"));
    // There is a bound, and chats are not forgotten for topics.
    for number in 0..2 * TOPICS_MAX {
        book.refused(&Said { topic: Some(format!("omt_{number}")), ..at("oc_1", NOW + 9) });
    }
    assert_eq!(book.chats.len(), 2 + TOPICS_MAX);
    for number in 0..CHATS_MAX {
        book.spoke(&said(&format!("oc_more_{number}")), NOW + 70_000);
    }
    assert_eq!(book.chats.len(), CHATS_MAX + TOPICS_MAX);
}
