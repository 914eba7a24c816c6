//! Drafts: a card that grows, a message that is edited, and the reply that takes their place.

use super::*;

fn draft(key: &str, text: &str) -> Box<Draft> {
    let instance = Instance::new("feishu").unwrap();
    let lane = Lane { instance, chat_id: "oc_1".to_owned(), thread_id: None };
    Box::new(Draft {
        key: key.to_owned(),
        lane,
        reply_to: None,
        text: text.to_owned(),
        message_id: None,
    })
}

async fn show(rig: &mut Rig, key: &str, text: &str) -> Option<String> {
    rig.ask(Ask::Draft(draft(key, text))).await;
    rig.note(|note| match note {
        Note::Drafted(of, message_id) if of == key => Some(message_id),
        _ => None,
    })
    .await
}

fn reply(id: u64, draft_id: Option<&str>, text: &str) -> Outbound {
    outbound(id, |it| {
        it.content = Content::text(text);
        it.draft_key = "hermes/k".to_owned();
        it.draft_id = draft_id.map(str::to_owned);
    })
}

fn shown(rig: &Rig, id: &str) -> String {
    rig.sim.shown(id).unwrap_or_default().trim().to_owned()
}

#[tokio::test]
async fn a_card_grows_and_becomes_the_reply() {
    let mut rig = Rig::ready().await;
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    assert!(rig.sim.streams(&id));
    for text in ["I think", "I think **so**"] {
        assert_eq!(show(&mut rig, "hermes/k", text).await.as_deref(), Some(&*id));
        assert_eq!(shown(&rig, &id), text);
    }
    let files = vec![File { kind: FileKind::File, file: rig.put("1-x.txt", b"x"), title: None }];
    let mut last = reply(1, Some(&id), "I think **so**, too.");
    last.content.files = files;
    let ids = sent(rig.send(last).await);
    assert_eq!((ids.len(), &ids[0]), (2, &id));
    assert_eq!(shown(&rig, &id), "I think **so**, too.");
    assert!(!rig.sim.streams(&id), "it is no longer in the making");
    // What comes too late changes nothing.
    assert_eq!(show(&mut rig, "hermes/k", "I").await, None);
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 2);
    let sequences: Vec<_> = sim
        .journal()
        .into_iter()
        .filter_map(|entry| match entry.what {
            Observation::Card { sequence, .. } => sequence,
            _ => None,
        })
        .collect();
    assert!(sequences.is_sorted_by(|a, b| a < b) && sequences.len() >= 4, "{sequences:?}");
}

#[tokio::test]
async fn another_run_finishes_what_one_began() {
    let mut rig = Rig::ready().await;
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    let sim = rig.end().await;
    let mut rig = Rig::on(sim);
    rig.until_ready().await;
    assert_eq!(sent(rig.send(reply(1, Some(&id), "I do.")).await), [&*id]);
    assert_eq!(shown(&rig, &id), "I do.");
    assert!(!rig.sim.streams(&id));
    assert_eq!(rig.end().await.sent().len(), 1);
}

#[tokio::test]
async fn a_card_that_streams_no_more_is_changed_as_a_whole() {
    let mut rig = Rig::ready().await;
    rig.sim.configure(|settings| settings.streaming = Duration::ZERO);
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    show(&mut rig, "hermes/k", "I think").await.unwrap();
    show(&mut rig, "hermes/k", "I think so").await.unwrap();
    assert_eq!(shown(&rig, &id), "I think so");
    let button = Button { label: "More".to_owned(), press: Press::Data("more".to_owned()) };
    let mut last = reply(1, Some(&id), "I think so.");
    last.content.buttons = vec![vec![button]];
    assert_eq!(sent(rig.send(last).await), [&*id]);
    assert!(shown(&rig, &id).starts_with("I think so."));
    assert_eq!(rig.end().await.sent().len(), 1);
}

#[tokio::test]
async fn without_cards_a_message_is_edited() {
    let mut rig = Rig::ready().await;
    rig.sim.grant(APP, "cardkit:card:write", false);
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    assert_eq!(shown(&rig, &id), "I …");
    show(&mut rig, "hermes/k", "I think").await.unwrap();
    assert_eq!(shown(&rig, &id), "I think …");
    assert_eq!(sent(rig.send(reply(1, Some(&id), "I think so.")).await), [&*id]);
    assert_eq!(shown(&rig, &id), "I think so.");
    // The next one does not ask for a card again.
    show(&mut rig, "hermes/2", "We").await.unwrap();
    let sim = rig.end().await;
    assert_eq!(sim.count(|entry| called(entry, "card")), 1);
    assert_eq!(sim.sent().len(), 2);
}

/// A private deployment may know nothing of such cards.
#[tokio::test]
async fn a_server_without_cards_is_no_server_without_drafts() {
    let mut rig = Rig::ready().await;
    rig.sim.fault(APP, rest(Route::Card, Trouble::Html { status: 404 }), Times::Always);
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    assert_eq!(shown(&rig, &id), "I …");
    assert_eq!(sent(rig.send(reply(1, Some(&id), "I do.")).await), [&*id]);
    assert_eq!(shown(&rig, &id), "I do.");
    rig.end().await;
}

