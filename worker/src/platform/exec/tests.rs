//! How long a program may be silent, what its resume points wait for, and what it may say at once. (All else is tested
//! with the real program: `exec_platform`.)

use std::time::Duration;

use protocol::content::Content;
use protocol::event::{Outbound, Outcome};
use protocol::id::{EventId, Instance, OutboundId};
use protocol::worker::{Cursor, ExecPlatformSettings, Network, Outside, Verdict};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::session::{Ended, Session};
use crate::clock;
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::platform::{Ask, Context, Events, Kept, Note, Report, Submitted};

const PATIENCE: Duration = Duration::from_secs(100);

/// The other ends of what a program is served with.
struct Ends {
    events: mpsc::Receiver<Submitted>,
    kept: mpsc::Receiver<Kept>,
    notes: mpsc::Receiver<Note>,
    outbound: mpsc::Sender<Outbound>,
    stop: CancellationToken,
    #[expect(dead_code, reason = "kept so that nobody is asked anything")]
    asks: mpsc::Sender<Ask>,
}

fn context() -> (Context, Ends) {
    let (submit, events) = mpsc::channel(256);
    let (keep, kept) = mpsc::channel(256);
    let (note, notes) = mpsc::channel(1024);
    let (outbound, outgoing) = mpsc::channel(16);
    let (ask, asks) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let context = Context {
        events: Events::new(submit, keep),
        outbound: outgoing,
        asks,
        exchange: Exchange::from(protocol::worker::Exchange { dir: "/x".into(), max_bytes: 0 }),
        network: Network::default(),
        report: Report::new(note),
        stop: stop.clone(),
        cursor: Some(Cursor(b"{\"since\":7}".to_vec())),
    };
    (context, Ends { events, kept, notes, outbound, stop, asks: ask })
}

fn settings() -> ExecPlatformSettings {
    ExecPlatformSettings {
        instance: Instance::new("mine").unwrap(),
        command: vec!["x".into()],
        dir: "/".into(),
        variables: Vec::new(),
        settings: "{}".into(),
        secrets: Vec::new(),
    }
}

/// The program's side.
struct Program(BufReader<DuplexStream>);

impl Program {
    async fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).await.unwrap() > 0, "the connection is closed");
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.say(line).await;
        self.hear().await
    }
}

/// Serves a program that does `talk`; how the session ended and when.
async fn served<F: Future<Output = ()>>(
    talk: impl FnOnce(Program, Ends) -> F,
) -> Option<(Ended, Duration)> {
    let (program, ours) = tokio::io::duplex(4096);
    let (mut context, ends) = context();
    let settings = settings();
    let mut session = Session::new(Connection::new(tokio::io::split(ours)), &settings);
    let started = clock::now();
    let (ended, after) = tokio::select! {
        ended = session.serve(&mut context, PATIENCE) => (ended, clock::now() - started),
        () = talk(Program(BufReader::new(program)), ends) => return None,
    };
    if matches!(ended, Ended::Gone(_)) {
        session.give_back(&context).await;
    }
    Some((ended, after))
}

const INITIALIZE: &str = r#"{"id":1,"method":"initialize"}"#;
const READY: &str = r#"{"id":2,"method":"ready","params":{"lease_ms":30000}}"#;
const DOWN: &str = r#"{"id":3,"method":"down","params":{"reason":"503","lease_ms":60000}}"#;

