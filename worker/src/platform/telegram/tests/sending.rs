//! Replies: where they go, and what becomes of them when something goes wrong.

use protocol::content::Act;

use super::*;

const GROUP: i64 = -1_000_000_000_005;

#[tokio::test]
async fn a_reply_reaches_its_chat_its_message_and_its_topic() {
    let mut rig = Rig::ready().await;
    let (_, message) = rig.sim.push_text(TOKEN, ANN, "hi");
    accept(rig.heard().await);
    rig.sim.set_forum(TOKEN, GROUP, &[42]);
    let answer = outbound(1, |it| {
        it.reply_to = Some(message.to_string());
        it.content.text = "**bold** 😀 `code`".to_owned();
    });
    let ids = sent(rig.send(answer).await);
    let topic = |id: u64, thread: &str| {
        let thread = thread.to_owned();
        outbound(id, |it| (it.chat_id, it.thread_id) = (GROUP.to_string(), Some(thread)))
    };
    sent(rig.send(topic(2, "42")).await);
    sent(rig.send(topic(3, "1")).await);
    let gone = rig.send(topic(4, "43")).await;
    assert!(matches!(&gone, Outcome::Failed { reason } if reason.contains("deleted")), "{gone:?}");
    let other = rig.send(topic(5, "omt_42")).await;
    let named = |reason: &str| reason.contains("\"omt_42\" is no topic");
    assert!(matches!(&other, Outcome::Failed { reason } if named(reason)), "{other:?}");
    let sim = rig.end().await;
    let all = sim.sent();
    assert_eq!(all.len(), 3, "what names no topic is not said to the whole chat");
    assert_eq!((all[0].text.as_str(), all[0].reply_to), ("bold 😀 code", Some(message)));
    assert_eq!(all[0].message_id.to_string(), ids[0]);
    let kinds: Vec<_> = all[0].entities.iter().map(|it| it["type"].clone()).collect();
    assert_eq!(kinds, ["bold", "code"]);
    assert_eq!([all[1].thread_id, all[2].thread_id], [Some(42), None], "General has no number");
    assert!(all.iter().all(|it| it.parse_mode.is_none()));
}

#[tokio::test]
async fn a_reply_to_a_message_that_is_gone_is_sent_without_it() {
    let mut rig = Rig::ready().await;
    let (_, message) = rig.sim.push_text(TOKEN, ANN, "never mind");
    accept(rig.heard().await);
    rig.sim.delete_message(TOKEN, ANN, message);
    sent(rig.send(outbound(1, |it| it.reply_to = Some(message.to_string()))).await);
    assert_eq!(rig.end().await.sent()[0].reply_to, None);
}

/// What left is not sent again (F35).
#[tokio::test]
async fn a_lost_answer_is_unknown_and_a_lost_connection_is_not() {
    let mut rig = Rig::ready().await;
    for (id, fault) in [
        (1, Fault::LostAnswer),
        (2, Fault::LostRequest),
        (3, Fault::Html { status: 502 }),
        (4, Fault::Truncated),
    ] {
        rig.sim.fault(Some("sendMessage"), fault.clone(), Some(1));
        let chat = i64::try_from(id).unwrap() + 20;
        rig.sim.set_mood(TOKEN, chat, Mood::Open);
        let outcome = rig.send(outbound(id, |it| it.chat_id = chat.to_string())).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{fault:?} {outcome:?}");
    }
    rig.sim.stop_listening().await;
    let outcome = rig.send(outbound(5, |it| it.chat_id = "10".into())).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    rig.sim.listen_again().await;
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 2, "the lost and the truncated answer were to messages");
}

#[tokio::test]
async fn nothing_is_sent_into_an_outage() {
    let mut rig = Rig::ready().await;
    rig.sim.fault(None, Fault::Html { status: 502 }, None);
    rig.until_down().await;
    let outcome = rig.send(outbound(1, |_| {})).await;
    assert!(matches!(outcome, Outcome::Retry { after_ms: Some(1000), .. }), "{outcome:?}");
    assert_eq!(rig.sim.count(|it| called(it, "sendMessage")), 0);
    rig.sim.clear_faults();
    rig.until_up().await;
    sent(rig.send(outbound(1, |_| {})).await);
    rig.end().await;
}

