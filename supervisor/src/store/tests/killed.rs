//! A process killed while it commits: everything it reported as accepted is there.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

const CHILD: &str = "HERMES_GW_TEST_STORE_OF_A_CHILD";

/// The child: accepts, settles and replies for ever, and reports what is durable, line by line.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (send, mut answers) = mpsc::channel(4);
    let (store, _) = Store::open(Path::new(&dir), 1, send).unwrap();
    let run = std::process::id();
    let mut out = std::io::stdout();
    let mut next = 0;
    let mut submit = |n: u64| {
        for _ in 0..n {
            next += 1;
            let mut event = event(&format!("{run}-{next}"), &format!("chat{}", next % 7));
            event.raw = vec![b'x'; (next % 3000) as usize];
            store.submit(Op::Accept {
                ticket: Ticket(next),
                arrival: store.arrival(&instance("feishu"), &event),
                cursor: Some(Cursor(next.to_le_bytes().to_vec())),
                received_ms: 1,
                quota: Quota::NONE,
            });
        }
    };
    submit(32);
    while let Some(batch) = answers.blocking_recv() {
        let mut text = String::new();
        for done in &batch {
            let Done::Answered { ticket, answer } = done else { panic!("{done:?}") };
            match answer {
                Answer::Accepted { id, .. } => {
                    writeln!(text, "accepted {id} {run}-{}", ticket.0).unwrap();
                    if id.0 % 5 == 0 {
                        store.submit(Op::Settle { ticket: Ticket(id.0 << 32), id: *id });
                    }
                }
                Answer::Settled => writeln!(text, "settled {}", ticket.0 >> 32).unwrap(),
                other => panic!("{other:?}"),
            }
        }
        submit(batch.len() as u64);
        out.write_all(text.as_bytes()).unwrap();
    }
}

#[test]
fn nothing_accepted_is_lost_and_nothing_settled_comes_back_when_killed_while_committing() {
    let dir = tempfile::tempdir().unwrap();
    let mut accepted: Vec<(u64, String)> = Vec::new();
    let mut settled: Vec<u64> = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _round in 0..8 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let lines = 20 + (seed >> 33) % 400;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::killed::child", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut read = BufReader::new(child.stdout.take().unwrap());
        let mut count = 0;
        let mut line = String::new();
        while read.read_line(&mut line).unwrap() > 0 {
            // A line that the kill cut short was still written after its commit, but cannot be read.
            if line.ends_with('\n') {
                match line.split_whitespace().collect::<Vec<_>>()[..] {
                    ["accepted", id, key] => accepted.push((id.parse().unwrap(), key.into())),
                    ["settled", id] => settled.push(id.parse().unwrap()),
                    _ => {}
                }
            }
            count += 1;
            if count == lines {
                child.kill().unwrap();
            }
            line.clear();
        }
        child.wait().unwrap();
        assert!(count >= lines, "the child ended by itself");

        let mut rig = Rig::open(dir.path());
        assert_eq!(rig.opened.damage, None);
        let gone: std::collections::HashSet<u64> = settled.iter().copied().collect();
        for (id, key) in accepted.iter().rev().take(600) {
            assert!(matches!(rig.offer(&event(key, "x"), None), Answer::Duplicate), "{key}");
            let answer = rig.ask(|ticket| Op::Begin { ticket, id: EventId(*id), hand: None });
            match answer {
                Answer::Begun(begun) => assert_eq!(begun.event.keys[0], format!("event:{key}")),
                // Settled, or its settlement was committed and the report was cut off.
                Answer::Gone => assert!(id % 5 == 0, "{id}"),
                other => panic!("{other:?}"),
            }
            assert!(
                !gone.contains(id)
                    || matches!(
                        rig.ask(|ticket| Op::Begin { ticket, id: EventId(*id), hand: None }),
                        Answer::Gone
                    )
            );
        }
        let mut ids: Vec<u64> = accepted.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), accepted.len(), "an id was used twice");
        rig.close();
    }
}
