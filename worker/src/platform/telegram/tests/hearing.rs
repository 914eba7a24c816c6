//! Updates: what is confirmed when, and what no failure may lose.

use super::*;

#[tokio::test]
async fn ready_names_the_bot_and_promises_no_repetition() {
    let mut rig = Rig::on(Rig::sim().await, |_| {});
    let ready = rig.until_ready().await;
    assert_eq!((ready.account.as_str(), ready.idempotent_ms), ("@test_bot (77)", None));
    let sim = rig.end().await;
    let asked = sim.allowed(TOKEN).unwrap();
    assert!(asked.as_array().unwrap().contains(&json!("message_reaction")), "{asked}");
}

/// Sending an offset deletes (F14).
#[tokio::test]
async fn an_update_is_confirmed_after_its_verdict_and_not_before() {
    let mut rig = Rig::ready().await;
    let polls = rig.sim.count(polled);
    let (update, _) = rig.sim.push_text(TOKEN, ANN, "hold this");
    let submitted = rig.heard().await;
    assert_eq!((submitted.event.text.as_str(), rig.sim.pending(TOKEN)), ("hold this", 1));
    // While there is no verdict, nothing else is asked of the queue.
    let (second, _) = rig.sim.push_text(TOKEN, ANN, "and this");
    assert!(rig.sim.count(polled) <= polls + 1);
    accept(submitted);
    rig.sim.wait_confirmed(LONG, update).await;
    accept(rig.heard().await);
    rig.sim.wait_confirmed(LONG, second).await;
    rig.end().await;
}

#[tokio::test]
async fn an_offset_is_sent_once_and_only_to_confirm() {
    let mut rig = Rig::ready().await;
    let (update, _) = rig.sim.push_text(TOKEN, ANN, "one");
    accept(rig.heard().await);
    rig.sim.wait_confirmed(LONG, update).await;
    let confirmed = rig.sim.count(polled);
    rig.sim.wait_count("two more polls", LONG, confirmed + 2, polled).await;
    let sim = rig.end().await;
    assert_eq!(confirming(&sim), [update + 1]);
}

/// The offsets that polls were made with, but for those below which nothing is.
fn confirming(sim: &Sim) -> Vec<i64> {
    let offsets = sim.journal().into_iter().filter_map(|entry| match entry.what {
        Observation::Poll { offset, .. } if offset > 1 => Some(offset),
        _ => None,
    });
    offsets.collect()
}

/// The times that the platform was asked to wait, as it understood them.
fn holds(sim: &Sim) -> Vec<u64> {
    let holds = sim.journal().into_iter().filter_map(|entry| match entry.what {
        Observation::Poll { timeout, .. } => Some(timeout),
        _ => None,
    });
    holds.collect()
}

/// The platform holds an offset back that it was asked from just now.
#[tokio::test]
async fn a_life_right_after_another_is_heard_at_once() {
    let rig = Rig::ready().await;
    rig.sim.wait_count("a poll that waits", LONG, 2, polled).await;
    let before = rig.sim.count(polled);
    let mut rig = Rig::on(rig.end().await, |_| {});
    rig.until_ready().await;
    assert_eq!(holds(&rig.end().await)[before], 0);
}

#[tokio::test]
async fn a_first_poll_that_is_held_back_is_waited_for_and_is_no_outage() {
    let sim = Rig::sim().await;
    // Another life that came no further than this.
    let http = crate::http::Http::over(&sim.base_url(), &Network::default()).unwrap();
    let url = format!("{}/bot{TOKEN}/getUpdates?offset=1", sim.base_url());
    http.client().get(url).send().await.unwrap();
    let mut rig = Rig::on(sim, |_| {});
    let down = rig.note(|note| match note {
        Note::Ready(_) => Some(false),
        Note::Outside(Outside::Down { .. }) => Some(true),
        _ => None,
    });
    assert!(!down.await, "it is said to be down");
    rig.sim.wait_count("a poll after it", LONG, 3, polled).await;
    assert_eq!(holds(&rig.end().await)[..3], [0, 3, 3], "it was given up");
}

