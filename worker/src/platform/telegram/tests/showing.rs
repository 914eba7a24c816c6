//! Replies that are more than text: files, buttons, changes, reactions.

use protocol::content::{Act, Button, Press};

use super::*;

const GROUP: i64 = -1_000_000_000_005;

fn act(id: u64, act: Act, text: &str) -> Outbound {
    outbound(id, |it| it.content = Content { act, ..Content::text(text) })
}

fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn files_arrive_with_their_bytes_names_and_words() {
    let mut rig = Rig::ready().await;
    rig.sim.set_forum(TOKEN, GROUP, &[42]);
    let files = vec![
        rig.file(FileKind::Image, "one.png", b"12345"),
        rig.file(FileKind::Image, "two.png", b"1234567"),
        rig.file(FileKind::Voice, "said.ogg", b"123"),
        File { title: Some("绘图 \"1\".pdf".into()), ..rig.file(FileKind::File, "x", b"1") },
    ];
    let reply = outbound(1, |it| {
        (it.chat_id, it.thread_id) = (GROUP.to_string(), Some("42".into()));
        it.content = Content { files, ..Content::text("**look** 😀") };
    });
    let ids = sent(rig.send_in_turn(reply).await);
    let sim = rig.end().await;
    let all = sim.sent();
    assert_eq!(all.iter().map(|it| it.message_id.to_string()).collect::<Vec<_>>(), ids);
    let kinds: Vec<_> = all.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["photo", "photo", "voice", "document"]);
    let sizes: Vec<_> = all.iter().filter_map(|it| it.file.as_ref()).map(|it| it.size).collect();
    assert_eq!(sizes, [5, 7, 3, 1]);
    assert_eq!((all[0].text.as_str(), all[1].text.as_str()), ("look 😀", ""));
    assert_eq!(all[0].entities[0]["length"], 4);
    assert!(all[0].album.is_some() && all[0].album == all[1].album && all[2].album.is_none());
    assert!(all.iter().all(|it| it.thread_id == Some(42)));
    assert_eq!(all[3].file.as_ref().unwrap().name, "绘图 1.pdf");
}

/// F39: what is not there is not reported as sent.
#[tokio::test]
async fn a_file_that_is_not_there_is_never_said_to_be_sent() {
    let mut rig = Rig::ready().await;
    let gone = File { kind: FileKind::File, file: "gone.pdf".into(), title: None };
    let reply = outbound(1, |it| it.content = Content { files: vec![gone], ..Content::text("") });
    let outcome = rig.send_in_turn(reply).await;
    assert!(failed(&outcome).contains("gone.pdf"), "{outcome:?}");
    let large = rig.file(FileKind::File, "large.bin", b"1");
    rig.sim.fault(Some("sendDocument"), Fault::Html { status: 413 }, Some(1));
    let reply = outbound(2, |it| it.content = Content { files: vec![large], ..Content::text("") });
    let outcome = rig.send_in_turn(reply).await;
    assert!(failed(&outcome).contains("too large"), "{outcome:?}");
    assert!(rig.end().await.sent().is_empty());
}

/// F39: nor does it take the words along.
#[tokio::test]
async fn words_go_without_the_files_that_cannot() {
    let mut rig = Rig::ready().await;
    let gone = File { kind: FileKind::File, file: "gone.pdf".into(), title: None };
    for (id, lost) in [(1, gone), (2, rig.file(FileKind::File, "empty.txt", b""))] {
        let name = lost.file.clone();
        let content = Content { files: vec![lost], ..Content::text("here it is") };
        let outcome = rig.send_in_turn(outbound(id, |it| it.content = content)).await;
        let Outcome::Partly { message_ids, rest, reason } = outcome else { panic!("{outcome:?}") };
        assert_eq!((message_ids.len(), rest), (1, Rest::Failed));
        assert!(reason.contains(&name), "{reason}");
    }
    assert_eq!(rig.end().await.sent().len(), 2);
}

