//! An event of the platform, from JSON into our shape. Pure, and safe with any bytes.
//!
//! The delivery id in a frame names a delivery; what happened is named by the `event_id` of the event,
//! which a repetition keeps, and by the `message_id` in it, which even a replay under a new event id
//! keeps. So both are keys. Absent ids may be missing, null or empty.

use protocol::event::{ChatType, Inbound, InboundKind, Mention, Sender, SenderKind};
use serde_json::Value;

use super::content::{self, ALL, Mentioned};
use crate::json::{list_of, member, text_of};

/// Larger ones are not handed on as they came.
const RAW_MAX: usize = 256 * 1024;
/// The bound on a key, less the longest prefix.
const ID_MAX: usize = 240;

/// What the bot knows about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Own {
    /// Its id, once the platform has told.
    pub(super) open_id: Option<String>,
}

/// What was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// A message for us.
    Message(Box<Inbound>),
    /// A message in a group that mentions somebody, who may be the bot: that cannot be told before the
    /// bot knows itself.
    Unsure(Box<Inbound>),
    /// Well-formed and of no use here.
    Ignored,
    /// Not to be understood now or later.
    Malformed(&'static str),
}

/// Reads an event. `sent` knows the latest messages of the bot; `now_ms` stands in for a missing time.
pub(super) fn decode(payload: &[u8], own: &Own, sent: impl Fn(&str) -> bool, now_ms: i64) -> Heard {
    let Ok(event) = serde_json::from_slice::<Value>(payload) else {
        return Heard::Malformed("the payload is no JSON");
    };
    if !event.is_object() {
        return Heard::Malformed("the payload is no object");
    }
    // Events of the first version have no header, and none of them is a message for us.
    if text_of(member(&event, "header"), "event_type") != "im.message.receive_v1" {
        return Heard::Ignored;
    }
    message(&event, payload, own, sent, now_ms)
}

fn message(
    event: &Value,
    payload: &[u8],
    own: &Own,
    sent: impl Fn(&str) -> bool,
    now_ms: i64,
) -> Heard {
    let (header, body) = (member(event, "header"), member(event, "event"));
    let (message, from) = (member(body, "message"), member(body, "sender"));
    let Some(chat_id) = id(message, "chat_id") else {
        return Heard::Malformed("a message without chat_id");
    };
    let message_id = id(message, "message_id");
    let event_key = id(header, "event_id").map(|id| format!("event:{id}"));
    let message_key = message_id.as_ref().map(|id| format!("message:{id}"));
    let keys: Vec<_> = [event_key, message_key].into_iter().flatten().collect();
    if keys.is_empty() {
        return Heard::Malformed("a message without event_id and message_id");
    }
    let sender = sender(from, own);
    let ours = own
        .open_id
        .as_ref()
        .is_some_and(|own| *own == text_of(member(from, "sender_id"), "open_id"));
    if ours {
        // What the bot itself says must not come back to it, or it would talk to itself for ever.
        return Heard::Ignored;
    }
    let kind = text_of(message, "message_type");
    let inner = inner(message);
    let mentions = mentions(message);
    let content = content::render(kind, &inner, &mentions);
    let reply_to = id(message, "parent_id");
    let chat_type = match text_of(message, "chat_type") {
        "p2p" => ChatType::Direct,
        _ => ChatType::Group,
    };
    let answers_us = reply_to.as_deref().is_some_and(sent);
    let mention = mention(own, &mentions, &inner, answers_us);
    let origin = milliseconds(message);
    let inbound = Box::new(Inbound {
        kind: InboundKind::Message,
        keys,
        origin_ms: origin.or_else(|| milliseconds(header)).unwrap_or(now_ms),
        chat_id,
        chat_type,
        thread_id: id(message, "thread_id"),
        message_id,
        reply_to,
        sender,
        mention,
        text: content.text,
        parts: content.parts,
        raw: if payload.len() <= RAW_MAX { payload.to_vec() } else { Vec::new() },
        chat_name: None,
        quote: None,
    });
    let unsure = own.open_id.is_none() && chat_type == ChatType::Group && mention == Mention::Other;
    if unsure { Heard::Unsure(inbound) } else { Heard::Message(inbound) }
}

fn sender(from: &Value, own: &Own) -> Sender {
    let ids = member(from, "sender_id");
    let found = ["open_id", "union_id", "user_id"].iter().find_map(|name| id(ids, name));
    let kind = match text_of(from, "sender_type") {
        "user" | "" => SenderKind::User,
        // Without our own id, every program may be ourselves.
        "app" | "bot" if own.open_id.is_none() || own.open_id == found => SenderKind::Own,
        "app" | "bot" => SenderKind::Bot,
        _ => SenderKind::System,
    };
    Sender { user_id: found.unwrap_or_default(), name: None, kind }
}

