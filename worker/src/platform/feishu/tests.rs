//! The adapter against a simulated Feishu. The test plays the pump: it gives the verdicts.

use std::time::Duration;

use ::tests::feishu::{
    ClientConfig, Ending, Entry, Fault, Feishu as Sim, Message, Observation, Push, Route, Schedule,
    Scope, Times, Trouble, event, message_read, reaction,
};
use protocol::event::{Mention, Outbound, Outcome};
use protocol::id::{EventId, OutboundId};
use protocol::worker::{FeishuSettings, Outside, Secret, Verdict};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::platform::Submitted;

const APP: &str = "cli_a";
const LONG: Duration = Duration::from_secs(10);

/// A tenth of the real times, so that a test can wait for them.
const HURRIED: Limits = Limits {
    discovery: Duration::from_millis(800),
    handshake: Duration::from_millis(800),
    live: live::Limits {
        silence: Duration::from_millis(500),
        insist: Duration::from_millis(300),
        patience: Duration::from_millis(800),
        first_frame: Duration::from_millis(1200),
    },
};

struct Rig {
    sim: Sim,
    events: mpsc::Receiver<Submitted>,
    notes: mpsc::Receiver<Note>,
    outbound: mpsc::Sender<Outbound>,
    stop: CancellationToken,
    ended: oneshot::Receiver<Result<(), Error>>,
    _stops: DropGuard,
}

impl Rig {
    async fn sim() -> Sim {
        let sim = Sim::start().await;
        sim.add_app(APP, "secret", "ou_bot");
        sim.configure(|settings| {
            let pauses = vec![Duration::from_millis(100); 4];
            settings.schedule = Schedule { pauses, ..Schedule::default() };
        });
        sim
    }

    fn on(sim: Sim) -> Self {
        let (submit, events) = mpsc::channel(64);
        let (note, notes) = mpsc::channel(256);
        let (outbound, outgoing) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let settings = FeishuSettings {
            app_id: APP.to_owned(),
            app_secret: Secret::new("secret"),
            base_url: sim.base_url(),
        };
        let context = Context {
            events: Events::new(submit),
            outbound: outgoing,
            report: Report::new(note),
            stop: stop.clone(),
            cursor: None,
        };
        let (end, ended) = oneshot::channel();
        // A runtime of its own, as in a worker.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let adapter = Feishu { settings, limits: HURRIED }.run(context);
            let _ = end.send(runtime.unwrap().block_on(adapter));
        });
        let _stops = stop.clone().drop_guard();
        Self { sim, events, notes, outbound, stop, ended, _stops }
    }

    /// Connected, and the bot knows itself.
    async fn ready() -> Self {
        let mut rig = Self::on(Self::sim().await);
        rig.until_ready().await;
        rig.sim.wait_count("bot info", LONG, 1, |entry| called(entry, "bot_info")).await;
        rig
    }

    async fn until_ready(&mut self) -> Ready {
        self.note(|note| match note {
            Note::Ready(ready) => Some(ready),
            _ => None,
        })
        .await
    }

    async fn until_up(&mut self) {
        self.note(|note| (note == Note::Outside(Outside::Up)).then_some(())).await;
    }

    async fn until_down(&mut self) -> (String, Option<String>) {
        self.note(|note| match note {
            Note::Outside(Outside::Down { reason, remedy }) => Some((reason, remedy)),
            _ => None,
        })
        .await
    }

    /// The first note that `wanted` makes something of; others are passed over.
    async fn note<T>(&mut self, wanted: impl Fn(Note) -> Option<T>) -> T {
        let search = async {
            loop {
                let note = self.notes.recv().await.expect("the adapter lives");
                if let Some(found) = wanted(note) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LONG, search).await.expect("a note in time")
    }

    async fn heard(&mut self) -> Submitted {
        let next = tokio::time::timeout(LONG, self.events.recv()).await;
        next.expect("an event in time").expect("the adapter lives")
    }

    fn outbound(&self, id: u64, change: impl FnOnce(&mut Outbound)) -> Outbound {
        let mut outbound = Outbound {
            id: OutboundId(id),
            key: format!("key-{id}"),
            chat_id: "oc_1".to_owned(),
            thread_id: None,
            reply_to: None,
            text: format!("reply {id}"),
            attempt: 1,
        };
        change(&mut outbound);
        outbound
    }

    async fn send(&mut self, outbound: Outbound) -> Outcome {
        let id = outbound.id;
        self.outbound.send(outbound).await.expect("the adapter lives");
        self.outcome(id).await
    }

    async fn outcome(&mut self, id: OutboundId) -> Outcome {
        self.note(|note| match note {
            Note::Outcome(of, _, outcome) if of == id => Some(outcome),
            _ => None,
        })
        .await
    }

    /// Stops politely, having broken no rule.
    async fn end(self) -> Sim {
        self.stop.cancel();
        let ended = tokio::time::timeout(LONG, self.ended).await.expect("an end in time");
        ended.expect("no panic").expect("a polite end");
        assert!(self.sim.violations().is_empty(), "{:?}", self.sim.violations());
        self.sim
    }
}

