//! Hearing by a webhook.

use std::net::SocketAddr;

use protocol::worker::TelegramWebhook;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn hooked(addr: SocketAddr) -> impl FnOnce(&mut TelegramSettings) {
    move |settings| {
        let url = format!("http://{addr}/bots/telegram");
        settings.webhook = Some(TelegramWebhook { url, listen: addr, connections: 10 });
    }
}

impl Rig {
    async fn remembered(&mut self) -> Cursor {
        self.note(|note| match note {
            Note::Cursor(cursor) => Some(cursor),
            _ => None,
        })
        .await
    }
}

fn posted(sim: &Sim, update: i64) -> Vec<Option<u16>> {
    let status = |entry: Entry| match entry.what {
        Observation::Posted { id, status } if id == update => Some(status),
        _ => None,
    };
    sim.journal().into_iter().filter_map(status).collect()
}

/// An update is acknowledged after its verdict and not before (F14).
#[tokio::test]
async fn an_update_is_taken_when_it_is_accepted_and_comes_again_when_refused() {
    let addr = free().await;
    let mut rig = Rig::on(Rig::sim().await, hooked(addr));
    rig.until_ready().await;
    let (update, _) = rig.sim.push_text(TOKEN, ANN, "hold this");
    let submitted = rig.heard().await;
    assert_eq!((submitted.event.text.as_str(), rig.sim.pending(TOKEN)), ("hold this", 1));
    let _ = submitted.verdict.send(Verdict::Refused);
    let again = rig.heard().await;
    assert_eq!((again.event.text.as_str(), rig.sim.pending(TOKEN)), ("hold this", 1));
    let _ = again.verdict.send(Verdict::Duplicate);
    rig.sim.wait_confirmed(LONG, update).await;
    assert_eq!(posted(&rig.sim, update), [Some(503), Some(200)]);
    // A chat without a verdict delays no other.
    rig.sim.push_text(TOKEN, ANN, "stuck");
    let stuck = rig.heard().await;
    let (other, _) = rig.sim.push_text(TOKEN, 10, "free");
    assert_eq!(accept(rig.heard().await).text, "free");
    rig.sim.wait_confirmed(LONG, other).await;
    accept(stuck);
    rig.end().await;
}

#[tokio::test]
async fn one_unknown_and_one_malformed_update_are_kept_here_as_well() {
    let addr = free().await;
    let mut rig = Rig::on(Rig::sim().await, hooked(addr));
    rig.until_ready().await;
    rig.sim.push(TOKEN, json!({"message": {"text": "no chat"}}));
    assert_eq!(accept(rig.heard().await).kind, InboundKind::Unreadable);
    let unknown =
        json!({"brand_new": {"chat": {"id": ANN, "type": "private"}, "from": {"id": ANN}}});
    let last = rig.sim.push(TOKEN, unknown);
    assert_eq!(accept(rig.heard().await).kind, InboundKind::Other);
    rig.sim.wait_confirmed(LONG, last).await;
    rig.end().await;
}

