//! How long a program may be silent. (All else is tested with the real program: `socket_agent`, `exec_agent`.)

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::session::{Ended, Session};
use crate::agent::{Context, Files, Replies, Say};
use crate::clock;
use crate::exchange::Exchange;

const PATIENCE: Duration = Duration::from_secs(100);

/// Serves a program that says these lines and no more; how long until it is given up, if ever.
async fn given_up(lines: &[&str]) -> Option<Duration> {
    let (program, ours) = tokio::io::duplex(4096);
    let (read, write) = tokio::io::split(ours);
    let (_events, incoming) = mpsc::channel(1);
    let (replies, _submitted) = mpsc::channel(1);
    let (say, mut said) = mpsc::channel(16);
    tokio::spawn(async move { while said.recv().await.is_some() {} });
    let mut context = Context {
        incoming,
        replies: Replies::new(replies),
        say: Say::new(say),
        files: Files::new(mpsc::channel(1).0),
        exchange: Exchange::from(protocol::worker::Exchange { dir: "/x".into(), max_bytes: 0 }),
        network: protocol::worker::Network::default(),
        stop: CancellationToken::new(),
    };
    let started = clock::now();
    let mut session = Session::new(Connection::new((read, write)), 4);
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
