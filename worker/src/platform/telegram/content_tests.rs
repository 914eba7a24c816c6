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
            json!({"contact": {"first_name": "Bob", "last_name": "Bee", "phone_number": "+1",
                "vcard": "BEGIN:VCARD\r\nN:Bee;Bob\r\nitem1.EMAIL;type=x:b@x.y\r\nADR:;;Main 1;Town\r\nEND:VCARD"}}),
            "[contact: Bob Bee, +1, b@x.y, Main 1 Town]",
            0,
        ),
        (
            json!({"poll": {"question": "Q?", "description": "d", "type": "quiz", "explanation": "e",
                "options": [{"text": "a", "voter_count": 0}, {"text": "b", "voter_count": 2}]}}),
            "[quiz: Q? (d) a / b (2), explained: e]",
            0,
        ),
        (
            json!({"checklist": {"title": "Todo", "tasks": [
                {"id": 1, "text": "milk"}, {"id": 2, "text": "done", "completion_date": 5}]}}),
            "[checklist: Todo ☐ milk ☑ done]",
            0,
        ),
        (
            json!({"invoice": {"title": "Inv", "description": "D", "currency": "EUR", "total_amount": 1234}}),
            "[invoice: Inv, 12.34 EUR, D]",
            0,
        ),
        (json!({"game": {"title": "G", "description": "D"}}), "[game: G, D]", 0),
        (
            json!({"giveaway": {"winner_count": 2, "prize_description": "car"}}),
            "[giveaway: car, winners: 2]",
            0,
        ),
        (json!({"paid_media": {"star_count": 5}, "caption": "c"}), "[paid_media: 5 stars] c", 0),
        (
            json!({"location": {"latitude": 1, "longitude": 2, "live_period": 60}}),
            "[location: 1, 2, live]",
            0,
        ),
        (
            json!({"audio": {"file_id": "a", "performer": "P", "title": "T", "file_name": "s.mp3", "duration": 61}}),
            "[audio: P - T, 1:01]",
            1,
        ),
        (json!({"voice": {"file_id": "v", "duration": 7}}), "[voice: 0:07]", 1),
        (
            json!({"video": {"file_id": "v", "file_name": "v.mp4", "duration": 3605}}),
            "[video: v.mp4, 1:00:05]",
            1,
        ),
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

/// What people send from a keyboard, a web app or a shop, and what they write with blocks, is said as well.
#[test]
fn what_is_no_text_and_no_file_is_told_with_its_words() {
    let user = json!({"user_id": 5, "first_name": "Sue"});
    let paid = json!({"currency": "EUR", "total_amount": 1205, "invoice_payload": "p"});
    for (message, text) in [
        (
            json!({"web_app_data": {"data": "{\"x\":1}", "button_text": "Open"}}),
            "[web_app_data: Open] {\"x\":1}",
        ),
        (json!({"users_shared": {"users": [user, {"user_id": 6}]}}), "[users_shared: Sue (5), 6]"),
        (json!({"chat_shared": {"chat_id": -5, "title": "Plain"}}), "[chat_shared: Plain (-5)]"),
        (json!({"successful_payment": paid}), "[successful_payment: 12.05 EUR, p]"),
        (
            json!({"refunded_payment": {"currency": "XTR", "total_amount": 5}}),
            "[refunded_payment: 5 XTR]",
        ),
        (
            json!({"gift": {"gift": {"star_count": 3}, "text": "for you"}}),
            "[gift: 3 stars] for you",
        ),
    ] {
        assert_eq!(words(message), (text.to_owned(), 0));
    }
    let unknown = json!({
        "message_id": 1, "date": 2, "chat": {"id": 3}, "from": {"id": 4}, "effect_id": "e",
        "hologram": {"x": 1, "caption2": "said"}, "depth": 3,
    });
    assert_eq!(content(&unknown), Content::Unknown);
    assert_eq!(as_it_came(&unknown), "[depth: 3] [hologram: {\"caption2\":\"said\",\"x\":1}]");
    // What is not told to bots is a message all the same.
    let bare = json!({"message_id": 1, "date": 2, "chat": {"id": 3}, "from": {"id": 4}});
    assert_eq!((content(&bare), as_it_came(&bare).as_str()), (Content::Unknown, "[message]"));
    let long = as_it_came(&json!({ "hologram": "x".repeat(100_000) }));
    assert!(long.starts_with("[hologram: \"xxx") && long.len() < 20_000);
}

/// The platform tells them in the name of whoever did it, and they are nothing that was said.
#[test]
fn what_happened_in_a_chat_is_no_message() {
    for service in [
        json!({"pinned_message": {"message_id": 1, "text": "pinned"}}),
        json!({"new_chat_title": "T"}),
        json!({"connected_website": "example.org"}),
        json!({"write_access_allowed": {}}),
        json!({"chat_background_set": {"type": {}}}),
        json!({"chat_owner_left": {}}),
        json!({"chat_owner_changed": {"new_owner": {"id": 1}}}),
        json!({"giveaway_created": {}}),
        json!({"paid_message_price_changed": {"paid_message_star_count": 1}}),
        json!({"direct_message_price_changed": {"are_direct_messages_enabled": true}}),
    ] {
        assert_eq!(content(&service), Content::Service, "{service}");
    }
}

#[test]
fn a_message_of_blocks_has_all_its_words_and_files() {
    let bold = |text: &str| json!({"type": "bold", "text": text});
    let link = json!({"type": "url", "text": ["a ", bold("link")], "url": "https://x.y"});
    let paragraph = |text: &str| json!({"type": "paragraph", "text": text});
    let blocks = json!([
        {"type": "heading", "size": 2, "text": "Plan"},
        {"type": "paragraph", "text": ["see ", link, {"type": "mention", "text": "@Test_Bot", "username": "Test_Bot"}]},
        {"type": "list", "items": [
            {"label": "•", "blocks": [paragraph("one")]},
            {"label": "•", "has_checkbox": true, "is_checked": true, "blocks": [paragraph("two")]},
        ]},
        {"type": "blockquote", "blocks": [paragraph("q1"), paragraph("q2")], "credit": "Ann"},
        {"type": "pre", "text": "let a;", "language": "rust"},
        {"type": "table", "cells": [[{"text": "h1"}, {"text": "h2"}], [{"text": "1"}, {}]]},
        {"type": "photo", "photo": [{"file_id": "s"}, {"file_id": "l"}], "caption": {"text": "cap"}},
        {"type": "divider"},
        {"type": "mathematical_expression", "expression": "x^2"},
        {"type": "details", "summary": "More", "blocks": [paragraph("hidden")]},
        {"type": "buttons", "buttons": [{"text": "Go", "url": "https://z"}]},
        {"type": "hologram", "text": "later"},
    ]);
    let message = json!({"rich_message": {"blocks": blocks}});
    let expected = "## Plan\nsee a link (https://x.y)@Test_Bot\n• one\n• [x] two\n> q1\n> q2\n> Ann\n\
        ```rust\nlet a;\n```\nh1 | h2\n1 | \n[photo] cap\n---\nx^2\nMore\nhidden\n[Go]\nlater";
    assert_eq!(words(message.clone()), (expected.to_owned(), 1));
    assert_eq!(mention(&message, &own()), Mention::Me);
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
