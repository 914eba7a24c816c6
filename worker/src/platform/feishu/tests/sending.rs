//! Replies: where they go, and what becomes of them when something goes wrong.

use super::*;

#[tokio::test]
async fn a_reply_reaches_its_chat_its_message_and_its_thread() {
    let mut rig = Rig::ready().await;
    let message = Message::group("oc_1", "ou_ann").text("hi").in_thread("omt_1", "om_root");
    let event = rig.sim.push_message(APP, message.message_id("om_in"));
    accept(rig.heard().await);
    event.acked_within(LONG).await;

    let plain = outbound(1, |_| {});
    let ids = sent(rig.send(plain).await);
    let threaded = outbound(2, |it| it.thread_id = Some("omt_1".to_owned()));
    sent(rig.send(threaded).await);
    let reply = outbound(3, |it| it.reply_to = Some(ids[0].clone()));
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
async fn a_lost_answer_makes_no_second_message() {
    let mut rig = Rig::ready().await;
    for trouble in [Trouble::LostAnswer, Trouble::LostRequest, Trouble::Html { status: 502 }] {
        let fault = rest(Route::Send, trouble);
        rig.sim.fault(APP, fault, Times::Only(1));
        let id = rig.sim.sent().len() as u64 + 1;
        let first = outbound(id, |_| {});
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
        let reply = outbound(id, |_| {});
        assert_eq!(sent(rig.send(reply).await).len(), 1);
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
        let reply = outbound(id, |it| it.chat_id = format!("oc_{id}"));
        rig.outbound.send(reply).await.unwrap();
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
    let reply = outbound(1, |_| {});
    let outcome = rig.send(reply).await;
    assert!(
        matches!(&outcome, Outcome::Failed { reason } if reason.contains("not in this chat")),
        "{outcome:?}"
    );
    let limit = Trouble::RateLimit { reset_s: 7, status: 429 };
    rig.sim.fault(APP, rest(Route::Send, limit), Times::Only(1));
    let reply = outbound(2, |_| {});
    let outcome = rig.send(reply).await;
    assert!(matches!(outcome, Outcome::Retry { after_ms: Some(7000), .. }), "{outcome:?}");
    let reply = outbound(3, |it| it.content.text = " \n".to_owned());
    assert!(matches!(rig.send(reply).await, Outcome::Failed { .. }));
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
        let reply = outbound(id, |it| it.reply_to.clone_from(&inbound.message_id));
        sent(rig.send(reply).await);
    }
    let sim = rig.end().await;
    assert!(sim.sent().iter().all(|it| it.reply_to.is_none() && it.receive_id == "oc_1"));
}

#[tokio::test]
async fn a_long_reply_becomes_several_messages_and_a_repetition_none() {
    let mut rig = Rig::ready().await;
    let text = "a line of \"words\"\n".repeat(5000);
    rig.sim.fault(APP, rest(Route::Send, Trouble::LostAnswer), Times::Only(1));
    let first = outbound(1, |it| it.content.text.clone_from(&text));
    let second = Outbound { attempt: 2, ..first.clone() };
    assert!(matches!(rig.send(first).await, Outcome::Retry { .. }));
    let ids = sent(rig.send(second).await);
    let sent = rig.sim.sent();
    assert!(sent.len() > 2);
    assert_eq!(sent.iter().map(|it| it.message_id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(sent.iter().filter_map(SentMessage::text).collect::<String>(), text);
    rig.end().await;
}

/// What would come out as something else is not sent at all.
#[tokio::test]
async fn what_is_more_than_text_is_refused_and_never_sent_as_text() {
    let mut rig = Rig::ready().await;
    let edit = protocol::content::Act::Edit { message_id: "om_1".to_owned() };
    let reply = outbound(1, |it| it.content.act = edit);
    assert!(
        matches!(rig.send(reply).await, Outcome::Failed { reason } if reason.contains("edits"))
    );
    assert!(rig.end().await.sent().is_empty());
}