fn mentions(message: &Value) -> Vec<Mentioned> {
    let mentioned = |entry: &Value| Mentioned {
        key: text_of(entry, "key").to_owned(),
        open_id: text_of(member(entry, "id"), "open_id").to_owned(),
        user_id: text_of(member(entry, "id"), "user_id").to_owned(),
        name: text_of(entry, "name").to_owned(),
    };
    list_of(message, "mentions").iter().map(mentioned).collect()
}

/// Until the bot knows itself, nobody is it.
fn mention(own: &Own, mentions: &[Mentioned], inner: &Value, answers_us: bool) -> Mention {
    let everybody = |m: &Mentioned| m.key == ALL || m.user_id == "all";
    let us = |m: &Mentioned| own.open_id.as_ref().is_some_and(|own| *own == m.open_id);
    if answers_us || mentions.iter().any(us) {
        Mention::Me
    } else if mentions.iter().any(everybody) || mentions_all(inner) {
        Mention::All
    } else if mentions.is_empty() {
        Mention::None
    } else {
        Mention::Other
    }
}

/// A call of everybody often has no entry in the list.
fn mentions_all(inner: &Value) -> bool {
    match inner {
        Value::String(text) => text.contains(ALL),
        Value::Array(values) => values.iter().any(mentions_all),
        Value::Object(members) => {
            let at_all = text_of(inner, "tag") == "at" && text_of(inner, "user_id") == "all";
            at_all || members.values().any(mentions_all)
        }
        _ => false,
    }
}

/// The content is JSON in a string; one that is not counts as empty.
fn inner(message: &Value) -> Value {
    serde_json::from_str(text_of(message, "content")).unwrap_or_default()
}

fn id(holder: &Value, name: &str) -> Option<String> {
    let text = text_of(holder, name);
    (!text.is_empty() && text.len() <= ID_MAX).then(|| text.to_owned())
}

fn milliseconds(holder: &Value) -> Option<i64> {
    let value = member(holder, "create_time");
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests {
    use ::tests::feishu::{Message, event, reaction};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn own() -> Own {
        Own { open_id: Some("ou_bot".to_owned()) }
    }

    fn hear(event: &Value, own: &Own) -> Heard {
        decode(event.to_string().as_bytes(), own, |id| id == "om_ours", NOW)
    }

    fn message(event: &Value) -> Inbound {
        match hear(event, &own()) {
            Heard::Message(inbound) => *inbound,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_direct_message() {
        let event =
            Message::direct("oc_1", "ou_ann").text("hello").message_id("om_1").event_id("e1");
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
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_thread_a_parent_and_who_is_addressed() {
        let group = || Message::group("oc_1", "ou_ann").text("@_user_1 do");
        let found = message(
            &group().mention("@_user_1", "ou_bot", "Bot").in_thread("omt_1", "om_r").build(),
        );
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
        let Heard::Unsure(inbound) = hear(&group.clone().build(), &unknown) else { panic!() };
        assert_eq!(inbound.mention, Mention::Other);
        for plain in [
            Message::group("oc_1", "ou_ann").text("x"),
            Message::direct("oc_1", "ou_ann").text("@_user_1").mention("@_user_1", "ou_bot", "B"),
        ] {
            assert!(matches!(hear(&plain.build(), &unknown), Heard::Message(_)));
        }
    }

    #[test]
    fn what_is_of_no_use_is_ignored_and_nonsense_is_not() {
        for ignored in [
            reaction("om_1", "ou_a", "OK", "app"),
            event("im.message.receive_v9", &json!({})),
            json!({"uuid": "u", "ts": "1", "type": "event_callback", "event": {"type": "message", "text": "x"}}),
            json!({}),
            Message::group("oc_1", "ou_bot").text("an echo").sender_type("app").build(),
        ] {
            assert_eq!(hear(&ignored, &own()), Heard::Ignored);
        }
        for malformed in [json!([]), json!("x"), event("im.message.receive_v1", &json!({}))] {
            assert!(matches!(hear(&malformed, &own()), Heard::Malformed(_)), "{malformed}");
        }
        assert!(matches!(decode(b"{", &own(), |_| false, NOW), Heard::Malformed(_)));
        assert!(matches!(decode(b"\xff", &own(), |_| false, NOW), Heard::Malformed(_)));
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
        }

        #[test]
        fn nor_does_any_content(kind in "text|post|interactive|file|x", content in any_json(), mentions in any_json()) {
            let mut event = Message::group("oc_1", "ou_a").content(&kind, &content).build();
            event["event"]["message"]["mentions"] = mentions;
            prop_assert!(matches!(hear(&event, &own()), Heard::Message(_)));
        }
    }
}
