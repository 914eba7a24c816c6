//! A full disk, and operations that are impossible by themselves.

use std::path::PathBuf;
use std::process::Command;

use super::super::recover;
use super::*;

/// A store whose file may not grow by more than `pages`.
fn confined(dir: &Path, pages: i64) -> Rig {
    let (tables, opened) = recover::open(dir, 1_000, &[]).unwrap();
    let number = |sql: &str| tables.db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let count = number("PRAGMA page_count");
    assert_eq!(number(&format!("PRAGMA max_page_count = {}", count + pages)), count + pages);
    let (send, answers) = mpsc::channel(64);
    let store = Store::start(tables, send).unwrap();
    Rig { store, answers, waiting: VecDeque::new(), opened, tickets: 0 }
}

fn sized(n: u64, bytes: usize) -> Inbound {
    let mut event = event(&format!("{n}"), "chat");
    event.raw = vec![5; bytes];
    event
}

/// A file system of 4 MiB.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(at);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: only root can make a small disk");
            return None;
        }
        Some(Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_events_and_takes_settlements() {
    let dir = tempfile::tempdir().unwrap();
    Rig::open(dir.path()).close();
    let mut rig = confined(dir.path(), 60);
    let large = |n: u64| sized(n, 20_000);
    let mut ids = Vec::new();
    let refused = loop {
        let n = ids.len() as u64;
        match rig.offer(&large(n), Some(Cursor(vec![u8::try_from(n).unwrap()]))) {
            Answer::Accepted { id, .. } => ids.push(id),
            Answer::Full => break n,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused > 3);
    // One group: what grows is refused, the rest is done.
    let first = ids[0];
    rig.submit(901, "feishu", &large(refused));
    rig.store.submit(Op::Begin { ticket: Ticket(902), id: first, hand: None });
    rig.store.submit(Op::Settle { ticket: Ticket(903), id: first });
    let mut told = HashMap::new();
    for _ in 0..3 {
        let (ticket, answer) = rig.answer();
        told.insert(ticket.0, answer);
    }
    assert!(matches!(told[&902], Answer::Begun(_)), "{told:?}");
    assert!(matches!(told[&903], Answer::Settled), "{told:?}");
    // Its keys were not kept with the refusal: the platform's repetition is welcome, a while later.
    while !matches!(rig.offer(&large(refused), None), Answer::Accepted { .. }) {}
    rig.close();
    let mut rig = Rig::open(dir.path());
    assert_eq!(rig.opened.cursors[0].1, Cursor(vec![u8::try_from(refused - 1).unwrap()]));
    assert_eq!(rig.settled_counts()[0].waiting, refused);
    rig.close();
}

/// What was said behind it is under way already when an event finds no room.
#[test]
fn nothing_overtakes_an_event_that_found_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path()) else { return };
    let mut rig = Rig::open(dir.path());
    let mut n = 0;
    while !matches!(rig.offer(&sized(n, 20_000), None), Answer::Full) {
        n += 1;
    }
    // For a large one there is no room; for a small one there would be.
    for at in 0..50 {
        rig.submit(at, "feishu", &sized(1000 + at, if at % 10 == 0 { 20_000 } else { 10 }));
    }
    let answers: Vec<Answer> = (0..50).map(|_| rig.answer().1).collect();
    let kept = answers.iter().filter(|answer| matches!(answer, Answer::Accepted { .. })).count();
    assert_eq!(kept, 0, "{answers:?}");
    // That does not last.
    while !matches!(rig.offer(&sized(2000, 10), None), Answer::Accepted { .. }) {}
    rig.close();
    drop(disk);
}

/// F72: what the log has grown to is given to the file before anything is refused.
#[test]
fn a_log_that_has_grown_does_not_keep_the_disk_full() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path()) else { return };
    let mut rig = Rig::open(dir.path());
    let large = |n: u64| sized(n, 20_000);
    // Nothing stays, and the log takes what there is.
    let log = || std::fs::metadata(dir.path().join("store.db-wal")).unwrap().len();
    let mut n = 0;
    let mut most = 0;
    while n < 400 {
        if let Answer::Accepted { id, .. } = rig.offer(&large(n), None) {
            rig.ask(|ticket| Op::Settle { ticket, id });
        }
        n += 1;
        most = most.max(log());
    }
    // One that is refused is so for a while, with all behind it.
    while !matches!(rig.offer(&large(999), None), Answer::Accepted { .. }) {}
    let kept =
        (0..60).filter(|k| matches!(rig.offer(&large(1000 + k), None), Answer::Accepted { .. }));
    let kept = kept.count();
    rig.close();
    drop(disk);
    assert!(most > 2 << 20, "{most}");
    // More than a megabyte, of 20 KB each.
    assert!(kept >= 60, "{kept}");
}

#[test]
fn an_impossible_operation_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    Rig::open(dir.path()).close();
    let db = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    db.execute("INSERT INTO payload(id, lane, body) VALUES(2, 1, x'00')", []).unwrap();
    drop(db);
    let mut rig = Rig::open(dir.path());
    let id = rig.accept(&event("before", "chat"));
    rig.store.submit(Op::Refund { id });
    for n in 0..3 {
        rig.submit(n, "feishu", &event(&format!("{n}"), "chat"));
    }
    let answers: Vec<Answer> = (0..3).map(|_| rig.answer().1).collect();
    assert!(matches!(answers[0], Answer::Failed(_)), "{answers:?}");
    assert!(matches!(answers[1], Answer::Accepted { .. }), "{answers:?}");
    assert!(matches!(answers[2], Answer::Accepted { .. }), "{answers:?}");
    assert!(
        matches!(rig.offer(&event("0", "chat"), None), Answer::Accepted { .. }),
        "not remembered"
    );
    assert_eq!(rig.settled_counts()[0].waiting, 4);
    rig.close();
}
