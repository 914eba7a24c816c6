//! Files that were cut, overwritten or filled with rubbish.

use std::fs;
use std::os::unix::fs::FileExt;

use rusqlite::Connection;

use super::super::schema::PAGE_SIZE;
use super::*;

const EVENTS: u64 = 300;

/// A store of [`EVENTS`] events and a reply, moved into its one file.
fn filled(dir: &Path) {
    let mut rig = Rig::open(dir);
    for n in 0..EVENTS {
        let mut event = event(&format!("{n}"), &format!("chat{}", n % 5));
        event.raw = vec![7; 500];
        rig.accept(&event);
    }
    rig.reply("k", "chat", None);
    rig.close();
    fs::remove_file(dir.join("store.db-wal")).unwrap();
}

fn waiting(rig: &mut Rig) -> u64 {
    rig.settled_counts().iter().map(|count| count.waiting).sum()
}

fn usable(mut rig: Rig) {
    let id = rig.accept(&event("after the damage", "chat"));
    assert_eq!(rig.begin(id).event, event("after the damage", "chat"));
    rig.settle(id);
    rig.close();
}

#[test]
fn a_file_of_rubbish_is_set_aside_and_a_fresh_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let file = dir.path().join("store.db");
    let rubbish: Vec<u8> = (0..200).collect();
    fs::File::options().write(true).open(&file).unwrap().write_all_at(&rubbish, 0).unwrap();
    let before = fs::read(&file).unwrap();
    let rig = Rig::open(dir.path());
    let damage = rig.opened.damage.clone().unwrap();
    assert!(damage.unreadable > 0);
    assert_eq!(fs::read(&damage.kept_as).unwrap(), before, "kept as it was");
    usable(rig);
    assert_eq!(Rig::open(dir.path()).opened.damage, None);
}

#[test]
fn most_of_a_file_with_a_zeroed_page_is_saved_wherever_the_page_is() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path());
    let bytes = fs::read(whole.path().join("store.db")).unwrap();
    let pages = bytes.len() / PAGE_SIZE as usize;
    let (mut found, mut saved_all) = (0, 0);
    for page in 1..pages {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[page * PAGE_SIZE as usize..(page + 1) * PAGE_SIZE as usize].fill(0);
        fs::write(dir.path().join("store.db"), &damaged).unwrap();
        let mut rig = Rig::open(dir.path());
        if let Some(damage) = rig.opened.damage.clone() {
            found += 1;
            assert_eq!(fs::read(&damage.kept_as).unwrap(), damaged);
            saved_all += usize::from(damage.events == EVENTS);
            assert_eq!(waiting(&mut rig), damage.events);
        }
        usable(rig);
    }
    assert!(found > pages / 2, "{found} of {pages}");
    assert!(saved_all > 5, "{saved_all} of {found}");
}

/// One wrong byte in what the file says of itself: the engine reads it as another schema, or not at all.
#[test]
fn a_wrong_byte_in_the_list_of_tables_costs_little_and_never_the_start() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path());
    let bytes = fs::read(whole.path().join("store.db")).unwrap();
    let pages = bytes.chunks(PAGE_SIZE as usize).enumerate();
    let lists = pages.filter(|(at, page)| *at == 0 || page.windows(7).any(|w| w == b"CREATE "));
    let lists: Vec<usize> = lists.map(|(at, _)| at * PAGE_SIZE as usize).collect();
    assert!(lists.len() > 1, "{lists:?}");
    let (mut tried, mut saved_all) = (0, 0);
    for start in lists {
        // In the head each byte, behind it some.
        for at in (0..100).chain((100..PAGE_SIZE as usize).step_by(61)) {
            if start == 0 && (60..64).contains(&at) {
                // The version: it may as well be that of a newer program.
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[start + at] ^= 0x95;
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("store.db"), &damaged).unwrap();
            let mut rig = Rig::open(dir.path());
            if let Some(damage) = &rig.opened.damage {
                assert_eq!(fs::read(&damage.kept_as).unwrap(), damaged, "byte {at} of {start}");
            }
            tried += 1;
            saved_all += usize::from(waiting(&mut rig) == EVENTS);
            usable(rig);
        }
    }
    assert!(saved_all * 10 > tried * 9, "{saved_all} of {tried}");
}

