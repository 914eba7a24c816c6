//! A write-ahead log that the disk changed after it was written, and one that a power loss cut short.

use std::collections::HashSet;
use std::fs;

use rusqlite::Connection;

use super::super::log;
use super::super::recover;
use super::super::schema::{self, Paths};
use super::super::space::{LOG_AT_REST, Log, grow_log};
use super::*;

const EVENTS: u64 = 300;

/// The files of a store as a kill leaves them: `events` were answered one by one, and nothing was copied
/// into the main file. The first are settled.
fn killed(dir: &Path, events: u64, settled: u64) {
    let live = tempfile::tempdir().unwrap();
    Rig::open(live.path()).close();
    let mut rig = Rig::open(live.path());
    for n in 0..events {
        let mut event = event(&format!("{n}"), &format!("chat{}", n % 5));
        event.raw = vec![7; (n * 37 % 300) as usize];
        let id = rig.accept(&event);
        if n < settled {
            rig.settle(id);
        }
    }
    for name in ["store.db", "store.db-wal"] {
        fs::copy(live.path().join(name), dir.join(name)).unwrap();
    }
    rig.close();
}

/// Nobody can tell what it held: whether that was anything, only who removed it knows.
#[test]
fn a_log_that_was_removed_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    killed(dir.path(), 10, 0);
    fs::remove_file(dir.path().join("store.db-wal")).unwrap();
    for is_missing in [true, false] {
        let rig = Rig::open(dir.path());
        assert_eq!(rig.opened.log_is_missing, is_missing, "it is told once");
        rig.close();
    }
}

/// What the engine had written into the log beside the linked file, nobody else would look at.
#[test]
fn a_link_in_place_of_the_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    killed(dir.path(), 10, 0);
    let file = dir.path().join("store.db");
    fs::rename(&file, dir.path().join("elsewhere.db")).unwrap();
    std::os::unix::fs::symlink("elsewhere.db", &file).unwrap();
    let Err(Error::Link { path }) = recover::open(dir.path(), 0, &[]) else {
        panic!("it is opened")
    };
    assert_eq!(path, file);
    fs::rename(dir.path().join("elsewhere.db"), &file).unwrap();
    let mut rig = Rig::open(dir.path());
    assert_eq!(waiting(&mut rig), 10);
    rig.close();
}

fn waiting(rig: &mut Rig) -> u64 {
    rig.settled_counts().iter().map(|count| count.waiting).sum()
}

/// What the store of 300 waiting events lost without a word.
#[test]
fn bytes_that_changed_in_the_log_cost_no_event_and_are_told() {
    let whole = tempfile::tempdir().unwrap();
    killed(whole.path(), EVENTS, 0);
    let bytes = fs::read(whole.path().join("store.db-wal")).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = fastrand::Rng::with_seed(8);
    for flips in [1, 3, 20] {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(whole.path().join("store.db"), dir.path().join("store.db")).unwrap();
        let mut bytes = bytes.clone();
        for _ in 0..flips {
            bytes[random.usize(..end * 9 / 10)] ^= 0xff;
        }
        fs::write(dir.path().join("store.db-wal"), &bytes).unwrap();
        let mut rig = Rig::open(dir.path());
        let damage = rig.opened.damage.clone();
        assert_eq!(waiting(&mut rig), EVENTS, "{flips} flips: {damage:?}");
        let damage = damage.unwrap();
        assert_eq!((damage.events, damage.unreadable), (EVENTS, 0), "{damage:?}");
        assert_eq!(fs::read(&damage.kept_as).unwrap(), bytes, "kept as it was");
        for n in 0..EVENTS {
            assert!(matches!(rig.offer(&event(&format!("{n}"), "x"), None), Answer::Duplicate));
        }
        rig.close();
    }
}

