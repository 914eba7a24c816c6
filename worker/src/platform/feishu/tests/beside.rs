//! Signs of work and bytes of files.

use super::*;

async fn hear_text(rig: &mut Rig) -> String {
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "do something");
    accept(rig.heard().await);
    event.acked_within(LONG).await;
    event.message_id().unwrap().to_owned()
}

fn busy(message_id: &str, on: bool) -> Ask {
    let message_id = Some(message_id.to_owned());
    Ask::Busy(Busy { chat_id: "oc_1".to_owned(), thread_id: None, message_id, on })
}

#[tokio::test]
async fn work_is_shown_by_a_reaction_and_no_longer() {
    let mut rig = Rig::ready().await;
    let id = hear_text(&mut rig).await;
    rig.ask(busy(&id, true)).await;
    rig.ask(busy(&id, false)).await;
    let gone = |entry: &Entry| matches!(&entry.what, Observation::Unreacted { emoji, .. } if emoji == "Typing");
    rig.sim.wait_count("the sign is gone", LONG, 1, gone).await;
    // One that another run of this worker gave is taken back as well.
    rig.ask(busy(&id, true)).await;
    let given = |entry: &Entry| matches!(entry.what, Observation::Reacted { .. });
    rig.sim.wait_count("a second sign", LONG, 2, given).await;
    let mut rig = Rig::on(rig.end().await);
    rig.until_ready().await;
    rig.ask(busy(&id, false)).await;
    rig.sim.wait_count("the sign is gone", LONG, 2, gone).await;
    rig.end().await;
}

#[tokio::test]
async fn an_app_that_may_not_react_stays_silent() {
    let mut rig = Rig::ready().await;
    rig.sim.grant(APP, "im:message.reactions:write_only", false);
    let id = hear_text(&mut rig).await;
    for on in [true, false, true, false] {
        rig.ask(busy(&id, on)).await;
    }
    sent(rig.send(outbound(1, |_| {})).await);
    rig.sim.wait_count("a try", LONG, 1, |entry| called(entry, "react")).await;
    let sim = rig.end().await;
    assert_eq!(sim.count(|entry| called(entry, "react")), 1);
}

fn wish(message_id: &str, kind: &str, handle: &str) -> Box<Fetch> {
    let part = Part {
        kind: kind.to_owned(),
        handle: handle.to_owned(),
        name: Some("a/b.png".to_owned()),
        size: None,
        mime: None,
    };
    let instance = Instance::new("feishu").unwrap();
    Box::new(Fetch { instance, message_id: Some(message_id.to_owned()), part })
}

async fn fetch(rig: &mut Rig, wish: Box<Fetch>) -> Result<protocol::content::Fetched, String> {
    rig.ask(Ask::Fetch(7, wish)).await;
    rig.note(|note| match note {
        Note::Fetched(7, result) => Some(result),
        _ => None,
    })
    .await
}

/// It holds one of few places, and who wanted it has long given it up.
#[tokio::test]
async fn a_file_that_trickles_is_given_up() {
    let mut rig = Rig::ready().await;
    rig.sim.put_resource("img_1", "image", "image/png", &vec![7; 300_000]);
    let post = json!([[{"tag": "img", "image_key": "img_1"}]]);
    let event = rig.sim.push_message(APP, Message::direct("oc_1", "ou_ann").post("", &post));
    let id = accept(rig.heard().await).message_id.unwrap();
    event.acked_within(LONG).await;
    rig.sim.fault(APP, rest(Route::Resource, Trouble::Trickle), Times::Only(1));
    let given_up = fetch(&mut rig, wish(&id, "image", "img_1")).await.unwrap_err();
    assert!(given_up.contains("fetch it from the platform"), "{given_up}");
    assert_eq!(std::fs::read_dir(rig.files.path()).unwrap().count(), 0, "nothing is left behind");
    fetch(&mut rig, wish(&id, "image", "img_1")).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn bytes_are_fetched_when_asked_for_within_limits() {
    let mut rig = Rig::ready().await;
    let small = vec![7; 300_000];
    rig.sim.put_resource("img_1", "image", "image/png", &small);
    rig.sim.put_resource("file_1", "file", "text/plain; charset=utf-8", &vec![8; (1 << 20) + 1]);
    // Looks like a refusal, and is what somebody sent.
    let data = br#"{"code": "of a program"}"#;
    rig.sim.put_resource("data_1", "file", "application/json", data);
    let file = |key| json!({"tag": "media", "file_key": key});
    let post = json!([[{"tag": "img", "image_key": "img_1"}, file("file_1"), file("data_1")]]);
    let event = rig.sim.push_message(APP, Message::direct("oc_1", "ou_ann").post("", &post));
    let heard = accept(rig.heard().await);
    event.acked_within(LONG).await;
    let id = heard.message_id.unwrap();
    rig.sim.revoke_tokens(APP);
    let got = fetch(&mut rig, wish(&id, &heard.parts[0].kind, "img_1")).await.unwrap();
    assert_eq!((got.size, got.mime.as_deref()), (300_000, Some("image/png")));
    assert!(got.file.ends_with("a_b.png"), "{}", got.file);
    assert_eq!(std::fs::read(rig.files.path().join(&got.file)).unwrap(), small);
    let got = fetch(&mut rig, wish(&id, "video", "data_1")).await.unwrap();
    assert_eq!(std::fs::read(rig.files.path().join(&got.file)).unwrap(), data);

    // What was said in one go has one message's id and the parts of all.
    let got = fetch(&mut rig, wish("om_first", "image", &heard.parts[0].handle)).await.unwrap();
    assert_eq!(got.size, 300_000);

    let cases = [
        (wish(&id, "media", "file_1"), "larger than 1 MiB"),
        (wish(&id, "image", "img_other"), "234003"),
        (wish("../x", "image", "img_1"), "no id of this platform"),
        (wish(&id, "sticker", "s"), "no stickers"),
    ];
    for (wish, why) in cases {
        let refused = fetch(&mut rig, wish).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    rig.sim.grant(APP, "im:resource", false);
    let refused = fetch(&mut rig, wish(&id, "image", "img_1")).await.unwrap_err();
    assert!(refused.contains("lacks the scope im:resource"), "{refused}");
    assert_eq!(std::fs::read_dir(rig.files.path()).unwrap().count(), 3, "nothing is left behind");
    rig.end().await;
}