/// The reply is never lost to its draft.
#[tokio::test]
async fn a_draft_that_cannot_become_the_reply_makes_way_for_it() {
    let mut rig = Rig::ready().await;
    rig.sim.grant(APP, "cardkit:card:write", false);
    rig.sim.configure(|settings| settings.edits = 0);
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    let ids = sent(rig.send(reply(1, Some(&id), "I think so.")).await);
    assert_ne!(ids, [&*id]);
    assert_eq!((rig.sim.shown(&id), shown(&rig, &ids[0])), (None, "I think so.".to_owned()));
    rig.end().await;
}

#[tokio::test]
async fn a_long_reply_begins_in_its_card_and_goes_on_behind_it() {
    let mut rig = Rig::ready().await;
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    let text = "a line of words\n".repeat(4000);
    let ids = sent(rig.send(reply(1, Some(&id), &text)).await);
    assert!(ids.len() > 1 && ids[0] == id);
    let all: String = ids.iter().map(|id| rig.sim.shown(id).unwrap()).collect();
    assert_eq!(all, text);
    rig.end().await;
}

#[tokio::test]
async fn an_outage_in_the_middle_is_no_second_message() {
    let mut rig = Rig::ready().await;
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    for route in [Route::CardContent, Route::CardSettings] {
        rig.sim.fault(APP, rest(route, Trouble::Html { status: 502 }), Times::Only(1));
        let found = rig.send(reply(1, Some(&id), "I do.")).await;
        assert!(matches!(found, Outcome::Retry { .. }), "{found:?}");
    }
    assert_eq!(sent(rig.send(reply(1, Some(&id), "I do.")).await), [&*id]);
    assert!(!rig.sim.streams(&id));
    assert_eq!(rig.end().await.sent().len(), 1);
}

/// Files, and cards that an agent made itself, are nothing that a draft could become.
fn without_words(rig: &Rig, id: u64) -> [Content; 2] {
    let file =
        File { kind: FileKind::File, file: rig.put(&format!("{id}-x.txt"), b"x"), title: None };
    let card =
        json!({"schema": "2.0", "body": {"elements": [{"tag": "markdown", "content": "own"}]}});
    [
        Content { files: vec![file], ..Content::text("") },
        Content { card: Some(card.to_string()), ..Content::text("") },
    ]
}

#[tokio::test]
async fn a_draft_that_comes_after_its_reply_is_not_shown() {
    let mut rig = Rig::ready().await;
    let [file, card] = without_words(&rig, 1);
    for (id, content) in (1..).zip([Content::text("words"), file, card]) {
        let key = format!("hermes/{id}");
        let reply = outbound(id, |it| (it.content, it.draft_key) = (content, key.clone()));
        sent(rig.send(reply).await);
        assert_eq!(show(&mut rig, &key, "wor").await, None, "{key}");
    }
    let sim = rig.end().await;
    assert_eq!((sim.sent().len(), sim.count(|it| called(it, "card"))), (3, 0));
}

#[tokio::test]
async fn a_reply_that_a_draft_cannot_become_takes_it_away() {
    let mut rig = Rig::ready().await;
    for (id, content) in (1..).zip(without_words(&rig, 1)) {
        let key = format!("hermes/{id}");
        let draft_id = show(&mut rig, &key, "wor").await;
        let reply = outbound(id, |it| {
            (it.content, it.draft_key, it.draft_id) = (content, key.clone(), draft_id.clone());
        });
        let ids = sent(rig.send(reply).await);
        let draft_id = draft_id.unwrap();
        assert!(!ids.contains(&draft_id));
        assert_eq!(rig.sim.shown(&draft_id), None);
    }
    rig.end().await;
}

/// The reply waits for what it must know: what people see.
#[tokio::test]
async fn a_draft_on_its_way_becomes_the_reply_that_overtakes_it() {
    for route in [Route::Card, Route::Send] {
        let mut rig = Rig::ready().await;
        rig.sim.fault(APP, rest(route, Trouble::Hold), Times::Only(1));
        rig.ask(Ask::Draft(draft("hermes/k", "I"))).await;
        rig.sim.wait_count("the draft's request", LONG, 1, held).await;
        rig.outbound.send(reply(1, None, "I do.")).await.unwrap();
        // What was sent behind it shows that it has begun.
        sent(rig.send(outbound(2, |it| it.chat_id = "oc_2".to_owned())).await);
        rig.sim.clear_faults();
        let ids = sent(rig.outcome(OutboundId(1)).await);
        assert_eq!(shown(&rig, &ids[0]), "I do.");
        assert!(!rig.sim.streams(&ids[0]));
        assert_eq!(rig.end().await.sent().len(), 2, "one message in each chat");
    }
}