/// A part of the log is gone: whatever it was, the rest is there, what is missing is told, and what was
/// settled comes back, if at all, as another attempt.
#[test]
fn parts_of_the_log_that_are_lost_cost_little_and_are_told() {
    let whole = tempfile::tempdir().unwrap();
    killed(whole.path(), EVENTS, EVENTS / 2);
    let whole_log = fs::read(whole.path().join("store.db-wal")).unwrap();
    let end = whole_log.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = fastrand::Rng::with_seed(9);
    let (mut lost, mut again, tries) = (0, 0, 24);
    for n in 0..tries {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(whole.path().join("store.db"), dir.path().join("store.db")).unwrap();
        let mut bytes = whole_log.clone();
        let size = [512, 4096, 40_000][n % 3];
        // The head of the log as well.
        let at = if n < 3 { 0 } else { random.usize(..end * 9 / 10) / size * size };
        let rubbish = n % 2 == 0;
        bytes[at..at + size].fill_with(|| if rubbish { random.u8(..) } else { 0 });
        if bytes == whole_log {
            continue;
        }
        fs::write(dir.path().join("store.db-wal"), &bytes).unwrap();
        let mut rig = Rig::open(dir.path());
        let damage = rig.opened.damage.clone().unwrap_or_else(|| panic!("{size} bytes at {at}"));
        assert_eq!(waiting(&mut rig), damage.events, "{damage:?}");
        let mut found = HashSet::new();
        for id in 1..=EVENTS {
            let begun = match rig.ask(|ticket| Op::Begin { ticket, id: EventId(id), hand: None }) {
                Answer::Begun(begun) => begun,
                other => {
                    assert!(matches!(other, Answer::Gone), "{other:?}");
                    continue;
                }
            };
            let number: u64 = begun.event.message_id.unwrap().parse().unwrap();
            assert_eq!(begun.event.text, format!("text of {number}"));
            if number < EVENTS / 2 {
                again += 1;
                assert!(begun.attempts > 1, "{number} seems to be new");
            }
            assert!(found.insert(number), "{number} waits twice");
        }
        assert_eq!(found.len() as u64, damage.events);
        let missing = (EVENTS / 2..EVENTS).filter(|number| !found.contains(number)).count();
        assert!(missing == 0 || damage.unreadable > 0, "{missing} lost, {damage:?}");
        lost += missing;
        let new = rig.accept(&event("new", "chat1"));
        assert!(new.0 > 2 * EVENTS, "ids are used again: {new:?}");
        rig.close();
        assert_eq!(Rig::open(dir.path()).opened.damage, None);
    }
    assert!(lost < 5 * tries && again < 20 * tries, "{lost} lost and {again} again");
}

/// All of a log is in the main file: nothing of it is lost, and what is left of former logs is older than that.
#[test]
fn damage_of_a_log_that_was_copied_costs_nothing() {
    let whole = tempfile::tempdir().unwrap();
    let mut settled = Vec::new();
    for run in 0..6 {
        let mut rig = Rig::open(whole.path());
        for n in 0..4 {
            let id = rig.accept(&event(&format!("{run} {n}"), "chat"));
            if n < 2 {
                rig.settle(id);
                settled.push(id);
            }
        }
        rig.close();
    }
    let bytes = fs::read(whole.path().join("store.db-wal")).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = fastrand::Rng::with_seed(10);
    for n in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(whole.path().join("store.db"), dir.path().join("store.db")).unwrap();
        let mut bytes = bytes.clone();
        let size = [1, 32, 4096, 30_000, 60_000][n % 5];
        let at = if n < 10 { 0 } else { random.usize(..end) };
        let part = at..(at + size).min(bytes.len());
        bytes[part].iter_mut().for_each(|byte| *byte = if n % 2 == 0 { 0 } else { !*byte });
        fs::write(dir.path().join("store.db-wal"), &bytes).unwrap();
        let mut rig = Rig::open(dir.path());
        assert_eq!(waiting(&mut rig), 12, "{size} bytes at {at}: {:?}", rig.opened.damage);
        for id in &settled {
            let answer = rig.ask(|ticket| Op::Begin { ticket, id: *id, hand: None });
            assert!(matches!(answer, Answer::Gone), "{id} is back: {size} bytes at {at}");
        }
        rig.close();
    }
}

/// Else the engine would go on with its salts, and what is left of it would pass for frames of the next log.
#[test]
fn a_wrong_head_of_a_log_that_was_copied_takes_the_log_along() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    for n in 0..20 {
        rig.accept(&event(&format!("{n}"), "chat"));
    }
    rig.close();
    let path = dir.path().join("store.db-wal");
    let mut bytes = fs::read(&path).unwrap();
    bytes[28] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        let mut rig = Rig::open(dir.path());
        assert_eq!((rig.opened.damage.clone(), waiting(&mut rig)), (None, 20));
        rig.close();
    }
    let mut rig = Rig::open(dir.path());
    rig.accept(&event("20", "chat"));
    let salts = |bytes: &[u8]| bytes[16..24].to_vec();
    let next = fs::read(&path).unwrap();
    assert_ne!(salts(&next), salts(&bytes));
    rig.close();
}

