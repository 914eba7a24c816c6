//! Events of every kind, and whatever else a platform may send in their place.

use ::tests::feishu::{
    Message, bot_member, card_action, chat_entered, event, menu, message_read, old_message,
    reaction, recalled,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::json::parse;

const NOW: i64 = 1_700_000_000_000;

fn own() -> Own {
    Own { open_id: Some("ou_bot".to_owned()) }
}

fn memory() -> Memory {
    let mut memory = Memory::default();
    memory.sent("om_ours", "oc_1", None, "text", "our words");
    memory
}

fn hear(event: &Value, own: &Own) -> Heard {
    decode(event.to_string().as_bytes(), own, &memory(), NOW)
}

/// An event that lacks nothing.
fn whole(event: &Value) -> Inbound {
    match hear(event, &own()) {
        Heard::Event(inbound, lack) if !lack.is_some() => *inbound,
        other => panic!("{other:?}"),
    }
}

fn message(event: &Value) -> Inbound {
    match hear(event, &own()) {
        Heard::Event(inbound, _) => *inbound,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_direct_message() {
    let event = Message::direct("oc_1", "ou_ann").text("hello").message_id("om_1").event_id("e1");
    let event = event.created_ms(1_600_000_000_123).build();
    let found = message(&event);
    let expected = Inbound {
        kind: InboundKind::Message,
        keys: vec!["event:e1".to_owned(), "message:om_1".to_owned()],
        origin_ms: 1_600_000_000_123,
        chat_id: "oc_1".to_owned(),
        chat_type: ChatType::Direct,
        thread_id: None,
        message_id: Some("om_1".to_owned()),
        reply_to: None,
        sender: Sender { user_id: "ou_ann".to_owned(), name: None, kind: SenderKind::User },
        mention: Mention::None,
        text: "hello".to_owned(),
        parts: Vec::new(),
        raw: event.to_string().into_bytes(),
        chat_name: None,
        quote: None,
        album: None,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_thread_a_parent_and_who_is_addressed() {
    let group = || Message::group("oc_1", "ou_ann").text("@_user_1 do");
    let found =
        message(&group().mention("@_user_1", "ou_bot", "Bot").in_thread("omt_1", "om_r").build());
    assert_eq!(
        (found.thread_id.as_deref(), found.reply_to.as_deref()),
        (Some("omt_1"), Some("om_r"))
    );
    assert_eq!((found.chat_type, found.mention), (ChatType::Group, Mention::Me));
    assert_eq!(found.text, "@Bot do");
    let mention = |message: Message| self::message(&message.build()).mention;
    assert_eq!(mention(group().mention("@_user_1", "ou_bob", "Bob")), Mention::Other);
    assert_eq!(mention(group().text("x")), Mention::None);
    assert_eq!(mention(group().text("@_all x")), Mention::All);
    assert_eq!(mention(group().text("ask @_all_employees and @_allies")), Mention::None);
    assert_eq!(mention(group().text("not @_all_employees but @_all")), Mention::All);
    assert_eq!(mention(group().text("x").mention("@_all", "", "all")), Mention::All);
    assert_eq!(
        mention(group().post("", &json!([[{"tag": "at", "user_id": "all"}]]))),
        Mention::All
    );
    assert_eq!(mention(group().text("x").reply_to("om_ours", "om_r")), Mention::Me);
}

#[test]
fn a_bot_that_does_not_know_itself_is_unsure_only_where_it_matters() {
    let unknown = Own::default();
    let group =
        Message::group("oc_1", "ou_ann").text("@_user_1 do").mention("@_user_1", "ou_bot", "B");
    let Heard::Event(inbound, lack) = hear(&group.clone().build(), &unknown) else { panic!() };
    assert!(lack.own);
    assert_eq!(inbound.mention, Mention::Other);
    for plain in [
        Message::group("oc_1", "ou_ann").text("x"),
        Message::direct("oc_1", "ou_ann").text("@_user_1").mention("@_user_1", "ou_bot", "B"),
    ] {
        assert!(matches!(hear(&plain.build(), &unknown), Heard::Event(_, lack) if !lack.is_some()));
    }
}

#[test]
fn what_is_of_no_use_is_ignored_and_nonsense_is_not() {
    for ignored in [
        reaction("om_1", "ou_a", "OK", "app"),
        message_read("ou_a", &["om_1"]),
        json!({"uuid": "u", "event": {"type": "message_read"}}),
        Message::group("oc_1", "ou_bot").text("an echo").sender_type("app").build(),
    ] {
        assert_eq!(hear(&ignored, &own()), Heard::Ignored);
    }
    for malformed in [
        json!([]),
        json!("x"),
        json!({}),
        json!({"uuid": "u", "event": {"type": "message", "text": "x"}}),
        event("im.message.receive_v1", &json!({})),
        event("im.message.recalled_v1", &json!({})),
        event("im.message.reaction.created_v1", &json!({})),
        event("card.action.trigger", &json!({})),
        event("application.bot.menu_v6", &json!({})),
    ] {
        assert!(matches!(hear(&malformed, &own()), Heard::Malformed(_)), "{malformed}");
    }
    assert!(matches!(decode(b"{", &own(), &memory(), NOW), Heard::Malformed(_)));
    assert!(matches!(decode(b"\xff", &own(), &memory(), NOW), Heard::Malformed(_)));
}

#[test]
fn absent_ids_may_be_null_or_empty_and_times_may_be_missing() {
    let mut event = Message::direct("oc_1", "").text("x").event_id("").build();
    event["event"]["message"]["create_time"] = json!("");
    event["event"]["message"]["thread_id"] = json!(null);
    event["event"]["message"]["parent_id"] = json!("");
    event["header"]["create_time"] = json!("17");
    event["event"]["sender"]["sender_id"] =
        json!({"open_id": "", "user_id": null, "union_id": "on_1"});
    let found = message(&event);
    assert_eq!((found.keys.len(), found.origin_ms), (1, 17));
    assert_eq!((found.thread_id, found.reply_to), (None, None));
    assert_eq!(found.sender.user_id, "on_1");
    event["header"]["create_time"] = json!(null);
    assert_eq!(message(&event).origin_ms, NOW);
}

#[test]
fn a_huge_event_leaves_its_raw_form_behind() {
    let found = message(&Message::direct("oc_1", "ou_a").text(&"x".repeat(RAW_MAX)).build());
    assert_eq!((found.raw.len(), found.text.len()), (0, RAW_MAX));
}

#[test]
fn what_answers_something_says_what_that_was() {
    let reply =
        |parent: &str| Message::direct("oc_1", "ou_a").text("why?").reply_to(parent, "om_r");
    let ours = whole(&reply("om_ours").build());
    assert_eq!((ours.quote.as_deref(), ours.mention), (Some("our words"), Mention::Me));
    let Heard::Event(_, lack) = hear(&reply("om_old").build(), &own()) else { panic!() };
    assert_eq!(lack, Lack { quote: Some("om_old".to_owned()), ..Lack::default() });
    let topic = Message::group("oc_1", "ou_a").text("x").in_thread("omt_1", "om_r").build();
    assert_eq!(whole(&topic).quote, None, "a topic's first message is no quote");
}

#[test]
fn what_happens_around_messages_is_heard() {
    let seen = |event: &Value| {
        let Heard::Event(it, lack) = hear(event, &own()) else { panic!("{event}") };
        (it.kind, it.chat_id, it.sender.user_id, it.mention, it.text, lack)
    };
    let text = str::to_owned;
    let group = Lack { chat_type: true, ..Lack::default() };
    let ours = seen(&reaction("om_ours", "ou_a", "OK", "user"));
    let expected =
        (InboundKind::Reaction, text("oc_1"), text("ou_a"), Mention::Me, text("OK"), group.clone());
    assert_eq!(ours, expected);
    let other = seen(&reaction("om_x", "ou_a", "OK", "user"));
    assert_eq!(other.5, Lack { place: Some(text("om_x")), ..Lack::default() });
    let gone = seen(&recalled("oc_1", "om_ours"));
    assert_eq!((gone.0, gone.3, gone.5), (InboundKind::Recall, Mention::Me, group.clone()));
    let added = seen(&bot_member("oc_2", "ou_a", true));
    let expected = (
        InboundKind::Member,
        text("oc_2"),
        text("ou_a"),
        Mention::Me,
        text("[added]"),
        Lack::default(),
    );
    assert_eq!(added, expected);
    assert_eq!(seen(&bot_member("oc_2", "ou_a", false)).4, "[removed]");
    let entered = whole(&chat_entered("oc_3", "ou_a"));
    assert_eq!((entered.kind, entered.chat_type), (InboundKind::Member, ChatType::Direct));
    let joined = event(
        "im.chat.member.user.added_v1",
        &json!({
            "chat_id": "oc_1", "operator_id": {"open_id": "ou_a"}, "users": [{"name": "Bob"}, {"name": "Cy"}],
        }),
    );
    assert_eq!(seen(&joined).4, "[joined: Bob, Cy]");
    let pressed = menu("ou_a", "help");
    let found = whole(&pressed);
    assert_eq!(
        (found.kind, found.chat_id.as_str(), found.text.as_str()),
        (InboundKind::Button, "ou_a", "help")
    );
}

#[test]
fn a_menu_belongs_to_the_chat_with_its_person() {
    let mut memory = memory();
    memory.heard(&whole(&Message::direct("oc_9", "ou_a").text("hi").build()));
    let menu = menu("ou_a", "help").to_string();
    let Heard::Event(found, _) = decode(menu.as_bytes(), &own(), &memory, NOW) else { panic!() };
    assert_eq!((found.chat_id.as_str(), found.chat_type), ("oc_9", ChatType::Direct));
}

#[test]
fn a_pressed_button_says_its_data() {
    let cases = [
        (json!({"value": {"data": "yes"}, "tag": "button"}), "yes"),
        (json!({"value": "yes", "tag": "button"}), "yes"),
        (json!({"value": {"a": 1}, "tag": "button"}), "{\"a\":1}"),
        (
            json!({"value": {}, "option": "2", "tag": "select_static"}),
            "{\"option\":\"2\",\"value\":{}}",
        ),
        (json!({"option": "2", "tag": "select_static"}), "2"),
        (json!({"name": "b1", "tag": "button"}), "b1"),
        (json!({}), ""),
        (json!(null), ""),
    ];
    for (action, text) in cases {
        let Heard::Event(found, _) = hear(&card_action("oc_1", "om_ours", "ou_a", &action), &own())
        else {
            panic!("{action}");
        };
        assert_eq!((found.kind, found.text.as_str()), (InboundKind::Button, text), "{action}");
        assert_eq!(found.message_id.as_deref(), Some("om_ours"));
        assert!(found.keys.iter().any(|key| key.starts_with("press:c-")));
    }
    // The form of old, which comes in frames of its own.
    let old = json!({
        "open_id": "ou_a", "open_message_id": "om_ours", "open_chat_id": "oc_1", "tenant_key": "t",
        "token": "c-1", "action": {"value": {"data": "yes"}, "tag": "button"},
    });
    let Heard::Event(found, _) = hear(&old, &own()) else { panic!() };
    assert_eq!((found.keys, found.sender.user_id.as_str()), (vec!["press:c-1".to_owned()], "ou_a"));
}

#[test]
fn the_first_version_is_understood() {
    let found = whole(&old_message("private", "oc_1", "ou_a", " hello "));
    assert_eq!((found.text.as_str(), found.chat_type), ("hello", ChatType::Direct));
    assert_eq!((found.sender.user_id.as_str(), found.keys.len()), ("ou_a", 2));
    let mut group = old_message("group", "oc_1", "ou_a", "x");
    group["event"]["is_mention"] = json!(true);
    group["event"]["msg_type"] = json!("image");
    group["event"]["image_key"] = json!("img_1");
    let found = whole(&group);
    assert_eq!((found.mention, found.text.as_str()), (Mention::Me, "[image]"));
    assert!(found.parts[0].handle.ends_with("/img_1"), "{}", found.parts[0].handle);
    for (kind, text) in [("add_bot", "[added]"), ("remove_bot", "[removed]")] {
        let event = json!({"uuid": "u", "ts": "1500000000.5", "event": {
            "type": kind, "open_chat_id": "oc_1", "operator_open_id": "ou_a", "chat_name": "C",
        }});
        let found = whole(&event);
        assert_eq!((found.text.as_str(), found.chat_name.as_deref()), (text, Some("C")));
        assert_eq!(found.origin_ms, 1_500_000_000_000);
    }
    let entered = json!({"uuid": "u", "event": {
        "type": "p2p_chat_create", "chat_id": "oc_1", "operator": {"open_id": "ou_a"},
    }});
    assert_eq!(whole(&entered).text, "[entered]");
}

#[test]
fn what_is_unknown_is_kept_raw() {
    let placed =
        event("im.brand_new_v7", &json!({"chat_id": "oc_1", "operator_id": {"open_id": "ou_a"}}));
    let Heard::Unknown(found, _) = hear(&placed, &own()) else { panic!() };
    assert_eq!((found.kind, found.chat_id.as_str()), (InboundKind::Other, "oc_1"));
    assert_eq!(found.raw, placed.to_string().into_bytes());
    for nowhere in [
        event("contact.user.updated_v3", &json!({"object": {}})),
        json!({"uuid": "u", "type": "event_callback", "event": {"type": "leave_approval"}}),
    ] {
        let Heard::Unknown(found, _) = hear(&nowhere, &own()) else { panic!() };
        assert_eq!((found.kind, found.keys.len()), (InboundKind::Unreadable, 1));
        assert_eq!(found.raw, nowhere.to_string().into_bytes());
    }
}

/// What it says is told as it came where it has not the form that it should have.
#[test]
fn no_words_get_lost() {
    let said = |kind: &str, content: Value| {
        let mut event = Message::direct("oc_1", "ou_a").text("").build();
        event["event"]["message"]["message_type"] = json!(kind);
        event["event"]["message"]["content"] = content;
        whole(&event).text
    };
    for (content, text) in [
        ("plain words", "plain words"),
        (r#"{"text":"Hi \ud83d there"}"#, "Hi \u{fffd} there"),
        ("{\"text\":\"a\nb\"}", "a\nb"),
        (r#"{"text":"big","n":1e999}"#, "big"),
        (r#"{"text":5}"#, r#"{"text":5}"#),
        (r#"{"text":"x"} junk"#, r#"{"text":"x"} junk"#),
        (r#"{"text":""}"#, ""),
        ("", ""),
    ] {
        assert_eq!(said("text", json!(content)), text, "{content}");
    }
    let deep = "[".repeat(500) + &"]".repeat(500);
    assert_eq!(said("post", json!(deep)), deep);
    assert_eq!(said("image", json!("?")), "[image]");
    assert_eq!(said("text", json!({"text": "no string"})), "no string");
}

#[test]
fn an_event_that_is_barely_json_is_heard() {
    let mut event = Message::group("oc_1", "ou_a").mention("@_user_1", "ou_z", "HALF").build();
    event["header"]["tenant_key"] = json!("HUGE");
    let text = event.to_string().replace("HALF", r"Ann \ud83d").replace("\"HUGE\"", "1e999");
    for bytes in [text.clone().into_bytes(), [b"\xef\xbb\xbf", text.as_bytes(), b"\0"].concat()] {
        let Heard::Event(found, _) = decode(&bytes, &own(), &memory(), NOW) else { panic!() };
        assert_eq!((found.chat_id.as_str(), found.raw), ("oc_1", bytes));
    }
}

#[test]
fn what_remains_of_what_is_malformed_is_all_of_it() {
    let known = event("im.message.receive_v1", &json!({})).to_string().into_bytes();
    let key = format!("event:{}", parse(&known)["header"]["event_id"].as_str().unwrap());
    assert_eq!(unreadable(&known, NOW).keys, [key]);
    let bytes = b"{\"header\":\xff".repeat(40_000);
    let kept = unreadable(&bytes, NOW);
    assert_eq!((kept.kind, &kept.raw), (InboundKind::Unreadable, &bytes));
    assert_eq!(unreadable(&bytes, NOW + 1).keys, kept.keys, "a repetition is one");
    assert_ne!(unreadable(b"{", NOW).keys, kept.keys);
}

#[test]
fn an_edit_is_no_repetition_of_its_message() {
    let mut event = Message::direct("oc_1", "ou_a").text("new").message_id("om_1").build();
    event["header"]["event_type"] = json!("im.message.updated_v1");
    event["event"]["message"]["update_time"] = json!("1700000001000");
    let found = whole(&event);
    assert_eq!((found.kind, found.origin_ms), (InboundKind::Edit, 1_700_000_001_000));
    assert!(found.keys.contains(&"edit:om_1:1700000001000".to_owned()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "header",
        "event",
        "message",
        "sender",
        "sender_id",
        "content",
        "mentions",
        "key",
        "id",
        "open_id",
        "event_type",
        "chat_id",
        "message_id",
        "event_id",
        "title",
        "elements",
        "tag",
        "user_id",
        "text",
        "message_type",
        "create_time",
    ]);
    let word = prop::sample::select(vec![
        "im.message.receive_v1",
        "post",
        "text",
        "@_user_1",
        "@_all",
        "at",
        "a",
        "",
        "17",
        "media",
        "{\"title\":1,\"content\":[[{\"tag\":\"at\"}],3]}",
        "{\"content\":{}}",
        "[]",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(message in any_json(), sender in any_json(), whole in any_json()) {
        let body = json!({"message": message, "sender": sender});
        hear(&event("im.message.receive_v1", &body), &own());
        hear(&whole, &own());
        for kind in [
            "im.message.recalled_v1",
            "im.message.reaction.created_v1",
            "im.chat.member.user.added_v1",
            "card.action.trigger",
            "application.bot.menu_v6",
            "x",
        ] {
            hear(&event(kind, &whole), &own());
        }
        hear(&json!({"uuid": "u", "event": whole}), &own());
    }

    #[test]
    fn nor_does_any_content(kind in "text|post|interactive|file|x", content in any_json(), mentions in any_json()) {
        let mut event = Message::group("oc_1", "ou_a").content(&kind, &content).build();
        event["event"]["message"]["mentions"] = mentions;
        prop_assert!(matches!(hear(&event, &own()), Heard::Event(..)));
    }
}
