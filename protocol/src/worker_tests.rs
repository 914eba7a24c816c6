//! The bytes of each frame kind, and what becomes of bytes that are no frame.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::content::{Act, Button, Content, File, FileKind, Press};
use crate::event::{
    ChatType, Inbound, InboundKind, Joined, Mention, Part, ReplyState, Rest, Sender, SenderKind,
    Session,
};
use crate::id::{Instance, Lane};
use crate::{Error, frame};

fn lane() -> Lane {
    let instance = Instance::new("feishu").unwrap();
    Lane { instance, chat_id: "oc_1".into(), thread_id: Some("omt_1".into()) }
}

fn event() -> Inbound {
    Inbound {
        kind: InboundKind::Message,
        keys: vec!["event:1".into(), "message:om_1".into()],
        origin_ms: 1_700_000_000_000,
        chat_id: "oc_1".into(),
        chat_type: ChatType::Group,
        thread_id: None,
        message_id: Some("om_1".into()),
        reply_to: None,
        sender: Sender { user_id: "ou_1".into(), name: None, kind: SenderKind::User },
        mention: Mention::Me,
        text: "hi".into(),
        parts: vec![part()],
        raw: b"{}".to_vec(),
        chat_name: Some("team".into()),
        quote: Some("before".into()),
        album: Some("1".into()),
    }
}

fn part() -> Part {
    Part {
        kind: "image".into(),
        handle: "img".into(),
        name: None,
        size: Some(9),
        mime: Some("image/png".into()),
    }
}

fn fetch() -> Box<Fetch> {
    let instance = Instance::new("feishu").unwrap();
    Box::new(Fetch { instance, message_id: Some("om_1".into()), part: part() })
}

fn fetched() -> Fetched {
    Fetched { file: "f".into(), size: 9, mime: None }
}

fn exec_platform() -> ExecPlatformSettings {
    ExecPlatformSettings {
        instance: Instance::new("mine").unwrap(),
        command: vec!["python3".into(), "worker.py".into()],
        dir: "/srv".into(),
        variables: vec![("KEY".into(), Secret::new("value"))],
        settings: "{}".into(),
        secrets: vec![("token".into(), Secret::new("secret"))],
    }
}

fn draft() -> Box<Draft> {
    Box::new(Draft {
        key: "k".into(),
        lane: lane(),
        reply_to: None,
        text: "hel".into(),
        message_id: None,
    })
}

fn contents() -> Vec<Content> {
    let file = |kind| File { kind, file: "f".into(), title: None };
    let button = |press| Button { label: "b".into(), press };
    vec![
        Content::text("hello"),
        Content {
            files: vec![
                file(FileKind::Image),
                file(FileKind::Audio),
                file(FileKind::Voice),
                file(FileKind::Video),
                file(FileKind::File),
            ],
            buttons: vec![vec![button(Press::Data("d".into())), button(Press::Url("u".into()))]],
            card: Some("{}".into()),
            ..Content::text("")
        },
        Content { act: Act::Edit { message_id: "om_2".into() }, ..Content::text("bye") },
        Content { act: Act::Recall { message_id: "om_2".into() }, ..Content::text("") },
        Content {
            act: Act::React { message_id: "om_1".into(), emoji: "OK".into() },
            ..Content::text("")
        },
    ]
}

fn note() -> Note {
    Note { epoch: 1, bytes: vec![1, 2] }
}

fn receipt() -> Receipt {
    Receipt {
        id: OutboundId(3),
        key: "k".into(),
        state: ReplyState::Sent,
        message_ids: vec!["om_2".into()],
        reason: None,
    }
}

fn configure(adapter: Adapter) -> ToWorker {
    ToWorker::Configure(Box::new(Configure {
        adapter,
        cursor: Some(Cursor(vec![1, 2])),
        window: 256,
        window_bytes: 1024,
        heartbeat_ms: 5000,
        grace_ms: 4000,
        log: "info".into(),
        exchange: Exchange { dir: "/x".into(), max_bytes: 1024 },
        network: Network { proxy: Some(Secret::new("socks5://h")), ca: String::new() },
    }))
}