#[test]
fn an_empty_file_beside_its_log_is_read_from_that() {
    for gone in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path());
        for n in 0..20 {
            rig.accept(&event(&format!("{n}"), "chat"));
        }
        // As if it had crashed: the log is not copied.
        let log = fs::read(dir.path().join("store.db-wal")).unwrap();
        rig.close();
        fs::write(dir.path().join("store.db-wal"), &log).unwrap();
        fs::write(dir.path().join("store.db"), "").unwrap();
        if gone {
            fs::remove_file(dir.path().join("store.db")).unwrap();
        }
        let mut rig = Rig::open(dir.path());
        let damage = rig.opened.damage.clone().unwrap();
        assert_eq!((damage.events, waiting(&mut rig)), (20, 20), "{damage:?}");
        usable(rig);
    }
}

#[test]
fn instances_keep_their_names_when_their_table_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let file = dir.path().join("store.db");
    let db = Connection::open(&file).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'instance'";
    let page: u64 = db.query_row(root, [], |row| row.get(0)).unwrap();
    drop(db);
    let zeros = vec![0; PAGE_SIZE as usize];
    let at = (page - 1) * u64::from(PAGE_SIZE);
    fs::File::options().write(true).open(&file).unwrap().write_all_at(&zeros, at).unwrap();
    let mut rig = Rig::open(dir.path());
    assert!(rig.opened.damage.is_some());
    assert_eq!(waiting(&mut rig), EVENTS);
    let names: Vec<_> = rig.settled_counts().iter().map(|c| c.instance.to_string()).collect();
    assert!(names.contains(&"feishu".to_owned()), "{names:?}");
    usable(rig);
}

/// What a store keeps once: another value, or none, would let repetitions in, let replies arrive twice and have
/// strangers answer.
#[test]
fn what_is_kept_once_is_never_taken_for_nothing() {
    for wrong in [
        "DELETE FROM meta WHERE name = 'seen_key'",
        "UPDATE meta SET value = x'0102' WHERE name = 'seen_key'",
        "DELETE FROM meta WHERE name = 'store_id'",
        "UPDATE meta SET value = '' WHERE name = 'store_id'",
        "UPDATE meta SET value = 'x' WHERE name = 'last_event'",
        "UPDATE meta SET value = 'x' WHERE name = 'waiting_upto'",
        "UPDATE meta SET value = '{\"own\":' WHERE name GLOB 'account *'",
        "UPDATE exits SET cause = x'00'",
        "UPDATE cursor SET instance = 99",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path());
        rig.offer(&event("1", "chat"), Some(Cursor(vec![1])));
        let [begun, waits] = ["begun", "waits"].map(|key| rig.reply(key, "chat", None).0.id);
        let key = rig.begin_send(begun, 5_000).outbound.key;
        rig.ask(|ticket| Op::FinishSend {
            ticket,
            id: begun,
            end: SendEnd::Waiting,
            now_ms: 5_000,
        });
        for account in ["cli_1", "cli_2"] {
            let (account, instance) = (account.to_owned(), instance("feishu"));
            rig.ask(|ticket| Op::Account { ticket, instance, account });
        }
        let (generation, cause) = (Generation(1), "exit 0".to_owned());
        let (code, signal, instance) = (Some(0), None, instance("feishu"));
        rig.store.submit(Op::RecordExit(Exit {
            instance,
            generation,
            at_ms: 1,
            code,
            signal,
            cause,
        }));
        rig.settled_counts();
        rig.close();
        let db = Connection::open(dir.path().join("store.db")).unwrap();
        db.execute_batch("INSERT OR REPLACE INTO meta VALUES('waiting_upto', 0)").unwrap();
        assert!(db.execute(wrong, []).unwrap() > 0, "{wrong}");
        drop(db);
        let mut rig = Rig::try_open(dir.path()).unwrap_or_else(|e| panic!("{wrong}: {e}"));
        let damage = rig.opened.damage.clone().unwrap_or_else(|| panic!("{wrong}: not noticed"));
        let is_lost = wrong.contains("meta") && !wrong.contains("waiting_upto");
        assert_eq!(damage.unreadable > 0, is_lost, "{wrong}: {damage:?}");
        assert_eq!((damage.events, damage.replies), (1, 2), "{wrong}");
        let is_known = matches!(rig.offer(&event("1", "chat"), None), Answer::Duplicate);
        assert_eq!((is_known, damage.keys > 0), (!wrong.contains("seen_key"), is_known), "{wrong}");
        let sending = [begun, waits].map(|id| rig.begin_send(id, 6_000));
        let is_same = sending[0].outbound.key == key;
        assert_eq!(is_same, !wrong.contains("store_id"), "{wrong}");
        for (sending, may_double) in sending.into_iter().zip([!is_same, false]) {
            let long_ago = sending.first_attempt_ms == 0;
            assert_eq!((sending.ambiguous, long_ago), (may_double, may_double), "{wrong}");
        }
        usable(rig);
        assert_eq!(Rig::open(dir.path()).opened.damage, None, "{wrong}: healed");
    }
}

