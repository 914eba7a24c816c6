//! What an event does not tell, asked of the platform again and again, and what is said where it is not told.

use super::*;

/// Time enough for one question that is never answered.
async fn patient() -> Rig {
    let limits = Limits { asking: Duration::from_secs(6), ..HURRIED };
    let mut rig = Rig::limited(Rig::sim().await, &Network::default(), limits, None, |_| {});
    rig.until_ready().await;
    rig.sim.wait_count("bot info", LONG, 1, |entry| called(entry, "bot_info")).await;
    rig
}

/// A message that forwards one, and one of another run that somebody answers.
fn forward(rig: &Rig, id: &str) {
    let inside = [("text", "ou_bob", json!({"text": "within"}), json!(null))];
    rig.sim.put_forwarded(id, &inside);
    let message = Message::direct("oc_1", "ou_ann").content("merge_forward", &json!({}));
    rig.sim.push_message(APP, message.message_id(id));
}

#[tokio::test]
async fn what_was_not_told_once_is_asked_for_again() {
    let mut rig = patient().await;
    let troubles = [
        Trouble::RateLimit { reset_s: 1, status: 429 },
        Trouble::Html { status: 500 },
        Trouble::Hang,
        Trouble::Delay { ms: 1500 },
    ];
    for (n, trouble) in troubles.into_iter().enumerate() {
        rig.sim.fault(APP, rest(Route::Message, trouble), Times::Only(1));
        forward(&rig, &format!("om_f{n}"));
        rig.sim.push_text(APP, "oc_1", "ou_ann", "behind it");
        let found = loop {
            // What waits beyond the time for an answer comes again.
            let found = accept(rig.heard().await);
            if found.text != "behind it" {
                break found;
            }
        };
        assert_eq!(found.text, "[forwarded messages]\n> ou_bob: within");
    }
    rig.end().await;
}

/// And the status says which scope is missing.
#[tokio::test]
async fn what_cannot_be_read_is_said_in_its_place() {
    let mut rig = Rig::ready().await;
    let denied = Trouble::Code { status: 400, code: 99_991_672 };
    rig.sim.fault(APP, rest(Route::Message, denied), Times::Always);
    forward(&rig, "om_f");
    let why = "not readable: 99991672 ";
    let text = accept(rig.heard().await).text;
    assert!(text.starts_with(&format!("[forwarded messages: {why}")), "{text}");
    let reason = rig.note(|note| match note {
        Note::Outside(Outside::Limited { reason, .. }) => Some(reason),
        _ => None,
    });
    assert!(reason.await.starts_with("99991672 "));
    let answer = Message::direct("oc_1", "ou_ann").text("why?").reply_to("om_x", "om_x");
    rig.sim.push_message(APP, answer);
    let quote = accept(rig.heard().await).quote.unwrap();
    assert!(quote.starts_with(&format!("[{why}")), "{quote}");
    rig.end().await;
}

/// However much it is, its beginning is told, and how much is not.
#[tokio::test]
async fn a_long_forward_is_cut_and_says_so() {
    let mut rig = Rig::ready().await;
    let cases = [(120, 10, 0), (100, 2000, 67), (100, 12_000, 94), (3, 400_000, 2)];
    for (count, bytes, left) in cases {
        let id = format!("om_{count}_{bytes}");
        let words = json!({"text": "w".repeat(bytes)});
        let inside = vec![("text", "ou_bob", words, json!(null)); count];
        rig.sim.put_forwarded(&id, &inside);
        let message = Message::direct("oc_1", "ou_ann").content("merge_forward", &json!({}));
        rig.sim.push_message(APP, message.message_id(&id));
        let text = accept(rig.heard().await).text;
        let end = text.get(text.len() - 30..).unwrap();
        assert_eq!(text.matches("\n> ou_bob: w").count(), count - left, "{end}");
        let more = format!(" […]\n[{left} more messages]");
        assert!(if left > 0 { text.ends_with(&more) } else { text.ends_with('w') }, "{end}");
    }
    rig.end().await;
}

/// A card of our own, of which the next run knows nothing.
#[tokio::test]
async fn an_answered_card_is_quoted_by_its_words() {
    let mut rig = Rig::ready().await;
    let asked = outbound(1, |it| it.content = Content::text("# Title\n\nwords"));
    let ids = sent(rig.send(asked).await);
    let mut rig = Rig::on(rig.end().await);
    rig.until_ready().await;
    let message = Message::group("oc_1", "ou_ann").text("why?").reply_to(&ids[0], &ids[0]);
    rig.sim.push_message(APP, message);
    let found = accept(rig.heard().await);
    assert_eq!((found.quote.as_deref(), found.mention), (Some("# Title\n\nwords"), Mention::Me));
    rig.end().await;
}

/// Where it belongs is known only when the platform has told it.
#[tokio::test]
async fn a_reaction_overtakes_nothing_in_its_chat() {
    let mut rig = Rig::ready().await;
    let old = rig.sim.push_text(APP, "oc_1", "ou_ann", "the old words");
    accept(rig.heard().await);
    old.acked_within(LONG).await;
    let old = old.message_id().unwrap().to_owned();
    let mut rig = Rig::on(rig.end().await);
    rig.until_ready().await;
    rig.sim.fault(APP, rest(Route::Message, Trouble::Hold), Times::Only(1));
    let slow = Message::direct("oc_1", "ou_ann").text("before it").reply_to("om_x", "om_x");
    rig.sim.push_message(APP, slow);
    rig.sim.wait_count("it is asked", LONG, 1, held).await;
    rig.sim.push_event(APP, reaction(&old, "ou_ann", "OK", "user"));
    rig.sim.wait_count("its place is told", LONG, 1, |entry| called(entry, "message")).await;
    rig.sim.push_text(APP, "oc_2", "ou_bob", "other");
    assert_eq!(accept(rig.heard().await).text, "other");
    rig.sim.clear_faults();
    assert_eq!(accept(rig.heard().await).text, "before it");
    let found = accept(rig.heard().await);
    assert_eq!((found.kind, found.chat_id.as_str()), (InboundKind::Reaction, "oc_1"));
    rig.end().await;
}
