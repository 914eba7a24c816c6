//! Replies to topics, and to messages of other chats: they go where they belong, or nowhere.

use super::*;

const TOPIC: &str = "omt_1";

fn told(id: u64, reply_to: Option<&str>) -> Outbound {
    outbound(id, |it| {
        it.thread_id = Some(TOPIC.to_owned());
        it.reply_to = reply_to.map(str::to_owned);
    })
}

/// Somebody says something there; what is remembered with it.
async fn say(rig: &mut Rig, message: Message) -> Option<Cursor> {
    let event = rig.sim.push_message(APP, message);
    let submitted = rig.heard().await;
    let cursor = submitted.cursor.clone();
    accept(submitted);
    event.acked_within(LONG).await;
    cursor
}

fn in_topic(id: &str) -> Message {
    Message::group("oc_1", "ou_ann").text("hi").in_thread(TOPIC, "om_root").message_id(id)
}

/// What each message answers.
fn answered(sim: &Sim) -> Vec<Option<String>> {
    sim.sent().into_iter().map(|it| it.reply_to).collect()
}

fn refused(outcome: Outcome) -> String {
    let Outcome::Failed { reason } = outcome else { panic!("{outcome:?}") };
    reason
}

/// The answered message is gone: the topic has others.
#[tokio::test]
async fn a_reply_stays_in_its_topic_when_what_it_answers_is_gone() {
    let mut rig = Rig::ready().await;
    for id in ["om_root", "om_a", "om_b"] {
        say(&mut rig, in_topic(id)).await;
    }
    rig.sim.message_gone("om_b", 230_011);
    for (id, reply_to) in [(1, Some("om_b")), (2, None)] {
        sent(rig.send(told(id, reply_to)).await);
    }
    rig.sim.message_gone("om_a", 230_110);
    let drafted = Lane {
        instance: Instance::new("feishu").unwrap(),
        chat_id: "oc_1".to_owned(),
        thread_id: Some(TOPIC.to_owned()),
    };
    let draft = Draft {
        key: "hermes/k".to_owned(),
        lane: drafted,
        reply_to: Some("om_a".to_owned()),
        text: "I".to_owned(),
        message_id: None,
    };
    rig.ask(Ask::Draft(Box::new(draft))).await;
    rig.sim.wait_count("all", LONG, 3, |it| matches!(it.what, Observation::Sent(_))).await;
    let sim = rig.end().await;
    let sent = sim.sent();
    assert!(sent.iter().all(|it| it.in_thread), "{sent:?}");
    let gone = [Some("om_b".to_owned()), Some("om_a".to_owned())];
    assert!(answered(&sim).iter().all(|it| it.is_some() && !gone[..1].contains(it)));
}

/// Whatever ends the worker with the first event of a topic.
#[tokio::test]
async fn a_topic_is_known_to_the_next_worker() {
    let mut rig = Rig::ready().await;
    say(&mut rig, Message::group("oc_1", "ou_ann").text("main")).await;
    let cursor = say(&mut rig, in_topic("om_a")).await;
    let sim = rig.end().await;
    sim.grant(APP, "im:message:readonly", false);
    let mut rig = Rig::built(sim, &Network::default(), cursor, |_| ());
    rig.until_ready().await;
    sent(rig.send(told(1, None)).await);
    let sim = rig.end().await;
    assert_eq!(answered(&sim), [Some("om_a".to_owned())]);
    assert!(sim.sent()[0].in_thread);
}

/// One of which nothing is remembered: the platform is asked, and where it does not tell, nobody hears it.
#[tokio::test]
async fn a_topic_that_nobody_knows_is_asked_for_and_never_left() {
    let mut rig = Rig::ready().await;
    say(&mut rig, in_topic("om_a")).await;
    say(&mut rig, in_topic("om_b")).await;
    let other = Message::group("oc_2", "ou_ann").text("x").in_thread("omt_2", "om_r");
    say(&mut rig, other.message_id("om_other")).await;
    rig.sim.message_gone("om_b", 230_011);
    let sim = rig.end().await;
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    sent(rig.send(told(1, None)).await);
    assert_eq!(answered(&rig.sim), [Some("om_a".to_owned())]);

    let fault = rest(Route::History, Trouble::Html { status: 502 });
    rig.sim.fault(APP, fault, Times::Only(1));
    let unknown = |id, thread: &str| outbound(id, |it| it.thread_id = Some(thread.to_owned()));
    let outcome = rig.send(unknown(2, "omt_2")).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    for (id, topic) in [(3, "omt_none"), (4, "omt_2"), (5, "../x?y")] {
        let reason = refused(rig.send(unknown(id, topic)).await);
        assert!(reason.contains("topic"), "{reason}");
    }
    rig.sim.grant(APP, "im:message:readonly", false);
    let reason = refused(rig.send(unknown(6, "omt_3")).await);
    assert!(reason.contains("topic") && reason.contains("im:message:readonly"), "{reason}");
    assert_eq!(rig.end().await.sent().len(), 1);
}