#[tokio::test]
async fn ids_that_start_anew_are_heard() {
    let mut rig = Rig::ready().await;
    let (update, _) = rig.sim.push_text(TOKEN, ANN, "one");
    accept(rig.heard().await);
    rig.sim.wait_confirmed(LONG, update).await;
    let confirmed = rig.sim.count(polled);
    rig.sim.wait_count("a poll after it", LONG, confirmed + 1, polled).await;
    // So near below the old offset that the platform would honour that, and delete the new update.
    rig.sim.renumber(TOKEN, update - 4);
    let (again, _) = rig.sim.push_text(TOKEN, ANN, "two");
    assert_eq!(accept(rig.heard().await).text, "two");
    rig.sim.wait_confirmed(LONG, again).await;
    rig.end().await;
}

#[tokio::test]
async fn what_is_refused_comes_again_and_what_is_settled_does_not() {
    let mut rig = Rig::ready().await;
    let ids: Vec<_> = (0..3).map(|n| rig.sim.push_text(TOKEN, ANN, &format!("m{n}")).0).collect();
    let mut texts = Vec::new();
    {
        let mut confirmed = std::pin::pin!(rig.sim.wait_confirmed(LONG, ids[2]));
        // In whatever pieces they come.
        loop {
            let submitted = tokio::select! {
                () = &mut confirmed => break,
                submitted = rig.events.recv() => submitted.unwrap(),
            };
            let text = submitted.event.text.clone();
            let is_refused = text == "m1" && !texts.contains(&text);
            let verdict = if is_refused { Verdict::Refused } else { Verdict::Accepted(EventId(1)) };
            let _ = submitted.verdict.send(verdict);
            texts.push(text);
        }
    }
    let times = |wanted: &str| texts.iter().filter(|text| *text == wanted).count();
    assert_eq!((times("m0"), times("m1")), (1, 2), "{texts:?}");
    let sim = rig.end().await;
    assert!(confirming(&sim).contains(&ids[1]), "all below what was refused is settled");
}

#[tokio::test]
async fn one_unknown_and_one_malformed_update_harm_no_other() {
    let mut rig = Rig::ready().await;
    rig.sim.push(TOKEN, json!({"message": {"text": "no chat"}}));
    rig.sim.push(
        TOKEN,
        json!({"brand_new": {"chat": {"id": ANN, "type": "private"}, "from": {"id": ANN}}}),
    );
    let (last, _) = rig.sim.push_text(TOKEN, ANN, "after");
    let kept = accept(rig.heard().await);
    assert_eq!(kept.kind, InboundKind::Unreadable);
    assert!(String::from_utf8(kept.raw).unwrap().contains("no chat"));
    let unknown = accept(rig.heard().await);
    assert_eq!(unknown.kind, InboundKind::Other);
    assert!(String::from_utf8(unknown.raw).unwrap().contains("brand_new"));
    assert_eq!(accept(rig.heard().await).text, "after");
    rig.note(|note| (note == Note::Malformed).then_some(())).await;
    rig.sim.wait_confirmed(LONG, last).await;
    rig.end().await;
}

#[tokio::test]
async fn a_batch_of_every_kind_that_is_passed_on_unread_is_confirmed() {
    let mut rig = Rig::ready().await;
    let chat = json!({"id": ANN, "type": "private"});
    let message =
        json!({"message_id": 3, "date": 10, "chat": chat, "from": {"id": ANN}, "text": "hi"});
    let kinds = [
        ("business_connection", json!({"id": "b", "user": {"id": ANN}, "user_chat_id": ANN})),
        ("business_message", message.clone()),
        ("edited_business_message", message.clone()),
        ("deleted_business_messages", json!({"chat": chat, "message_ids": [3]})),
        ("guest_message", message),
        // Which says nowhere where it belongs.
        ("guest_message", json!({"text": "hi"})),
    ];
    for (kind, value) in &kinds {
        rig.sim.push(TOKEN, json!({*kind: value}));
    }
    let (last, _) = rig.sim.push_text(TOKEN, ANN, "after");
    for (n, (kind, _)) in kinds.iter().enumerate() {
        let event = accept(rig.heard().await);
        let as_what = if n == 5 { InboundKind::Unreadable } else { InboundKind::Other };
        assert_eq!(event.kind, as_what, "{kind}");
        let raw: Value = serde_json::from_slice(&event.raw).unwrap();
        assert_eq!(raw[*kind], kinds[n].1);
    }
    assert_eq!(accept(rig.heard().await).text, "after");
    rig.sim.wait_confirmed(LONG, last).await;
    rig.end().await;
}

