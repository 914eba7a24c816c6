//! Updates of every kind, as the platform's reference writes them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn own() -> Own {
    Own { id: 7, username: "Test_Bot".to_owned() }
}

#[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
fn understood(update: Value) -> Update {
    decode(update.to_string().as_bytes(), &own(), 5)
}

fn event(update: Value) -> Inbound {
    match understood(update).heard {
        Heard::Event(event) => *event,
        other => panic!("{other:?}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
fn said(change: Value) -> Value {
    let mut message = json!({
        "message_id": 3, "date": 10, "chat": {"id": -100, "type": "supergroup"},
        "from": {"id": 9, "is_bot": false, "first_name": "Ann", "last_name": "B"}, "text": "hi",
    });
    let members = message.as_object_mut().unwrap();
    members.extend(change.as_object().unwrap().clone());
    json!({"update_id": 1, "message": message})
}

#[test]
fn a_message_has_its_place_and_its_sender() {
    let event = event(said(json!({})));
    assert_eq!(event.keys, ["update:7:1", "message:7:-100:3"]);
    assert_eq!((event.chat_id.as_str(), event.chat_type), ("-100", ChatType::Group));
    assert_eq!((event.origin_ms, event.message_id.as_deref()), (10_000, Some("3")));
    let sender = Sender { user_id: "9".into(), name: Some("Ann B".into()), kind: SenderKind::User };
    assert_eq!((event.sender, event.mention), (sender, Mention::None));
    assert!(event.raw.starts_with(b"{"));
}

/// An instance may get the token of another bot, whose numbers begin anew.
#[test]
fn what_one_bot_heard_is_no_repetition_for_another() {
    let message = said(json!({}));
    let edited = json!({"update_id": 1, "edited_message": message["message"]});
    let pressed = json!({"update_id": 1, "callback_query": {
        "id": "q", "from": {"id": 9}, "message": {"message_id": 4, "chat": {"id": 9}},
    }});
    let unreadable = json!({"update_id": 1, "message": "x"});
    for update in [message, edited, pressed, unreadable, json!("x")] {
        let keys = |id| {
            let own = Own { id, ..own() };
            match decode(update.to_string().as_bytes(), &own, 5).heard {
                Heard::Event(event) | Heard::Malformed(_, event) => event.keys,
                Heard::Ignored => Vec::new(),
            }
        };
        let (one, other) = (keys(7), keys(8));
        assert!(!one.is_empty() && one.len() == other.len(), "{update}");
        assert!(one.iter().all(|key| !other.contains(key)), "{one:?}");
        assert_eq!(one, keys(7));
    }
}

#[test]
fn a_thread_counts_only_in_a_forum() {
    let chain =
        json!({"message_thread_id": 2, "reply_to_message": {"message_id": 2, "from": {"id": 7}}});
    let in_chain = event(said(chain));
    assert_eq!((in_chain.thread_id, in_chain.mention), (None, Mention::Me));
    assert_eq!(in_chain.reply_to.as_deref(), Some("2"));
    // The bot made the topic: its first message is ours, and nobody answered it.
    let topic = json!({
        "message_thread_id": 2, "is_topic_message": true,
        "reply_to_message": {"message_id": 2, "from": {"id": 7}, "forum_topic_created": {}},
    });
    let in_topic = event(said(topic));
    assert_eq!(in_topic.thread_id.as_deref(), Some("2"));
    assert_eq!((in_topic.reply_to, in_topic.mention), (None, Mention::None));
}

#[test]
fn whoever_speaks_for_a_chat_is_that_chat() {
    let anonymous = json!({
        "from": {"id": 1_087_968_824, "is_bot": true}, "sender_chat": {"id": -100, "title": "G"},
    });
    let sender = event(said(anonymous)).sender;
    assert_eq!((sender.user_id.as_str(), sender.kind), ("-100", SenderKind::User));
    let post = event(json!({"update_id": 1, "channel_post": {
        "message_id": 1, "date": 1, "chat": {"id": -200, "type": "channel"},
        "sender_chat": {"id": -200, "title": "C"}, "text": "news",
    }}));
    assert_eq!((post.chat_type, post.sender.user_id.as_str()), (ChatType::Channel, "-200"));
    let bot = event(said(json!({"from": {"id": 8, "is_bot": true}})));
    assert_eq!(bot.sender.kind, SenderKind::Bot);
}

#[test]
fn an_edit_is_another_event_each_time() {
    let edited = |date: i64, text: &str| {
        let mut update = said(json!({"edit_date": date, "text": text}));
        let message = update.as_object_mut().unwrap().remove("message").unwrap();
        event(json!({"update_id": 1, "edited_message": message}))
    };
    let edit = |date| edited(date, "ho");
    assert_eq!((edit(11).kind, edit(11).text.as_str()), (InboundKind::Edit, "ho"));
    assert_ne!(edit(11).keys[1], edit(12).keys[1]);
    assert_ne!(edit(11).keys[1], edited(11, "hu").keys[1], "within one second");
    assert_eq!(edit(11).keys, edit(11).keys);
}

#[test]
fn buttons_reactions_and_membership_are_events() {
    let pressed = json!({"update_id": 1, "callback_query": {
        "id": "q", "from": {"id": 9}, "data": "yes",
        "message": {"message_id": 4, "chat": {"id": 9, "type": "private"}, "from": {"id": 7}},
    }});
    let button = event(pressed.clone());
    assert_eq!((button.kind, button.text.as_str()), (InboundKind::Button, "yes"));
    assert_eq!((button.sender.user_id.as_str(), button.mention), ("9", Mention::Me));
    assert_eq!(understood(pressed).button.as_deref(), Some("q"));
    let reaction = event(json!({"update_id": 1, "message_reaction": {
        "chat": {"id": -100, "type": "group"}, "message_id": 4, "user": {"id": 9}, "date": 2,
        "old_reaction": [], "new_reaction": [{"type": "emoji", "emoji": "👍"}],
    }}));
    assert_eq!(reaction.text, "👍");
    for about in [button, reaction] {
        assert_eq!((about.message_id.as_deref(), about.reply_to), (Some("4"), None));
    }
    let member = event(json!({"update_id": 1, "my_chat_member": {
        "chat": {"id": 9, "type": "private"}, "from": {"id": 9}, "date": 2,
        "new_chat_member": {"status": "kicked"},
    }}));
    assert_eq!((member.kind, member.text.as_str()), (InboundKind::Member, "[kicked]"));
    assert_eq!(member.mention, Mention::Me);
    let other = event(json!({"update_id": 1, "chat_member": {
        "chat": {"id": -100, "type": "supergroup"}, "from": {"id": 9}, "date": 2,
        "new_chat_member": {"status": "left", "user": {"id": 8, "first_name": "Bob"}},
    }}));
    assert_eq!((other.text.as_str(), other.mention), ("[left: Bob]", Mention::None));
}

/// What is said to a business whose bot this is, by guests, or about either.
#[test]
fn what_concerns_a_business_or_guests_is_kept_as_it_came() {
    let message = said(json!({"business_connection_id": "b"}))["message"].clone();
    let connection = json!({
        "id": "b", "user": {"id": 9}, "user_chat_id": 19, "date": 10, "is_enabled": true,
    });
    let deleted = json!({
        "business_connection_id": "b", "chat": {"id": -100, "type": "group"}, "message_ids": [3],
    });
    for (kind, value, chat, sender) in [
        ("business_connection", connection, "19", "9"),
        ("business_message", message.clone(), "-100", "9"),
        ("edited_business_message", message.clone(), "-100", "9"),
        ("deleted_business_messages", deleted, "-100", ""),
        ("guest_message", message, "-100", "9"),
    ] {
        let update = json!({"update_id": 1, kind: value});
        let event = event(update.clone());
        assert_eq!((event.kind, event.mention), (InboundKind::Other, Mention::None), "{kind}");
        assert_eq!(
            (event.chat_id.as_str(), event.sender.user_id.as_str()),
            (chat, sender),
            "{kind}"
        );
        assert_eq!(
            (event.keys, event.text.as_str()),
            (vec!["update:7:1".to_owned()], ""),
            "{kind}"
        );
        assert_eq!(event.raw, update.to_string().into_bytes(), "{kind}");
    }
}

/// The words that are answered stand beside what is said, which may be a command.
#[test]
fn what_is_quoted_is_told_once_and_beside_the_text() {
    let ours = json!({"message_id": 2, "from": {"id": 7}, "text": "a long answer"});
    let quoted = |change: Value| {
        let event = event(said(change));
        (event.text, event.quote)
    };
    let stop = |quote: &str| ("/stop".to_owned(), Some(quote.to_owned()));
    let whole = json!({"text": "/stop", "reply_to_message": ours});
    assert_eq!(quoted(whole), stop("a long answer"));
    let part = json!({"text": "/stop", "reply_to_message": ours, "quote": {"text": "long"}});
    assert_eq!(quoted(part), stop("long"));
    // In a topic every message answers its first one; only who marks words of that one quotes it.
    let topic = |change: Value| {
        let mut message = json!({
            "text": "/stop", "is_topic_message": true, "message_thread_id": 2,
            "reply_to_message": ours,
        });
        message.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        quoted(message)
    };
    assert_eq!(topic(json!({})), ("/stop".to_owned(), None));
    assert_eq!(topic(json!({"quote": {"text": "long"}})), stop("long"));
}

#[test]
fn the_files_of_what_is_answered_come_behind_those_of_the_answer() {
    let photo = |id: &str| json!([{"file_id": id}]);
    let answered = json!({"message_id": 2, "photo": photo("theirs")});
    let event = event(said(json!({"photo": photo("mine"), "reply_to_message": answered})));
    let handles: Vec<_> = event.parts.iter().map(|part| part.handle.as_str()).collect();
    assert_eq!((handles, event.quote.as_deref()), (vec!["mine", "theirs"], Some("[photo]")));
}

#[test]
fn unknown_kinds_are_kept_as_they_came() {
    let update = json!({"update_id": 1, "brand_new": {
        "chat": {"id": 9, "type": "private"}, "from": {"id": 9}, "x": [1],
    }});
    let event = event(update.clone());
    assert_eq!((event.kind, event.raw), (InboundKind::Other, update.to_string().into_bytes()));
    let odd = super::tests::event(said(json!({"text": null, "hologram": {}})));
    assert_eq!((odd.kind, odd.text.as_str()), (InboundKind::Other, "[hologram: {}]"));
}

#[test]
fn a_group_that_moves_says_where() {
    let update = understood(said(json!({"text": null, "migrate_to_chat_id": -1001})));
    assert_eq!((update.moved, update.heard), (Some((-100, -1001)), Heard::Ignored));
    let update = understood(said(json!({"text": null, "migrate_from_chat_id": -1})));
    assert_eq!((update.moved, update.heard), (Some((-1, -100)), Heard::Ignored));
}

#[test]
fn what_is_no_update_says_so() {
    for update in [
        json!("x"),
        json!({}),
        json!({"message": {}}),
        json!({"update_id": 1}),
        json!({"update_id": 1, "brand_new": {}}),
        json!({"update_id": 1, "message": "x"}),
        json!({"update_id": 1, "message": {"chat": {"id": "x"}}}),
        said(json!({"message_id": null})),
    ] {
        let heard = understood(update.clone()).heard;
        let Heard::Malformed(_, kept) = heard else { panic!("{update} {heard:?}") };
        assert_eq!(kept.raw, update.to_string().into_bytes());
    }
}

/// Whatever the platform sends can be kept, and confirmed where it has an id.
#[test]
fn what_cannot_be_read_keeps_its_id_and_its_bytes() {
    let deep = format!(r#"{{"message":{}{},"update_id":3}}"#, "[".repeat(150), "]".repeat(150));
    for (raw, id, key) in [
        (br#"{"update_id":3,"message":{"text":"\ud800"}}"#.as_slice(), Some(3), "update:7:3"),
        (b"{\"update_id\":3,\"message\":{\"text\":\"\xff\"}}", Some(3), "update:7:3"),
        (deep.as_bytes(), Some(3), "update:7:3"),
        (br#"{"update_id":{},"message":{}}"#, None, "raw:7:"),
        (b"\xff", None, "raw:7:"),
    ] {
        let update = decode(raw, &own(), 5);
        assert_eq!(update.id, id);
        let Heard::Malformed(_, kept) = update.heard else { panic!("{update:?}") };
        assert_eq!((kept.kind, kept.raw.as_slice()), (InboundKind::Unreadable, raw));
        assert!(kept.keys.len() == 1 && kept.keys[0].starts_with(key), "{:?}", kept.keys);
    }
    let Heard::Malformed(_, other) = decode(b"x", &own(), 5).heard else { panic!() };
    let Heard::Malformed(_, again) = decode(b"x", &own(), 6).heard else { panic!() };
    assert_eq!(other.keys, again.keys, "what comes again is known");
    let quoted = said(json!({})).to_string().replace(":1,", ":\"1\",").replace(":1}", ":\"1\"}");
    let update = decode(quoted.as_bytes(), &own(), 5);
    assert!(update.id == Some(1) && matches!(update.heard, Heard::Event(_)), "{update:?}");
}

proptest! {
    #[test]
    fn no_update_makes_it_panic(
        name in "message|callback_query|message_reaction|my_chat_member|x",
        member in "chat|from|text|entities|photo|reply_to_message|date|data|rich_message|poll|invoice",
        value in "null|1|-1|\"x\"|\\[\\]|\\[\\{\\}\\]|\\{\\}|1e99|9007199254740993",
    ) {
        let update = format!(r#"{{"update_id":1,"{name}":{{"message_id":1,"chat":{{"id":1}},"{member}":{value}}}}}"#);
        decode(update.as_bytes(), &own(), 0);
    }
}