#[expect(clippy::too_many_lines, reason = "one of each kind")]
fn to_worker() -> Vec<ToWorker> {
    let delivery = Delivery {
        event_id: EventId(1),
        lane: lane(),
        platform: "feishu".into(),
        attempt: 2,
        received_ms: 5,
        event: event(),
        late_by_ms: Some(7_200_000),
        session: Session { epoch: 1, note: vec![7] },
        joined: vec![Joined {
            event_id: EventId(2),
            message_id: Some("om_3".into()),
            origin_ms: 4,
        }],
        before_restart: true,
    };
    let outbound = Outbound {
        id: OutboundId(3),
        key: "s-3".into(),
        chat_id: "oc_1".into(),
        thread_id: None,
        reply_to: Some("om_1".into()),
        content: Content::text("hello"),
        attempt: 1,
        draft_key: "hermes/k".into(),
        draft_id: Some("om_2".into()),
        progress: Some(Progress { message_ids: vec!["om_4".into()], note: vec![7] }),
    };
    let sends = contents()
        .into_iter()
        .map(|content| ToWorker::Send(Box::new(Outbound { content, ..outbound.clone() })));
    let feishu = FeishuSettings {
        app_id: "cli_1".into(),
        app_secret: Secret::new("s"),
        base_url: "https://h".into(),
        working: "Typing".into(),
        webhook: Some(Box::new(FeishuWebhook {
            listen: ([127, 0, 0, 1], 8444).into(),
            path: "/".into(),
            encrypt_key: Some(Secret::new("k")),
            verification_token: None,
        })),
        catch_up_h: 24,
    };
    let telegram = TelegramSettings {
        token: Secret::new("1:t"),
        base_url: "https://h".into(),
        unanswered: Unanswered::Report,
        other_webhook: OtherWebhook::Keep,
        webhook: None,
        local_files: None,
        menu: Vec::new(),
    };
    let hooked = TelegramSettings {
        webhook: Some(TelegramWebhook {
            url: "https://w".into(),
            listen: "127.0.0.1:8443".parse().unwrap(),
            connections: 40,
        }),
        local_files: Some("/f".into()),
        menu: vec![("stop".into(), "Stop".into())],
        ..telegram.clone()
    };
    let exec = ExecSettings {
        command: vec!["python3".into(), "agent.py".into()],
        dir: "/d".into(),
        variables: vec![("KEY".into(), Secret::new("s"))],
        concurrency: 4,
    };
    let relay = RelaySettings {
        listen: "127.0.0.1:8765".parse().unwrap(),
        id: "hermes".into(),
        secret: Secret::new("s"),
        home: Some("/h".into()),
        platforms: vec![(Instance::new("work").unwrap(), "feishu".into())],
        concurrency: 8,
        turn_limit_s: 1800,
    };
    let openai = OpenAiSettings {
        base_url: "http://h/v1".into(),
        key: Some(Secret::new("k")),
        model: "m".into(),
        system: Some("be kind".into()),
        memory: Memory::Hermes,
        concurrency: 4,
        first_s: 120,
        pause_s: 60,
        turn_limit_s: 900,
        images: true,
        broken: Broken::Report,
    };
    let acp = AcpSettings {
        command: vec!["hermes-acp".into()],
        dir: "/d".into(),
        variables: vec![("KEY".into(), Secret::new("s"))],
        processes: 2,
        turns: 4,
        permission: Permission::Ask,
        permission_s: 50,
        silent_s: 120,
        turn_limit_s: 1800,
        own_commands: true,
    };
    let webhook = WebhookSettings {
        url: "http://h/w".into(),
        secret: Secret::new("s"),
        concurrency: 4,
        timeout_s: 30,
        listen: Some("127.0.0.1:8790".parse().unwrap()),
    };
    let hooks = HooksSettings {
        dir: Some("/h".into()),
        commands: vec![HookCommand {
            events: vec!["agent:*".into()],
            command: vec!["c".into()],
            dir: "/d".into(),
        }],
        python: "python3".into(),
        timeout_s: 30,
        concurrency: 4,
    };
    let mut frames = vec![
        configure(Adapter::Local(LocalSettings { socket: "/s".into() })),
        configure(Adapter::Feishu(feishu)),
        configure(Adapter::Echo),
        configure(Adapter::Socket(SocketSettings { socket: "/s".into(), concurrency: 4 })),
        configure(Adapter::Exec(exec)),
        configure(Adapter::Relay(relay)),
        configure(Adapter::OpenAi(openai)),
        configure(Adapter::Webhook(webhook)),
        ToWorker::Verdict { seq: Seq(1), verdict: Verdict::Accepted(EventId(9)) },
        ToWorker::Verdict { seq: Seq(2), verdict: Verdict::Duplicate },
        ToWorker::Verdict { seq: Seq(3), verdict: Verdict::Denied },
        ToWorker::Verdict { seq: Seq(4), verdict: Verdict::Refused },
        ToWorker::Deliver(Box::new(delivery.clone())),
        ToWorker::ReplyVerdict { seq: Seq(1), verdict: ReplyVerdict::Accepted(receipt()) },
        ToWorker::ReplyVerdict { seq: Seq(2), verdict: ReplyVerdict::Rejected("no".into()) },
        ToWorker::ReplyVerdict { seq: Seq(3), verdict: ReplyVerdict::Refused },
        ToWorker::Settled { event_id: EventId(1) },
        ToWorker::Receipt(receipt()),
        ToWorker::Stop,
        configure(Adapter::Telegram(telegram)),
        ToWorker::Draft(draft()),
        ToWorker::Busy(Busy {
            chat_id: "oc_1".into(),
            thread_id: None,
            message_id: Some("om_1".into()),
            on: true,
        }),
        ToWorker::Fetch { ticket: 4, fetch: fetch() },
        ToWorker::Fetched { seq: Seq(1), result: Ok(fetched()) },
        ToWorker::Fetched { seq: Seq(2), result: Err("gone".into()) },
        configure(Adapter::Hooks(hooks)),
        ToWorker::Hook { seq: Seq(1), event: Box::new(HookEvent::new("agent:start", 9)) },
        configure(Adapter::Acp(acp)),
        ToWorker::Interrupt { event_id: EventId(1) },
        ToWorker::Steer { event_id: EventId(1), more: Box::new(delivery) },
        configure(Adapter::Telegram(hooked)),
        ToWorker::Order { ticket: 1, order: Order::DeleteWebhook },
        ToWorker::Order { ticket: 2, order: Order::DropPending },
        configure(Adapter::ExecPlatform(Box::new(exec_platform()))),
    ];
    frames.extend(sends);
    frames
}

