//! Agent `acp`: a program that speaks the Agent Client Protocol, version 1, on its standard input and output:
//! Hermes Agent, `OpenCode`, Claude Code, Gemini CLI, Codex.
//!
//! What is sent and what the agent's words mean is decided in `machine`; here are the processes, the files
//! and the clock. A process may be replaced without the worker; a program that cannot be started at all
//! ends it, with what a person must do.

mod answer;
mod machine;
mod process;
mod turn;
mod wire;

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use protocol::content::Fetch;
use protocol::worker::{AcpSettings, FromWorker, Ready};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use self::machine::{Action, Input, Machine, Number};
use self::process::Writer;
use super::{Agent, Context, Files, Replies, ToAgent};
use crate::Error;
use crate::clock;
use crate::exchange::Exchange;

/// Lines that wait to be worked on.
const HEARD: usize = 256;
/// The largest picture that goes inline; a larger one goes as a link.
const INLINE_MAX: u64 = 5 * 1024 * 1024;
/// All pictures of one prompt.
const INLINE_ALL: u64 = 8 * 1024 * 1024;

/// The adapter.
#[derive(Debug)]
pub struct Acp {
    settings: AcpSettings,
}

impl Acp {
    /// With its settings.
    pub fn new(settings: AcpSettings) -> Self {
        Self { settings }
    }
}

impl Agent for Acp {
    async fn run(self, mut context: Context) -> Result<(), Error> {
        let account = self.settings.command.join(" ");
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        let (tell, mut heard) = mpsc::channel(HEARD);
        let mut machine = Machine::new(self.settings.clone(), clock::now());
        let mut desk = Desk {
            settings: self.settings,
            writers: HashMap::new(),
            tell,
            replies: context.replies.clone(),
            files: context.files.clone(),
            exchange: context.exchange.clone(),
            work: FuturesUnordered::new(),
        };
        let mut input = Some(Input::Tick);
        loop {
            if let Some(input) = input.take() {
                for action in machine.on(input, clock::now()) {
                    desk.perform(action, &context).await?;
                }
            }
            input = tokio::select! {
                () = context.stop.cancelled() => break,
                Some(incoming) = context.incoming.recv() => match incoming {
                    ToAgent::Deliver(delivery) => Some(Input::Deliver(delivery)),
                    ToAgent::Interrupt(event_id) => Some(Input::Interrupt(event_id)),
                    ToAgent::Steer { event_id, more } => Some(Input::Said { event_id, more }),
                    ToAgent::Settled(_) | ToAgent::Receipt(_) => None,
                },
                Some(line) = heard.recv() => Some(line),
                Some(done) = desk.work.next() => done,
                () = tokio::time::sleep_until(machine.deadline()) => Some(Input::Tick),
            };
        }
        // The end of their input tells them to end; what stays is killed with this process.
        let count = desk.writers.len();
        desk.writers.clear();
        let goodbye = async {
            let mut ended = 0;
            while ended < count {
                match heard.recv().await {
                    Some(Input::Ended(..)) => ended += 1,
                    Some(_) => {}
                    None => break,
                }
            }
        };
        let _ = tokio::time::timeout(process::GOODBYE, goodbye).await;
        Ok(())
    }
}

struct Desk {
    settings: AcpSettings,
    writers: HashMap<Number, Writer>,
    tell: mpsc::Sender<Input>,
    replies: Replies,
    files: Files,
    exchange: Exchange,
    work: FuturesUnordered<BoxFuture<'static, Option<Input>>>,
}

impl Desk {
    async fn perform(&mut self, action: Action, context: &Context) -> Result<(), Error> {
        match action {
            Action::Start(number) => {
                let writer = process::start(&self.settings, number, self.tell.clone())?;
                self.writers.insert(number, writer);
            }
            Action::Write(number, line) => {
                let full = self.writers.get(&number).is_some_and(|writer| {
                    matches!(writer.try_send(line), Err(mpsc::error::TrySendError::Full(_)))
                });
                if full {
                    tracing::warn!(number, "the agent does not read; it is ended");
                    self.writers.remove(&number);
                }
            }
            // The end of its input, then of itself.
            Action::Kill(number) => drop(self.writers.remove(&number)),
            Action::Say(frame) => context.say.say(frame).await,
            Action::Fetch { event_id, fetches, inline } => {
                let (files, exchange) = (self.files.clone(), self.exchange.clone());
                let fetch = async move {
                    let blocks = fetched(fetches, inline, &files, &exchange).await;
                    Some(Input::Fetched(event_id, blocks))
                };
                self.work.push(fetch.boxed());
            }
            Action::Reply { event_id, reply, turn } => {
                let (replies, exchange) = (self.replies.clone(), self.exchange.clone());
                let submit = async move {
                    let verdict =
                        replies.submit(answer::whole(*reply, *turn, &exchange).await).await;
                    event_id.map(|id| Input::Judged(id, verdict))
                };
                self.work.push(submit.boxed());
            }
        }
        Ok(())
    }
}

/// Brings files and makes blocks of content of them. One that cannot be brought is told of.
async fn fetched(
    fetches: Vec<Fetch>,
    inline: bool,
    files: &Files,
    exchange: &Exchange,
) -> Vec<Value> {
    let mut blocks = Vec::new();
    let mut room = INLINE_ALL;
    for fetch in fetches {
        let name = fetch.part.name.clone().unwrap_or_else(|| fetch.part.kind.clone());
        let kind = fetch.part.kind.clone();
        let file = match files.fetch(fetch).await {
            Ok(file) => file,
            Err(why) => {
                let text = format!("({kind} {name:?}: it could not be brought: {why})");
                blocks.push(json!({ "type": "text", "text": text }));
                continue;
            }
        };
        if inline
            && file.size <= INLINE_MAX.min(room)
            && let Some((mime, data)) = picture(&file.file, exchange).await
        {
            room -= file.size;
            blocks.push(json!({ "type": "image", "mimeType": mime, "data": data }));
            continue;
        }
        let path = exchange.path(&file.file).unwrap_or_default();
        let Ok(uri) = url::Url::from_file_path(&path) else { continue };
        blocks.push(json!({
            "type": "resource_link", "uri": uri.as_str(), "name": name, "mimeType": file.mime,
            "size": file.size,
        }));
    }
    blocks
}

/// A file that is a picture of a kind that models read.
async fn picture(name: &str, exchange: &Exchange) -> Option<(&'static str, String)> {
    let (mut file, _) = exchange.open(name).await.ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).await.ok()?;
    let mime = crate::exchange::picture_kind(&bytes)?;
    Some((mime, STANDARD.encode(bytes)))
}
