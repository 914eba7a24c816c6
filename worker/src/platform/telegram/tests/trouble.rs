//! What keeps polls from their answers: outages, limits, rivals, a token that is good for nothing.

use super::*;

/// F41: the line dies without a word, for longer than a poll lasts.
#[tokio::test]
async fn a_black_hole_is_left() {
    let mut rig = Rig::ready().await;
    rig.sim.open_hole();
    rig.until_down().await;
    rig.sim.close_hole();
    rig.sim.push_text(TOKEN, ANN, "after");
    assert_eq!(accept(rig.heard().await).text, "after");
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn a_hole_that_only_swallows_the_connection_is_left_as_well() {
    let mut rig = Rig::ready().await;
    rig.sim.open_hole();
    rig.sim.close_hole();
    rig.sim.push_text(TOKEN, ANN, "after");
    assert_eq!(accept(rig.heard().await).text, "after");
    rig.end().await;
}

#[tokio::test]
async fn pages_half_answers_and_cut_lines_pass() {
    let mut rig = Rig::ready().await;
    for (n, fault) in [
        Fault::Html { status: 502 },
        Fault::Empty { status: 504 },
        Fault::Truncated,
        Fault::LostAnswer,
        Fault::LostRequest,
        refuse(500, "Internal Server Error: restart"),
    ]
    .into_iter()
    .enumerate()
    {
        rig.sim.fault(Some("getUpdates"), fault, Some(1));
        let (update, _) = rig.sim.push_text(TOKEN, ANN, &format!("m{n}"));
        loop {
            let event = accept(rig.heard().await);
            if event.text == format!("m{n}") {
                break;
            }
        }
        rig.sim.wait_confirmed(LONG, update).await;
    }
    rig.end().await;
}

/// A piece now and then is no life: the whole answer has its own limit, and the first poll waits for nothing else.
#[tokio::test]
async fn an_answer_that_trickles_is_given_up() {
    let sim = Rig::sim().await;
    sim.fault(Some("getUpdates"), Fault::Trickle, Some(1));
    let adapter = Telegram { whole: HURRIED, ..Rig::adapter(&sim) };
    let mut rig = Rig::running(sim, adapter, &Network::default(), None);
    rig.until_ready().await;
    rig.sim.push_text(TOKEN, ANN, "after");
    assert_eq!(accept(rig.heard().await).text, "after");
    rig.end().await;
}

#[tokio::test]
async fn a_pause_that_the_platform_wants_is_kept() {
    let mut rig = Rig::ready().await;
    rig.sim.fault(Some("getUpdates"), Fault::RateLimit { seconds: 2 }, Some(1));
    rig.sim
        .wait_count("the limit", LONG, 1, |it| {
            matches!(&it.what, Observation::Call { method, status: Some(429), .. } if method == "getupdates")
        })
        .await;
    rig.sim.push_text(TOKEN, ANN, "after");
    assert_eq!(accept(rig.heard().await).text, "after");
    // A call within the pause would be a violation.
    rig.end().await;
}

/// Neither deaf for good nor silent about it (F79, F80).
#[tokio::test]
async fn a_single_conflict_passes_and_a_lasting_one_is_told() {
    let mut rig = Rig::ready().await;
    let conflict = || refuse(409, "Conflict: terminated by other getUpdates request");
    rig.sim.fault(Some("getUpdates"), conflict(), Some(1));
    rig.sim
        .wait_count("a conflict", LONG, 1, |it| {
            matches!(it.what, Observation::Call { status: Some(409), .. })
        })
        .await;
    rig.sim.push_text(TOKEN, ANN, "still here");
    assert_eq!(accept(rig.heard().await).text, "still here");
    while let Ok(note) = rig.notes.try_recv() {
        assert!(!matches!(note, Note::Outside(_)), "an echo is not worth a word: {note:?}");
    }
    rig.sim.fault(Some("getUpdates"), conflict(), None);
    let (reason, remedy) = rig.until_conflict().await;
    assert!(reason.contains("another program"), "{reason}");
    assert!(remedy.contains("/revoke"), "{remedy}");
    // Replies go on meanwhile.
    sent(rig.send(outbound(1, |_| {})).await);
    rig.sim.clear_faults();
    rig.sim.push_text(TOKEN, ANN, "alone again");
    assert_eq!(accept(rig.heard().await).text, "alone again");
    rig.until_up().await;
    rig.end().await;
}

#[tokio::test]
async fn two_of_us_lose_nothing_between_them_and_the_last_one_hears_all() {
    let sim = Rig::sim().await;
    let mut one = Rig::on(sim.clone(), |_| {});
    one.until_ready().await;
    let mut two = Rig::on(sim.clone(), |_| {});
    two.until_ready().await;
    let mut missing: Vec<_> = (0..10).map(|n| format!("m{n}")).collect();
    for text in &missing {
        sim.push_text(TOKEN, ANN, text);
    }
    while !missing.is_empty() {
        let event = tokio::select! {
            submitted = one.heard() => accept(submitted),
            submitted = two.heard() => accept(submitted),
        };
        missing.retain(|text| *text != event.text);
    }
    // What is on its way to it still gets its verdict, or comes again.
    two.end().await;
    sim.push_text(TOKEN, ANN, "alone");
    while accept(one.heard().await).text != "alone" {}
    one.end().await;
}

#[tokio::test]
async fn a_webhook_is_told_or_removed() {
    let sim = Rig::sim().await;
    sim.set_webhook(TOKEN, "https://bot.example.org/secret/path");
    let mut rig = Rig::on(sim, |_| {});
    let (reason, remedy) = rig.until_conflict().await;
    assert!(reason.contains("(bot.example.org)") && !reason.contains("secret"), "{reason}");
    assert!(remedy.contains("other_webhook") && remedy.contains("ctl telegram"), "{remedy}");
    let sim = rig.end().await;
    assert!(!sim.webhook(TOKEN).is_empty());
    sim.push_text(TOKEN, ANN, "waiting");
    let mut rig = Rig::on(sim, |settings| settings.other_webhook = OtherWebhook::Remove);
    assert_eq!(accept(rig.heard().await).text, "waiting", "the updates stay");
    assert!(rig.sim.webhook(TOKEN).is_empty());
    // Whoever sets it again and again is told of, and nobody is kept from hearing.
    rig.sim.set_webhook(TOKEN, "https://bot.example.org/secret/path");
    let (reason, remedy) = rig.until_conflict().await;
    assert!(reason.contains("again and again (bot.example.org)"), "{reason}");
    assert!(remedy.contains("/revoke"), "{remedy}");
    rig.sim.push_text(TOKEN, ANN, "between");
    assert_eq!(accept(rig.heard().await).text, "between");
    rig.end().await;
}

#[tokio::test]
async fn a_token_that_is_good_for_nothing_ends_the_worker() {
    let sim = Rig::sim().await;
    let wrong = Rig::on(sim.clone(), |settings| settings.token = Secret::new("78:wrong"));
    let error = wrong.ended.await.unwrap().unwrap_err();
    assert_eq!(error.exit_code(), 77);
    assert!(error.to_string().contains("BotFather"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    let mut rig = Rig::on(sim, |_| {});
    rig.until_ready().await;
    rig.sim.fault(Some("getUpdates"), refuse(401, "Unauthorized"), Some(1));
    rig.sim
        .wait_count("a refusal", LONG, 1, |it| {
            matches!(&it.what, Observation::Call { method, status: Some(401), .. } if method == "getupdates")
        })
        .await;
    rig.sim.push_text(TOKEN, ANN, "it was a mistake");
    accept(rig.heard().await);
    rig.sim.revoke(TOKEN);
    assert_eq!(rig.ended.await.unwrap().unwrap_err().exit_code(), 77);
}

/// Whoever answers at once and says nothing new is not asked without a pause.
#[tokio::test]
async fn hasty_answers_are_waited_for() {
    let mut rig = Rig::ready().await;
    let (update, _) = rig.sim.push_text(TOKEN, ANN, "known");
    accept(rig.heard().await);
    rig.sim.wait_confirmed(LONG, update).await;
    let known = json!([{"update_id": update, "message": {"message_id": 1, "text": "known"}}]);
    for (result, least) in [(json!([]), 500), (known, 1000)] {
        let is_known = result != json!([]);
        rig.sim.clear_faults();
        rig.sim.fault(Some("getUpdates"), Fault::Answer { result }, None);
        if is_known {
            rig.heard().await.verdict.send(Verdict::Duplicate).unwrap();
        }
        let before = rig.sim.count(answered_at_once);
        rig.sim.wait_count("answers", LONG, before + 5, answered_at_once).await;
        let journal = rig.sim.journal().into_iter();
        let times: Vec<_> =
            journal.filter(answered_at_once).skip(before + 2).map(|entry| entry.at).collect();
        for pair in times.windows(2) {
            assert!(pair[1] >= pair[0] + Duration::from_millis(least), "{times:?}");
        }
    }
    rig.end().await;
}

fn answered_at_once(entry: &Entry) -> bool {
    matches!(&entry.what, Observation::Call { method, .. } if method == "getupdates")
}

/// The menu is nothing that a message waits for, nor worth a call within a pause.
#[tokio::test]
async fn a_menu_waits_as_long_as_the_platform_wants_and_holds_nothing_up() {
    let sim = Rig::sim().await;
    sim.fault(Some("setMyCommands"), Fault::RateLimit { seconds: 4 }, Some(1));
    let mut rig = Rig::on(sim, |it| it.menu = vec![("stop".into(), "Stop it".into())]);
    rig.until_ready().await;
    for text in ["one", "two", "three"] {
        rig.sim.push_text(TOKEN, ANN, text);
        assert_eq!(accept(rig.heard().await).text, text);
    }
    let set = |it: &Entry| matches!(it.what, Observation::Menu { .. });
    rig.sim.wait_count("the menu", LONG, 1, set).await;
    assert_eq!(rig.sim.count(|it| called(it, "setMyCommands")), 2);
    let sim = rig.end().await;
    // Where it is never answered, messages come all the same.
    sim.fault(Some("setMyCommands"), Fault::Hold, None);
    let mut rig = Rig::on(sim, |it| it.menu = vec![("stop".into(), "Stop it".into())]);
    let held = |it: &Entry| matches!(&it.what, Observation::Held { method, .. } if method == "setmycommands");
    rig.sim.wait_count("the call", LONG, 1, held).await;
    for text in ["four", "five"] {
        rig.sim.push_text(TOKEN, ANN, text);
        assert_eq!(accept(rig.heard().await).text, text);
    }
    assert_eq!(rig.sim.count(held), 1, "nothing has waited for it");
    rig.sim.clear_faults();
    rig.sim.wait_count("the menu again", LONG, 2, set).await;
    rig.end().await;
}