#[test]
fn a_file_of_another_program_is_left_alone_whatever_numbers_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let db = Connection::open(&file).unwrap();
    db.execute_batch("CREATE TABLE notes(text)").unwrap();
    drop(db);
    let before = fs::read(&file).unwrap();
    let (tell, _answers) = mpsc::channel(4);
    let refused = Store::open(dir.path(), 1, tell);
    assert!(matches!(refused, Err(Error::Foreign { .. })), "{refused:?}");
    let hint = refused.err().and_then(|e| crate::error::Error::from(e).hint());
    assert!(hint.is_some_and(|hint| hint.contains("--state-dir")));
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_truncated_file_gives_what_it_still_has() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path());
    let bytes = fs::read(whole.path().join("store.db")).unwrap();
    let mut best = 0;
    for eighths in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let cut = bytes.len() * eighths / 8 + 100;
        fs::write(dir.path().join("store.db"), &bytes[..cut]).unwrap();
        let mut rig = Rig::open(dir.path());
        let damage = rig.opened.damage.clone().unwrap();
        assert_eq!(waiting(&mut rig), damage.events);
        best = best.max(damage.events);
        usable(rig);
    }
    assert!(best > EVENTS / 2, "{best}");
}

/// A store in `dir` that is open, with damage that has not shown yet.
fn secretly_damaged(dir: &Path) -> Rig {
    filled(dir);
    // More than is checked at each start.
    let mut rig = Rig::open(dir);
    for n in 0..12 {
        let mut event = event(&format!("large {n}"), "large");
        event.raw = vec![9; 500_000];
        rig.accept(&event);
    }
    rig.close();
    fs::remove_file(dir.join("store.db-wal")).unwrap();
    let file = fs::File::options().read(true).write(true).open(dir.join("store.db")).unwrap();
    let pages = file.metadata().unwrap().len() / u64::from(PAGE_SIZE);
    let mut page = vec![0; PAGE_SIZE as usize];
    for at in 1..pages {
        file.read_exact_at(&mut page, at * u64::from(PAGE_SIZE)).unwrap();
        // A leaf of payloads: it holds the text of an event.
        if page[0] == 13 && page.windows(7).any(|w| w == b"text of") {
            file.write_all_at(&vec![0; PAGE_SIZE as usize], at * u64::from(PAGE_SIZE)).unwrap();
            break;
        }
    }
    let rig = Rig::open(dir);
    assert_eq!(rig.opened.damage, None, "not looked at yet");
    rig
}

/// Meets the damage.
fn read_all(rig: &mut Rig) {
    for n in 1..=EVENTS {
        rig.store.submit(Op::Begin { ticket: Ticket(n), id: EventId(n), hand: None });
    }
    while matches!(rig.done(), Done::Answered { .. }) {}
}

#[test]
fn damage_met_while_running_poisons_and_the_next_start_salvages() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = secretly_damaged(dir.path());
    read_all(&mut rig);
    rig.store.submit(Op::Counts { ticket: Ticket(0) });
    assert!(matches!(rig.done(), Done::Poisoned { .. }));
    drop(rig.answers);
    assert!(matches!(rig.store.close(), Err(Error::Poisoned { .. })));

    let mut rig = Rig::open(dir.path());
    let damage = rig.opened.damage.clone().unwrap();
    assert!(damage.events > EVENTS - 20 && damage.unreadable > 0, "{damage:?}");
    assert_eq!(waiting(&mut rig), damage.events);
    usable(rig);
    assert!(!dir.path().join("store.suspect").exists());
}

