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
    // Or one that cannot be answered.
    let codes = [230_011, 230_110, 230_019, 230_050, 230_071, 230_072, 230_111];
    for (id, code) in (1..).zip(codes) {
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

/// So many parts that one attempt cannot send them all: the next goes on where it ended.
#[tokio::test]
async fn a_reply_that_takes_longer_than_an_attempt_may_goes_on_in_the_next() {
    let mut rig = Rig::ready().await;
    rig.sim.fault(APP, rest(Route::Send, Trouble::Delay { ms: 400 }), Times::Always);
    let text = "a line of words\n".repeat(28_000);
    let mut reply = outbound(1, |it| it.content = Content::text(&text));
    let ids = loop {
        match rig.send(reply.clone()).await {
            Outcome::Retry { .. } => reply.attempt += 1,
            outcome => break sent(outcome),
        }
        assert!(reply.attempt < 10, "it begins anew each time");
    };
    assert!(reply.attempt > 1, "one attempt was enough");
    let sim = rig.end().await;
    assert_eq!(sim.sent().iter().map(|it| it.message_id.clone()).collect::<Vec<_>>(), ids);
    // Only what was on its way when an attempt ended is asked for again.
    let again = sim.count(|it| matches!(it.what, Observation::Deduplicated { .. }));
    assert!(again < reply.attempt as usize, "{again} in {} attempts", reply.attempt);
}

fn file(kind: FileKind, file: String) -> File {
    File { kind, file, title: None }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and more";

#[tokio::test]
async fn words_take_the_form_that_shows_them() {
    let mut rig = Rig::ready().await;
    let texts = ["plain", "some **bold** words", "# A title\n\n| a | b |\n|---|---|\n| 1 | 2 |"];
    for (id, text) in (1..).zip(texts) {
        sent(rig.send(outbound(id, |it| it.content = Content::text(text))).await);
    }
    let sim = rig.end().await;
    let kinds: Vec<_> = sim.sent().iter().map(|it| it.msg_type.clone()).collect();
    assert_eq!(kinds, ["text", "post", "interactive"]);
    assert!(words(&sim).iter().zip(texts).all(|(shown, text)| shown.trim() == text));
}

/// Words arrive, if less beautifully.
#[tokio::test]
async fn a_form_that_is_refused_gives_way_to_a_plainer_one() {
    let mut rig = Rig::ready().await;
    let refused = |code| rest(Route::Send, Trouble::Code { status: 400, code });
    rig.sim.fault(APP, refused(230_099), Times::Only(1));
    rig.sim.fault(APP, refused(230_001), Times::Only(1));
    let text = "# A title\n\nwords";
    let id = sent(rig.send(outbound(1, |it| it.content = Content::text(text))).await);
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 1);
    assert_eq!(
        (sim.sent()[0].msg_type.as_str(), sim.shown(&id[0]).as_deref()),
        ("text", Some(text))
    );
}

#[tokio::test]
async fn files_are_uploaded_and_shown_as_what_they_are() {
    let mut rig = Rig::ready().await;
    let opus = [
        &b"OggS\0\x02"[..],
        &[0; 20],
        b"OpusHead",
        &[0; 30],
        b"OggS\0\x04",
        &96_000u64.to_le_bytes(),
        &[0; 20],
    ]
    .concat();
    let files = vec![
        file(FileKind::Image, rig.put("1-a.png", PNG)),
        file(FileKind::Voice, rig.put("2-b.ogg", &opus)),
        file(FileKind::Video, rig.put("3-c.mp4", b"\0\0\0\x20ftypisom....")),
        file(FileKind::File, rig.put("4-d.pdf", b"%PDF")),
        file(FileKind::Image, rig.put("5-e.svg", b"<svg/>")),
    ];
    let reply = outbound(1, |it| it.content = Content { files, ..Content::text("see") });
    let ids = sent(rig.send(reply).await);
    assert_eq!(ids.len(), 6);
    let sim = rig.end().await;
    let kinds: Vec<_> = sim.sent().iter().map(|it| it.msg_type.clone()).collect();
    assert_eq!(kinds, ["text", "image", "audio", "media", "file", "file"]);
    let uploads: Vec<_> = sim
        .journal()
        .into_iter()
        .filter_map(|entry| match entry.what {
            Observation::Uploaded { kind, name, bytes, duration, .. } => {
                Some((kind, name, bytes, duration))
            }
            _ => None,
        })
        .collect();
    let text = str::to_owned;
    let expected = [
        (text("image"), text("a.png"), PNG.len(), None),
        (text("opus"), text("b.ogg"), opus.len(), Some(text("2000"))),
        (text("mp4"), text("c.mp4"), 16, None),
        (text("pdf"), text("d.pdf"), 4, None),
        (text("stream"), text("e.svg"), 6, None),
    ];
    assert_eq!(uploads, expected);
}

/// F39.
#[tokio::test]
async fn what_did_not_arrive_is_said_part_by_part() {
    let mut rig = Rig::ready().await;
    let files = vec![
        file(FileKind::File, "1-gone.txt".to_owned()),
        file(FileKind::File, rig.put("2-empty.txt", b"")),
        file(FileKind::File, rig.put("3-good.txt", b"x")),
    ];
    let reply = outbound(1, |it| it.content = Content { files, ..Content::text("attached") });
    let (ids, reason) = partly(rig.send(reply).await);
    assert!(reason.starts_with("2 of 4 parts were sent (om_"), "{reason}");
    assert!(reason.contains("file gone.txt: it is not in the exchange directory"), "{reason}");
    assert!(reason.contains("file empty.txt: it is empty"), "{reason}");
    let there: Vec<_> = rig.end().await.sent().into_iter().map(|it| it.message_id).collect();
    assert_eq!((ids.len(), ids), (2, there));
}

fn partly(outcome: Outcome) -> (Vec<String>, String) {
    let Outcome::Partly { message_ids, rest: Rest::Failed, reason } = outcome else {
        panic!("{outcome:?}")
    };
    (message_ids, reason)
}

/// Also where it is its words that the platform does not take any more, or an edit that needs more than one message.
#[tokio::test]
async fn of_a_reply_in_several_messages_those_that_are_there_are_told() {
    let mut rig = Rig::ready().await;
    let first = sent(rig.send(outbound(1, |_| {})).await).remove(0);
    let long = "a line of words\n".repeat(6000);
    let hold = rig.sim.fault(APP, rest(Route::Send, Trouble::Hold), Times::Only(1));
    rig.outbound.send(outbound(2, |it| it.content = Content::text(&long))).await.unwrap();
    rig.sim.wait_count("the first part", LONG, 1, held).await;
    let refused = rest(Route::Send, Trouble::Code { status: 400, code: 230_002 });
    rig.sim.fault(APP, refused, Times::Always);
    rig.sim.clear(hold);
    let (ids, reason) = partly(rig.outcome(OutboundId(2)).await);
    let there = rig.sim.sent();
    assert!(ids.len() == 1 && ids[0] == there[1].message_id, "{ids:?}");
    assert!(reason.contains("not tried") && reason.contains("not in this chat"), "{reason}");
    let act = Act::Edit { message_id: first.clone() };
    let edit = outbound(3, |it| it.content = Content { act, ..Content::text(&long) });
    let (ids, reason) = partly(rig.send(edit).await);
    assert_eq!(ids, [first]);
    assert!(reason.starts_with("1 of "), "{reason}");
    rig.end().await;
}

/// Also when neither the platform nor this life knows of the first attempt any more.
#[tokio::test]
async fn another_life_goes_on_behind_the_parts_that_have_arrived() {
    let mut rig = Rig::ready().await;
    rig.sim.configure(|settings| settings.uuid_memory = Duration::ZERO);
    let text = "a line of words\n".repeat(6000);
    let reply = outbound(1, |it| it.content = Content::text(&text));
    let hold = rig.sim.fault(APP, rest(Route::Send, Trouble::Hold), Times::Only(1));
    rig.outbound.send(reply.clone()).await.unwrap();
    rig.sim.wait_count("the first part", LONG, 1, held).await;
    let page = rest(Route::Send, Trouble::Html { status: 502 });
    rig.sim.fault(APP, page, Times::Only(1));
    rig.sim.clear(hold);
    let reached = rig.note(|note| match note {
        Note::Reached(_, progress) => Some(progress),
        _ => None,
    });
    let progress = reached.await;
    let outcome = rig.outcome(reply.id).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    let sim = rig.end().await;
    assert_eq!(progress.message_ids, [sim.sent()[0].message_id.clone()]);
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    let again = Outbound { attempt: 2, progress: Some(progress), ..reply };
    let ids = sent(rig.send(again).await);
    let all = rig.sim.sent();
    assert_eq!(all.iter().map(|it| it.message_id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(all.iter().filter_map(SentMessage::text).collect::<String>(), text);
    // The same for an edit that needs more than one message.
    let act = Act::Edit { message_id: ids[0].clone() };
    let edit = outbound(2, |it| {
        it.content = Content { act, ..Content::text(&text) };
        let note = json!([{"Ok": ids[0]}, {"Ok": ids[1]}]).to_string().into_bytes();
        it.progress = Some(Progress { message_ids: ids[..2].to_vec(), note });
    });
    let edited = sent(rig.send(edit).await);
    assert_eq!(edited[..2], ids[..2]);
    assert_eq!(rig.end().await.sent().len(), all.len() + edited.len() - 2);
}

#[tokio::test]
async fn an_upload_that_is_cut_is_tried_again_and_nothing_is_sent_twice() {
    let mut rig = Rig::ready().await;
    let files = vec![file(FileKind::Image, rig.put("1-a.png", PNG))];
    let reply = outbound(1, |it| it.content = Content { files, ..Content::text("see") });
    rig.sim.fault(APP, rest(Route::Image, Trouble::LostRequest), Times::Only(1));
    assert!(matches!(rig.send(reply.clone()).await, Outcome::Retry { .. }));
    // Whatever the platform has forgotten by then.
    rig.sim.configure(|settings| settings.uuid_memory = Duration::ZERO);
    rig.sim.fault(APP, rest(Route::Send, Trouble::Html { status: 502 }), Times::Only(1));
    let again = |attempt| Outbound { attempt, ..reply.clone() };
    let Outcome::Retry { reason, .. } = rig.send(again(2)).await else { panic!() };
    assert!(reason.starts_with("1 of 2 parts were sent (om_"), "what remains known: {reason}");
    assert_eq!(sent(rig.send(again(3)).await).len(), 2);
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 2);
    assert_eq!(sim.count(|it| matches!(it.what, Observation::Uploaded { .. })), 1);
}

#[tokio::test]
async fn cards_and_buttons_are_sent_and_pressed() {
    let mut rig = Rig::ready().await;
    let button = |label: &str, press| Button { label: label.to_owned(), press };
    let buttons = vec![vec![
        button("Yes", Press::Data("yes".to_owned())),
        button("More", Press::Url("https://example.org".to_owned())),
    ]];
    let asked = outbound(1, |it| it.content = Content { buttons, ..Content::text("Really?") });
    let ids = sent(rig.send(asked).await);
    let card =
        json!({"schema": "2.0", "body": {"elements": [{"tag": "markdown", "content": "own"}]}});
    let with = |card: &str| Content { card: Some(card.to_owned()), ..Content::text("") };
    let own = outbound(2, |it| it.content = with(&card.to_string()));
    sent(rig.send(own).await);
    let wrong = outbound(3, |it| it.content = with("{\"schema\":\"2.0\"}"));
    let Outcome::Failed { reason } = rig.send(wrong).await else { panic!() };
    assert!(reason.starts_with("230099"), "{reason}");

    let action = json!({"tag": "button", "value": {"data": "yes"}});
    let event = rig.sim.push_event(APP, card_action("oc_1", &ids[0], "ou_ann", &action));
    let pressed = accept(rig.heard().await);
    assert_eq!((pressed.kind, pressed.text.as_str()), (InboundKind::Button, "yes"));
    // Whoever pressed it waits for an object.
    assert_eq!(event.acked_within(LONG).await.data, Some(json!({})));
    let sim = rig.end().await;
    let kinds: Vec<_> = sim.sent().iter().map(|it| it.msg_type.clone()).collect();
    assert_eq!(kinds, ["interactive", "interactive"]);
}

#[tokio::test]
async fn messages_are_edited_recalled_and_reacted_to() {
    let mut rig = Rig::ready().await;
    let mut ids = Vec::new();
    for (id, text) in [(1, "plain"), (2, "# card")] {
        ids.extend(sent(rig.send(outbound(id, |it| it.content = Content::text(text))).await));
    }
    let act = |id, act, text: &str| {
        outbound(id, |it| it.content = Content { act, ..Content::text(text) })
    };
    for (number, id) in (3..).zip(&ids) {
        let edit = act(number, Act::Edit { message_id: id.clone() }, "**new** words");
        assert_eq!(sent(rig.send(edit).await), [&**id]);
        assert_eq!(
            rig.sim.shown(id).map(|it| it.trim().to_owned()).as_deref(),
            Some("**new** words")
        );
    }
    let react = |emoji: &str| Act::React { message_id: ids[0].clone(), emoji: emoji.to_owned() };
    sent(rig.send(act(5, react("👍"), "")).await);
    sent(rig.send(act(6, react("OK"), "")).await);
    let Outcome::Failed { reason } = rig.send(act(7, react("🦀"), "")).await else { panic!() };
    assert!(reason.contains("no reaction"), "{reason}");
    sent(rig.send(act(8, react(""), "")).await);
    let count = |sim: &Sim, which: fn(&Observation) -> bool| sim.count(|it| which(&it.what));
    assert_eq!(count(&rig.sim, |it| matches!(it, Observation::Reacted { .. })), 2);
    assert_eq!(count(&rig.sim, |it| matches!(it, Observation::Unreacted { .. })), 2);
    for attempt in [1, 2] {
        let recall = Act::Recall { message_id: ids[0].clone() };
        let recall = Outbound { attempt, ..act(9, recall, "") };
        assert!(sent(rig.send(recall).await).is_empty(), "taken back once or twice");
    }
    assert_eq!(rig.sim.shown(&ids[0]), None);
    for hostile in ["../x", ""] {
        let recall = Act::Recall { message_id: hostile.to_owned() };
        assert!(matches!(rig.send(act(10, recall, "")).await, Outcome::Failed { .. }));
    }
    rig.end().await;
}

/// After a restart nothing is known of a message but its id.
#[tokio::test]
async fn a_message_of_an_earlier_run_is_edited_as_what_it_is() {
    let mut rig = Rig::ready().await;
    let id = sent(rig.send(outbound(1, |it| it.content = Content::text("# card"))).await).remove(0);
    let sim = rig.end().await;
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    let edit = outbound(2, |it| {
        let act = Act::Edit { message_id: id.clone() };
        it.content = Content { act, ..Content::text("new") };
    });
    sent(rig.send(edit).await);
    assert_eq!(rig.sim.shown(&id).as_deref(), Some("new"));
    rig.end().await;
}

#[tokio::test]
async fn a_missing_scope_is_named_and_waited_for() {
    let mut rig = Rig::ready().await;
    rig.sim.grant(APP, "im:message:send_as_bot", false);
    let reply = outbound(1, |_| {});
    let Outcome::Retry { reason, .. } = rig.send(reply.clone()).await else { panic!() };
    assert_eq!(reason, "99991672: the app lacks the scope im:message:send_as_bot");
    let limited = |note| match note {
        Note::Outside(Outside::Limited { reason, remedy }) => Some((reason, remedy)),
        _ => None,
    };
    rig.sim.grant(APP, "im:message:send_as_bot", true);
    sent(rig.send(Outbound { attempt: 2, ..reply }).await);
    rig.until_up().await;
    // And told while it lasted.
    rig.sim.grant(APP, "im:message:send_as_bot", false);
    assert!(matches!(rig.send(outbound(2, |_| {})).await, Outcome::Retry { .. }));
    let (reason, remedy) = rig.note(limited).await;
    assert!(reason.contains("im:message:send_as_bot") && remedy.unwrap().contains("Permissions"));
    rig.end().await;
}

/// F37: nothing is asked while the platform wants a pause, and nothing is dropped.
#[tokio::test]
async fn a_throttle_closes_its_part_of_the_api_for_everybody() {
    let mut rig = Rig::ready().await;
    let limit = Trouble::RateLimit { reset_s: 1, status: 429 };
    rig.sim.fault(APP, rest(Route::Send, limit), Times::Only(1));
    let reply = |id: u64, attempt| {
        outbound(id, |it| {
            it.chat_id = format!("oc_{id}");
            it.attempt = attempt;
        })
    };
    let found = rig.send(reply(1, 1)).await;
    assert!(matches!(found, Outcome::Retry { after_ms: Some(1000), .. }), "{found:?}");
    // Whoever comes meanwhile is told how long it lasts, and nothing is asked.
    let mut waiting: Vec<u64> = (1..=12).collect();
    let mut attempt = 1;
    while !waiting.is_empty() {
        attempt += 1;
        for id in &waiting {
            rig.outbound.send(reply(*id, attempt)).await.unwrap();
        }
        let (mut left, mut pause) = (Vec::new(), 0);
        for _ in waiting {
            let told = |note| match note {
                Note::Outcome(id, _, outcome) => Some((id.0, outcome)),
                _ => None,
            };
            let (id, outcome) = rig.note(told).await;
            if let Outcome::Retry { after_ms, .. } = outcome {
                left.push(id);
                pause = pause.max(after_ms.unwrap());
            }
        }
        waiting = left;
        // The platform's own wish, as the outbox waits for it.
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    let sim = rig.end().await;
    let early = |it: &Entry| matches!(it.what, Observation::Call { inside_window: true, .. });
    assert_eq!((sim.sent().len(), sim.count(early)), (12, 0));
}
