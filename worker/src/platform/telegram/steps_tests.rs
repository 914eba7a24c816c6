//! What a reply becomes.

use proptest::prelude::*;
use protocol::content::{Button, Press};

use super::super::amend::Amended;
use super::super::units::units;
use super::*;

const TO: To = To { chat: -5, topic: Some(7), reply: Some(8) };

fn file(kind: FileKind) -> protocol::content::File {
    protocol::content::File { kind, file: "0123456789abcdef-a.png".into(), title: None }
}

fn content(text: &str, kinds: &[FileKind]) -> Content {
    Content { files: kinds.iter().map(|kind| file(*kind)).collect(), ..Content::text(text) }
}

fn plan(content: &Content) -> Vec<Step> {
    let sizes = vec![10; content.files.len()];
    steps(content, &sizes, None).unwrap()
}

fn calls(content: &Content) -> Vec<Call> {
    plan(content).iter().map(|step| step.call(TO)).collect()
}

fn methods(content: &Content) -> Vec<&'static str> {
    calls(content).into_iter().map(|call| call.method).collect()
}

fn yes() -> Vec<Vec<Button>> {
    vec![vec![Button { label: "Yes".into(), press: Press::Data("y".into()) }], Vec::new()]
}

use FileKind::{Audio, File as Document, Image, Video, Voice};

#[test]
fn files_of_a_sort_are_albums_and_their_words_a_caption() {
    assert_eq!(methods(&content("**c**", &[Image])), ["sendPhoto"]);
    let one = &calls(&content("**c**", &[Image]))[0];
    assert_eq!(one.body["caption"], "c");
    assert_eq!(one.body["caption_entities"][0]["type"], "bold");
    assert_eq!(one.body["message_thread_id"], 7);
    assert_eq!(one.uploads[0].field, "photo");
    assert_eq!(one.uploads[0].title, "a.png", "the name before it is the directory's own");
    let all = [Image, Video, Document, Document, Audio, Voice, Voice, Image];
    let methods = methods(&content("c", &all));
    let expected =
        ["sendMediaGroup", "sendMediaGroup", "sendAudio", "sendVoice", "sendVoice", "sendPhoto"];
    assert_eq!(methods, expected);
    let album = &calls(&content("c", &all))[0];
    assert_eq!(album.body["media"][0]["caption"], "c");
    assert!(album.body["media"][1].get("caption").is_none());
    assert_eq!(album.body["media"][1], json!({"type": "video", "media": "attach://file1"}));
    assert_eq!(
        plan(&content("", &[Image; 23])).iter().map(Step::cost).collect::<Vec<_>>(),
        [10, 10, 3]
    );
}

#[test]
fn long_words_follow_their_files() {
    let long = "word ".repeat(300);
    assert_eq!(methods(&content(&long, &[Image])), ["sendPhoto", "sendMessage"]);
}

#[test]
fn buttons_are_below_the_last_message_and_never_below_an_album() {
    let with = |content: Content| Content { buttons: yes(), ..content };
    let last = |content: &Content| calls(content).pop().unwrap();
    for content in [
        with(content("c", &[])),
        with(content("c", &[Image])),
        with(content("c", &[Image, Image])),
        with(content("", &[Image, Image])),
        with(content(&"word ".repeat(1500), &[])),
    ] {
        let (calls, last) = (calls(&content), last(&content));
        assert_ne!(last.method, "sendMediaGroup");
        let keyboard = json!([[{"text": "Yes", "callback_data": "y"}]]);
        assert_eq!(last.body["reply_markup"]["inline_keyboard"], keyboard);
        let carrying = calls.iter().filter(|call| call.body.get("reply_markup").is_some()).count();
        assert_eq!(carrying, 1);
    }
}

#[test]
fn what_cannot_be_is_told_before_anything_is_sent() {
    let refused = |content: &Content| steps(content, &[], None).unwrap_err();
    assert!(refused(&content("", &[])).contains("empty"));
    for public in [true, false] {
        assert!(unsendable(0, public).unwrap().contains("empty"));
    }
    assert!(unsendable(51 << 20, true).unwrap().contains("base_url"));
    assert_eq!(unsendable(51 << 20, false), None, "a server of one's own takes more");
    let card = Content { card: Some("{}".into()), ..Content::text("") };
    assert!(refused(&card).contains("no cards"));
    for data in [String::new(), "x".repeat(65)] {
        let press = Press::Data(data);
        let buttons = vec![vec![Button { label: "b".into(), press }]];
        let odd = Content { buttons, ..Content::text("x") };
        assert!(refused(&odd).contains("bytes of data"));
    }
    let odd = Content { act: Act::Edit { message_id: "om_1".into() }, ..Content::text("x") };
    assert!(refused(&odd).contains("no message"));
    let large = steps(&content("", &[Image]), &[11 << 20], None).unwrap();
    assert_eq!(large[0].call(TO).method, "sendDocument");
}

#[test]
fn changes_name_their_message_and_no_topic() {
    let act = |act| Content { act, ..Content::text("new") };
    let id = || "12".to_owned();
    let edit = act(Act::Edit { message_id: id() });
    let call = &calls(&edit)[0];
    assert_eq!(call.method, "editMessageText");
    assert_eq!(call.body, json!({"chat_id": -5, "message_id": 12, "text": "new"}));
    let media = Content { files: vec![file(Image)], ..edit.clone() };
    assert_eq!(calls(&media)[0].body["media"]["media"], "attach://file0");
    let long = Content { text: "word ".repeat(1500), ..edit };
    assert_eq!(methods(&long), ["editMessageText", "sendMessage"]);
    assert_eq!(methods(&act(Act::Recall { message_id: id() })), ["deleteMessage"]);
    let react = |emoji: &str| calls(&act(Act::React { message_id: id(), emoji: emoji.into() }));
    assert_eq!(react("👍")[0].body["reaction"], json!([{"type": "emoji", "emoji": "👍"}]));
    assert_eq!(react("")[0].body["reaction"], json!([]));
    assert_eq!(react("5368324170671202286")[0].body["reaction"][0]["type"], "custom_emoji");
}

