//! An event as the agent's own adapters would present it. Pure.
//!
//! The agent keeps its history under a key that it computes from the source of an event. Whoever moves
//! from its own adapters to this gateway keeps that history if every part of the source is what they
//! would have put there: for Feishu the tenant's user id before the `open_id`, the `union_id` beside it, and
//! the root of a quoted message as its thread; for Telegram the General topic of a forum as topic 1.

use protocol::event::{ChatType, Delivery, Mention, Part, SenderKind};
use serde_json::{Value, json};

use crate::agent::quoted;
use crate::raw::feishu_ids;

/// Between the name of a message and the number of its offer.
const AGAIN: &str = "~hgw";

/// The name of a message at the agent. Newer agents acknowledge a name that they have seen and do nothing:
/// what is offered again has another one.
fn offered(name: &str, attempt: u32) -> String {
    if attempt > 1 { format!("{name}{AGAIN}{attempt}") } else { name.to_owned() }
}

/// The message that the agent means, however often it was offered.
pub(super) fn own_name(name: &str) -> &str {
    match name.rsplit_once(AGAIN) {
        Some((own, attempt)) if attempt.parse::<u32>().is_ok() => own,
        _ => name,
    }
}

/// Where an event comes from, as the agent sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Source {
    pub(super) platform: String,
    pub(super) chat_id: String,
    pub(super) chat_type: &'static str,
    pub(super) thread_id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) user_id_alt: Option<String>,
    pub(super) user_name: Option<String>,
    /// The name of the message; one of our own where the platform has none.
    pub(super) message_id: String,
    /// The message that it answers or whose thread it is in.
    pub(super) reply_to: Option<String>,
}

impl Source {
    /// Where `delivery` comes from.
    pub(super) fn of(delivery: &Delivery) -> Self {
        let event = &delivery.event;
        let own = Some(event.sender.user_id.clone()).filter(|id| !id.is_empty());
        let mut source = Self {
            platform: delivery.platform.clone(),
            chat_id: event.chat_id.clone(),
            chat_type: match event.chat_type {
                ChatType::Direct => "dm",
                ChatType::Group => "group",
                ChatType::Channel => "channel",
            },
            thread_id: event.thread_id.clone(),
            user_id: own,
            user_id_alt: None,
            user_name: event.sender.name.clone(),
            message_id: event
                .message_id
                .clone()
                .unwrap_or_else(|| format!("hgw-{}", delivery.event_id)),
            reply_to: event.reply_to.clone(),
        };
        let raw: Value = serde_json::from_slice(&event.raw).unwrap_or_default();
        match delivery.platform.as_str() {
            "feishu" => source.as_feishu(&raw),
            "telegram" => source.as_telegram(&raw),
            _ => {}
        }
        source
    }

    fn as_feishu(&mut self, raw: &Value) {
        let ids = |name: &str| text(feishu_ids(raw), &format!("/{name}"));
        self.user_id = ids("user_id").or(self.user_id.take());
        self.user_id_alt = ids("union_id");
        let root = text(raw, "/event/message/root_id");
        self.thread_id = self.thread_id.take().or_else(|| root.clone());
        self.reply_to = self.reply_to.take().or(root);
    }

    fn as_telegram(&mut self, raw: &Value) {
        let forum = ["/message", "/edited_message", "/channel_post"]
            .iter()
            .any(|at| raw.pointer(&format!("{at}/chat/is_forum")) == Some(&Value::Bool(true)));
        if forum && self.thread_id.is_none() {
            self.thread_id = Some("1".to_owned());
        }
        if self.chat_type == "channel" && self.user_id.is_none() {
            self.user_id = Some(self.chat_id.clone());
        }
    }