/// Commits, roll-backs and beginnings of the log as chance wills, with the engine as the store sets it up.
struct Work {
    random: fastrand::Rng,
    next: i64,
}

type Rows = Vec<(i64, Vec<u8>)>;

fn rows(db: &Connection) -> Rows {
    let mut read = db.prepare("SELECT id, body FROM payload ORDER BY id").unwrap();
    read.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

impl Work {
    /// A transaction; a large one does not fit into the cache, so that parts of it are in the log early.
    fn write(&mut self, db: &Connection, commit: bool) {
        let large = self.random.u32(..8) == 0;
        let (count, size) = if large { (300, 6000) } else { (self.random.i64(1..4), 900) };
        db.execute_batch("BEGIN").unwrap();
        for _ in 0..count {
            self.next += 1;
            let body = vec![self.random.u8(..); self.random.usize(..size)];
            let lane = self.random.i64(..5);
            db.execute("INSERT INTO payload VALUES(?1, ?2, ?3)", (self.next, lane, body)).unwrap();
        }
        let gone = self.random.i64(..self.next);
        db.execute("DELETE FROM payload WHERE id % 97 = ?1 % 97", [gone]).unwrap();
        db.execute_batch(if commit { "COMMIT" } else { "ROLLBACK" }).unwrap();
    }

    fn step(&mut self, db: &Connection, paths: &Paths) {
        match self.random.u32(..16) {
            0 => {
                Log::empty(db).unwrap();
                grow_log(&paths.wal, LOG_AT_REST).unwrap();
            }
            1 | 2 => drop(Log::copy(db).unwrap()),
            3 | 4 => self.write(db, false),
            _ => self.write(db, true),
        }
    }
}

/// Loses any sectors of a commit that was not synced, again and again over what the crash before has left.
#[test]
fn a_torn_end_is_never_taken_for_damage() {
    for seed in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        let mut work = Work { random: fastrand::Rng::with_seed(seed), next: 0 };
        for round in 0..6 {
            let (tables, opened) = recover::open(dir.path(), 0, &[]).unwrap();
            assert_eq!(opened.damage, None, "seed {seed}, round {round}");
            let db = &tables.db;
            for _ in 0..work.random.u32(..8) {
                work.step(db, &paths);
            }
            let (rows_before, before) = (rows(db), fs::read(&paths.wal).unwrap());
            work.write(db, true);
            let (rows_after, after) = (rows(db), fs::read(&paths.wal).unwrap());
            drop(tables);
            let main = fs::read(&paths.file).unwrap();
            for _ in 0..4 {
                let sector = [512, 4096, 0][work.random.usize(..3)];
                let keep = work.random.u32(..101);
                let mut torn = before.clone();
                torn.resize(after.len(), 0);
                let mut at = 0;
                while at < after.len() {
                    // Or all of what was written at once: the head of a frame, or its page.
                    let rest = match (at + 4120 - 32) % 4120 {
                        ..24 => 24,
                        _ => 4096,
                    };
                    let part = at..(at + if sector > 0 { sector } else { rest }).min(after.len());
                    let part = if sector == 0 && at == 0 { 0..32 } else { part };
                    if work.random.u32(..100) < keep {
                        torn[part.clone()].copy_from_slice(&after[part.clone()]);
                    }
                    at = part.end;
                }
                // The head is synced before what follows it.
                torn[..32].copy_from_slice(&after[..32]);
                if work.random.bool() {
                    torn.truncate(work.random.usize(before.len().min(after.len())..=after.len()));
                }
                fs::write(&paths.file, &main).unwrap();
                fs::write(&paths.wal, &torn).unwrap();
                let (tables, opened) = recover::open(dir.path(), 0, &[]).unwrap();
                assert_eq!(opened.damage, None, "seed {seed}, round {round}");
                let found = rows(&tables.db);
                assert!(found == rows_before || found == rows_after, "seed {seed}, round {round}");
                drop(tables);
            }
        }
    }
}

