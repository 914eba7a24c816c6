//! Calls of the open API that carry a reply. Pure.
//!
//! Every message carries a `uuid` derived from the reply's key: for an hour the platform makes at most
//! one message of it, so that repeating a reply, in whole or in part, is harmless.

use protocol::event::Outbound;
use reqwest::Method;
use serde_json::{Value, json};

use super::api::Call;
use super::compose::{Form, Message};

const MESSAGES: &str = "/open-apis/im/v1/messages";
const CARDS: &str = "/open-apis/cardkit/v1/cards";

/// Where a reply goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum To {
    /// It answers this message, in a thread or not.
    Message { id: String, in_thread: bool },
    /// It goes to the chat on its own.
    Chat,
}

/// Which attempt at which part this is. Another request must have another name, or the platform might
/// repeat its refusal of the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Name<'a> {
    /// Of the reply.
    pub(super) key: &'a str,
    /// Of the part.
    pub(super) index: usize,
    /// The form that it fell back to.
    pub(super) detour: Option<Form>,
    /// How many messages are gone that it was to answer.
    pub(super) instead: usize,
}

impl<'a> Name<'a> {
    /// Of a part.
    pub(super) fn new(outbound: &'a Outbound, index: usize) -> Self {
        Self { key: &outbound.key, index, detour: None, instead: 0 }
    }

    fn uuid(self) -> String {
        let index = if self.index == 0 { String::new() } else { format!("-{}", self.index) };
        let instead = match self.instead {
            0 => String::new(),
            1 => "c".to_owned(),
            more => format!("c{more}"),
        };
        let detour = match self.detour {
            None => "",
            Some(Form::Text) => "t",
            Some(Form::Post) => "p",
            Some(Form::Card) => "i",
        };
        format!("{}{index}{instead}{detour}", self.key)
    }
}

/// The call that sends a message.
pub(super) fn send(name: Name<'_>, chat_id: &str, to: &To, message: &Message) -> Call {
    let (kind, content, uuid) = (message.kind, message.content.as_str(), name.uuid());
    match to {
        To::Message { id, in_thread } => {
            let body = json!({
                "msg_type": kind, "content": content, "reply_in_thread": in_thread, "uuid": uuid,
            });
            Call::new("reply", Method::POST, format!("{MESSAGES}/{id}/reply"), body)
        }
        To::Chat => {
            let path = format!("{MESSAGES}?receive_id_type={}", receiver(chat_id));
            let body = json!({
                "receive_id": chat_id, "msg_type": kind, "content": content, "uuid": uuid,
            });
            Call::new("send", Method::POST, path, body)
        }
    }
}

/// What sort of id this is.
pub(super) fn receiver(id: &str) -> &'static str {
    match id.split_once('_').map(|(prefix, _)| prefix) {
        Some("ou") => "open_id",
        Some("on") => "union_id",
        _ => "chat_id",
    }
}

/// The call that makes a message of ours another one. `None`: this is no id.
pub(super) fn edit(message_id: &str, message: &Message) -> Option<Call> {
    let path = format!("{MESSAGES}/{}", plain(message_id)?);
    Some(match message.kind {
        "interactive" => {
            Call::new("patch", Method::PATCH, path, json!({ "content": message.content }))
        }
        kind => {
            let body = json!({"msg_type": kind, "content": message.content});
            Call::new("edit", Method::PUT, path, body)
        }
    })
}

/// The call that takes a message of ours back.
pub(super) fn recall(message_id: &str) -> Option<Call> {
    let path = format!("{MESSAGES}/{}", plain(message_id)?);
    Some(Call::new("recall", Method::DELETE, path, Value::Null))
}

/// The call that asks for a message, and for a card as it was made: else the platform does not tell one of schema 2.0.
pub(super) fn message(message_id: &str) -> Option<Call> {
    let query = "card_msg_content_type=user_card_content";
    Some(Call::get("message", format!("{MESSAGES}/{}?{query}", plain(message_id)?)))
}

/// The call that lists the latest messages of a chat within these seconds.
pub(super) fn history(chat_id: &str, since_s: i64, until_s: i64) -> Option<Call> {
    let chat = plain(chat_id)?;
    let query = format!(
        "container_id_type=chat&container_id={chat}&start_time={since_s}&end_time={until_s}&sort_type=ByCreateTimeDesc&page_size=50"
    );
    Some(Call::get("history", format!("{MESSAGES}?{query}")))
}