#[tokio::test]
async fn only_the_platform_gets_in() {
    let addr = free().await;
    let mut rig = Rig::on(Rig::sim().await, hooked(addr));
    rig.until_ready().await;
    let update = r#"{"update_id":1,"message":{"message_id":1,"date":1,"chat":{"id":9,"type":"private"},"from":{"id":9},"text":"forged"}}"#;
    let secret = "x-telegram-bot-api-secret-token: ";
    for (line, secret, status) in [
        ("POST", String::new(), "401"),
        ("POST", format!("{secret}guess\r\n"), "401"),
        ("GET", String::new(), "405"),
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!(
            "{line} /bots/telegram HTTP/1.1\r\nhost: x\r\n{secret}content-length: {}\r\n\r\n{update}",
            update.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    rig.sim.push_text(TOKEN, ANN, "real");
    assert_eq!(accept(rig.heard().await).text, "real");
    rig.end().await;
}

/// From polls to a webhook and back: nothing is lost, and nobody has to remove anything by hand.
#[tokio::test]
async fn either_way_of_hearing_takes_over_from_the_other() {
    let addr = free().await;
    let sim = Rig::sim().await;
    sim.push_text(TOKEN, ANN, "before");
    let mut rig = Rig::on(sim, hooked(addr));
    assert_eq!(accept(rig.heard().await).text, "before");
    let cursor = rig.remembered().await;
    let sim = rig.end().await;
    assert!(!sim.webhook(TOKEN).is_empty(), "it stays while we are away");
    sim.push_text(TOKEN, ANN, "meanwhile");
    let mut rig = Rig::going_on(sim, Some(cursor), |_| {});
    assert_eq!(accept(rig.heard().await).text, "meanwhile");
    assert!(rig.sim.webhook(TOKEN).is_empty());
    assert_eq!(rig.remembered().await, Cursor::default());
    let sim = rig.end().await;
    let (update, _) = sim.push_text(TOKEN, ANN, "and again");
    let mut rig = Rig::on(sim, hooked(addr));
    // What was accepted and not yet confirmed comes once more, and is known by its keys.
    while accept(rig.heard().await).text != "and again" {}
    rig.sim.wait_confirmed(LONG, update).await;
    rig.end().await;
}

#[tokio::test]
async fn a_webhook_of_another_program_is_not_taken_over_unless_told_so() {
    let addr = free().await;
    let sim = Rig::sim().await;
    sim.set_webhook(TOKEN, "https://bot.example.org/secret/path");
    let mut rig = Rig::on(sim, hooked(addr));
    let (reason, remedy) = rig.until_conflict().await;
    assert!(reason.contains("bot.example.org") && !reason.contains("secret"), "{reason}");
    assert!(remedy.contains("other_webhook"), "{remedy}");
    // Replies go meanwhile.
    sent(rig.send(outbound(1, |_| {})).await);
    let sim = rig.end().await;
    sim.push_text(TOKEN, ANN, "waiting");
    let mut rig = Rig::on(sim, |settings| {
        hooked(addr)(settings);
        settings.other_webhook = OtherWebhook::Remove;
    });
    assert_eq!(accept(rig.heard().await).text, "waiting");
    rig.end().await;
}

#[tokio::test]
async fn a_webhook_that_is_taken_away_is_set_again_and_told_the_second_time() {
    let addr = free().await;
    let mut rig = Rig::on(Rig::sim().await, hooked(addr));
    rig.until_ready().await;
    rig.sim.set_webhook(TOKEN, "");
    rig.sim.push_text(TOKEN, ANN, "first");
    assert_eq!(accept(rig.heard().await).text, "first");
    rig.sim.set_webhook(TOKEN, "");
    let (reason, _) = rig.until_conflict().await;
    assert!(reason.contains("takes the webhook"), "{reason}");
    rig.sim.push_text(TOKEN, ANN, "second");
    assert_eq!(accept(rig.heard().await).text, "second");
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn a_webhook_that_leads_nowhere_is_told_and_so_is_its_return() {
    let (addr, nobody) = (free().await, free().await);
    let mut rig = Rig::on(Rig::sim().await, |settings| {
        hooked(addr)(settings);
        settings.webhook.as_mut().unwrap().url = format!("http://{nobody}/");
    });
    rig.until_ready().await;
    rig.sim.push_text(TOKEN, ANN, "lost on the way");
    let (reason, remedy) = rig.until_down().await;
    assert!(reason.contains("1 updates wait"), "{reason}");
    assert!(remedy.unwrap().contains(&addr.to_string()));
    // The way is mended.
    let way = TcpListener::bind(nobody).await.unwrap();
    let relay = async {
        loop {
            let (mut from, _) = way.accept().await.unwrap();
            let mut to = TcpStream::connect(addr).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        }
    };
    let heard = async {
        assert_eq!(accept(rig.heard().await).text, "lost on the way");
        rig.until_up().await;
        rig
    };
    tokio::select! {
        () = relay => {}
        rig = heard => drop(rig.end().await),
    }
}

#[tokio::test]
async fn where_a_group_has_gone_is_durable_before_it_is_acknowledged() {
    let addr = free().await;
    let mut rig = Rig::on(Rig::sim().await, hooked(addr));
    rig.until_ready().await;
    let moved = Message::group(-1005, ANN).with("migrate_from_chat_id", -5);
    let (update, _) = rig.sim.push_message(TOKEN, moved);
    rig.kept.recv().await.unwrap().verdict.send(Verdict::Refused).unwrap();
    rig.kept.recv().await.unwrap().verdict.send(Verdict::Duplicate).unwrap();
    rig.sim.wait_confirmed(LONG, update).await;
    assert_eq!(posted(&rig.sim, update), [Some(503), Some(200)]);
    rig.sim.push_message(TOKEN, Message::group(-1005, ANN).text("here"));
    let submitted = rig.heard().await;
    assert_eq!(submitted.former.as_deref(), Some("-5"));
    accept(submitted);
    rig.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_and_acknowledged() {
    let addr = free().await;
    let mut rig = Rig::on(Rig::sim().await, hooked(addr));
    rig.until_ready().await;
    for odd in [json!({"update_id": {}, "x": 1}), json!({"message": "x"}), json!("nonsense")] {
        let update = rig.sim.push(TOKEN, odd);
        assert_eq!(accept(rig.heard().await).kind, InboundKind::Unreadable);
        rig.sim.wait_confirmed(LONG, update).await;
    }
    rig.end().await;
}

/// That no new failure is told proves nothing: the platform may be waiting for its next attempt.
#[tokio::test]
async fn a_webhook_that_leads_nowhere_is_down_until_something_arrives() {
    let (addr, nobody) = (free().await, free().await);
    let sim = Rig::sim().await;
    sim.configure(|it| it.post_pause = Duration::from_hours(1));
    let mut rig = Rig::on(sim, |settings| {
        hooked(addr)(settings);
        settings.webhook.as_mut().unwrap().url = format!("http://{nobody}/");
    });
    rig.until_ready().await;
    let (lost, _) = rig.sim.push_text(TOKEN, ANN, "lost on the way");
    let both = |entry: &Entry| matches!(entry.what, Observation::Posted { .. });
    rig.sim.wait_count("two attempts", LONG, 2, both).await;
    rig.until_down().await;
    let looks = |entry: &Entry| called(entry, "getWebhookInfo");
    let before = rig.sim.count(looks);
    // When the last of them is asked, what the others said is told.
    rig.sim.wait_count("more looks", LONG, before + 4, looks).await;
    while let Ok(note) = rig.notes.try_recv() {
        assert_ne!(note, Note::Outside(Outside::Up), "nothing has arrived");
    }
    // The way is mended, and somebody else's message comes through.
    let way = TcpListener::bind(nobody).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut from, _) = way.accept().await.unwrap();
            let mut to = TcpStream::connect(addr).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        }
    });
    rig.sim.push_text(TOKEN, 10, "arrived");
    assert_eq!(accept(rig.heard().await).text, "arrived");
    rig.until_up().await;
    assert_eq!(posted(&rig.sim, lost), [None, None], "which still waits");
    rig.end().await;
}
