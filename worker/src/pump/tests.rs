//! What goes before what. (All else is tested with the real program.)

use protocol::worker::{Cursor, Exchange, Network};
use tokio::io::{DuplexStream, Empty};

use super::*;

/// A pump whose adapter is spoken for by the test, which also hears what the supervisor is told.
fn pump(link: DuplexStream) -> (Pump<Empty, DuplexStream>, mpsc::Sender<Note>) {
    let configure = Configure {
        adapter: Adapter::Echo,
        cursor: None,
        window: 8,
        window_bytes: 1 << 20,
        heartbeat_ms: 1000,
        grace_ms: 1000,
        log: String::new(),
        exchange: Exchange { dir: "/x".into(), max_bytes: 0 },
        network: Network::default(),
    };
    let exchange = super::Exchange::from(configure.exchange.clone());
    let copies = Copies::new(exchange, Instance::new("a").unwrap());
    let (mut ports, _) = start(configure, &CancellationToken::new());
    let (note, notes) = mpsc::channel(UP);
    ports.notes = notes;
    let pump = Pump {
        receiver: Receiver::new(tokio::io::empty()),
        sender: Sender::new(link),
        ports,
        copies,
        events: Unacked::new(8, 1 << 20),
        replies: Unacked::new(8, 1 << 20),
        wishes: HashMap::new(),
        wished: 0,
        hears_receipts: false,
        progress: None,
        ignored: 0,
        malformed: 0,
    };
    (pump, note)
}

/// What was told before must not be stored over what is said to be durable.
#[tokio::test]
async fn a_resume_point_goes_behind_those_that_were_told_before() {
    let (link, supervisor) = tokio::io::duplex(1 << 16);
    let (mut pump, note) = pump(link);
    let cursor = |text: &str| Cursor(text.as_bytes().to_vec());
    note.send(Note::Cursor(cursor("older"))).await.unwrap();
    let (verdict, _answer) = oneshot::channel();
    pump.keep(platform::Kept { cursor: cursor("newer"), verdict }).unwrap();
    pump.drain().unwrap();
    pump.sender.flush().await.unwrap();
    let mut supervisor = Receiver::new(supervisor);
    let first: FromWorker = supervisor.next().await.unwrap().unwrap();
    assert_eq!(first, FromWorker::Cursor(cursor("older")));
    let second: FromWorker = supervisor.next().await.unwrap().unwrap();
    assert!(matches!(second, FromWorker::Keep { cursor: kept, .. } if kept == cursor("newer")));
}