    /// The key under which the agent keeps this conversation, if it is configured as it comes.
    pub(super) fn session_key(&self) -> String {
        let mut key = format!("agent:main:{}:{}", self.platform, self.chat_type);
        let user = self.user_id_alt.as_ref().or(self.user_id.as_ref());
        let chat = Some(&self.chat_id).filter(|chat| !chat.is_empty());
        let parts = if self.chat_type == "dm" {
            [chat.or(user), self.thread_id.as_ref(), None]
        } else {
            let user = user.filter(|_| self.thread_id.is_none());
            [chat, self.thread_id.as_ref(), user]
        };
        for part in parts.into_iter().flatten() {
            key.push(':');
            key.push_str(part);
        }
        key
    }

    /// The agent's own command to end its turn in this conversation, as a message of this name.
    pub(super) fn stop(&self, name: &str, delivery: &Delivery) -> Value {
        let stop = Self { message_id: name.to_owned(), reply_to: None, ..self.clone() };
        stop.said("/stop", delivery)
    }

    /// The event. Members that only newer agents read are there, too. What it answers to reaches the model as a part
    /// of the text alone, and would make a command none.
    pub(super) fn event(&self, delivery: &Delivery) -> Value {
        let text = command(delivery.event.mention, &delivery.event.text);
        if text.starts_with('/') {
            return self.said(text, delivery);
        }
        self.said(&(quoted(delivery) + text), delivery)
    }

    fn said(&self, text: &str, delivery: &Delivery) -> Value {
        let event = &delivery.event;
        let name = offered(&self.message_id, delivery.attempt);
        // Those that were brought are named by their paths, which is what the agent opens.
        let files = event.parts.iter().filter(|part| part.handle.starts_with('/'));
        let kind = match files.clone().next() {
            _ if text.starts_with('/') => "command",
            Some(part) => kind_of(part),
            None => "text",
        };
        let media = files.clone().map(|part| json!({ "url": part.handle, "mime": part.mime }));
        json!({
            "text": text,
            "message_type": kind,
            "media_urls": files.map(|part| part.handle.as_str()).collect::<Vec<_>>(),
            "media": media.collect::<Vec<_>>(),
            "message_id": name,
            "reply_to_message_id": self.reply_to,
            "message_is_edit": false,
            "source": {
                "platform": self.platform,
                "chat_id": self.chat_id,
                "chat_type": self.chat_type,
                "chat_name": event.chat_name,
                "user_id": self.user_id,
                "user_id_alt": self.user_id_alt,
                "user_name": self.user_name,
                "user_display_name": self.user_name,
                "thread_id": self.thread_id,
                "message_id": name,
                "is_bot": event.sender.kind == SenderKind::Bot,
            },
        })
    }
}

/// The agent's word for a sort of file.
fn kind_of(part: &Part) -> &'static str {
    let mime = part.mime.as_deref().unwrap_or_default();
    match part.kind.as_str() {
        "image" | "photo" => "photo",
        "voice" => "voice",
        "audio" => "audio",
        "video" | "video_note" | "animation" | "media" => "video",
        _ if mime.starts_with("image/") => "photo",
        _ => "document",
    }
}

/// A command to the bot that begins by naming it, without the name; any other text as it is.
fn command(mention: Mention, text: &str) -> &str {
    let named = (mention == Mention::Me).then(|| text.strip_prefix('@')).flatten();
    let rest = named.and_then(|text| text.split_once(char::is_whitespace));
    match rest.map(|(_, rest)| rest.trim_start()) {
        Some(rest) if rest.starts_with('/') => rest,
        _ => text,
    }
}