#[tokio::test]
async fn whoever_prefers_a_message_twice_gets_it_again() {
    let mut rig = Rig::on(Rig::sim().await, |it| it.unanswered = Unanswered::Resend);
    assert!(rig.until_ready().await.idempotent_ms.is_some());
    rig.sim.fault(Some("sendMessage"), Fault::LostAnswer, Some(1));
    sent(rig.send(outbound(1, |_| {})).await);
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 2);
}

/// Something between us and the platform may pass every call on and answer none.
#[tokio::test]
async fn whoever_prefers_a_message_twice_does_not_get_it_again_and_again() {
    let mut rig = Rig::on(Rig::sim().await, |it| it.unanswered = Unanswered::Resend);
    rig.until_ready().await;
    rig.sim.fault(Some("sendMessage"), Fault::LostAnswer, None);
    let outcome = rig.send(outbound(1, |_| {})).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    assert_eq!(rig.sim.sent().len(), 2);
    rig.sim.clear_faults();
    // The same for what is within a reply.
    let long = outbound(2, |it| it.content.text = "word ".repeat(2000));
    rig.sim.fault(Some("sendMessage"), Fault::Pass, Some(1));
    rig.sim.fault(Some("sendMessage"), Fault::LostAnswer, None);
    let outcome = rig.send(long).await;
    assert!(matches!(outcome, Outcome::Partly { rest: Rest::Unknown, .. }), "{outcome:?}");
    assert_eq!(rig.sim.sent().len(), 5);
    rig.end().await;
}

/// A limit is no failure (F37).
#[tokio::test]
async fn no_call_falls_into_a_pause_and_no_answer_is_dropped() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, 10, Mood::Open);
    rig.sim.fault(Some("sendMessage"), Fault::RateLimit { seconds: 2 }, Some(1));
    let Outcome::Retry { after_ms: Some(after), .. } = rig.send(outbound(1, |_| {})).await else {
        panic!("a limit is no failure");
    };
    assert!((2000..4000).contains(&after), "{after}");
    // At once again: it is held back here.
    let early = rig.send(outbound(1, |_| {})).await;
    assert!(matches!(early, Outcome::Retry { after_ms: Some(_), .. }), "{early:?}");
    sent(rig.send(outbound(2, |it| it.chat_id = "10".into())).await);
    let mut outcome = rig.send(outbound(1, |_| {})).await;
    while let Outcome::Retry { after_ms: Some(after), .. } = outcome {
        tokio::time::sleep(Duration::from_millis(after)).await;
        outcome = rig.send(outbound(1, |_| {})).await;
    }
    sent(outcome);
    rig.end().await;
}

/// Nothing is cut off, styles go on (F38).
#[tokio::test]
async fn a_long_reply_becomes_several_messages_in_order() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, 10, Mood::Open);
    let line = "let a = \"😀\";\n";
    let text = format!("```rust\n{}```\nend", line.repeat(700));
    let reply = outbound(1, |it| it.content.text.clone_from(&text));
    // In the middle of it the platform wants a pause: what was sent is not sent again.
    rig.sim.fault(Some("sendMessage"), Fault::RateLimit { seconds: 1 }, Some(0));
    let ids = sent(rig.send(reply).await);
    let sim = rig.end().await;
    let all = sim.sent();
    assert_eq!(all.iter().map(|it| it.message_id.to_string()).collect::<Vec<_>>(), ids);
    assert!(all.len() > 1);
    let joined: String = all.iter().map(|it| it.text.clone() + "\n").collect();
    assert_eq!(joined.matches("let a").count(), 700);
    assert!(all.iter().all(|it| it.entities[0]["language"] == "rust"));
}

#[tokio::test]
async fn a_pause_within_a_long_reply_repeats_nothing() {
    let mut rig = Rig::ready().await;
    rig.sim.configure(|it| {
        it.per_chat = Some(Duration::from_secs(1));
        it.retry_after_s = 1;
    });
    let text = "word ".repeat(2000);
    let ids = sent(rig.send(outbound(1, |it| it.content.text.clone_from(&text))).await);
    let sim = rig.end().await;
    assert_eq!(ids.len(), 3);
    let words: usize = sim.sent().iter().map(|it| it.text.split_whitespace().count()).sum();
    assert_eq!(words, 2000);
}