/// What one message cannot hold follows it where it is.
#[tokio::test]
async fn what_follows_an_edited_message_stays_in_its_topic() {
    let mut rig = Rig::ready().await;
    say(&mut rig, in_topic("om_a")).await;
    let [message_id] = sent(rig.send(told(1, None)).await).try_into().unwrap();
    let edit = Outbound {
        content: Content {
            act: Act::Edit { message_id: message_id.clone() },
            ..Content::text("**words**\n\n".repeat(4000))
        },
        ..told(2, None)
    };
    assert!(sent(rig.send(edit).await).len() > 1);
    let sim = rig.end().await;
    assert!(sim.sent()[1..].iter().all(|it| it.reply_to.as_ref() == Some(&message_id)));
}

/// An agent mixes ids up: what is for one person is not said to a group.
#[tokio::test]
async fn an_answer_to_a_message_of_another_chat_is_refused() {
    let mut rig = Rig::ready().await;
    say(&mut rig, Message::direct("oc_ann", "ou_ann").text("direct").message_id("om_ann")).await;
    say(&mut rig, Message::direct("oc_bob", "ou_bob").text("direct").message_id("om_bob")).await;
    say(&mut rig, Message::group("oc_1", "ou_ann").text("all").message_id("om_all")).await;
    say(&mut rig, in_topic("om_topic")).await;
    let answer = |id, chat: &str, message: &str| {
        outbound(id, |it| {
            it.chat_id = chat.to_owned();
            it.reply_to = Some(message.to_owned());
        })
    };
    let wrong = [("oc_ann", "om_all"), ("ou_ann", "om_all"), ("ou_ann", "om_bob")];
    for (id, (chat, message)) in (1..).zip(wrong) {
        let reason = refused(rig.send(answer(id, chat, message)).await);
        assert!(reason.contains("another chat"), "{reason}");
    }
    let reply = Outbound { thread_id: Some("omt_2".to_owned()), ..told(9, Some("om_topic")) };
    let reason = refused(rig.send(reply).await);
    assert!(reason.contains("another topic"), "{reason}");
    for (id, chat) in [(10, "oc_ann"), (11, "ou_ann")] {
        sent(rig.send(answer(id, chat, "om_ann")).await);
    }
    let own = rig.sim.sent()[1].message_id.clone();
    let edit = |id, chat: &str| {
        let act = Act::Edit { message_id: own.clone() };
        Outbound { content: Content { act, ..Content::text("x") }, ..answer(id, chat, "om_ann") }
    };
    let reason = refused(rig.send(edit(12, "oc_bob")).await);
    assert!(reason.contains("another chat"), "{reason}");
    sent(rig.send(edit(13, "oc_ann")).await);

    // The next worker has heard none of them: the platform tells.
    let sim = rig.end().await;
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    for outbound in [answer(20, "oc_ann", "om_all"), edit(21, "oc_bob")] {
        let reason = refused(rig.send(outbound).await);
        assert!(reason.contains("another chat"), "{reason}");
    }
    assert_eq!(rig.sim.sent().len(), 2);
    // Or it does so only when the words are there.
    rig.sim.grant(APP, "im:message:readonly", false);
    let reason = refused(rig.send(answer(22, "oc_ann", "om_all")).await);
    let astray = rig.sim.sent()[2].message_id.clone();
    assert!(reason.contains("another chat") && reason.contains(&astray), "{reason}");
    let back = |it: &Entry| matches!(&it.what, Observation::Recalled { message_id } if *message_id == astray);
    assert_eq!(rig.sim.count(back), 1);
    sent(rig.send(answer(23, "oc_1", "om_all")).await);
    rig.end().await;
}

/// Nobody knows of a message that it is in no topic: the platform would begin one with it.
#[tokio::test]
async fn an_answer_that_would_begin_another_topic_is_taken_back() {
    let mut rig = Rig::ready().await;
    say(&mut rig, Message::group("oc_1", "ou_ann").text("all").message_id("om_all")).await;
    say(&mut rig, in_topic("om_topic")).await;
    let reason = refused(rig.send(told(1, Some("om_all"))).await);
    assert!(reason.contains("not in this topic"), "{reason}");
    let astray = rig.sim.sent()[0].message_id.clone();
    assert_eq!(rig.sim.shown(&astray), None);
    rig.end().await;
}