/// F39: nor does one that the platform refuses, and whoever sends the reply once more says nothing twice.
#[tokio::test]
async fn words_go_without_the_files_that_are_refused() {
    let long = "word ".repeat(400);
    for text in ["here it is", long.trim()] {
        let mut rig = Rig::ready().await;
        let files = ["a.bin", "b.bin"].map(|name| rig.file(FileKind::File, name, b"1"));
        let voice = rig.file(FileKind::Voice, "c.ogg", b"1");
        let files = files.into_iter().chain([voice]).collect();
        rig.sim.fault(Some("sendMediaGroup"), Fault::Html { status: 413 }, Some(1));
        let reply = outbound(1, |it| it.content = Content { files, ..Content::text(text) });
        rig.outbound.send(reply.clone()).await.unwrap();
        let mut progress = None;
        let outcome = loop {
            match rig.notes.recv().await.unwrap() {
                Note::Reached(_, reached) => progress = Some(reached),
                Note::Outcome(_, _, outcome) => break outcome,
                _ => {}
            }
        };
        let Outcome::Partly { message_ids, rest, reason } = outcome else { panic!("{outcome:?}") };
        assert_eq!((message_ids.len(), rest), (2, Rest::Failed), "{reason}");
        assert!(reason.contains("2 of 3") && reason.contains("too large"), "{reason}");
        let said: Vec<_> = rig.sim.sent().into_iter().map(|it| it.text).collect();
        assert!(said.iter().any(|it| it == text), "{said:?}");
        let ids = sent(rig.send_in_turn(Outbound { progress, ..reply }).await);
        let missing = rig.end().await.sent().split_off(2);
        assert!(missing.iter().all(|it| it.kind == "document" && it.text.is_empty()));
        assert_eq!((missing.len(), ids.len()), (2, 4));
    }
}

#[tokio::test]
async fn a_picture_that_is_none_goes_as_a_file() {
    let mut rig = Rig::ready().await;
    let refusal = refuse(400, "Bad Request: PHOTO_INVALID_DIMENSIONS");
    rig.sim.fault(Some("sendPhoto"), refusal, Some(1));
    let files = vec![rig.file(FileKind::Image, "wide.png", b"1")];
    let reply = outbound(1, |it| it.content = Content { files, ..Content::text("c") });
    sent(rig.send_in_turn(reply).await);
    let sim = rig.end().await;
    assert_eq!((sim.sent()[0].kind.as_str(), sim.sent()[0].text.as_str()), ("document", "c"));
}

/// What left is not sent again (F35), with files as well; the rest of a reply says what arrived.
#[tokio::test]
async fn a_lost_upload_is_unknown_and_a_reply_in_parts_tells_them() {
    let mut rig = Rig::ready().await;
    let files = vec![rig.file(FileKind::File, "a.bin", b"1")];
    rig.sim.fault(Some("sendDocument"), Fault::LostAnswer, Some(1));
    let reply = outbound(1, |it| it.content = Content { files, ..Content::text("c") });
    assert!(matches!(rig.send_in_turn(reply).await, Outcome::Unknown { .. }));
    let files =
        vec![rig.file(FileKind::Voice, "b.ogg", b"1"), rig.file(FileKind::File, "c.bin", b"1")];
    let refusal = refuse(400, "Bad Request: CHAT_SEND_DOCS_FORBIDDEN");
    rig.sim.fault(Some("sendDocument"), refusal, Some(1));
    let reply = outbound(2, |it| it.content = Content { files, ..Content::text("") });
    let outcome = rig.send_in_turn(reply).await;
    let first = rig.sim.sent().last().unwrap().message_id.to_string();
    let Outcome::Partly { message_ids, rest, reason } = outcome else { panic!("{outcome:?}") };
    assert_eq!((message_ids, rest), (vec![first], Rest::Failed));
    assert!(reason.contains("1 of 2"), "{reason}");
    assert!(reason.contains("does not allow"), "{reason}");
    rig.end().await;
}

/// Who sends the reply once more gets what is missing, though what has arrived is gone here.
#[tokio::test]
async fn of_files_that_arrived_in_part_the_others_are_sent_once_more() {
    let mut rig = Rig::ready().await;
    let files =
        vec![rig.file(FileKind::Voice, "b.ogg", b"1"), rig.file(FileKind::File, "c.bin", b"1")];
    let refusal = refuse(400, "Bad Request: CHAT_SEND_DOCS_FORBIDDEN");
    rig.sim.fault(Some("sendDocument"), refusal, Some(1));
    let reply = outbound(1, |it| it.content = Content { files, ..Content::text("") });
    rig.outbound.send(reply.clone()).await.unwrap();
    let reached = rig.note(|note| match note {
        Note::Reached(_, progress) => Some(progress),
        _ => None,
    });
    let progress = Some(reached.await);
    let outcome = rig.outcome(reply.id).await;
    assert!(matches!(outcome, Outcome::Partly { .. }), "{outcome:?}");
    std::fs::remove_file(rig.files.path().join("b.ogg")).unwrap();
    let ids = sent(rig.send_in_turn(Outbound { progress, ..reply }).await);
    let sim = rig.end().await;
    let kinds: Vec<_> = sim.sent().iter().map(|it| it.kind.clone()).collect();
    assert_eq!((kinds, ids.len()), (vec!["voice".to_owned(), "document".to_owned()], 2));
}

