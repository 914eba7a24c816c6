//! How long a program may be silent, and what becomes of what it says without waiting for answers. (All else is
//! tested with the real program: `socket_agent`, `exec_agent`.)

use std::time::Duration;

use protocol::event::{Receipt, ReplyState};
use protocol::id::{EventId, OutboundId};
use protocol::worker::{FromWorker, ReplyVerdict};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::session::{Ended, Session};
use crate::agent::sample;
use crate::agent::{Context, Files, Replies, Say, Submitted, ToAgent};
use crate::clock;
use crate::connection::Connection;
use crate::exchange::Exchange;

const PATIENCE: Duration = Duration::from_secs(100);

/// The other ends of what a program is served with.
struct Ends {
    events: mpsc::Sender<ToAgent>,
    submitted: mpsc::Receiver<Submitted>,
    said: mpsc::Receiver<FromWorker>,
}

fn context() -> (Context, Ends) {
    let (events, incoming) = mpsc::channel(1);
    let (replies, submitted) = mpsc::channel(1);
    let (say, said) = mpsc::channel(16);
    let context = Context {
        incoming,
        replies: Replies::new(replies),
        say: Say::new(say),
        files: Files::new(mpsc::channel(1).0),
        exchange: Exchange::from(protocol::worker::Exchange { dir: "/x".into(), max_bytes: 0 }),
        network: protocol::worker::Network::default(),
        stop: CancellationToken::new(),
    };
    (context, Ends { events, submitted, said })
}

/// A program, and the session that serves it.
fn served() -> (DuplexStream, Session<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>) {
    let (program, ours) = tokio::io::duplex(4096);
    (program, Session::new(Connection::new(tokio::io::split(ours)), 4))
}