#[tokio::test]
async fn a_draft_that_waits_for_its_pace_is_not_shown_after_the_reply() {
    let mut rig = Rig::ready().await;
    rig.sim.grant(APP, "cardkit:card:write", false);
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    rig.ask(Ask::Draft(draft("hermes/k", "I think"))).await;
    rig.outbound.send(reply(1, Some(&id), "I think so.")).await.unwrap();
    // In whatever order.
    let mut ends = 0;
    while ends < 2 {
        let end = |note: Note| matches!(note, Note::Outcome(..) | Note::Drafted(..)).then_some(());
        rig.note(end).await;
        ends += 1;
    }
    assert_eq!(shown(&rig, &id), "I think so.");
    assert_eq!(rig.end().await.sent().len(), 1);
}

/// A repeated request for the draft's message brings the old message, and the old card with it.
#[tokio::test]
async fn the_reply_is_written_to_the_card_that_people_see() {
    let convert = |trouble| rest(Route::CardConvert, trouble);
    let reset = Trouble::RateLimit { reset_s: 1, status: 429 };
    for trouble in [Trouble::Html { status: 502 }, reset, Trouble::LostRequest] {
        // Another run of this worker has begun it.
        let mut rig = Rig::ready().await;
        let id = show(&mut rig, "hermes/k", "I").await.unwrap();
        let mut rig = Rig::on(rig.end().await);
        rig.until_ready().await;
        rig.sim.fault(APP, convert(trouble.clone()), Times::Only(1));
        assert_eq!(show(&mut rig, "hermes/k", "I do").await.as_deref(), Some(&*id));
        let mut outcome = rig.send(reply(1, Some(&id), "I do.")).await;
        while matches!(outcome, Outcome::Retry { .. }) {
            outcome = rig.send(reply(1, Some(&id), "I do.")).await;
        }
        assert_eq!(sent(outcome), [&*id]);
        assert_eq!(shown(&rig, &id), "I do.", "{trouble:?}");
        assert!(!rig.sim.streams(&id));
        assert_eq!(rig.end().await.sent().len(), 1);
    }
}

/// What works for messages may not work for cards: the answer does not wait for that.
#[tokio::test]
async fn a_reply_waits_no_longer_for_a_card_that_nothing_can_be_done_with() {
    let broken = Trouble::Html { status: 500 };
    let shut = Trouble::RateLimit { reset_s: 60, status: 429 };
    for (route, trouble, attempts) in [
        (Route::CardConvert, broken.clone(), 2),
        (Route::CardContent, broken.clone(), 2),
        (Route::CardSettings, broken, 2),
        (Route::CardConvert, shut, 1),
    ] {
        let mut rig = Rig::ready().await;
        let id = show(&mut rig, "hermes/k", "I").await.unwrap();
        let convert = matches!(route, Route::CardConvert);
        if convert {
            // Another run of this worker has begun it.
            rig = Rig::on(rig.end().await);
            rig.until_ready().await;
        }
        rig.sim.fault(APP, rest(route, trouble), Times::Always);
        let attempt = |attempt| Outbound { attempt, ..reply(1, Some(&id), "I do.") };
        for early in 1..attempts {
            let outcome = rig.send(attempt(early)).await;
            assert!(matches!(outcome, Outcome::Retry { .. }), "{route:?}: {outcome:?}");
        }
        let ids = sent(rig.send(attempt(attempts)).await);
        assert_eq!((rig.sim.shown(&id), shown(&rig, &ids[0])), (None, "I do.".to_owned()));
        rig.end().await;
    }
}

/// A message that may be there is the reply, also when the card can be changed again.
#[tokio::test]
async fn a_reply_that_goes_apart_from_its_card_goes_on_so() {
    let mut rig = Rig::ready().await;
    let id = show(&mut rig, "hermes/k", "I").await.unwrap();
    rig.sim.fault(APP, rest(Route::CardContent, Trouble::Html { status: 502 }), Times::Only(1));
    rig.sim.fault(APP, rest(Route::Send, Trouble::LostAnswer), Times::Only(1));
    for attempt in 2..4 {
        let outcome = rig.send(Outbound { attempt, ..reply(1, Some(&id), "I do.") }).await;
        match attempt {
            2 => assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}"),
            _ => assert_eq!(shown(&rig, &sent(outcome)[0]), "I do."),
        }
    }
    assert_eq!(rig.sim.shown(&id), None);
    assert_eq!(rig.end().await.sent().len(), 2, "the draft, which is taken back, and the reply");
}

/// Where the platform does not say which card it is, the reply is a message of its own.
#[tokio::test]
async fn a_card_that_may_not_be_asked_for_makes_way_for_the_reply() {
    let mut rig = Rig::ready().await;
    let denied = Trouble::Code { status: 400, code: 99_991_672 };
    rig.sim.fault(APP, rest(Route::CardConvert, denied), Times::Always);
    rig.sim.fault(APP, rest(Route::Send, Trouble::LostAnswer), Times::Only(1));
    assert_eq!(show(&mut rig, "hermes/k", "I").await, None, "the answer is lost");
    let id = show(&mut rig, "hermes/k", "I do").await.unwrap();
    assert_eq!(shown(&rig, &id), "I", "what was made first");
    let ids = sent(rig.send(reply(1, Some(&id), "I do.")).await);
    assert_eq!((rig.sim.shown(&id), shown(&rig, &ids[0])), (None, "I do.".to_owned()));
    rig.end().await;
}
