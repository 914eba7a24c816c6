//! The platform's side of a webhook: it posts each update until it is told that it arrived.
//!
//! Updates of one chat go one after another, those of different chats side by side. A refused one comes again,
//! at once and then after growing pauses. Any 2xx makes it forgotten.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::observe::Observation;
use super::state::{Hook, Shared};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest pause between two attempts.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// Posts to `hook` until another one, or none, takes its place.
pub(crate) fn start(shared: &Arc<Shared>, token: &str, hook: Hook) {
    let (shared, token) = (shared.clone(), token.to_owned());
    tokio::spawn(async move {
        let mut grown = {
            let state = shared.state();
            let Some(bot) = state.bots.get(&token) else { return };
            bot.grown.subscribe()
        };
        loop {
            for (id, update) in due(&shared, &token, &hook) {
                let (shared, token, hook) = (shared.clone(), token.clone(), hook.clone());
                tokio::spawn(async move { until_taken(&shared, &token, &hook, id, &update).await });
            }
            tokio::select! {
                // One that was taken away posts nothing more.
                biased;
                () = hook.over.cancelled() => return,
                () = shared.stop.cancelled() => return,
                _ = grown.changed() => {}
            }
        }
    });
}

/// The first waiting update of each chat of which none is under way.
fn due(shared: &Shared, token: &str, hook: &Hook) -> Vec<(i64, Value)> {
    let mut state = shared.state();
    let bot = state.bots.get_mut(token).filter(|_| !hook.over.is_cancelled());
    let Some(bot) = bot else { return Vec::new() };
    let mut found = Vec::new();
    for (id, update) in bot.queue.all() {
        let mut under_way = hook.under_way();
        if under_way.len() < hook.connections && under_way.insert(queue_of(update)) {
            found.push((id, update.clone()));
        }
    }
    found
}

fn queue_of(update: &Value) -> String {
    let kinds = ["message", "edited_message", "channel_post", "my_chat_member", "message_reaction"];
    let chat = kinds.iter().find_map(|kind| update.get(kind)?.pointer("/chat/id"));
    chat.or_else(|| update.get("update_id")).map(Value::to_string).unwrap_or_default()
}

async fn until_taken(shared: &Arc<Shared>, token: &str, hook: &Hook, id: i64, update: &Value) {
    let mut pause = Duration::ZERO;
    loop {
        let (status, error) = match timeout(ANSWER, post(hook, &update.to_string())).await {
            Ok(Ok(status)) => (Some(status), format!("Wrong response from the webhook: {status}")),
            Ok(Err(error)) => (None, error.to_string()),
            Err(_) => (None, "Read timeout expired".to_owned()),
        };
        let least;
        let taken = status.is_some_and(|status| (200..300).contains(&status));
        {
            let mut state = shared.state();
            least = state.settings.post_pause.max(Duration::from_millis(100));
            let Some(bot) = state.bots.get_mut(token) else { return };
            let posted = Observation::Posted { id, status };
            shared.journal.note(&bot.username, posted);
            if taken {
                bot.queue.remove(id);
                shared.journal.note(&bot.username, Observation::Confirmed { ids: vec![id] });
                hook.under_way().remove(&queue_of(update));
                bot.grown.send_modify(|count| *count += 1);
                return;
            }
            // Each failure is newer than the one before, however fast they come here.
            let now = i64::try_from(crate::clock::wall_ms() / 1000).unwrap_or_default();
            let before = bot.hook_error.as_ref().map_or(0, |(at, _)| at + 1);
            bot.hook_error = Some((now.max(before), error));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = hook.over.cancelled() => return,
            () = shared.stop.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_MOST).max(least);
    }
}

/// Posts over a connection of its own; the status of the answer.
async fn post(hook: &Hook, body: &str) -> std::io::Result<u16> {
    let url = url::Url::parse(&hook.url).map_err(std::io::Error::other)?;
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
    let mut stream = TcpStream::connect((host, port.unwrap_or(80))).await?;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        url.path(),
        body.len()
    );
    if let Some(secret) = &hook.secret {
        head.push_str(&format!("x-telegram-bot-api-secret-token: {secret}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other("Connection closed without an answer"))
}