fn from_worker() -> Vec<FromWorker> {
    let id = OutboundId(3);
    let outcome = |outcome| FromWorker::Outcome { id, attempt: 1, outcome };
    let reply =
        Reply { key: "k".into(), lane: lane(), reply_to: None, content: Content::text("hello") };
    let beat = Heartbeat { progress_age_ms: Some(7), ignored: 1, malformed: 0 };
    let down = Outside::Down { reason: "503".into(), remedy: None };
    vec![
        FromWorker::Ready(Ready { account: "bot".into(), idempotent_ms: Some(1000) }),
        FromWorker::Outside(Outside::Up),
        FromWorker::Outside(down),
        FromWorker::Heartbeat(beat),
        FromWorker::Inbound { seq: Seq(1), event: Box::new(event()), cursor: None, former: None },
        outcome(Outcome::Sent { message_ids: vec!["om_2".into()] }),
        outcome(Outcome::Failed { reason: "no".into() }),
        outcome(Outcome::Unknown { reason: "lost".into() }),
        outcome(Outcome::Retry { reason: "429".into(), after_ms: Some(9) }),
        outcome(Outcome::Partly {
            message_ids: vec!["om_2".into()],
            rest: Rest::Unknown,
            reason: "lost".into(),
        }),
        FromWorker::Waits { id },
        FromWorker::Lease { ttl_ms: 30_000, concurrency: 2 },
        FromWorker::Paused(Pause::Asked),
        FromWorker::Paused(Pause::Lost),
        FromWorker::Ack { event_id: EventId(1) },
        FromWorker::Nack { event_id: EventId(1), reason: "busy".into(), after_ms: None },
        FromWorker::Progress { event_id: EventId(1) },
        FromWorker::Reply { seq: Seq(1), reply: Box::new(reply), note: Some(note()) },
        FromWorker::Bye { reason: "told to end".into() },
        FromWorker::Inbound {
            seq: Seq(2),
            event: Box::new(Inbound { kind: InboundKind::Other, ..event() }),
            cursor: None,
            former: None,
        },
        FromWorker::SetAside { event_id: EventId(1), reason: "silence".into() },
        FromWorker::Defer { event_id: EventId(1), after_ms: 9 },
        FromWorker::Confined { to: "files".into() },
        FromWorker::Draft(draft()),
        FromWorker::Drafted { key: "k".into(), message_id: Some("om_2".into()) },
        FromWorker::Fetch { seq: Seq(1), fetch: fetch() },
        FromWorker::Fetched { ticket: 4, result: Ok(fetched()) },
        FromWorker::Told { id },
        FromWorker::HookDone {
            seq: Seq(1),
            told: 2,
            failures: vec![Failure { hook: "h".into(), reason: "no".into() }],
        },
        FromWorker::Outside(Outside::Limited { reason: "a scope".into(), remedy: None }),
        FromWorker::Inbound {
            seq: Seq(3),
            event: Box::new(Inbound { kind: InboundKind::Recall, ..event() }),
            cursor: None,
            former: Some("oc_0".into()),
        },
        FromWorker::Can(Abilities { interrupt: true, steer: false }),
        FromWorker::Asking { event_id: EventId(1), on: true },
        FromWorker::Remember { lane: lane(), note: note() },
        FromWorker::Outside(Outside::Conflict { reason: "two".into(), remedy: "one".into() }),
        FromWorker::Ordered { ticket: 1, result: Ok("done".into()) },
        FromWorker::Cursor(Cursor(vec![1])),
        FromWorker::Keep { seq: Seq(1), cursor: Cursor(vec![1]) },
        FromWorker::Reached {
            id,
            progress: Progress { message_ids: vec!["om_4".into()], note: vec![7] },
        },
        FromWorker::Steered { event_id: EventId(1), taken: true },
    ]
}

