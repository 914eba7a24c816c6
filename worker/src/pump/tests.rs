//! What goes before what. (All else is tested with the real program.)

use protocol::event::{self, ChatType, Inbound, InboundKind, Mention, SenderKind};
use protocol::worker::{Cursor, Exchange, Network};
use tokio::io::{DuplexStream, Empty};
use tokio::sync::mpsc;

use super::ports::UP;
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

/// What an instance remembers may be more than a frame has room for beside the largest event.
#[tokio::test]
async fn an_event_goes_whatever_is_remembered_with_it() {
    let (link, supervisor) = tokio::io::duplex(1 << 22);
    let (mut pump, _note) = pump(link);
    let event = Inbound {
        kind: InboundKind::Message,
        keys: vec!["message:1".into()],
        origin_ms: 1,
        chat_id: "oc_1".into(),
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: Some("1".into()),
        reply_to: None,
        sender: event::Sender { user_id: "ou_1".into(), name: None, kind: SenderKind::User },
        mention: Mention::None,
        text: "x".repeat(900_000),
        parts: Vec::new(),
        raw: Vec::new(),
        chat_name: None,
        quote: None,
        album: None,
    };
    for bytes in [200_000, frame::MAX] {
        let ((verdict, _answer), former) = (oneshot::channel(), None);
        let (event, cursor) = (event.clone(), Some(Cursor(vec![b'x'; bytes])));
        pump.submit_event(platform::Submitted { event, former, cursor, verdict }).unwrap();
        pump.note(Note::Cursor(Cursor(vec![b'x'; bytes]))).unwrap();
    }
    pump.sender.flush().await.unwrap();
    drop(pump);
    let mut supervisor = Receiver::new(supervisor);
    let mut heard = Vec::new();
    while let Ok(Some(frame)) = supervisor.next().await {
        heard.push(match frame {
            FromWorker::Inbound { event, cursor, .. } => {
                (event.text.len() > 500_000, cursor.is_some())
            }
            FromWorker::Cursor(_) => (false, true),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(heard, [(true, true), (false, true), (true, false)]);
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

/// Each beat makes the supervisor look after the worker: whoever floods one must not flood the other.
#[tokio::test]
async fn much_that_cannot_be_understood_is_told_of_ever_more_rarely() {
    let (link, supervisor) = tokio::io::duplex(1 << 20);
    let (mut pump, _note) = pump(link);
    for _ in 0..1000 {
        pump.note(Note::Malformed).unwrap();
    }
    pump.beat().unwrap();
    pump.sender.flush().await.unwrap();
    drop(pump);
    let mut supervisor = Receiver::new(supervisor);
    let mut told = Vec::new();
    while let Ok(Some(FromWorker::Heartbeat(beat))) = supervisor.next().await {
        told.push(beat.malformed);
    }
    assert_eq!((told.len(), &told[..4], told.last()), (11, &[1, 2, 4, 8][..], Some(&1000)));
}