fn accept(submitted: Submitted) -> protocol::event::Inbound {
    let _ = submitted.verdict.send(Verdict::Accepted(EventId(1)));
    submitted.event
}

fn called(entry: &Entry, name: &str) -> bool {
    matches!(&entry.what, Observation::Call { route, .. } if *route == name)
}

fn opened(entry: &Entry) -> bool {
    matches!(entry.what, Observation::Opened { .. })
}

fn rest(route: Route, trouble: Trouble) -> Fault {
    Fault::Rest { route: Some(route), trouble }
}

fn sent(outcome: Outcome) -> Vec<String> {
    match outcome {
        Outcome::Sent { message_ids } => message_ids,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_event_is_answered_after_its_verdict_and_not_before() {
    let mut rig = Rig::ready().await;
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
    let submitted = rig.heard().await;
    assert!(!event.is_acked());
    let inbound = accept(submitted);
    assert_eq!((inbound.text.as_str(), inbound.chat_id.as_str()), ("hello", "oc_1"));
    let ack = event.acked_within(LONG).await;
    assert_eq!(ack.attempt, 1);
    assert!(ack.biz_rt.is_some());
    rig.end().await;
}

#[tokio::test]
async fn every_verdict_but_a_refusal_is_an_answer() {
    let mut rig = Rig::ready().await;
    for verdict in [Verdict::Duplicate, Verdict::Denied] {
        let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
        rig.heard().await.verdict.send(verdict).unwrap();
        event.acked_within(LONG).await;
    }
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
    let first = rig.heard().await;
    first.verdict.send(Verdict::Refused).unwrap();
    let second = rig.heard().await;
    assert_eq!(second.event.keys, first.event.keys);
    accept(second);
    assert_eq!(event.acked_within(LONG).await.attempt, 2);
    rig.end().await;
}

#[tokio::test]
async fn a_late_verdict_is_no_answer() {
    let mut rig = Rig::ready().await;
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
    let first = rig.heard().await;
    let second = rig.heard().await;
    accept(first);
    accept(second);
    assert_eq!(event.acked_within(LONG).await.attempt, 2);
    assert_eq!(event.progress().late, 0);
    rig.end().await;
}

#[tokio::test]
async fn an_event_without_a_verdict_delays_no_other() {
    let mut rig = Rig::ready().await;
    rig.sim.push_text(APP, "oc_1", "ou_ann", "stuck");
    let _stuck = rig.heard().await;
    for i in 0..100 {
        let event = rig.sim.push_text(APP, "oc_2", "ou_bob", &i.to_string());
        assert_eq!(accept(rig.heard().await).text, i.to_string());
        event.acked_within(LONG).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_burst_is_handed_on_in_order() {
    let mut rig = Rig::ready().await;
    let pushed: Vec<_> =
        (0..500).map(|i| rig.sim.push_text(APP, "oc_1", "ou_ann", &i.to_string())).collect();
    for i in 0..500 {
        assert_eq!(accept(rig.heard().await).text, i.to_string());
    }
    for event in pushed {
        assert_eq!(event.acked_within(LONG).await.attempt, 1);
    }
    rig.end().await;
}

#[tokio::test]
async fn events_in_parts_are_put_together_and_heard_once() {
    let mut rig = Rig::ready().await;
    let text = "多字节😀".repeat(50);
    let built = Message::direct("oc_1", "ou_ann").text(&text).build();
    let bytes = built.to_string().len();
    for parts in [2, 3, 7] {
        let push = Push { repeat_last: true, ..Push::chunked(bytes, parts) };
        let event = rig.sim.push_event_as(APP, built.clone(), push);
        assert_eq!(accept(rig.heard().await).text, text);
        event.acked_within(LONG).await;
    }
    // Nothing of the repeated parts was handed on in between.
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "next");
    assert_eq!(accept(rig.heard().await).text, "next");
    event.acked_within(LONG).await;
    rig.end().await;
}

#[tokio::test]
async fn what_is_of_no_use_is_answered_at_once_and_counted() {
    let mut rig = Rig::ready().await;
    let card = Push { frame_type: "card".to_owned(), ..Push::default() };
    let useless = [
        rig.sim.push_event(APP, reaction("om_1", "ou_a", "OK", "app")),
        rig.sim.push_event(APP, message_read("ou_a", &["om_1"])),
        rig.sim.push_event_as(APP, json!({"header": {"event_id": "c"}}), card),
    ];
    for event in useless {
        event.acked_within(LONG).await;
        rig.note(|note| (note == Note::Ignored).then_some(())).await;
    }
    let event = rig.sim.push_event(APP, event("im.message.receive_v1", &json!({})));
    event.acked_within(LONG).await;
    rig.note(|note| (note == Note::Malformed).then_some(())).await;
    for nonsense in [&b"\xff\xff"[..], b""] {
        rig.sim.send_bytes(APP, nonsense);
        rig.note(|note| (note == Note::Malformed).then_some(())).await;
    }
    rig.sim.send_text_frame(APP, "text");
    rig.note(|note| (note == Note::Malformed).then_some(())).await;
    let sim = rig.end().await;
    assert_eq!(sim.count(opened), 1, "the connection was kept");
}

#[tokio::test]
async fn missing_headers_are_no_reason_to_lose_an_event() {
    let mut rig = Rig::ready().await;
    let omit = vec!["trace_id", "sum", "seq", "timestamp", "instance_id"];
    let event = Message::direct("oc_1", "ou_ann").text("bare").build();
    let event = rig.sim.push_event_as(APP, event, Push { omit, ..Push::default() });
    assert_eq!(accept(rig.heard().await).text, "bare");
    event.acked_within(LONG).await;
    rig.end().await;
}

#[tokio::test]
async fn ready_names_the_account_and_how_long_a_key_is_good() {
    let mut rig = Rig::on(Rig::sim().await);
    let ready = rig.until_ready().await;
    assert!(ready.account.starts_with(APP), "{}", ready.account);
    assert_eq!(ready.idempotent_ms, Some(3_300_000));
    rig.end().await;
}

#[tokio::test]
async fn a_mention_waits_until_the_bot_knows_itself() {
    let sim = Rig::sim().await;
    let html = rest(Route::BotInfo, Trouble::Html { status: 502 });
    sim.fault(Scope::All, html, Times::Only(1));
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    let message =
        Message::group("oc_1", "ou_ann").text("@_user_1 hi").mention("@_user_1", "ou_bot", "Bot");
    let event = rig.sim.push_message(APP, message);
    let inbound = accept(rig.heard().await);
    assert_eq!((inbound.mention, inbound.text.as_str()), (Mention::Me, "@Bot hi"));
    event.acked_within(LONG).await;
    rig.end().await;
}

#[tokio::test]
async fn a_reset_connection_is_replaced() {
    let mut rig = Rig::ready().await;
    for _ in 0..5 {
        rig.sim.reset_connections(APP);
        rig.until_down().await;
        rig.until_up().await;
        let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "again");
        accept(rig.heard().await);
        event.acked_within(LONG).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_closed_connection_is_replaced() {
    let mut rig = Rig::ready().await;
    rig.sim.close_connections(APP, 1001, "going away");
    let (reason, remedy) = rig.until_down().await;
    assert_eq!((reason.as_str(), remedy), ("the platform closed the connection (1001)", None));
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn a_black_hole_is_left() {
    let mut rig = Rig::ready().await;
    let hole = rig.sim.fault(Scope::All, Fault::BlackHole { existing: true }, Times::Always);
    let (reason, _) = rig.until_down().await;
    assert_eq!(reason, "nothing arrives any more");
    // Neither do answers to new calls.
    let (reason, _) = rig.until_down().await;
    assert!(reason.starts_with("ask for the connection: no answer in time"), "{reason}");
    rig.sim.clear(hole);
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn silence_is_no_reason_to_leave() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.client_config = ClientConfig::quick());
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    rig.sim
        .wait_count("pings", LONG, 3, |entry| matches!(entry.what, Observation::Ping { .. }))
        .await;
    let sim = rig.end().await;
    assert_eq!(sim.count(opened), 1);
}

#[tokio::test]
async fn settings_without_sense_change_nothing() {
    let mut rig = Rig::ready().await;
    for payload in [
        r#"{"PingInterval":0}"#,
        r#"{"PingInterval":-5}"#,
        "{}",
        "null",
        "nonsense",
        r#"{"PingInterval":1e99}"#,
    ] {
        rig.sim.send_client_config(APP, payload);
    }
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "after");
    accept(rig.heard().await);
    event.acked_within(LONG).await;
    let sim = rig.end().await;
    assert!(sim.count(|entry| matches!(entry.what, Observation::Ping { .. })) < 5);
}

#[tokio::test]
async fn a_connection_without_pongs_is_never_ready_and_left() {
    let sim = Rig::sim().await;
    let mute = sim.fault(Scope::All, Fault::NoPongs, Times::Always);
    let mut rig = Rig::on(sim);
    let (reason, _) = rig.until_down().await;
    assert_eq!(reason, "the platform does not answer its own pings");
    rig.sim.clear(mute);
    rig.until_ready().await;
    rig.end().await;
}

#[tokio::test]
async fn hanging_calls_and_handshakes_are_left() {
    let sim = Rig::sim().await;
    sim.fault(Scope::All, Fault::DiscoveryHang, Times::Only(1));
    sim.fault(Scope::All, Fault::HandshakeHang, Times::Only(1));
    let mut rig = Rig::on(sim);
    let (reason, _) = rig.until_down().await;
    assert!(reason.starts_with("ask for the connection: no answer in time"), "{reason}");
    let (reason, _) = rig.until_down().await;
    assert_eq!(reason, "open the connection: no answer in time");
    rig.until_ready().await;
    rig.end().await;
}

#[tokio::test]
async fn an_outage_of_the_platform_passes() {
    let mut rig = Rig::ready().await;
    let down = Fault::DiscoveryStatus { status: 503, body: "<html>".to_owned() };
    let fault = rig.sim.fault(Scope::All, down, Times::Always);
    rig.sim.drop_connections(APP);
    rig.until_down().await;
    let (reason, remedy) = rig.until_down().await;
    assert_eq!((reason.as_str(), remedy), ("ask for the connection: HTTP 503", None));
    rig.sim.clear(fault);
    rig.until_up().await;
    rig.sim.stop_listening().await;
    rig.sim.drop_connections(Scope::All);
    rig.until_down().await;
    let (reason, _) = rig.until_down().await;
    assert!(reason.starts_with("ask for the connection: no connection"), "{reason}");
    rig.sim.listen_again().await;
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_ends_when_somebody_did() {
    let sim = Rig::sim().await;
    sim.set_secret(APP, "another");
    let mut rig = Rig::on(sim);
    let (reason, remedy) = rig.until_down().await;
    assert!(reason.contains("1000040345"), "{reason}");
    assert!(remedy.unwrap().starts_with("check app_id"));
    rig.sim.set_secret(APP, "secret");
    rig.until_ready().await;
    rig.end().await;
}

#[tokio::test]
async fn one_connection_too_many_is_a_refusal() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.connection_limit = 0);
    let mut rig = Rig::on(sim);
    let (_, remedy) = rig.until_down().await;
    assert!(remedy.unwrap().contains("stop other programs"));
    rig.end().await;
}

#[tokio::test]
async fn a_reply_reaches_its_chat_its_message_and_its_thread() {
    let mut rig = Rig::ready().await;
    let message = Message::group("oc_1", "ou_ann").text("hi").in_thread("omt_1", "om_root");
    let event = rig.sim.push_message(APP, message.message_id("om_in"));
    accept(rig.heard().await);
    event.acked_within(LONG).await;

    let plain = rig.outbound(1, |_| {});
    let ids = sent(rig.send(plain).await);
    let threaded = rig.outbound(2, |it| it.thread_id = Some("omt_1".to_owned()));
    sent(rig.send(threaded).await);
    let reply = rig.outbound(3, |it| it.reply_to = Some(ids[0].clone()));
    sent(rig.send(reply).await);

    let sim = rig.end().await;
    let sent = sim.sent();
    let seen: Vec<_> = sent.iter().map(|it| (it.reply_to.as_deref(), it.in_thread)).collect();
    assert_eq!(seen, [(None, false), (Some("om_in"), true), (Some(ids[0].as_str()), false)]);
    assert!(sent.iter().all(|it| it.receive_id == "oc_1"));
    let uuids: Vec<_> = sent.iter().filter_map(|it| it.uuid.as_deref()).collect();
    assert_eq!(uuids, ["key-1", "key-2", "key-3"]);
}

#[tokio::test]
async fn an_answer_to_the_bot_is_a_mention() {
    let mut rig = Rig::ready().await;
    let plain = rig.outbound(1, |_| {});
    let ids = sent(rig.send(plain).await);
    rig.sim.push_message(
        APP,
        Message::group("oc_1", "ou_ann").text("why?").reply_to(&ids[0], &ids[0]),
    );
    assert_eq!(accept(rig.heard().await).mention, Mention::Me);
    rig.end().await;
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_message() {
    let mut rig = Rig::ready().await;
    for trouble in [Trouble::LostAnswer, Trouble::LostRequest, Trouble::Html { status: 502 }] {
        let fault = rest(Route::Send, trouble);
        rig.sim.fault(APP, fault, Times::Only(1));
        let id = rig.sim.sent().len() as u64 + 1;
        let first = rig.outbound(id, |_| {});
        let second = Outbound { attempt: 2, ..first.clone() };
        assert!(matches!(rig.send(first).await, Outcome::Retry { .. }));
        assert_eq!(sent(rig.send(second).await).len(), 1);
        assert_eq!(rig.sim.sent().len() as u64, id);
    }
    rig.end().await;
}

#[tokio::test]
async fn a_withdrawn_token_costs_nothing() {
    let mut rig = Rig::ready().await;
    for id in 0..6 {
        rig.sim
            .configure(|settings| settings.token_refusal_status = if id < 3 { 400 } else { 200 });
        rig.sim.revoke_tokens(APP);
        let outbound = rig.outbound(id, |_| {});
        assert_eq!(sent(rig.send(outbound).await).len(), 1);
    }
    rig.end().await;
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all() {
    let rig = Rig::ready().await;
    rig.sim.revoke_tokens(APP);
    let tokens = |entry: &Entry| matches!(entry.what, Observation::Token { .. });
    let before = rig.sim.count(tokens);
    for id in 0..16 {
        let outbound = rig.outbound(id, |it| it.chat_id = format!("oc_{id}"));
        rig.outbound.send(outbound).await.unwrap();
    }
    rig.sim
        .wait_count("messages", LONG, 16, |entry| matches!(entry.what, Observation::Sent(_)))
        .await;
    assert_eq!(rig.sim.count(tokens), before + 1);
    rig.end().await;
}

#[tokio::test]
async fn refusals_of_a_reply_are_told_apart() {
    let mut rig = Rig::ready().await;
    let code = |status, code| rest(Route::Send, Trouble::Code { status, code });
    rig.sim.fault(APP, code(400, 230_002), Times::Only(1));
    let outbound = rig.outbound(1, |_| {});
    let outcome = rig.send(outbound).await;
    assert!(
        matches!(&outcome, Outcome::Failed { reason } if reason.contains("not in this chat")),
        "{outcome:?}"
    );
    let limit = Trouble::RateLimit { reset_s: 7, status: 429 };
    rig.sim.fault(APP, rest(Route::Send, limit), Times::Only(1));
    let outbound = rig.outbound(2, |_| {});
    let outcome = rig.send(outbound).await;
    assert!(matches!(outcome, Outcome::Retry { after_ms: Some(7000), .. }), "{outcome:?}");
    let outbound = rig.outbound(3, |it| it.text = " \n".to_owned());
    assert!(matches!(rig.send(outbound).await, Outcome::Failed { .. }));
    rig.end().await;
}

#[tokio::test]
async fn a_reply_to_a_message_that_is_gone_goes_to_the_chat() {
    let mut rig = Rig::ready().await;
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "never mind");
    let inbound = accept(rig.heard().await);
    event.acked_within(LONG).await;
    for (id, code) in [(1, 230_011), (2, 230_110)] {
        rig.sim.message_gone(event.message_id().unwrap(), code);
        let outbound = rig.outbound(id, |it| it.reply_to.clone_from(&inbound.message_id));
        sent(rig.send(outbound).await);
    }
    let sim = rig.end().await;
    assert!(sim.sent().iter().all(|it| it.reply_to.is_none() && it.receive_id == "oc_1"));
}

#[tokio::test]
async fn a_long_reply_becomes_several_messages_and_a_repetition_none() {
    let mut rig = Rig::ready().await;
    let text = "a line of \"words\"\n".repeat(5000);
    rig.sim.fault(APP, rest(Route::Send, Trouble::LostAnswer), Times::Only(1));
    let first = rig.outbound(1, |it| it.text.clone_from(&text));
    let second = Outbound { attempt: 2, ..first.clone() };
    assert!(matches!(rig.send(first).await, Outcome::Retry { .. }));
    let ids = sent(rig.send(second).await);
    let sent = rig.sim.sent();
    assert!(sent.len() > 2);
    assert_eq!(sent.iter().map(|it| it.message_id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(sent.iter().filter_map(|it| it.text()).collect::<String>(), text);
    rig.end().await;
}

#[tokio::test]
async fn a_polite_end_answers_what_is_under_way_and_says_goodbye() {
    let mut rig = Rig::ready().await;
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "last");
    let submitted = rig.heard().await;
    let slow = rest(Route::Send, Trouble::Delay { ms: 500 });
    rig.sim.fault(APP, slow, Times::Only(1));
    let outbound = rig.outbound(1, |_| {});
    rig.outbound.send(outbound).await.unwrap();
    rig.sim.wait_sent(LONG, |_| true).await;
    rig.stop.cancel();
    accept(submitted);
    event.acked_within(LONG).await;
    sent(rig.outcome(OutboundId(1)).await);
    let sim = rig.end().await;
    let goodbye = |entry: &Entry| match &entry.what {
        Observation::Closed { ending, .. } => Some(ending.clone()),
        _ => None,
    };
    let ending = sim.wait_for("the close", LONG, |entries| entries.iter().find_map(goodbye)).await;
    assert_eq!(ending, Ending::Close { code: Some(1000) });
}

#[tokio::test]
async fn it_ends_at_once_while_there_is_no_connection() {
    let sim = Rig::sim().await;
    sim.fault(Scope::All, Fault::DiscoveryHang, Times::Always);
    let rig = Rig::on(sim);
    rig.sim.wait_for("a call", LONG, |entries| (!entries.is_empty()).then_some(())).await;
    rig.end().await;
}

#[tokio::test]
async fn a_base_url_of_no_use_is_a_mistake_in_the_settings() {
    for base_url in ["", "open.feishu.cn", "ftp://x", "http://"] {
        let (app_id, app_secret) = (APP.to_owned(), Secret::new("hidden"));
        let settings = FeishuSettings { app_id, app_secret, base_url: base_url.to_owned() };
        assert!(matches!(checked(settings), Err(Error::Config { .. })), "{base_url}");
    }
    let (app_id, app_secret) = (APP.to_owned(), Secret::new("hidden"));
    let base_url = "https://x/".to_owned();
    let settings = checked(FeishuSettings { app_id, app_secret, base_url }).unwrap();
    assert_eq!(settings.base_url, "https://x");
    assert!(!format!("{:?}", Feishu::new(settings)).contains("hidden"));
}