fn bytes<T: Serialize>(value: &T) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(value, &mut out).unwrap();
    out
}

fn hex<T: Serialize>(value: &T) -> String {
    crate::id::hex(&bytes(value))
}

/// A change of these bytes is a change of the protocol: raise `hello::VERSION` with it.
#[test]
fn golden_bytes() {
    let mut lines: Vec<String> = to_worker().iter().map(hex).collect();
    lines.extend(from_worker().iter().map(hex));
    let golden: Vec<&str> = include_str!("golden.hex").lines().collect();
    for (number, (found, golden)) in lines.iter().zip(&golden).enumerate() {
        assert_eq!(found, golden, "frame {number} changed: raise hello::VERSION");
    }
    assert_eq!(lines.len(), golden.len(), "found:\n{}", lines.join("\n"));
}

fn stream() -> (Vec<FromWorker>, BytesMut) {
    let frames = from_worker();
    let mut all = BytesMut::new();
    for frame in &frames {
        frame::encode(frame, &mut all).unwrap();
    }
    (frames, all)
}

#[test]
fn a_frame_over_the_limit_is_refused_by_both_sides() {
    let mut out = BytesMut::from(&b"before"[..]);
    let huge = FromWorker::Bye { reason: "x".repeat(frame::MAX) };
    assert!(matches!(frame::encode(&huge, &mut out), Err(Error::Oversized { .. })));
    assert_eq!(&out[..], b"before");
    let mut announced = BytesMut::from(&u32::try_from(frame::MAX + 1).unwrap().to_le_bytes()[..]);
    let refused = frame::decode::<FromWorker>(&mut announced);
    assert!(matches!(refused, Err(Error::Oversized { .. })), "before a byte of it has come");
}

#[test]
fn bytes_left_over_are_refused() {
    let mut padded = bytes(&FromWorker::Ack { event_id: EventId(1) });
    padded.extend_from_slice(&[0]);
    padded[0] += 1;
    assert!(matches!(frame::decode::<FromWorker>(&mut padded), Err(Error::Trailing(1))));
}

proptest! {
    /// However the stream is cut into reads, the same frames come out.
    #[test]
    fn any_chunking(cuts in prop::collection::vec(1..40_usize, 1..200)) {
        let (frames, all) = stream();
        let mut cuts = cuts.into_iter().cycle();
        let (mut rest, mut buffer, mut found) = (&all[..], BytesMut::new(), Vec::new());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            while let Some(frame) = frame::decode::<FromWorker>(&mut buffer).unwrap() {
                found.push(frame);
            }
        }
        prop_assert_eq!(found, frames);
        prop_assert!(buffer.is_empty());
    }

    /// A stream that is cut anywhere yields whole frames only, and then waits.
    #[test]
    fn any_truncation(at in 0..2000_usize) {
        let (frames, all) = stream();
        let mut cut = BytesMut::from(&all[..at.min(all.len())]);
        let mut found = Vec::new();
        while let Some(frame) = frame::decode::<FromWorker>(&mut cut).unwrap() {
            found.push(frame);
        }
        prop_assert!(frames.starts_with(&found));
    }

    /// A damaged stream yields frames, errors or silence, and never a panic or a giant allocation.
    #[test]
    fn any_flipped_byte(at in 0..2000_usize, with in 1..=255_u8) {
        let (_, mut all) = stream();
        let at = at % all.len();
        all[at] ^= with;
        for _ in 0..100 {
            match frame::decode::<FromWorker>(&mut all) {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        prop_assert!(all.capacity() < 4 * frame::MAX);
    }

    /// Nor does noise.
    #[test]
    fn any_noise(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut buffer = BytesMut::from(&noise[..]);
        let _ = frame::decode::<ToWorker>(&mut buffer);
        let mut buffer = BytesMut::from(&noise[..]);
        let _ = frame::decode::<FromWorker>(&mut buffer);
    }
}
