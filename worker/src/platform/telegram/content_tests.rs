//! What messages say, whom they address and what they answer.

use super::*;

fn own() -> Own {
    Own { id: 7, username: "Test_Bot".to_owned() }
}

#[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
fn words(message: Value) -> (String, usize) {
    match content(&message) {
        Content::Words { text, parts } => (text, parts.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_has_words() {
    let file = json!({"file_id": "f", "file_name": "a.pdf", "emoji": "🙂"});
    for (message, text, parts) in [
        (json!({"text": "hi"}), "hi", 0),
        (json!({"photo": [{"file_id": "s"}, {"file_id": "l"}], "caption": "c"}), "[photo] c", 1),
        (json!({"document": file}), "[document: a.pdf]", 1),
        (json!({"animation": file, "document": file}), "[animation: a.pdf]", 1),
        (json!({"voice": {"file_id": "v"}}), "[voice]", 1),
        (json!({"sticker": {"file_id": "v", "emoji": "🙂"}}), "[sticker: 🙂]", 1),
        (json!({"photo": []}), "[photo]", 0),
        (json!({"location": {"latitude": 1.5, "longitude": 2}}), "[location: 1.5, 2]", 0),
        (
            json!({"venue": {"title": "T", "address": "", "location": {"latitude": 1, "longitude": 2}}, "location": {}}),
            "[venue: T, 1, 2]",
            0,
        ),
        (json!({"contact": {"first_name": "A", "phone_number": "+1"}}), "[contact: A, +1]", 0),
        (
            json!({"poll": {"question": "Q?", "options": [{"text": "a"}, {"text": "b"}]}}),
            "[poll: Q? a / b]",
            0,
        ),
        (json!({"dice": {"emoji": "🎲", "value": 3}}), "[dice: 🎲 3]", 0),
        (json!({"story": {}}), "[story]", 0),
        (
            json!({"text": "x", "forward_origin": {"type": "user", "sender_user": {"first_name": "Bob"}}}),
            "[forwarded: Bob] x",
            0,
        ),
        (json!({"text": "x", "quote": {"text": "a\nb"}}), "x", 0),
    ] {
        assert_eq!(words(message), (text.to_owned(), parts));
    }
    let named = match content(&json!({"document": file})) {
        Content::Words { parts, .. } => parts[0].name.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(named.as_deref(), Some("a.pdf"));
    assert_eq!(content(&json!({"pinned_message": {}})), Content::Service);
    assert_eq!(content(&json!({"hologram": {}})), Content::Unknown);
}

#[test]
fn hidden_addresses_are_shown_where_they_belong() {
    let link = |offset: u64, length: u64, url: &str| json!({"type": "text_link", "offset": offset, "length": length, "url": url});
    let message = json!({
        "text": "😀 here, there", "entities": [link(9, 5, "u2"), link(3, 4, "u1"), link(99, 1, "no")],
    });
    assert_eq!(words(message).0, "😀 here (u1), there (u2)");
}

#[test]
fn only_entities_address() {
    let mentioned = |text: &str, kind: &str, offset: u64, length: u64, more: Value| {
        let mut entity = json!({"type": kind, "offset": offset, "length": length});
        entity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (caption, plain) = (
            json!({"caption": text, "caption_entities": [entity.clone()]}),
            json!({"text": text, "entities": [entity]}),
        );
        assert_eq!(mention(&caption, &own()), mention(&plain, &own()));
        mention(&plain, &own())
    };
    let none = json!({});
    assert_eq!(mentioned("😀 @test_bot", "mention", 3, 9, none.clone()), Mention::Me);
    assert_eq!(mentioned("@test_bot2", "mention", 0, 10, none.clone()), Mention::Other);
    assert_eq!(mentioned("@test_bot", "bold", 0, 9, none.clone()), Mention::None);
    assert_eq!(mentioned("/x@Test_Bot", "bot_command", 0, 11, none.clone()), Mention::Me);
    assert_eq!(mentioned("/x@other", "bot_command", 0, 8, none.clone()), Mention::Other);
    assert_eq!(mentioned("/x", "bot_command", 0, 2, none), Mention::Me);
    let me = json!({"user": {"id": 7}});
    assert_eq!(mentioned("Bot", "text_mention", 0, 3, me), Mention::Me);
    assert_eq!(mentioned("Bot", "text_mention", 0, 3, json!({"user": {"id": 8}})), Mention::Other);
    assert_eq!(mention(&json!({"text": "@test_bot"}), &own()), Mention::None);
}

/// What is answered is said as it was when it came, be it here or elsewhere.
#[test]
fn what_is_answered_is_named_with_its_files() {
    let photo = json!([{"file_id": "s"}, {"file_id": "l"}]);
    let bob = json!({"type": "user", "sender_user": {"first_name": "Bob"}});
    let group = json!({"id": -5, "title": "Plain"});
    for (message, quote, files) in [
        (json!({"text": "alone"}), None, &[][..]),
        (json!({"reply_to_message": {"text": "first"}}), Some("first"), &[]),
        (json!({"reply_to_message": {"photo": photo, "caption": "c"}}), Some("[photo] c"), &["l"]),
        (json!({"reply_to_message": {"photo": photo}}), Some("[photo]"), &["l"]),
        (
            json!({"reply_to_message": {"document": {"file_id": "d", "file_name": "r.pdf"}}}),
            Some("[document: r.pdf]"),
            &["d"],
        ),
        (
            json!({"reply_to_message": {"poll": {"question": "Q?", "options": [{"text": "a"}]}}}),
            Some("[poll: Q? a]"),
            &[],
        ),
        (
            json!({"reply_to_message": {"photo": photo, "caption": "a b"}, "quote": {"text": "b"}}),
            Some("[photo] b"),
            &["l"],
        ),
        (json!({"reply_to_message": {"pinned_message": {}}}), Some("[pinned_message]"), &[]),
        (
            json!({"external_reply": {"origin": bob, "chat": group, "photo": photo}, "quote": {"text": "q"}}),
            Some("[from: Bob, Plain] [photo] q"),
            &["l"],
        ),
        (
            json!({"external_reply": {"origin": {"type": "channel", "chat": group}, "chat": group}}),
            Some("[from: Plain]"),
            &[],
        ),
        (json!({"reply_to_story": {"chat": group, "id": 5}}), Some("[story: Plain]"), &[]),
    ] {
        let (said, parts) = answered(&message);
        assert_eq!(said.as_deref(), quote, "{message}");
        let handles: Vec<_> = parts.iter().map(|part| part.handle.as_str()).collect();
        assert_eq!(handles, files, "{message}");
    }
}