#[tokio::test]
async fn an_album_is_one_event() {
    let mut rig = Rig::ready().await;
    let photo = |n: u32| {
        Message::direct(ANN)
            .with("media_group_id", "a")
            .with("photo", json!([{"file_id": format!("f{n}")}]))
    };
    rig.sim.push_message(TOKEN, photo(1).with("caption", "look"));
    // The rest comes after the first was handed out.
    rig.sim
        .wait_count("a hand-out", LONG, 1, |it| matches!(it.what, Observation::Handed { .. }))
        .await;
    rig.sim.push_message(TOKEN, photo(2));
    let (last, _) = rig.sim.push_message(TOKEN, photo(3));
    let album = accept(rig.heard().await);
    assert_eq!((album.parts.len(), album.text.as_str()), (3, "[photo] look\n[photo]\n[photo]"));
    rig.sim.wait_confirmed(LONG, last).await;
    rig.end().await;
}

#[tokio::test]
async fn an_album_of_which_a_part_was_accepted_before_is_taken_apart() {
    let mut rig = Rig::ready().await;
    let photo = Message::direct(ANN).with("media_group_id", "a").with("photo", json!([]));
    rig.sim.push_message(TOKEN, photo.clone());
    let (last, _) = rig.sim.push_message(TOKEN, photo);
    let whole = rig.heard().await;
    assert_eq!(whole.event.keys.len(), 4);
    let _ = whole.verdict.send(Verdict::Duplicate);
    let first = rig.heard().await;
    assert_eq!(first.event.keys.len(), 2);
    let _ = first.verdict.send(Verdict::Duplicate);
    assert_eq!(accept(rig.heard().await).keys.len(), 2);
    rig.sim.wait_confirmed(LONG, last).await;
    rig.end().await;
}

#[tokio::test]
async fn a_pressed_button_gets_a_sign_without_any_agent() {
    let mut rig = Rig::ready().await;
    rig.sim.push(
        TOKEN,
        json!({"callback_query": {
            "id": "q1", "from": {"id": ANN}, "data": "yes", "chat_instance": "1",
            "message": {"message_id": 1, "date": 1, "chat": {"id": ANN, "type": "private"}},
        }}),
    );
    rig.sim.wait_count("a sign", LONG, 1, |it| called(it, "answerCallbackQuery")).await;
    assert_eq!(accept(rig.heard().await).text, "yes");
    rig.end().await;
}

/// The platform tells it once.
#[tokio::test]
async fn where_a_group_has_gone_is_durable_before_it_is_confirmed() {
    let mut rig = Rig::ready().await;
    let moved = Message::group(-5, ANN).with("migrate_to_chat_id", -1005);
    let (update, _) = rig.sim.push_message(TOKEN, moved);
    let kept = rig.kept.recv().await.unwrap();
    let polls = rig.sim.count(polled);
    kept.verdict.send(Verdict::Refused).unwrap();
    let again = rig.kept.recv().await.unwrap();
    assert!(rig.sim.count(polled) > polls && rig.sim.pending(TOKEN) == 1, "it came again");
    let cursor = again.cursor;
    again.verdict.send(Verdict::Duplicate).unwrap();
    rig.sim.wait_confirmed(LONG, update).await;
    let sim = rig.end().await;
    sim.push_message(TOKEN, Message::group(-1005, ANN).text("here"));
    let mut rig = Rig::going_on(sim, Some(cursor), |_| {});
    let submitted = rig.heard().await;
    assert_eq!(
        (submitted.former.as_deref(), submitted.event.chat_id.as_str()),
        (Some("-5"), "-1005")
    );
    accept(submitted);
    rig.end().await;
}