/// The call that lists what was said in a chat from this second on, the oldest first, page by page.
pub(super) fn past(chat_id: &str, since_s: i64, page: &str) -> Option<Call> {
    let chat = plain(chat_id)?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("container_id_type", "chat")
        .append_pair("container_id", chat)
        .append_pair("start_time", &since_s.to_string())
        .append_pair("sort_type", "ByCreateTimeAsc")
        .append_pair("page_size", "50");
    if !page.is_empty() {
        query.append_pair("page_token", page);
    }
    Some(Call::get("history", format!("{MESSAGES}?{}", query.finish())))
}

/// The call that lists what was said in a topic, the newest first, page by page. Of a topic it is not told by time.
pub(super) fn topic(thread_id: &str, page: &str) -> Option<Call> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("container_id_type", "thread")
        .append_pair("container_id", plain(thread_id)?)
        .append_pair("sort_type", "ByCreateTimeDesc")
        .append_pair("page_size", "50");
    if !page.is_empty() {
        query.append_pair("page_token", page);
    }
    Some(Call::get("history", format!("{MESSAGES}?{}", query.finish())))
}

/// The call that asks for a chat.
pub(super) fn chat(chat_id: &str) -> Option<Call> {
    Some(Call::get("chat", format!("/open-apis/im/v1/chats/{}", plain(chat_id)?)))
}

/// The call that reacts.
pub(super) fn react(message_id: &str, emoji: &str) -> Option<Call> {
    let path = format!("{MESSAGES}/{}/reactions", plain(message_id)?);
    let body = json!({"reaction_type": {"emoji_type": emoji}});
    Some(Call::new("react", Method::POST, path, body))
}

/// The call that takes a reaction back.
pub(super) fn unreact(message_id: &str, reaction_id: &str) -> Option<Call> {
    // The platform makes ids of reactions of any characters.
    let id: String = url::form_urlencoded::byte_serialize(reaction_id.as_bytes()).collect();
    let path = format!("{MESSAGES}/{}/reactions/{id}", plain(message_id)?);
    Some(Call::new("unreact", Method::DELETE, path, Value::Null))
}

/// The call that lists reactions, `page` by page.
pub(super) fn reactions(message_id: &str, page: Option<&str>) -> Option<Call> {
    let mut path = format!("{MESSAGES}/{}/reactions?page_size=50", plain(message_id)?);
    if let Some(page) = page {
        let page: String = url::form_urlencoded::byte_serialize(page.as_bytes()).collect();
        path = format!("{path}&page_token={page}");
    }
    Some(Call::get("reactions", path))
}

/// What a part is fetched by. It names its message, which alone hands it out: what was said in one go reaches agents as
/// one message.
pub(super) fn handle(message_id: &str, key: &str) -> String {
    if names_message(message_id) { format!("{message_id}/{key}") } else { key.to_owned() }
}

/// The path of the bytes behind a handle, of the message that it names, else of `message_id`.
pub(super) fn resource(message_id: &str, handle: &str, kind: &str) -> Option<String> {
    let named = handle.split_once('/').filter(|(id, _)| names_message(id));
    let (message_id, key) = named.unwrap_or((message_id, handle));
    if matches!(key, "" | "." | "..") {
        return None;
    }
    let key: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
    Some(format!("{MESSAGES}/{}/resources/{key}?type={kind}", plain(message_id)?))
}

fn names_message(id: &str) -> bool {
    id.starts_with("om_") && is_plain(id)
}

/// The delayed update of a card that somebody pressed, by the token that came with it.
pub(super) fn card_by_token(token: &str, card: &Value) -> Call {
    let path = "/open-apis/interactive/v1/card/update".to_owned();
    Call::new("card_by_token", Method::POST, path, json!({"token": token, "card": card}))
}

/// The call that makes a card which can grow.
pub(super) fn card(card: &Value) -> Call {
    let body = json!({"type": "card_json", "data": card.to_string()});
    Call::new("card", Method::POST, CARDS.to_owned(), body)
}

/// The message that shows it.
pub(super) fn card_message(card_id: &str) -> Message {
    Message::new("interactive", &json!({"type": "card", "data": {"card_id": card_id}}))
}