#[test]
fn a_draft_becomes_the_first_message_or_goes() {
    let plan = |content: &Content| {
        let sizes = vec![1; content.files.len()];
        steps(content, &sizes, Some(3)).unwrap()
    };
    let methods = |content: &Content| -> Vec<_> {
        plan(content).iter().map(|step| step.call(TO).method).collect()
    };
    assert_eq!(methods(&content("x", &[])), ["editMessageText"]);
    assert_eq!(methods(&content("x", &[Image])), ["deleteMessage", "sendPhoto"]);
    assert_eq!(methods(&content(&"word ".repeat(1500), &[])), ["editMessageText", "sendMessage"]);
    let edit = Content { act: Act::Edit { message_id: "9".into() }, ..Content::text("x") };
    assert_eq!(plan(&edit)[0].changes(), Some(9), "another message");
    let gone = plan(&content("x", &[]))[0].amend("400 Bad Request: message to edit not found");
    assert!(matches!(gone, Amended::Try(Step::Text { .. })), "{gone:?}");
}

#[test]
fn refusals_are_amended_where_words_can_be_saved() {
    let bold = plan(&content("**b**", &[]))[0].clone();
    let Amended::Try(plain) = bold.amend("400 Bad Request: can't parse entities: no") else {
        panic!()
    };
    assert!(plain.call(TO).body.get("entities").is_none());
    assert_eq!(plain.amend("400 Bad Request: can't parse entities: no"), Amended::No);
    assert_eq!(bold.amend("400 Bad Request: BUTTON_URL_INVALID"), Amended::No);
    let photo = plan(&content("c", &[Image]))[0].clone();
    let Amended::Try(document) = photo.amend("400 Bad Request: PHOTO_INVALID_DIMENSIONS") else {
        panic!()
    };
    assert_eq!(document.call(TO).method, "sendDocument");
    assert_eq!(document.amend("400 Bad Request: PHOTO_INVALID_DIMENSIONS"), Amended::No);
    let edit = Content { act: Act::Edit { message_id: "9".into() }, ..Content::text("x") };
    let edit = plan(&edit)[0].clone();
    assert_eq!(edit.amend("400 Bad Request: message is not modified: x"), Amended::Done);
    let caption = edit.amend("400 Bad Request: there is no text in the message to edit");
    assert!(matches!(caption, Amended::Try(Step::Caption { id: 9, .. })), "{caption:?}");
    assert_eq!(edit.amend("400 Bad Request: message to edit not found"), Amended::No);
    let recall = Content { act: Act::Recall { message_id: "9".into() }, ..Content::text("") };
    let recall = plan(&recall)[0].clone();
    assert_eq!(recall.amend("400 Bad Request: message to delete not found"), Amended::Done);
}

#[test]
fn names_are_safe() {
    assert_eq!(title("a\r\n\"b/c\\d"), "abcd");
    assert_eq!(title("\u{7}"), "file");
    assert_eq!(title("0123456789abcdef-"), "0123456789abcdef-");
    assert!(title(&"ä".repeat(200)).len() <= 120);
    let long = title(&format!("{}.tar.gz", "ä".repeat(200)));
    assert!(long.len() <= 120 && long.starts_with("ää") && long.ends_with("ä….gz"), "{long}");
    let dots = format!("{}. And then some words that are no extension", "x".repeat(200));
    assert_eq!(title(&dots), "x".repeat(117) + "…");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever an agent hands in, each call is one that the platform takes, and nothing is left out.
    #[test]
    fn every_reply_becomes_calls_within_the_limits(
        text in "([a-z]{1,9}|\\*\\*|`|\n|😀| ){0,900}",
        kinds in prop::collection::vec(prop::sample::select(vec![Image, Video, Document, Audio, Voice]), 0..25),
        buttons in any::<bool>(), draft in any::<Option<i64>>(),
    ) {
        let mut content = content(&text, &kinds);
        if buttons {
            content.buttons = yes();
        }
        let sizes = vec![1; kinds.len()];
        let Ok(steps) = steps(&content, &sizes, draft) else {
            prop_assert!(parts(&text, "").is_empty() && kinds.is_empty());
            return Ok(());
        };
        let (mut uploads, mut shown) = (0, 0);
        for call in steps.iter().map(|step| step.call(TO)) {
            uploads += call.uploads.len();
            if call.method == "sendMediaGroup" {
                prop_assert!((2..=10).contains(&call.uploads.len()));
            }
            let own = [&call.body["text"], &call.body["caption"], &call.body["media"][0]["caption"]];
            for (text, most) in own.iter().filter_map(|it| it.as_str()).zip([4096]) {
                prop_assert!(units(text) <= most && !text.is_empty());
                shown += text.split_whitespace().map(str::len).sum::<usize>();
            }
            if let Some(caption) = call.body["caption"].as_str() {
                prop_assert!(units(caption) <= CAPTION_MAX);
            }
        }
        prop_assert_eq!(uploads, kinds.len());
        let whole: usize = parts(&text, "").iter().flat_map(|part| part.text.split_whitespace()).map(str::len).sum();
        prop_assert_eq!(shown, whole);
    }
}