/// Serves a program that says these lines and no more; how long until it is given up, if ever.
async fn given_up(lines: &[&str]) -> Option<Duration> {
    let (program, mut session) = served();
    let (mut context, mut ends) = context();
    tokio::spawn(async move { while ends.said.recv().await.is_some() {} });
    let started = clock::now();
    let mut program: BufReader<DuplexStream> = BufReader::new(program);
    let talk = async {
        for line in lines {
            program.get_mut().write_all(line.as_bytes()).await.unwrap();
            program.get_mut().write_all(b"\n").await.unwrap();
            program.read_line(&mut String::new()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(100_000)).await;
    };
    tokio::select! {
        ended = session.serve(&mut context, None, Some(PATIENCE)) => {
            assert!(matches!(ended, Ended::Gone(why) if why == "it fell silent"));
            Some(clock::now() - started)
        }
        () = talk => None,
    }
}

const INITIALIZE: &str = r#"{"id":1,"method":"initialize"}"#;
const READY: &str = r#"{"id":2,"method":"ready","params":{"lease_ms":30000}}"#;
const PAUSED: &str = r#"{"id":3,"method":"paused"}"#;

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_say_what_it_should_is_given_up() {
    assert_eq!(given_up(&[]).await, Some(PATIENCE), "it never introduced itself");
    assert_eq!(given_up(&["no JSON"]).await, Some(PATIENCE));
    let late = Some(PATIENCE + Duration::from_secs(30));
    assert_eq!(given_up(&[INITIALIZE, READY]).await, late, "its readiness was not renewed");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_may_be_silent_is_left_alone() {
    assert_eq!(given_up(&[INITIALIZE]).await, None, "it has not said that it is ready");
    assert_eq!(given_up(&[INITIALIZE, READY, PAUSED]).await, None, "it paused");
}

const SEND: &str = r#"{"id":4,"method":"message.send","params":{"key":"k","instance":"local","chat_id":"c","text":"t"}}"#;
const ACK: &str = r#"{"id":"5.1","result":{}}"#;
const EVENT: FromWorker = FromWorker::Ack { event_id: EventId(5) };
const HANDED_BACK: FromWorker = FromWorker::Defer { event_id: EventId(5), after_ms: 1000 };

/// What the supervisor is told of an event in the chat to which the replies go.
async fn told(lines: &[&str], verdicts: impl IntoIterator<Item = ReplyVerdict>) -> Vec<FromWorker> {
    told_of("c", lines, verdicts).await
}

/// What the supervisor is told of an event in this chat if a program says these lines in one go and hangs up, by
/// what becomes of its replies; without a verdict the worker is at its end.
async fn told_of(
    chat: &str,
    lines: &[&str],
    verdicts: impl IntoIterator<Item = ReplyVerdict>,
) -> Vec<FromWorker> {
    let (program, mut session) = served();
    let (mut context, Ends { mut submitted, mut said, events }) = context();
    let event = Box::new(sample::delivery(5, "local", chat, "hello"));
    events.send(ToAgent::Deliver(event)).await.unwrap();
    let mut program = BufReader::new(program);
    let talk = async {
        let mut heard = String::new();
        while !heard.contains("event.deliver") {
            program.read_line(&mut heard).await.unwrap();
        }
        let lines = [&[INITIALIZE], lines].concat().join("\n") + "\n";
        program.get_mut().write_all(lines.as_bytes()).await.unwrap();
        drop(program);
    };
    let judge = async {
        for verdict in verdicts {
            submitted.recv().await.unwrap().verdict.send(verdict).unwrap();
        }
        drop(submitted);
    };
    let (ended, (), ()) = tokio::join!(session.serve(&mut context, None, None), talk, judge);
    assert!(matches!(ended, Ended::Gone(_)));
    let mut of_event = Vec::new();
    while let Ok(frame) = said.try_recv() {
        of_event.extend([EVENT, HANDED_BACK].into_iter().find(|it| *it == frame));
    }
    of_event
}

fn accepted() -> ReplyVerdict {
    ReplyVerdict::Accepted(Receipt {
        id: OutboundId(1),
        key: "k".to_owned(),
        state: ReplyState::Waiting,
        message_ids: Vec::new(),
        reason: None,
    })
}

/// Who does not wait for our answers could not know it, and who hangs up cannot.
#[tokio::test]
async fn an_event_whose_reply_is_not_accepted_is_handed_back() {
    assert_eq!(told(&[SEND, ACK], [accepted()]).await, [EVENT]);
    assert_eq!(told(&[SEND, ACK], [ReplyVerdict::Rejected("no".into())]).await, [EVENT]);
    assert_eq!(told(&[SEND, ACK], [ReplyVerdict::Refused]).await, [HANDED_BACK]);
    assert_eq!(told(&[SEND, ACK], []).await, [HANDED_BACK]);
    let again = [ReplyVerdict::Refused, accepted()];
    assert_eq!(told(&[SEND, SEND, ACK], again).await, [EVENT], "it was said again");
    let elsewhere = told_of("d", &[SEND, ACK], [ReplyVerdict::Refused]).await;
    assert_eq!(elsewhere, [EVENT], "that belongs to another event");
    assert_eq!(told(&[SEND, ACK, ACK], [ReplyVerdict::Refused]).await, [HANDED_BACK, EVENT]);
}

/// In its own pipe, not in our memory. That it is not heard meanwhile is not held against it, whichever of what is
/// ready then is met first: hence several times.
#[tokio::test(start_paused = true)]
async fn a_program_that_says_more_than_is_taken_in_waits() {
    for _ in 0..40 {
        say_more_than_is_taken_in().await;
    }
}

async fn say_more_than_is_taken_in() {
    const TIMES: usize = 32;
    let (mut program, mut session) = served();
    let (mut context, Ends { mut submitted, mut said, events: _events }) = context();
    tokio::spawn(async move { while said.recv().await.is_some() {} });
    let send = SEND.replace("\"t\"", &format!("{:?}", "x".repeat(500_000)));
    let mut talk = std::pin::pin!(async {
        program.write_all(format!("{INITIALIZE}\n{READY}\n").as_bytes()).await.unwrap();
        for _ in 0..TIMES {
            program.write_all(format!("{send}\n").as_bytes()).await.unwrap();
        }
        drop(program);
    });
    let mut serve = std::pin::pin!(session.serve(&mut context, None, Some(PATIENCE)));
    tokio::select! {
        _ = &mut serve => panic!("it is given up"),
        () = &mut talk => panic!("all is taken in"),
        () = tokio::time::sleep(PATIENCE * 10) => {}
    }
    // Once what it said is accepted, it is heard again.
    let judge = async {
        for _ in 0..TIMES {
            submitted.recv().await.unwrap().verdict.send(accepted()).unwrap();
        }
    };
    tokio::select! {
        biased;
        _ = async { tokio::join!(talk, judge) } => {}
        _ = &mut serve => panic!("it is given up although it had more to say"),
    }
    assert!(matches!(serve.await, Ended::Gone(_)));
}