/// One that cannot be told from others is kept once. It stays in the queue until something else is behind it.
#[tokio::test]
async fn updates_whose_id_cannot_be_read_are_kept_and_left_behind() {
    let mut rig = Rig::ready().await;
    let (update, _) = rig.sim.push_text(TOKEN, ANN, "before");
    accept(rig.heard().await);
    rig.sim.wait_confirmed(LONG, update).await;
    for n in 0..3 {
        rig.sim.push(TOKEN, json!({"update_id": {}, "x": n}));
    }
    let mut kept = std::collections::BTreeSet::new();
    while kept.len() < 3 {
        let submitted = rig.heard().await;
        assert_eq!(submitted.event.kind, InboundKind::Unreadable);
        let is_new = kept.insert(submitted.event.keys.clone());
        let verdict = if is_new { Verdict::Accepted(EventId(1)) } else { Verdict::Duplicate };
        submitted.verdict.send(verdict).unwrap();
    }
    let polls = rig.sim.count(polled);
    rig.sim.wait_count("they come again", LONG, polls + 2, polled).await;
    assert_eq!(rig.sim.pending(TOKEN), 3);
    let (last, _) = rig.sim.push_text(TOKEN, ANN, "after");
    loop {
        let submitted = rig.heard().await;
        if submitted.event.kind == InboundKind::Message {
            assert_eq!(accept(submitted).text, "after");
            break;
        }
        assert!(kept.contains(&submitted.event.keys));
        submitted.verdict.send(Verdict::Duplicate).unwrap();
    }
    rig.sim.wait_confirmed(LONG, last).await;
    let deep = (0..150).fold(json!(1), |inner, _| json!([inner]));
    let deep = rig.sim.push(TOKEN, json!({ "message": deep }));
    let kept = accept(rig.heard().await);
    assert_eq!(
        (kept.kind, kept.keys),
        (InboundKind::Unreadable, vec![format!("update:77:{deep}")])
    );
    rig.sim.wait_confirmed(LONG, deep).await;
    rig.note(|note| (note == Note::Malformed).then_some(())).await;
    rig.end().await;
}

/// F14: what is no update at all confirms none.
#[tokio::test]
async fn an_answer_that_is_none_deletes_nothing() {
    let mut rig = Rig::ready().await;
    let (update, _) = rig.sim.push_text(TOKEN, ANN, "before");
    accept(rig.heard().await);
    rig.sim.wait_confirmed(LONG, update).await;
    let answered = Fault::Answer { result: json!([null, "sorry"]) };
    rig.sim.fault(Some("getUpdates"), answered, Some(2));
    for _ in 0..2 {
        assert_eq!(accept(rig.heard().await).kind, InboundKind::Unreadable);
    }
    rig.sim.push_text(TOKEN, ANN, "after");
    assert_eq!(accept(rig.heard().await).text, "after");
    let sim = rig.end().await;
    assert_eq!(confirming(&sim), [update + 1], "until then");
}

/// What the disk has no room for is not overtaken by what is said after it in its chat.
#[tokio::test]
async fn nothing_overtakes_what_is_refused() {
    let mut rig = Rig::on(Rig::sim().await, |_| {});
    for (user, text) in [(ANN, "first"), (ANN + 1, "other"), (ANN, "second"), (ANN, "third")] {
        rig.sim.push_text(TOKEN, user, text);
    }
    rig.until_ready().await;
    for text in ["first", "other"] {
        let submitted = rig.heard().await;
        assert_eq!(submitted.event.text, text);
        let room = text == "other";
        let verdict = if room { Verdict::Accepted(EventId(1)) } else { Verdict::Refused };
        submitted.verdict.send(verdict).unwrap();
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|text| text != "third") {
        heard.push(accept(rig.heard().await).text);
    }
    assert_eq!(heard, ["first", "other", "second", "third"]);
    rig.end().await;
}
