//! Where the receiver of events sends what it has to say later: a reply, a reply in the making, a wish for
//! the bytes of a file. Each is posted to us as we post to it: signed as Standard Webhooks says, with the
//! same secret. A reply is answered when it is durable; the same key again is the same reply.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use protocol::content::{self, FileKind};
use protocol::event::{Part, Reply};
use protocol::id::{Instance, Lane};
use protocol::rpc::{self, KEY_MAX, Message};
use protocol::worker::ReplyVerdict;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

use super::sign::Signer;
use crate::agent::{Files, Replies, Say};
use crate::clock;
use crate::exchange::Exchange;
use crate::listener::{Answer, Head, Limits, Site};
use crate::strangers::Strangers;

/// Where it is.
const PATH: &str = "/messages";
const BODY_MAX: usize = 24 * 1024 * 1024;
/// The largest file that is given out.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// Files that are read to be given out at the same time.
const FETCHES: usize = 8;
const MOMENT: Duration = Duration::from_secs(10);

/// Its limits. A file may have to be fetched from its platform first.
pub(super) const LIMITS: Limits = Limits {
    head: 8192,
    body: BODY_MAX,
    head_within: Duration::from_secs(30),
    body_within: Duration::from_secs(60),
    answer_within: Duration::from_secs(120),
    connections: 256,
    last: Duration::from_secs(1),
};

/// The door.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) signer: Signer,
    pub(super) replies: Replies,
    pub(super) files: Files,
    pub(super) exchange: Exchange,
    pub(super) say: Say,
    pub(super) fetches: Semaphore,
    pub(super) strangers: Mutex<Strangers>,
}

/// As many files as are given out at the same time.
pub(super) fn fetches() -> Semaphore {
    Semaphore::new(FETCHES)
}

/// A file that comes with its bytes.
#[derive(Debug, Deserialize)]
struct Sent {
    kind: FileKind,
    /// What it is called where it comes from.
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    title: Option<String>,
    /// Base64.
    data: String,
}

type Told = Result<Value, (u16, String)>;

impl Site for Door {
    fn admit(&self, head: &Head) -> Result<(), Answer> {
        if head.uri.path() != PATH {
            return Err(Answer::plain(404, "nothing is here"));
        }
        if head.method != hyper::Method::POST {
            return Err(Answer::plain(405, "POST it"));
        }
        let there = |name: &str| head.headers.contains_key(name);
        if !["webhook-id", "webhook-timestamp", "webhook-signature"].into_iter().all(there) {
            return Err(Answer::plain(401, "it is not signed"));
        }
        Ok(())
    }

    async fn answer(&self, head: Head, body: Bytes) -> Answer {
        let text = |name: &str| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let (id, now) = (text("webhook-id"), clock::unix_ms() / 1000);
        let signed = (id, text("webhook-timestamp"), text("webhook-signature"));
        if let Err(why) = self.counted(self.signer.verify(signed, &body, now)) {
            return Answer::plain(401, why);
        }
        match self.told(id, &body).await {
            Ok(value) => Answer::json(200, value.to_string()),
            Err((503, _)) => Answer::later(1),
            Err((status, why)) => Answer::json(status, json!({ "error": why }).to_string()),
        }
    }
}

impl Door {
    /// Counts what is not the receiver's.
    fn counted(&self, verified: Result<(), &'static str>) -> Result<(), &'static str> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        match verified {
            Ok(()) => strangers.vouched(),
            Err(why) => {
                if let Some(times) = strangers.refused(why) {
                    tracing::warn!(why, times, "a message that is not the receiver's is refused");
                }
            }
        }
        verified
    }

    async fn told(&self, id: &str, body: &[u8]) -> Told {
        let wrong = |why: String| (422, why);
        let mut value: Value = serde_json::from_slice(body).map_err(|e| wrong(e.to_string()))?;
        let data = value.get_mut("data").map(Value::take).unwrap_or_default();
        match value.get("type").and_then(Value::as_str) {
            Some("message.send") => self.send(id, data).await,
            Some("message.draft") => self.draft(data).await,
            Some("file.fetch") => self.fetch(data).await,
            other => {
                let types = "message.send, message.draft or file.fetch";
                Err(wrong(match other {
                    Some(other) => format!("type must be {types}, not {other:?}"),
                    None => format!("type is missing: it must be {types}"),
                }))
            }
        }
    }

    async fn send(&self, id: &str, mut data: Value) -> Told {
        let members = data.as_object_mut().ok_or((422, "data must be an object".to_owned()))?;
        members.entry("key").or_insert_with(|| json!(id));
        let files = members.remove("files").unwrap_or_else(|| json!([]));
        let files: Vec<Sent> = read(files)?;
        let empty = members.get("text").and_then(Value::as_str).unwrap_or_default().is_empty();
        if empty && !files.is_empty() {
            // What a file is called is said with it.
            members.insert("text".into(), json!(" "));
        }
        let send: rpc::Send = read(data)?;
        if send.key.is_empty() || send.key.len() > KEY_MAX {
            return Err((422, format!("key must have 1 to {KEY_MAX} bytes")));
        }
        let mut content = send.content().map_err(|why| (422, why))?;
        if empty && !files.is_empty() {
            content.text.clear();
        }
        let lane = lane(send.instance, send.chat_id, send.thread_id)?;
        for sent in files {
            let bytes = STANDARD.decode(sent.data).map_err(|e| (422, format!("a file: {e}")))?;
            let title = sent.title.or(sent.file);
            let name = title.as_deref().unwrap_or("file");
            let file = self.put(name, &bytes).await.map_err(|why| (422, why))?;
            content.files.push(content::File { kind: sent.kind, file, title });
        }
        let reply = Reply { key: send.key, lane, reply_to: send.reply_to, content };
        match self.replies.submit(reply).await {
            Some(ReplyVerdict::Accepted(receipt)) => {
                serde_json::to_value(Message::from(receipt)).map_err(|e| (500, e.to_string()))
            }
            Some(ReplyVerdict::Rejected(why)) => Err((422, why)),
            Some(ReplyVerdict::Refused) | None => Err((503, String::new())),
        }
    }