/// Serves a program that says these lines and no more; when it is given up.
async fn given_up(lines: &[&str]) -> u64 {
    let ended = served(async |mut program, ends| {
        let _ends = ends;
        for line in lines {
            program.ask(line).await;
        }
        tokio::time::sleep(PATIENCE * 100).await;
    });
    match ended.await {
        Some((Ended::Gone(why), after)) if why == "it fell silent" => after.as_secs(),
        _ => panic!("it is not given up"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_say_what_it_should_is_given_up() {
    assert_eq!(given_up(&[]).await, 100, "it never introduced itself");
    assert_eq!(given_up(&["no JSON"]).await, 100);
    assert_eq!(given_up(&[INITIALIZE]).await, 100, "it does not say how its platform is");
    assert_eq!(given_up(&[INITIALIZE, READY]).await, 130, "its readiness was not renewed");
    assert_eq!(given_up(&[INITIALIZE, DOWN]).await, 160, "it should try again, and say so");
}

fn reply(id: u64) -> Outbound {
    Outbound {
        id: OutboundId(id),
        key: format!("k{id}"),
        chat_id: "c".into(),
        thread_id: None,
        reply_to: None,
        content: Content::text("hello"),
        attempt: 1,
        draft_key: String::new(),
        draft_id: None,
        progress: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_answer_is_given_up_however_much_it_says() {
    let ended = served(async |mut program, ends| {
        program.ask(INITIALIZE).await;
        ends.outbound.send(reply(1)).await.unwrap();
        loop {
            program.say(READY).await;
            program.hear().await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    let Some((Ended::Gone(why), after)) = ended.await else { panic!() };
    assert_eq!((&*why, after.as_secs()), ("it has not answered a request for 300 s", 300));
}

fn event(id: u64, cursor: &str) -> String {
    let params = format!(
        r#""chat_id":"c","chat_type":"direct","user_id":"u","origin_ms":1,"message_id":"m{id}"{cursor}"#
    );
    format!(r#"{{"id":{id},"method":"event.deliver","params":{{{params}}}}}"#)
}

/// Otherwise an event that is not stored would be behind the point from which a next life goes on.
#[tokio::test]
async fn a_resume_point_waits_for_what_it_covers_and_is_refused_while_that_is_owed() {
    let ended = served(async |mut program, mut ends| {
        let cursor = program.ask(INITIALIZE).await["result"]["cursor"].clone();
        assert_eq!(cursor, json!({ "since": 7 }), "as it was kept");
        program.say(&event(1, "")).await;
        program.say(&event(2, r#","cursor":2"#)).await;
        let first = ends.events.recv().await.unwrap();
        assert!(ends.events.try_recv().is_err(), "it waits for the one before it");
        first.verdict.send(Verdict::Refused).unwrap();
        for id in [1, 2] {
            let refused = program.hear().await;
            assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(id), &json!(-32001)));
        }
        let keep = r#"{"id":3,"method":"cursor.keep","params":{"cursor":3}}"#;
        assert_eq!(program.ask(keep).await["error"]["code"], -32001, "the same of one alone");
        // Said again, it may bring its own.
        program.say(&event(1, r#","cursor":1"#)).await;
        let again = ends.events.recv().await.unwrap();
        assert_eq!(again.cursor, Some(Cursor(b"1".to_vec())));
        again.verdict.send(Verdict::Accepted(EventId(9))).unwrap();
        let accepted = json!({ "verdict": "accepted", "event_id": "9" });
        assert_eq!(program.hear().await["result"], accepted);
        assert_eq!(program.ask(keep).await["error"]["code"], -32001, "the second one is owed, too");
        program.say(&event(2, "")).await;
        ends.events.recv().await.unwrap().verdict.send(Verdict::Duplicate).unwrap();
        assert_eq!(program.hear().await["result"]["verdict"], "duplicate");
        program.say(keep).await;
        let kept = ends.kept.recv().await.unwrap();
        assert_eq!(kept.cursor, Cursor(b"3".to_vec()));
        kept.verdict.send(Verdict::Duplicate).unwrap();
        assert_eq!(program.hear().await["result"], json!({}));
    });
    assert!(ended.await.is_none());
}

/// Else one whose platform says much that is not for us would begin again from long ago.
#[tokio::test(start_paused = true)]
async fn a_resume_point_is_kept_although_its_event_is_denied() {
    let ended = served(async |mut program, mut ends| {
        program.ask(INITIALIZE).await;
        for (id, is_kept) in [(1, true), (2, false)] {
            program.say(&event(id, r#","cursor":4"#)).await;
            ends.events.recv().await.unwrap().verdict.send(Verdict::Denied).unwrap();
            let kept = ends.kept.recv().await.unwrap();
            assert_eq!(kept.cursor, Cursor(b"4".to_vec()));
            let verdict = if is_kept { Verdict::Duplicate } else { Verdict::Refused };
            kept.verdict.send(verdict).unwrap();
            let answer = program.hear().await;
            assert_eq!(answer["result"]["verdict"] == "denied", is_kept, "{answer}");
            assert_eq!(answer["error"]["code"] == -32001, !is_kept, "{answer}");
        }
    });
    assert!(ended.await.is_none());
}

/// In its own pipe, not in our memory; and that it is not heard meanwhile is not held against it.
#[tokio::test(start_paused = true)]
async fn a_program_that_says_more_than_is_taken_in_waits() {
    let ended = served(async |mut program, mut ends| {
        program.ask(INITIALIZE).await;
        let flood = async {
            for id in 1.. {
                program.say(&event(id, "")).await;
            }
        };
        let is_over = tokio::time::timeout(PATIENCE * 10, flood).await.is_ok();
        assert!(!is_over);
        let mut taken = Vec::new();
        while let Ok(submitted) = ends.events.try_recv() {
            taken.push(submitted);
        }
        assert_eq!(taken.len(), 256);
        for submitted in taken {
            submitted.verdict.send(Verdict::Denied).unwrap();
        }
        assert_eq!(program.hear().await["result"]["verdict"], "denied");
    });
    assert!(ended.await.is_none());
}

/// What is under way when the worker is to end is waited for; nothing else is begun.
#[tokio::test(start_paused = true)]
async fn a_message_under_way_is_finished_before_the_end() {
    let (give, notes) = tokio::sync::oneshot::channel();
    let ended = served(async |mut program, ends| {
        let Ends { notes, outbound, stop, .. } = ends;
        program.ask(INITIALIZE).await;
        program.ask(READY).await;
        outbound.send(reply(1)).await.unwrap();
        let asked = program.hear().await;
        assert_eq!(asked["method"], "message.send");
        stop.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(outbound.send(reply(2)).await.is_err(), "nothing more is taken");
        let answer = json!({ "id": asked["id"], "result": { "message_ids": ["1"] } });
        program.say(&answer.to_string()).await;
        give.send(notes).unwrap();
        std::future::pending::<()>().await;
    });
    let Some((Ended::Stopped, after)) = ended.await else { panic!() };
    assert_eq!(after.as_secs(), 1, "it is not waited for any longer");
    let mut notes = notes.await.unwrap();
    let mut told = std::iter::from_fn(|| notes.try_recv().ok());
    assert!(told.any(|note| matches!(note, Note::Outcome(_, _, Outcome::Sent { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_that_runs_out_is_told() {
    let ended = served(async |mut program, mut ends| {
        program.ask(INITIALIZE).await;
        program.ask(READY).await;
        let mut was_ready = false;
        loop {
            match ends.notes.recv().await.unwrap() {
                Note::Ready(ready) => was_ready = ready.account == "x",
                Note::Outside(Outside::Down { .. }) => break,
                _ => {}
            }
        }
        assert!(was_ready, "first it was");
    });
    assert!(ended.await.is_none());
}

/// Stopped together with the program, as by `docker pause`, neither of us can have spoken.
#[tokio::test(start_paused = true)]
async fn a_pause_of_ours_is_not_held_against_the_program() {
    let ended = served(async |mut program, ends| {
        program.ask(INITIALIZE).await;
        program.ask(READY).await;
        ends.outbound.send(reply(1)).await.unwrap();
        let asked = program.hear().await;
        tokio::time::advance(PATIENCE * 10).await;
        tokio::time::sleep(PATIENCE / 2).await;
        program.say(&json!({ "id": asked["id"], "result": {} }).to_string()).await;
        program.ask(READY).await;
        tokio::time::sleep(PATIENCE * 10).await;
    });
    let Some((Ended::Gone(why), after)) = ended.await else { panic!() };
    assert_eq!((&*why, after.as_secs()), ("it fell silent", 1000 + 50 + 30 + 100));
}

/// Our requests have names of ours, and those of the program names of its own: they may be the same.
#[tokio::test]
async fn an_answer_to_nothing_answers_nothing() {
    let ended = served(async |mut program, mut ends| {
        program.ask(INITIALIZE).await;
        program.say(&event(7, "")).await;
        let told = program.ask(r#"{"id":7,"result":{}}"#).await;
        assert_eq!((&told["id"], &told["error"]["code"]), (&Value::Null, &json!(-32600)));
        assert!(std::iter::from_fn(|| ends.notes.try_recv().ok()).any(|it| it == Note::Malformed));
        ends.events.recv().await.unwrap().verdict.send(Verdict::Duplicate).unwrap();
        assert_eq!(program.hear().await["id"], 7);
    });
    assert!(ended.await.is_none());
}

/// It would be told again from where it was at its start.
#[tokio::test]
async fn a_program_introduces_itself_once() {
    let ended = served(async |mut program, _ends| {
        program.ask(INITIALIZE).await;
        assert_eq!(program.ask(INITIALIZE).await["error"]["code"], -32600);
    });
    assert!(ended.await.is_none());
}

/// Each change is a line in the log and in the journal, and starts programs that are hooks.
#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_decide_how_its_platform_is_does_not_flood_people() {
    let ended = served(async |mut program, mut ends| {
        program.ask(INITIALIZE).await;
        let mut told = Vec::new();
        for n in 0..10_000 {
            program.ask([READY, DOWN][n % 2]).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            while let Ok(note) = ends.notes.try_recv() {
                told.extend(matches!(note, Note::Outside(_) | Note::Ready(_)).then_some(note));
            }
        }
        assert!((3..12).contains(&told.len()), "{told:?}");
        loop {
            match ends.notes.recv().await.unwrap() {
                Note::Outside(Outside::Down { .. }) => break,
                Note::Outside(outside) => assert_eq!(outside, Outside::Up),
                _ => {}
            }
        }
        // After some peace what changes is told at once.
        for _ in 0..4 {
            program.ask(DOWN).await;
            tokio::time::sleep(Duration::from_secs(50)).await;
        }
        while ends.notes.try_recv().is_ok() {}
        program.ask(READY).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut told = std::iter::from_fn(|| ends.notes.try_recv().ok());
        assert!(told.any(|note| note == Note::Outside(Outside::Up)));
    });
    assert!(ended.await.is_none());
}

/// Nobody knows what became of a message that it has read.
#[tokio::test(start_paused = true)]
async fn a_message_that_the_program_cannot_have_read_is_sent_again() {
    let (give, notes) = tokio::sync::oneshot::channel();
    let ended = served(async |mut program, ends| {
        let Ends { notes, outbound, events: _events, stop: _stop, .. } = ends;
        program.ask(INITIALIZE).await;
        program.ask(READY).await;
        outbound.send(reply(1)).await.unwrap();
        assert_eq!(program.hear().await["params"]["key"], "k1");
        let large = Content::text("x".repeat(10_000));
        outbound.send(Outbound { content: large, ..reply(2) }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(program);
        give.send(notes).unwrap();
        std::future::pending::<()>().await;
    });
    assert!(matches!(ended.await, Some((Ended::Gone(_), _))));
    let mut notes = notes.await.unwrap();
    let outcomes: Vec<_> = std::iter::from_fn(|| notes.try_recv().ok())
        .filter(|note| matches!(note, Note::Outcome(..)))
        .collect();
    assert!(
        matches!(&*outcomes, [Note::Outcome(OutboundId(2), 1, Outcome::Retry { .. })]),
        "{outcomes:?}"
    );
}
