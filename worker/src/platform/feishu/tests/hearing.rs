//! Events: what is handed on, and what is answered when.

use super::*;

#[tokio::test]
async fn an_event_is_answered_after_its_verdict_and_not_before() {
    let mut rig = Rig::ready().await;
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
    let submitted = rig.heard().await;
    // Whatever was answered before this one has arrived when its answer has.
    let later = rig.sim.push_event(APP, reaction("om_1", "ou_a", "OK", "app"));
    later.acked_within(LONG).await;
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

/// Where the supervisor is slow, events wait for it, and none passes those that have waited too long to be answered.
#[tokio::test]
async fn what_waits_too_long_to_be_handed_on_is_overtaken_by_nothing() {
    let sim = Rig::sim().await;
    sim.configure(|settings| {
        let pauses = vec![Duration::from_secs(60); 4];
        settings.schedule = Schedule { pauses, ..Schedule::default() };
    });
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    rig.sim.wait_count("bot info", LONG, 1, |entry| called(entry, "bot_info")).await;
    let say = |number: usize| rig.sim.push_text(APP, "oc_1", "ou_ann", &number.to_string());
    // More than there is room for on the way.
    let crowd = rig.events.max_capacity() + 20;
    (0..crowd).for_each(|number| drop(say(number)));
    let is_late = |entry: &Entry| matches!(entry.what, Observation::Unanswered { .. });
    rig.sim.wait_count("all are late", LONG, crowd, is_late).await;
    say(crowd);
    for number in 0..=crowd {
        assert_eq!(accept(rig.heard().await).text, number.to_string());
    }
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
    let useless = [
        rig.sim.push_event(APP, reaction("om_1", "ou_a", "OK", "app")),
        rig.sim.push_event(APP, message_read("ou_a", &["om_1"])),
    ];
    for event in useless {
        event.acked_within(LONG).await;
        rig.note(|note| (note == Note::Ignored).then_some(())).await;
    }
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

/// And in its row: what somebody says in the same chat goes behind it.
#[tokio::test]
async fn whoever_waits_for_the_bots_name_keeps_his_place() {
    let sim = Rig::sim().await;
    sim.fault(APP, rest(Route::BotInfo, Trouble::Hold), Times::Always);
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    let mut events = Vec::new();
    for n in 0..20 {
        let text = if n % 7 == 5 { format!("{n}") } else { format!("@_user_1 {n}") };
        let message = Message::group("oc_1", "ou_ann").text(&text);
        events.push(rig.sim.push_message(APP, message.mention("@_user_1", "ou_bot", "Bot")));
    }
    rig.sim.wait_count("it is asked", LONG, 1, held).await;
    for event in &events {
        event.pushed_within(1, LONG).await;
    }
    rig.sim.clear_faults();
    for n in 0..20 {
        let text = accept(rig.heard().await).text;
        assert_eq!(text.trim_start_matches("@Bot "), n.to_string());
    }
    rig.end().await;
}

#[tokio::test]
async fn an_answer_to_the_bot_is_a_mention() {
    let mut rig = Rig::ready().await;
    let plain = outbound(1, |_| {});
    let ids = sent(rig.send(plain).await);
    rig.sim.push_message(
        APP,
        Message::group("oc_1", "ou_ann").text("why?").reply_to(&ids[0], &ids[0]),
    );
    assert_eq!(accept(rig.heard().await).mention, Mention::Me);
    rig.end().await;
}

/// Unknown kinds are counted and kept, and answered only then.
#[tokio::test]
async fn what_is_unknown_is_kept_raw_and_counted() {
    let mut rig = Rig::ready().await;
    let unknown = json!({"chat_id": "oc_1", "operator_id": {"open_id": "ou_a"}});
    rig.sim.push_text(APP, "oc_1", "ou_a", "so that the chat is known");
    accept(rig.heard().await);
    let known = rig.sim.push_event(APP, event("im.brand_new_v7", &unknown));
    let nowhere = rig.sim.push_event(APP, event("contact.user.updated_v3", &json!({"x": 1})));
    let first = rig.heard().await;
    assert!(!known.is_acked());
    let first = accept(first);
    assert_eq!((first.kind, first.chat_type), (InboundKind::Other, ChatType::Direct));
    assert!(String::from_utf8(first.raw).unwrap().contains("im.brand_new_v7"));
    let second = accept(rig.heard().await);
    assert_eq!(second.kind, InboundKind::Unreadable);
    for event in [known, nowhere] {
        event.acked_within(LONG).await;
        rig.note(|note| (note == Note::Ignored).then_some(())).await;
    }
    rig.end().await;
}

/// What cannot be understood is kept raw, and answered only then.
#[tokio::test]
async fn what_is_malformed_is_kept_for_a_person() {
    let mut rig = Rig::ready().await;
    let mut nowhere = Message::direct("oc_1", "ou_ann").text("where?").build();
    nowhere["event"]["message"]["chat_id"] = json!(null);
    let mut pressed = card_action("oc_1", "om_1", "ou_ann", &json!("yes"));
    pressed["event"]["context"] = json!({});
    let headless = json!({"uuid": "u-1", "event": {"type": "message"}});
    let empty = event("im.message.receive_v1", &json!({}));
    for malformed in [nowhere, pressed, headless, empty] {
        let event = rig.sim.push_event(APP, malformed);
        let submitted = rig.heard().await;
        assert!(!event.is_acked());
        let found = accept(submitted);
        assert_eq!(found.kind, InboundKind::Unreadable);
        assert_eq!(found.raw, event.event().to_string().into_bytes());
        event.acked_within(LONG).await;
        rig.note(|note| (note == Note::Malformed).then_some(())).await;
    }
    // A button whose message the platform does not tell about.
    let mut lost = card_action("oc_1", "om_gone", "ou_ann", &json!("yes"));
    lost["event"]["context"] = json!({"open_message_id": "om_gone"});
    let event = rig.sim.push_event(APP, lost);
    assert_eq!(accept(rig.heard().await).kind, InboundKind::Unreadable);
    event.acked_within(LONG).await;
    rig.end().await;
}

/// Parts that make no event are kept, but the platform is to say it again.
#[tokio::test]
async fn what_was_put_together_and_is_no_event_is_not_answered() {
    let mut rig = Rig::ready().await;
    for (seq, payload) in [("0", "{\"a\":"), ("1", "oops")] {
        let frame = ::tests::feishu::frame::Frame {
            method: ::tests::feishu::frame::DATA,
            payload: Some(payload.as_bytes().to_vec()),
            ..Default::default()
        };
        let frame = frame.with("type", "event").with("message_id", "m-1");
        rig.sim.send_frame(APP, &frame.with("sum", "2").with("seq", seq));
    }
    let found = accept(rig.heard().await);
    assert_eq!((found.kind, &*found.raw), (InboundKind::Unreadable, &b"{\"a\":oops"[..]));
    // An answer to it would have been one to an event that nobody knows, which the platform minds.
    let next = rig.sim.push_text(APP, "oc_1", "ou_ann", "next");
    accept(rig.heard().await);
    next.acked_within(LONG).await;
    rig.end().await;
}

#[tokio::test]
async fn what_an_event_does_not_tell_is_asked_for() {
    let mut rig = Rig::ready().await;
    let old = rig.sim.push_text(APP, "oc_1", "ou_ann", "the old words");
    accept(rig.heard().await);
    old.acked_within(LONG).await;
    let old = old.message_id().unwrap().to_owned();
    // Another run knows nothing of it.
    let mut rig = Rig::on(rig.end().await);
    rig.until_ready().await;
    rig.sim.wait_count("bot info", LONG, 2, |entry| called(entry, "bot_info")).await;
    let why = Message::direct("oc_1", "ou_ann").text("why?").reply_to(&old, &old);
    rig.sim.push_message(APP, why);
    assert_eq!(accept(rig.heard().await).quote.as_deref(), Some("the old words"));
    rig.sim.push_event(APP, reaction(&old, "ou_ann", "OK", "user"));
    let found = accept(rig.heard().await);
    assert_eq!(
        (found.kind, found.chat_id.as_str(), found.chat_type),
        (InboundKind::Reaction, "oc_1", ChatType::Direct)
    );
    rig.sim.push_event(APP, recalled("oc_1", &old));
    let found = accept(rig.heard().await);
    assert_eq!((found.kind, found.message_id.as_deref()), (InboundKind::Recall, Some(&*old)));
    rig.sim.push_event(APP, menu("ou_ann", "help"));
    let found = accept(rig.heard().await);
    assert_eq!((found.chat_id.as_str(), found.text.as_str()), ("oc_1", "help"));
    let forward = Message::direct("oc_1", "ou_ann").content("merge_forward", &json!({}));
    let ann = json!([{"key": "@_user_1", "id": "ou_ann", "id_type": "open_id", "name": "Ann"}]);
    let inside = [
        ("text", "ou_bob", json!({"text": "one for @_user_1"}), ann),
        ("image", "ou_cy", json!({"image_key": "k"}), json!(null)),
    ];
    rig.sim.put_forwarded("om_f", &inside);
    rig.sim.push_message(APP, forward.message_id("om_f"));
    let found = accept(rig.heard().await);
    assert_eq!(found.text, "[forwarded messages]\n> ou_bob: one for @Ann\n> ou_cy: [image]");
    rig.end().await;
}

/// What the platform is asked for has its mentions in another form.
#[tokio::test]
async fn a_quotation_names_whom_it_mentions() {
    let mut rig = Rig::ready().await;
    for (id, message) in [
        ("om_text", Message::group("oc_1", "ou_ann").text("ask @_user_1 please")),
        (
            "om_post",
            Message::group("oc_1", "ou_ann")
                .post("", &json!([[{"tag": "at", "user_id": "@_user_1", "user_name": ""}]])),
        ),
    ] {
        let message = message.mention("@_user_1", "ou_bob", "Bob").message_id(id);
        rig.sim.push_message(APP, message);
        accept(rig.heard().await);
    }
    // The next worker has heard neither.
    let mut rig = Rig::on(rig.end().await);
    rig.until_ready().await;
    for (id, quote) in [("om_text", "ask @Bob please"), ("om_post", "@Bob")] {
        let answer = Message::group("oc_1", "ou_ann").text("done").reply_to(id, id);
        rig.sim.push_message(APP, answer);
        assert_eq!(accept(rig.heard().await).quote.as_deref(), Some(quote));
    }
    rig.end().await;
}

/// The platform names nobody in a recall. Whoever heard the message hears of it, also after a restart.
#[tokio::test]
async fn who_took_a_message_back_is_known_after_a_restart() {
    let mut rig = Rig::ready().await;
    let mut old = Vec::new();
    for message in [Message::direct("oc_1", "ou_ann"), Message::group("oc_2", "ou_bob")] {
        let event = rig.sim.push_message(APP, message.text("the old words"));
        accept(rig.heard().await);
        event.acked_within(LONG).await;
        old.push(event.message_id().unwrap().to_owned());
    }
    let told =
        json!({"heard_ms": clock::unix_ms(), "direct": ["oc_1"], "with": {"oc_1": "ou_ann"}});
    let cursor = Some(Cursor(told.to_string().into_bytes()));
    let mut rig = Rig::built(rig.end().await, &Network::default(), cursor, |_| {});
    rig.until_ready().await;
    // Who speaks in a direct chat nobody has to be asked.
    rig.sim.fault(APP, rest(Route::Message, Trouble::Html { status: 502 }), Times::Always);
    rig.sim.push_event(APP, recalled("oc_1", &old[0]));
    let found = accept(rig.heard().await);
    assert_eq!((found.kind, found.chat_type), (InboundKind::Recall, ChatType::Direct));
    assert_eq!((found.sender.user_id.as_str(), found.mention), ("ou_ann", Mention::Me));
    // In a group the platform is, and it is heard of also where that does not say it.
    for (user, chat) in [("", "oc_2"), ("ou_bob", "oc_2")] {
        let event = rig.sim.push_event(APP, recalled(chat, &old[1]));
        let found = accept(rig.heard().await);
        assert_eq!((found.kind, found.chat_type), (InboundKind::Recall, ChatType::Group));
        assert_eq!((found.chat_id.as_str(), found.sender.user_id.as_str()), (chat, user));
        event.acked_within(LONG).await;
        rig.sim.clear_faults();
    }
    rig.end().await;
}

/// Where a reaction belongs is asked for; if nobody can say just now, the platform is to tell of it again.
#[tokio::test]
async fn a_reaction_comes_again_when_it_cannot_be_placed_just_now() {
    let mut rig = Rig::ready().await;
    let old = rig.sim.push_text(APP, "oc_1", "ou_ann", "the old words");
    accept(rig.heard().await);
    old.acked_within(LONG).await;
    let old = old.message_id().unwrap().to_owned();
    let mut sim = Some(rig.end().await);
    for trouble in [Trouble::Html { status: 502 }, Trouble::Hang] {
        let used = sim.take().unwrap();
        used.fault(APP, rest(Route::Message, trouble), Times::Always);
        let mut rig = Rig::on(used);
        rig.until_ready().await;
        let event = rig.sim.push_event(APP, reaction(&old, "ou_ann", "OK", "user"));
        event.pushed_within(2, LONG).await;
        rig.sim.clear_faults();
        let found = accept(rig.heard().await);
        assert_eq!((found.kind, found.chat_id.as_str()), (InboundKind::Reaction, "oc_1"));
        assert!(event.acked_within(LONG).await.attempt > 1);
        sim = Some(rig.end().await);
    }
}

/// What cannot be found out delays nothing for long, and nothing overtakes in its chat.
#[tokio::test]
async fn questions_to_a_platform_that_hangs_cost_neither_event_nor_order() {
    let mut rig = Rig::ready().await;
    rig.sim.fault(APP, rest(Route::Message, Trouble::Hang), Times::Always);
    let first = Message::direct("oc_1", "ou_ann").text("first").reply_to("om_x", "om_x");
    let first = rig.sim.push_message(APP, first);
    let second = rig.sim.push_text(APP, "oc_1", "ou_ann", "second");
    let other = rig.sim.push_text(APP, "oc_2", "ou_bob", "other");
    assert_eq!(accept(rig.heard().await).text, "other");
    other.acked_within(LONG).await;
    let found = accept(rig.heard().await);
    let quote = found.quote.as_deref();
    assert_eq!((&*found.text, quote), ("first", Some("[not readable: no answer in time]")));
    assert_eq!(accept(rig.heard().await).text, "second");
    for event in [first, second] {
        assert_eq!(event.acked_within(LONG).await.attempt, 1);
    }
    rig.end().await;
}

/// Fragments apart, out of order, repeated and cut within a character; frames that lack what they should have.
#[tokio::test]
async fn whatever_shape_frames_have_nothing_is_lost() {
    let mut rig = Rig::ready().await;
    let text = "断".repeat(100);
    let built = || Message::direct("oc_1", "ou_ann").text(&text).build();
    let bytes = built().to_string().len();
    let apart = Push {
        cuts: vec![bytes / 2 + 1, bytes - 20],
        order: vec![2, 0, 1],
        gap: Duration::from_secs(3),
        repeat_last: true,
        ..Push::default()
    };
    let apart = rig.sim.push_event_as(APP, built(), apart);
    let bare = ["trace_id", "sum", "message_id"].map(|name| {
        let omit = vec![name];
        rig.sim.push_event_as(APP, built(), Push { omit, ..Push::default() })
    });
    rig.sim.send_text_frame(APP, "no frame");
    rig.sim.send_bytes(APP, b"\xff\x00garbage");
    let unknown = ::tests::feishu::frame::Frame { method: 7, ..Default::default() };
    rig.sim.send_frame(APP, &unknown);
    for _ in 0..4 {
        assert_eq!(accept(rig.heard().await).text, text);
    }
    for event in bare.iter().chain([&apart]) {
        assert_eq!(event.acked_within(LONG).await.attempt, 1);
    }
    let sim = rig.end().await;
    assert_eq!(sim.count(opened), 1, "the connection was kept");
}