    async fn put(&self, title: &str, bytes: &[u8]) -> Result<String, String> {
        let mut making = self.exchange.begin(title).await.map_err(|e| e.to_string())?;
        making.write(bytes).await.map_err(|e| e.to_string())?;
        making.finish(None).await.map(|made| made.file).map_err(|e| e.to_string())
    }

    async fn draft(&self, data: Value) -> Told {
        let draft: rpc::Draft = read(data)?;
        if draft.key.is_empty() || draft.key.len() > KEY_MAX {
            return Err((422, format!("key must have 1 to {KEY_MAX} bytes")));
        }
        let draft = content::Draft {
            key: draft.key,
            lane: lane(draft.instance, draft.chat_id, draft.thread_id)?,
            reply_to: draft.reply_to,
            text: draft.text,
            message_id: None,
        };
        match tokio::time::timeout(MOMENT, self.say.draft(draft)).await {
            Ok(Err(why)) => Err((413, why)),
            Ok(Ok(())) | Err(_) => Ok(json!({})),
        }
    }

    async fn fetch(&self, data: Value) -> Told {
        let rpc::Fetch { instance, message_id, part } = read(data)?;
        let instance = Instance::new(instance).map_err(|e| (422, e.to_string()))?;
        let name = part.name.clone();
        let _turn = self.fetches.acquire().await;
        let fetch = content::Fetch { instance, message_id, part: Part { ..part } };
        let fetched = self.files.fetch(fetch).await.map_err(|why| (404, why))?;
        let (mut file, size) =
            self.exchange.open(&fetched.file).await.map_err(|e| (404, e.to_string()))?;
        if size > FILE_MAX {
            return Err((413, format!("it has {size} bytes, at most {FILE_MAX} are given out")));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await.map_err(|e| (404, e.to_string()))?;
        let data = STANDARD.encode(bytes);
        Ok(json!({ "name": name, "mime": fetched.mime, "size": size, "data": data }))
    }
}

fn read<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T, (u16, String)> {
    serde_json::from_value(value).map_err(|e| (422, e.to_string()))
}

fn lane(
    instance: String,
    chat_id: String,
    thread_id: Option<String>,
) -> Result<Lane, (u16, String)> {
    let instance = Instance::new(instance).map_err(|e| (422, e.to_string()))?;
    Ok(Lane { instance, chat_id, thread_id })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::exchange;

    fn door(dir: &tempfile::TempDir, replies: mpsc::Sender<crate::agent::Submitted>) -> Door {
        let kept = protocol::worker::Exchange { dir: dir.path().to_owned(), max_bytes: 99 };
        Door {
            signer: Signer::new(&format!("whsec_{}", STANDARD.encode([7; 32]))).unwrap(),
            replies: Replies::new(replies),
            files: Files::new(mpsc::channel(1).0),
            exchange: exchange::Exchange::from(kept),
            say: Say::new(mpsc::channel(1).0),
            fetches: fetches(),
            strangers: Mutex::default(),
        }
    }

    /// What no frame can carry would end this worker.
    #[tokio::test]
    async fn what_is_too_large_to_be_passed_on_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let door = door(&dir, mpsc::channel(1).0);
        let long = "x".repeat(2 << 20);
        let part = json!({ "kind": "image", "handle": long });
        let fetch = json!({ "instance": "local", "message_id": "m", "part": part });
        let draft = json!({ "key": "k", "instance": "local", "chat_id": "c", "text": long });
        for told in [door.draft(draft).await, door.fetch(fetch).await] {
            let (status, why) = told.unwrap_err();
            assert!([413, 404].contains(&status) && why.contains(" at most "), "{status} {why}");
        }
    }

    #[tokio::test]
    async fn a_file_has_the_name_that_it_was_sent_with() {
        let dir = tempfile::tempdir().unwrap();
        let (replies, mut submitted) = mpsc::channel(1);
        let door = door(&dir, replies);
        for (file, title) in [
            (json!({ "file": "report.pdf" }), Some("report.pdf")),
            (json!({ "file": "r.pdf", "title": "A report.pdf" }), Some("A report.pdf")),
            (json!({}), None),
        ] {
            let mut sent = json!({ "kind": "file", "data": "MTIz" });
            sent.as_object_mut().unwrap().extend(file.as_object().unwrap().clone());
            let data = json!({ "instance": "local", "chat_id": "c", "files": [sent] });
            let (told, reply) = tokio::join!(door.send("k", data), async {
                submitted.recv().await.map(|it: crate::agent::Submitted| it.reply)
            });
            assert_eq!(told, Err((503, String::new())), "nobody has judged it");
            let named = reply.unwrap().content.files.remove(0);
            assert_eq!(named.title.as_deref(), title);
            assert_eq!(std::fs::read(dir.path().join(named.file)).unwrap(), b"123");
        }
    }
}
