//! A copy that is made while events come, and what is put back.

use super::*;

#[test]
fn a_backup_grows_while_events_come_and_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path());
    let mut large = event("0", "chat");
    large.raw = vec![b'x'; 500_000];
    for n in 0..8 {
        large.keys = vec![format!("large {n}")];
        rig.accept(&large);
    }
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("store.db");
    rig.store.submit(Op::Backup { ticket: Ticket(5000), path: path.clone() });
    rig.store.submit(Op::Backup { ticket: Ticket(5001), path: other.path().join("second") });
    for n in 0..100 {
        rig.submit(6000 + n, "feishu", &event(&format!("{n}"), "chat"));
    }
    let mut accepted = 0;
    let size = loop {
        match rig.answer() {
            (Ticket(5000), Answer::BackedUp { bytes }) => break bytes,
            (Ticket(5001), answer) => assert!(matches!(answer, Answer::Busy), "one at a time"),
            (_, answer) => {
                assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
                accepted += 1;
            }
        }
    };
    assert!(size > 4_000_000 && std::fs::metadata(&path).unwrap().len() == size);
    for _ in accepted..100 {
        rig.answer();
    }
    rig.close();
    let mut copy = Rig::open(other.path());
    assert!(!copy.opened.log_is_missing, "a backup needs none");
    let waiting = copy.settled_counts()[0].waiting;
    assert!((8..=108).contains(&waiting), "{waiting}");
    copy.close();
}

/// By its id a platform and an agent tell a repetition from something new.
#[test]
fn a_backup_that_is_put_back_gives_no_id_out_again() {
    const SINCE: u64 = 3000;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut rig = Rig::open(dir.path());
    let mut given = vec![rig.accept(&event("before", "chat"))];
    let mut replies = vec![rig.reply("before", "chat", None).0.id];
    let path = other.path().join("store.db");
    let backed_up = rig.ask(|ticket| Op::Backup { ticket, path });
    assert!(matches!(backed_up, Answer::BackedUp { .. }));
    for n in 0..SINCE {
        given.push(rig.accept(&event(&n.to_string(), "chat")));
        replies.push(rig.reply(&n.to_string(), "chat", None).0.id);
    }
    rig.close();
    // So many milliseconds later: it can have been no more.
    let mut copy = Rig::open_at(other.path(), 3_000 + i64::try_from(SINCE).unwrap()).unwrap();
    let again = copy.accept(&event("after", "chat"));
    assert!(!given.contains(&again), "{again}");
    let again = copy.reply("after", "chat", None).0.id;
    assert!(!replies.contains(&again), "{again}");
    copy.close();
}