fn text(value: &Value, at: &str) -> Option<String> {
    value.pointer(at)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::sample::delivery;

    fn key(delivery: &Delivery) -> String {
        Source::of(delivery).session_key()
    }

    #[test]
    fn the_key_is_the_agents_own() {
        let mut feishu = delivery(1, "feishu", "oc_1", "hello");
        let ids = json!({ "open_id": "ou_1", "union_id": "on_1", "user_id": "u1" });
        let raw = |root: Value| {
            let message = json!({ "root_id": root });
            json!({ "event": { "sender": { "sender_id": ids }, "message": message } })
                .to_string()
                .into_bytes()
        };
        feishu.event.raw = raw(json!(null));
        assert_eq!(key(&feishu), "agent:main:feishu:dm:oc_1");
        assert_eq!(Source::of(&feishu).user_id.as_deref(), Some("u1"));
        feishu.event.chat_type = ChatType::Group;
        assert_eq!(key(&feishu), "agent:main:feishu:group:oc_1:on_1");
        feishu.event.raw = json!({ "event": { "operator": ids } }).to_string().into_bytes();
        assert_eq!(key(&feishu), "agent:main:feishu:group:oc_1:on_1", "a button");
        feishu.event.raw = raw(json!("om_root"));
        assert_eq!(key(&feishu), "agent:main:feishu:group:oc_1:om_root", "a quoted reply");
        feishu.event.thread_id = Some("omt_5".into());
        assert_eq!(key(&feishu), "agent:main:feishu:group:oc_1:omt_5");

        let mut telegram = delivery(1, "telegram", "-1005", "hello");
        telegram.event.sender.user_id = "2001".into();
        telegram.event.chat_type = ChatType::Group;
        assert_eq!(key(&telegram), "agent:main:telegram:group:-1005:2001");
        telegram.event.raw = br#"{"message":{"chat":{"is_forum":true}}}"#.to_vec();
        assert_eq!(key(&telegram), "agent:main:telegram:group:-1005:1", "the General topic");
        telegram.event.raw = Vec::new();
        telegram.event.chat_type = ChatType::Channel;
        telegram.event.sender.user_id = String::new();
        assert_eq!(key(&telegram), "agent:main:telegram:channel:-1005:-1005");
    }

    #[test]
    fn each_offer_has_its_name_and_all_mean_one_message() {
        for (attempt, name) in [(0, "om_1"), (1, "om_1"), (2, "om_1~hgw2"), (31, "om_1~hgw31")] {
            assert_eq!(offered("om_1", attempt), name);
            assert_eq!(own_name(name), "om_1");
        }
        for other in ["", "om_1~hgw", "om_1~hgwx", "~hg2"] {
            assert_eq!(own_name(other), other);
        }
    }

    #[test]
    fn files_that_were_brought_are_paths() {
        let mut delivery = delivery(1, "telegram", "5", "hello");
        let part = |handle: &str, kind: &str| Part {
            kind: kind.into(),
            handle: handle.into(),
            name: None,
            size: None,
            mime: Some("image/png".into()),
        };
        delivery.event.parts =
            vec![part("/x/a.png", "photo"), part("AgAD", "photo"), part("/x/b", "file")];
        let event = Source::of(&delivery).event(&delivery);
        assert_eq!(event["message_type"], "photo");
        assert_eq!(event["media_urls"], json!(["/x/a.png", "/x/b"]), "others could not be brought");
        assert_eq!(event["media"][0]["mime"], "image/png");
        delivery.event.parts.clear();
        assert_eq!(Source::of(&delivery).event(&delivery)["media_urls"], json!([]));
    }

    #[test]
    fn a_command_is_one_even_behind_the_bots_name() {
        assert_eq!(command(Mention::Me, "@Bot  /help me"), "/help me");
        assert_eq!(command(Mention::Me, "@Bot hello /x"), "@Bot hello /x");
        assert_eq!(command(Mention::Other, "@Ann /help"), "@Ann /help");
        assert_eq!(command(Mention::Me, "/help"), "/help");
        let mut delivery = delivery(1, "feishu", "oc_1", "hello");
        delivery.event.quote = Some("a\nb".into());
        assert_eq!(Source::of(&delivery).event(&delivery)["text"], "> a\n> b\n\nhello");
        delivery.event.text = "/stop".into();
        let event = Source::of(&delivery).event(&delivery);
        assert_eq!((&event["message_type"], &event["text"]), (&json!("command"), &json!("/stop")));
    }
}