/// Whoever is told to stop in the middle says how far it has come, and another life goes on there.
#[tokio::test]
async fn what_has_arrived_of_a_reply_is_not_sent_again() {
    let mut rig = Rig::ready().await;
    let words: Vec<_> = (0..1600).map(|n| format!("word{n:05}")).collect();
    let reply = outbound(1, |it| {
        it.reply_to = Some("5".into());
        it.content.text = words.join(" ");
    });
    rig.outbound.send(reply.clone()).await.unwrap();
    let progress = rig.note(|note| match note {
        Note::Reached(_, progress) if progress.message_ids.len() == 3 => Some(progress),
        _ => None,
    });
    let progress = progress.await;
    rig.stop.cancel();
    let outcome = rig.outcome(reply.id).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 3);
    let mut rig = Rig::on(sim, |_| {});
    rig.until_ready().await;
    let rest = Outbound { progress: Some(progress.clone()), attempt: 2, ..reply };
    let ids = sent(rig.send(rest.clone()).await);
    let all = rig.sim.sent();
    assert_eq!(all.iter().map(|it| it.message_id.to_string()).collect::<Vec<_>>(), ids);
    let there: Vec<_> = all.iter().flat_map(|it| it.text.split_whitespace()).collect();
    assert_eq!(there, words);
    // Where the parts are others than they were, no word may be missing.
    let other = outbound(2, |it| {
        it.content.text = format!("other {}", words.join(" "));
        it.progress = Some(progress);
    });
    sent(rig.send_in_turn(other).await);
    let all = rig.end().await.sent();
    let there = all.iter().skip(ids.len()).flat_map(|it| it.text.split_whitespace());
    assert_eq!(there.count(), words.len() + 1);
}

#[tokio::test]
async fn refused_styles_cost_no_words() {
    let mut rig = Rig::ready().await;
    let no = refuse(400, "Bad Request: can't parse entities: no");
    rig.sim.fault(Some("sendMessage"), no, Some(1));
    sent(rig.send(outbound(1, |it| it.content.text = "**a**".into())).await);
    let sim = rig.end().await;
    assert_eq!((sim.sent()[0].text.as_str(), sim.sent()[0].entities.len()), ("a", 0));
}

/// What is tried in its place goes out in a chat that was just spoken in, too.
#[tokio::test]
async fn what_loses_no_words_waits_for_its_turn_and_is_not_forgotten() {
    let mut rig = Rig::ready().await;
    for id in 1..=2 {
        sent(rig.send(outbound(id, |_| {})).await);
    }
    let no = refuse(400, "Bad Request: can't parse entities: no");
    rig.sim.fault(Some("sendMessage"), no, Some(1));
    sent(rig.send(outbound(3, |it| it.content.text = "**a**".into())).await);
    let sim = rig.end().await;
    assert_eq!((sim.sent()[2].text.as_str(), sim.sent()[2].entities.len()), ("a", 0));
    assert_eq!(sim.count(|it| called(it, "sendMessage")), 4);
}

/// Some servers insist although they are told not to.
#[tokio::test]
async fn an_answer_to_what_is_gone_is_sent_without_it_where_the_platform_insists() {
    let mut rig = Rig::ready().await;
    let no = refuse(400, "Bad Request: message to be replied not found");
    rig.sim.fault(Some("sendMessage"), no, Some(1));
    let answer = outbound(1, |it| {
        it.reply_to = Some("5".to_owned());
        it.content.text = "**a**".into();
    });
    sent(rig.send(answer).await);
    let sim = rig.end().await;
    let first = &sim.sent()[0];
    assert_eq!((first.text.as_str(), first.entities.len(), first.reply_to), ("a", 1, None));
}

#[tokio::test]
async fn a_group_that_became_a_supergroup_is_followed() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, -5, Mood::Migrated(GROUP));
    rig.sim.set_mood(TOKEN, GROUP, Mood::Open);
    for id in 1..=2 {
        sent(rig.send(outbound(id, |it| it.chat_id = "-5".into())).await);
    }
    let sim = rig.end().await;
    assert!(sim.sent().iter().all(|it| it.chat_id == GROUP));
    assert_eq!(sim.count(|it| called(it, "sendMessage")), 3, "the second one knows");
}

