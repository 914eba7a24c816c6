//! Files that somebody takes away while the store is open (F102).

use std::fs;
use std::path::PathBuf;

use super::super::place::{Fate, Removed, put_back};
use super::*;

/// A store in which `names` are accepted, in a directory that may be removed.
fn filled(dir: &Path, names: &[&str]) -> Rig {
    fs::create_dir(dir).unwrap();
    let mut rig = Rig::open(dir);
    for name in names {
        rig.accept(&event(name, "chat"));
    }
    rig
}

/// One more event is not accepted, and nothing after it is; what became of the others.
fn refused(mut rig: Rig) -> Removed {
    assert!(rig.store.missing().is_some());
    for n in 0..2 {
        rig.submit(900 + n, "feishu", &event(&format!("late{n}"), "chat"));
        let Done::Poisoned { error } = rig.done() else { panic!("it goes on without its files") };
        assert!(error.contains("somebody took"), "{error}");
    }
    let Rig { store, answers, .. } = rig;
    drop(answers);
    let Err(Error::Removed(removed)) = store.close() else { panic!("nothing is missing") };
    removed
}

/// How many events wait in the store in `dir`.
fn waiting(dir: &Path) -> u64 {
    let mut rig = Rig::open(dir);
    assert_eq!(rig.opened.damage, None);
    assert!(!rig.opened.log_is_missing);
    let waiting = rig.settled_counts().iter().map(|one| one.waiting).sum();
    rig.close();
    waiting
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("s");
    (dir, state)
}

#[test]
fn a_directory_that_is_removed_is_put_back_with_everything() {
    let (_dir, state) = place();
    let rig = filled(&state, &["a", "b", "c"]);
    fs::remove_dir_all(&state).unwrap();
    let removed = refused(rig);
    // What was refused may be kept: its repetition is known. What was accepted must be.
    let (events, 0) = removed.waiting.unwrap() else { panic!("{removed:?}") };
    assert!(events >= 3, "{removed:?}");
    let Fate::Saved(copy) = &removed.fate else { panic!("{removed:?}") };
    assert!(put_back(copy).unwrap());
    assert!(!copy.exists());
    assert_eq!(waiting(&state), events);
}

#[test]
fn a_main_file_that_is_removed_is_put_back_and_its_log_is_not_taken_for_a_newer_one() {
    let (_dir, state) = place();
    let rig = filled(&state, &["a", "b"]);
    fs::remove_file(state.join("store.db")).unwrap();
    let removed = refused(rig);
    let Fate::Saved(copy) = &removed.fate else { panic!("{removed:?}") };
    assert!(put_back(copy).unwrap());
    assert!(!state.join("store.db-wal").exists());
    assert_eq!(waiting(&state), removed.waiting.unwrap().0);
}

#[test]
fn another_store_in_its_place_is_left_alone_and_all_is_saved_beside_it() {
    let (_dir, state) = place();
    let rig = filled(&state, &["a", "b"]);
    fs::remove_dir_all(&state).unwrap();
    let other = filled(&state, &["x"]);
    let removed = refused(rig);
    let Fate::Saved(copy) = &removed.fate else { panic!("{removed:?}") };
    assert!(!put_back(copy).unwrap());
    other.close();
    assert_eq!(waiting(&state), 1);
    // As the hint says.
    fs::rename(state.join("store.db"), state.join("theirs.db")).unwrap();
    fs::rename(state.join("store.db-wal"), state.join("theirs.db-wal")).unwrap();
    fs::rename(copy, state.join("store.db")).unwrap();
    assert_eq!(waiting(&state), removed.waiting.unwrap().0);
}

#[test]
fn one_that_is_moved_has_everything_where_it_is_now() {
    let (dir, state) = place();
    let rig = filled(&state, &["a", "b"]);
    let moved = dir.path().join("moved");
    fs::rename(&state, &moved).unwrap();
    let removed = refused(rig);
    let found = fs::canonicalize(moved.join("store.db")).unwrap();
    assert_eq!(removed.fate, Fate::Moved(Some(found)));
    assert!(!state.exists(), "nothing is made in its place");
    assert_eq!(waiting(&moved), removed.waiting.unwrap().0);
}

#[test]
fn without_its_log_the_main_file_has_everything() {
    for strange in [false, true] {
        let (_dir, state) = place();
        let rig = filled(&state, &["a", "b"]);
        let log = state.join("store.db-wal");
        // That of another store would be taken for a part of this one.
        let theirs = fs::read(&log).unwrap();
        fs::remove_file(&log).unwrap();
        if strange {
            fs::write(&log, &theirs).unwrap();
        }
        let removed = refused(rig);
        assert_eq!(removed.fate, Fate::Whole);
        assert_eq!(fs::read(&log).unwrap(), b"", "nobody is to miss the other one");
        assert_eq!(state.join("store.db-wal.strange-0").exists(), strange);
        assert_eq!(waiting(&state), removed.waiting.unwrap().0);
    }
}

#[test]
fn a_polite_end_notices_it_as_well() {
    let (_dir, state) = place();
    let rig = filled(&state, &["a"]);
    fs::remove_dir_all(&state).unwrap();
    let Rig { store, answers, .. } = rig;
    drop(answers);
    let Err(Error::Removed(removed)) = store.close() else { panic!("nothing is missing") };
    assert_eq!(removed.waiting, Some((1, 0)));
    let Fate::Saved(copy) = removed.fate else { panic!("{:?}", removed.fate) };
    assert!(put_back(&copy).unwrap());
    assert_eq!(waiting(&state), 1);
}

#[test]
fn where_nothing_can_be_made_it_says_so() {
    let (_dir, state) = place();
    let rig = filled(&state, &["a"]);
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "in the way").unwrap();
    let removed = refused(rig);
    let Fate::Lost(why) = &removed.fate else { panic!("{removed:?}") };
    let hint = removed.hint();
    assert!(hint.contains(why) && hint.contains("events"), "{hint}");
}

#[test]
fn a_program_that_takes_over_finds_the_same_files_or_refuses() {
    let (_dir, state) = place();
    let rig = filled(&state, &["a"]);
    let inodes = rig.store.inodes();
    Store::find(&state, inodes).unwrap();
    rig.close();
    Store::find(&state, inodes).unwrap();
    fs::rename(state.join("store.db-wal"), state.join("elsewhere")).unwrap();
    assert!(matches!(Store::find(&state, inodes), Err(Error::Removed(_))));
}