/// Each log changes the same pages in the same order, so that where only a part of a commit was written, what
/// is left of the log before looks most like it.
#[test]
fn what_is_left_of_a_log_like_this_one_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::new(dir.path());
    let db = schema::open(&paths, 0).unwrap();
    db.execute("INSERT INTO payload VALUES(1, 1, x'00')", []).unwrap();
    db.execute("INSERT INTO cursor VALUES(1, x'00')", []).unwrap();
    db.execute("INSERT INTO seen_log VALUES(1, 1, x'00')", []).unwrap();
    let mut n = 0;
    let mut write = || {
        n += 1;
        for (table, column) in [("payload", "body"), ("cursor", "body"), ("seen_log", "hashes")] {
            db.execute(&format!("UPDATE {table} SET {column} = ?1"), [vec![n; 64]]).unwrap();
        }
    };
    let mut commit = || {
        db.execute_batch("BEGIN").unwrap();
        write();
        db.execute_batch("COMMIT").unwrap();
    };
    Log::copy(&db).unwrap();
    (0..8).for_each(|_| commit());
    Log::copy(&db).unwrap();
    commit();
    commit();
    let before = fs::read(&paths.wal).unwrap();
    commit();
    let after = fs::read(&paths.wal).unwrap();
    let frame = |at: usize| 32 + at * 4120..32 + (at + 1) * 4120;
    let changed: Vec<usize> = (0..(after.len() - 32) / 4120)
        .filter(|at| before[frame(*at)] != after[frame(*at)])
        .collect();
    assert_eq!(changed, [6, 7, 8]);
    for kept in 0..64 {
        let mut torn = before.clone();
        for (n, at) in changed.iter().enumerate() {
            let all = frame(*at);
            let (head, page) = (all.start..all.start + 24, all.start + 24..all.end);
            for (bit, part) in [(2 * n, head), (2 * n + 1, page)] {
                if kept >> bit & 1 == 1 {
                    torn[part.clone()].copy_from_slice(&after[part]);
                }
            }
        }
        fs::write(dir.path().join("torn"), &torn).unwrap();
        let found = log::examine(&dir.path().join("torn"), &paths.file);
        assert!(matches!(found, log::Found::Sound), "{kept:b}: {found:?}");
    }
}

/// Changes a bit of what was on the disk before the last commit, but for the last two frames: the sum of one tells
/// that the other ends a commit, and the commit behind that may be torn.
#[test]
fn a_wrong_bit_is_always_found_and_costs_nothing_or_little() {
    let (mut tried, mut whole) = (0, 0);
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        let mut work = Work { random: fastrand::Rng::with_seed(seed), next: 0 };
        let db = schema::open(&paths, 0).unwrap();
        for _ in 0..work.random.u32(1..12) {
            work.step(&db, &paths);
        }
        let before = Log::look(&db).unwrap().used;
        work.write(&db, true);
        if before <= 2 * 4120 || Log::look(&db).unwrap().used <= before {
            continue;
        }
        let expected = rows(&db);
        drop(db);
        let (main, log) = (fs::read(&paths.file).unwrap(), fs::read(&paths.wal).unwrap());
        for n in 0..8 {
            let mut damaged = log.clone();
            // Some of them in what the last frame says of itself.
            let end = 32 + usize::try_from(before).unwrap() - 2 * 4120;
            let at =
                if n < 2 { end - 4120 + work.random.usize(..24) } else { work.random.usize(..end) };
            damaged[at] ^= 1 << work.random.u32(..8);
            fs::write(&paths.file, &main).unwrap();
            fs::write(&paths.wal, &damaged).unwrap();
            let (tables, opened) = recover::open(dir.path(), n, &[]).unwrap();
            let damage = opened.damage.unwrap_or_else(|| panic!("seed {seed}, byte {at} of {end}"));
            let found = rows(&tables.db);
            let known: HashSet<_> = expected.iter().collect();
            let there: HashSet<_> = found.iter().collect();
            let lost = known.difference(&there).count();
            tried += 1;
            whole += usize::from(damage.unreadable == 0);
            if damage.unreadable == 0 {
                assert_eq!(fs::read(&damage.kept_as).unwrap(), damaged);
                assert!(found == expected, "seed {seed}, byte {at} of {end}");
            } else {
                // It was one of the high bits of a word, in the newest version of a page.
                assert!(at % 4 >= 2, "seed {seed}, byte {at} of {end}: {damage:?}");
                assert!(lost < 40, "seed {seed}, byte {at} of {end}: {lost} rows are lost");
                let other = there.difference(&known).count();
                assert!(other < 40, "seed {seed}, byte {at} of {end}: {other} rows are others");
            }
            drop(tables);
            assert!(!paths.suspect.exists());
        }
    }
    assert!(tried > 60 && whole * 5 > tried * 4, "{whole} of {tried}");
}