/// A supergroup numbers its messages from 1 anew: a number of before is somebody else's message now.
#[tokio::test]
async fn where_a_group_has_moved_no_message_of_another_is_answered_or_changed() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, -5, Mood::Migrated(GROUP));
    let strangers = Message::group(GROUP, ANN).text("of somebody else");
    let (_, number) = rig.sim.push_message(TOKEN, strangers);
    accept(rig.heard().await);
    let here = |id, change: fn(&mut Outbound, String)| {
        outbound(id, |it| {
            it.chat_id = "-5".into();
            change(it, number.to_string());
        })
    };
    let answer: fn(&mut Outbound, String) = |it, number| it.reply_to = Some(number);
    let recall: fn(&mut Outbound, String) =
        |it, message_id| it.content.act = Act::Recall { message_id };
    let edit: fn(&mut Outbound, String) =
        |it, message_id| it.content.act = Act::Edit { message_id };
    // The first one finds out where it has gone, the others know.
    for (id, change) in [(1, recall), (2, recall), (3, edit)] {
        let outcome = rig.send(here(id, change)).await;
        let said = |reason: &str| reason.contains("the group has moved");
        assert!(matches!(&outcome, Outcome::Failed { reason } if said(reason)), "{outcome:?}");
    }
    sent(rig.send(here(4, answer)).await);
    // What showed a reply in the making has stayed behind as well.
    let drafted = here(5, |it, number| it.draft_id = Some(number));
    sent(rig.send(drafted).await);
    let sim = rig.end().await;
    let all = sim.sent();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|it| it.chat_id == GROUP && it.reply_to.is_none()), "{all:?}");
    let changed = |it: &Entry| called(it, "deleteMessage") || called(it, "editMessageText");
    assert_eq!(sim.count(changed), 1, "in the group of before");
}

#[tokio::test]
async fn refusals_say_what_a_person_can_do() {
    let mut rig = Rig::ready().await;
    for (id, mood, hint) in [
        (1, Mood::Blocked, "start the bot again"),
        (2, Mood::Kicked, "add the bot"),
        (3, Mood::Muted, "let the bot write"),
        (4, Mood::Gone, "write to the bot first"),
    ] {
        rig.sim.set_mood(TOKEN, -5, mood);
        let outcome = rig.send(outbound(id, |it| it.chat_id = "-5".into())).await;
        let good = matches!(&outcome, Outcome::Failed { reason } if reason.contains(hint));
        assert!(good, "{outcome:?}");
    }
    for (id, chat, text) in [(5, "oc_1", "x"), (6, "9", " \n")] {
        let odd = outbound(id, |it| (it.chat_id, it.content.text) = (chat.into(), text.into()));
        assert!(matches!(rig.send(odd).await, Outcome::Failed { .. }));
    }
    rig.end().await;
}

/// What is there arrives, and what is not is named.
#[tokio::test]
async fn a_file_that_is_not_there_takes_no_words_along() {
    let mut rig = Rig::ready().await;
    let file = rig.file(FileKind::File, "there.txt", b"here");
    let gone = File { kind: FileKind::File, file: "gone.bin".into(), title: None };
    for (number, (text, files)) in [
        ("words", vec![gone.clone()]),
        ("words", vec![gone.clone(), file.clone()]),
        ("", vec![file, gone.clone()]),
    ]
    .into_iter()
    .enumerate()
    {
        let is_captioned = files.len() == 2;
        let outcome = rig
            .send(outbound(1 + number as u64, |it| {
                it.content = Content { files, ..Content::text(text) };
            }))
            .await;
        let Outcome::Partly { message_ids, reason, .. } = outcome else { panic!("{outcome:?}") };
        assert!(message_ids.len() == 1 && reason.contains("1 of 2 messages"), "{reason}");
        assert!(reason.contains("gone.bin"), "{reason}");
        let kind = if is_captioned { "document" } else { "text" };
        assert_eq!(rig.sim.sent().last().unwrap().kind, kind);
    }
    let nothing = outbound(9, |it| it.content = Content { files: vec![gone], ..Content::text("") });
    assert!(matches!(rig.send(nothing).await, Outcome::Failed { .. }));
    assert_eq!(rig.end().await.sent().len(), 3);
}