/// More than a hundred buttons, or more than 10 kB of them, take no words along.
#[tokio::test]
async fn words_go_without_the_buttons_that_are_too_many() {
    for told in ["Bad Request: reply markup is too long", "Bad Request: REPLY_MARKUP_TOO_LONG"] {
        let mut rig = Rig::ready().await;
        rig.sim.fault(Some("sendMessage"), refuse(400, told), Some(1));
        let button = Button { label: "Yes".into(), press: Press::Data("yes".into()) };
        let content = Content { buttons: vec![vec![button]], ..Content::text("sure?") };
        let outcome = rig.send_in_turn(outbound(1, |it| it.content = content)).await;
        let Outcome::Partly { message_ids, reason, .. } = outcome else { panic!("{outcome:?}") };
        assert!(message_ids.len() == 1 && reason.contains("100 buttons"), "{reason}");
        let sim = rig.end().await;
        assert_eq!(sim.sent().iter().map(|it| it.text.as_str()).collect::<Vec<_>>(), ["sure?"]);
    }
}

#[tokio::test]
async fn buttons_stand_below_and_their_press_comes_back() {
    let mut rig = Rig::ready().await;
    let key = |label: &str, press| Button { label: label.into(), press };
    let buttons = vec![
        vec![key("Yes", Press::Data("yes".into())), key("No", Press::Data("no".into()))],
        vec![key("Read", Press::Url("https://example.org/".into()))],
    ];
    let reply = outbound(1, |it| it.content = Content { buttons, ..Content::text("sure?") });
    let ids = sent(rig.send_in_turn(reply).await);
    let shown = rig.sim.sent()[0].buttons.clone();
    assert_eq!(shown[0][1], json!({"text": "No", "callback_data": "no"}));
    assert_eq!(shown[1][0]["url"], "https://example.org/");
    let id: i64 = ids[0].parse().unwrap();
    rig.sim.push(
        TOKEN,
        json!({"callback_query": {
            "id": "q1", "from": {"id": ANN}, "data": "yes", "chat_instance": "1",
            "message": {"message_id": id, "date": 1, "chat": {"id": ANN, "type": "private"}},
        }}),
    );
    let pressed = accept(rig.heard().await);
    assert_eq!(
        (pressed.text.as_str(), pressed.message_id.as_deref()),
        ("yes", Some(ids[0].as_str()))
    );
    // The keyboard goes with the edit that answers it.
    sent(rig.send_in_turn(act(2, Act::Edit { message_id: ids[0].clone() }, "done")).await);
    let edited = rig.sim.wait_for("an edit", LONG, |all| {
        all.iter().find_map(|it| match &it.what {
            Observation::Edited { buttons, .. } => Some(buttons.clone()),
            _ => None,
        })
    });
    assert_eq!(edited.await, Value::Null);
    rig.end().await;
}

/// Every address arrives, also where Telegram refuses a button to it.
#[tokio::test]
async fn an_address_that_no_button_may_have_is_written_out() {
    let key = |label: &str, press| Button { label: label.into(), press };
    let local = || key("My_page", Press::Url("http://localhost/a_b_c".into()));
    let yes = || key("Yes", Press::Data("y".into()));
    let kept = json!([[{"text": "Yes", "callback_data": "y"}]]);
    let mut rig = Rig::ready().await;
    let buttons = vec![vec![local(), yes()], vec![local()]];
    let reply = outbound(1, |it| it.content = Content { buttons, ..Content::text("**look**") });
    sent(rig.send_in_turn(reply).await);
    let told = rig.sim.sent().remove(0);
    let address = "My_page: http://localhost/a_b_c";
    assert_eq!(told.text, format!("look\n\n{address}\n{address}"));
    assert_eq!((told.buttons, told.entities.len()), (kept.clone(), 1));
    // One that only the platform knows to be none.
    let refusal = "Bad Request: inline keyboard button URL 'x' is invalid: Wrong HTTP URL";
    let other = || key("Other", Press::Url("https://refused.example/".into()));
    rig.sim.fault(Some("sendMessage"), refuse(400, refusal), Some(1));
    let buttons = vec![vec![yes(), other()]];
    let reply = outbound(2, |it| it.content = Content { buttons, ..Content::text("look") });
    sent(rig.send_in_turn(reply).await);
    let told = rig.sim.sent().remove(1);
    assert_eq!(told.text, "look\n\nOther: https://refused.example/");
    assert_eq!(told.buttons, kept);
    // Where there is no room for it, the words arrive.
    rig.sim.fault(Some("sendMessage"), refuse(400, refusal), Some(1));
    let full = "x".repeat(4096);
    let content = Content { buttons: vec![vec![other()]], ..Content::text(&full) };
    let outcome = rig.send_in_turn(outbound(3, |it| it.content = content)).await;
    let Outcome::Partly { message_ids, rest: Rest::Failed, reason } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("button URL") && message_ids.len() == 1, "{reason}");
    assert_eq!(rig.end().await.sent().remove(2).text, full);
}