/// The call that asks which card a message shows.
pub(super) fn card_of(message_id: &str) -> Call {
    let body = json!({ "message_id": message_id });
    Call::new("card_of", Method::POST, format!("{CARDS}/id_convert"), body)
}

/// The call that shows more words in a card.
pub(super) fn card_words(card_id: &str, element: &str, words: &str, sequence: u32) -> Option<Call> {
    let path = format!("{CARDS}/{}/elements/{element}/content", plain(card_id)?);
    let uuid = format!("w{sequence}");
    let body = json!({"content": words, "sequence": sequence, "uuid": uuid});
    Some(Call::new("card_words", Method::PUT, path, body))
}

/// The call that says that a card grows no more.
pub(super) fn card_done(card_id: &str, sequence: u32) -> Option<Call> {
    let path = format!("{CARDS}/{}/settings", plain(card_id)?);
    let settings = json!({"config": {"streaming_mode": false}}).to_string();
    let body = json!({"settings": settings, "sequence": sequence, "uuid": format!("s{sequence}")});
    Some(Call::new("card_settings", Method::PATCH, path, body))
}

/// The call that makes a card another one.
pub(super) fn card_whole(card_id: &str, card: &Value, sequence: u32) -> Option<Call> {
    let path = format!("{CARDS}/{}", plain(card_id)?);
    let card = json!({"type": "card_json", "data": card.to_string()});
    let body = json!({"card": card, "sequence": sequence, "uuid": format!("c{sequence}")});
    Some(Call::new("card_whole", Method::PUT, path, body))
}

fn plain(id: &str) -> Option<&str> {
    is_plain(id).then_some(id)
}

/// Ids come back from agents; one that is none must not become a part of a path.
pub(super) fn is_plain(id: &str) -> bool {
    !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str, index: usize) -> Name<'_> {
        Name { key, index, detour: None, instead: 0 }
    }

    #[test]
    fn calls_say_what_the_platform_wants_to_hear() {
        let key = "k".repeat(40);
        let message = Message::new("text", &json!({"text": "a\"b\n"}));
        let to = To::Message { id: "om_1".to_owned(), in_thread: true };
        let call = send(name(&key, 0), "oc_1", &to, &message);
        assert_eq!(call.path, "/open-apis/im/v1/messages/om_1/reply");
        let expected = json!({
            "msg_type": "text", "content": r#"{"text":"a\"b\n"}"#, "reply_in_thread": true, "uuid": key,
        });
        assert_eq!(call.body, expected);
        let call = send(name(&key, 3), "oc_1", &To::Chat, &message);
        assert_eq!(call.path, "/open-apis/im/v1/messages?receive_id_type=chat_id");
        assert_eq!(call.body["receive_id"], "oc_1");
        assert_eq!(call.body["uuid"], format!("{key}-3"));
        let person = send(name(&key, 0), "ou_1", &To::Chat, &message);
        assert_eq!(person.path, "/open-apis/im/v1/messages?receive_id_type=open_id");
        let edit = |kind| edit("om_1", &Message::new(kind, &json!({}))).unwrap();
        assert_eq!((edit("post").method, edit("interactive").method), (Method::PUT, Method::PATCH));
    }

    #[test]
    fn what_is_no_id_is_no_path() {
        for hostile in ["", "../x", "a/b", "a?b", "a b", "é"] {
            assert!(
                recall(hostile)
                    .or(message(hostile))
                    .or(react(hostile, "OK"))
                    .or(topic(hostile, ""))
                    .is_none()
            );
            assert!(resource(hostile, "k", "image").is_none());
        }
        assert!(resource("om_1", "..", "file").is_none());
        let found = resource("om_1", "a/../b?c", "file").unwrap();
        assert_eq!(found, "/open-apis/im/v1/messages/om_1/resources/a%2F..%2Fb%3Fc?type=file");
    }

    #[test]
    fn every_part_and_every_detour_has_a_uuid_of_its_own() {
        let key = "k".repeat(40);
        let detours = [None, Some(Form::Text), Some(Form::Post)];
        let mut all: Vec<String> = Vec::new();
        for instead in [0, 1, 9] {
            for detour in detours {
                all.extend((0..1000).map(|i| Name { detour, instead, ..name(&key, i) }.uuid()));
            }
        }
        assert!(all.iter().all(|uuid| uuid.len() <= 50));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 9000);
    }
}