#[test]
fn damage_of_a_store_that_was_taken_away_leaves_no_mark_for_what_comes_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("s");
    fs::create_dir(&state).unwrap();
    let mut rig = secretly_damaged(&state);
    fs::rename(&state, dir.path().join("moved")).unwrap();
    fs::create_dir(&state).unwrap();
    read_all(&mut rig);
    drop(rig.answers);
    assert!(matches!(rig.store.close(), Err(Error::Removed(_))));
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
}

/// The engine notices nothing: it writes on behind a hole, and at its next start takes the hole for the end.
#[test]
fn a_log_that_is_cut_while_it_is_open_ends_the_store_and_is_told() {
    // It is noticed with the next event, while nothing happens, and at the end.
    for noticed in ["with the next", "at rest", "at the end"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let mut rig = Rig::open(dir.path());
        for n in 0..20 {
            rig.accept(&event(&format!("later {n}"), "chat"));
        }
        let log = fs::File::options().write(true).open(dir.path().join("store.db-wal")).unwrap();
        log.set_len(0).unwrap();
        if noticed == "with the next" {
            rig.submit(1, "feishu", &event("last", "chat"));
        }
        if noticed != "at the end" {
            let Done::Poisoned { error } = rig.done() else { panic!("it goes on") };
            assert!(error.contains("has cut"), "{error}");
        }
        drop(rig.answers);
        assert!(matches!(rig.store.close(), Err(Error::Poisoned { .. })));
        let mut rig = Rig::open(dir.path());
        let damage = rig.opened.damage.clone().unwrap();
        assert!(damage.events >= EVENTS, "{damage:?}");
        assert_eq!(waiting(&mut rig), damage.events);
        usable(rig);
    }
}

/// Cut the log anywhere: every group whose last byte is before the cut is there, and nothing breaks.
#[test]
fn a_torn_log_keeps_every_group_before_the_tear() {
    let dir = tempfile::tempdir().unwrap();
    Rig::open(dir.path()).close();
    let mut rig = Rig::open(dir.path());
    let base = fs::read(dir.path().join("store.db")).unwrap();
    let mut marks = Vec::new();
    let log = dir.path().join("store.db-wal");
    let end = |log: &Path| {
        let bytes = fs::read(log).unwrap();
        bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
    };
    for n in 0..12 {
        let id = rig.accept(&event(&format!("{n}"), "chat"));
        marks.push((end(&log), id));
    }
    let bytes = fs::read(&log).unwrap();
    assert_eq!(fs::read(dir.path().join("store.db")).unwrap(), base, "nothing was copied yet");
    let last = marks[11].0;
    rig.close();
    for cut in
        (0..last + 4096).step_by(1499).chain(marks.iter().flat_map(|(m, _)| [m - 1, *m, m + 1]))
    {
        for zeroed in [true, false] {
            let torn = tempfile::tempdir().unwrap();
            fs::write(torn.path().join("store.db"), &base).unwrap();
            let mut part = bytes[..cut.min(bytes.len())].to_vec();
            if zeroed {
                part.resize(bytes.len(), 0);
            }
            fs::write(torn.path().join("store.db-wal"), &part).unwrap();
            let mut rig = Rig::open(torn.path());
            assert_eq!(rig.opened.damage, None, "cut at {cut}");
            // A frame may end in zeros of its own, so a mark may lie before the end of its group.
            for (mark, id) in &marks {
                if mark + PAGE_SIZE as usize <= cut {
                    rig.begin(*id);
                }
            }
            let (_, at_end) = rig.heads(0, 100);
            assert!(at_end);
            usable(rig);
        }
    }
}

/// The log is grown with zeros while frames lie in it: none of them is touched.
#[test]
fn growing_the_log_behind_valid_frames_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let log = dir.path().join("store.db-wal");
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(rig.accept(&event(&format!("{n}"), "chat")));
        let length = fs::metadata(&log).unwrap().len();
        super::super::space::grow_log(&log, length + 100_000).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    rig.close();
    let mut rig = Rig::open(copy.path());
    assert_eq!(rig.opened.damage, None);
    for id in ids {
        rig.begin(id);
    }
    usable(rig);
}