#[tokio::test]
async fn messages_are_changed_taken_back_and_reacted_to() {
    let mut rig = Rig::ready().await;
    let (_, theirs) = rig.sim.push_text(TOKEN, ANN, "hi");
    accept(rig.heard().await);
    let ids = sent(rig.send_in_turn(outbound(1, |_| {})).await);
    let edit = |id: u64, text: &str| act(id, Act::Edit { message_id: ids[0].clone() }, text);
    assert_eq!(sent(rig.send_in_turn(edit(2, "other")).await), ids);
    // Not modified is what was wanted.
    assert_eq!(sent(rig.send_in_turn(edit(3, "other")).await), ids);
    // An edit may be repeated, so a lost answer is no mystery.
    rig.sim.fault(Some("editMessageText"), Fault::LostAnswer, Some(1));
    let lost = rig.send_in_turn(edit(4, "third")).await;
    assert!(matches!(lost, Outcome::Retry { .. }), "{lost:?}");
    assert_eq!(sent(rig.send_in_turn(edit(4, "third")).await), ids);
    let react = |id: u64, emoji: &str| {
        act(id, Act::React { message_id: theirs.to_string(), emoji: emoji.into() }, "")
    };
    sent(rig.send_in_turn(react(5, "👍")).await);
    sent(rig.send_in_turn(react(6, "")).await);
    assert!(failed(&rig.send_in_turn(react(7, "🦄")).await).contains("its own list"));
    let recall = |id: u64| act(id, Act::Recall { message_id: ids[0].clone() }, "");
    sent(rig.send_in_turn(recall(8)).await);
    // Gone is what was wanted.
    sent(rig.send_in_turn(recall(9)).await);
    assert!(failed(&rig.send_in_turn(edit(10, "late")).await).contains("was deleted"));
    let sim = rig.end().await;
    let faces: Vec<_> = sim
        .journal()
        .into_iter()
        .filter_map(|it| match it.what {
            Observation::Reacted { faces, .. } => Some(faces),
            _ => None,
        })
        .collect();
    assert_eq!(faces, [vec!["👍".to_owned()], Vec::new()]);
}

#[tokio::test]
async fn what_is_too_old_or_not_ours_stays_with_a_hint() {
    let mut rig = Rig::ready().await;
    let (_, theirs) = rig.sim.push_text(TOKEN, ANN, "hi");
    accept(rig.heard().await);
    let ids = sent(rig.send_in_turn(outbound(1, |_| {})).await);
    rig.sim.configure(|it| it.old_until = i64::MAX);
    for (n, message_id) in [(2, ids[0].clone()), (3, theirs.to_string())] {
        let outcome =
            rig.send_in_turn(act(n, Act::Edit { message_id: message_id.clone() }, "x")).await;
        assert!(failed(&outcome).contains("48 hours"), "{outcome:?}");
        let outcome = rig.send_in_turn(act(n + 10, Act::Recall { message_id }, "")).await;
        assert!(failed(&outcome).contains("48 hours"), "{outcome:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn words_below_a_file_can_be_changed() {
    let mut rig = Rig::ready().await;
    let files = vec![rig.file(FileKind::Image, "one.png", b"1")];
    let reply = outbound(1, |it| it.content = Content { files, ..Content::text("before") });
    let ids = sent(rig.send_in_turn(reply).await);
    let edit = Act::Edit { message_id: ids[0].clone() };
    assert_eq!(sent(rig.send_in_turn(act(2, edit.clone(), "after")).await), ids);
    let other = vec![rig.file(FileKind::Image, "two.png", b"2")];
    let media = outbound(3, |it| {
        it.content = Content { act: edit, files: other, ..Content::text("third") };
    });
    assert_eq!(sent(rig.send_in_turn(media).await), ids);
    let texts: Vec<_> = rig
        .end()
        .await
        .journal()
        .into_iter()
        .filter_map(|it| match it.what {
            Observation::Edited { text, .. } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["after", "third"]);
}
