//! A Hermes hook directory: its `handler.py` is loaded once, by a Python of its own, so that what it keeps
//! between two occasions is there; and is told of each by `handle(event_type, context)`.
//!
//! A handler that takes too long ends with its Python, since nobody can stop it otherwise; the next
//! occasion starts another. What it had under way besides has failed with it.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::event::ChatType;
use protocol::hook::HookEvent;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::directory::Directory;
use super::program::Group;
use super::tail;
use crate::family;

const RUNNER: &str = include_str!("runner.py");
/// From the start of a Python to its word that the handler is loaded.
const LOADING: Duration = Duration::from_secs(30);
/// The longest line of the runner.
const LINE: usize = 64 * 1024;

/// One directory.
#[derive(Debug)]
pub(super) struct Python {
    directory: Directory,
    program: String,
    limit: Duration,
    /// The Python that runs, if one does.
    running: AsyncMutex<Option<Arc<Running>>>,
}

/// Calls whose answers are awaited. `None`: the Python is gone.
type Calls = Mutex<Option<HashMap<u64, oneshot::Sender<Option<String>>>>>;

struct Running {
    input: AsyncMutex<ChildStdin>,
    calls: Arc<Calls>,
    next: std::sync::atomic::AtomicU64,
    /// Dropped, it ends the Python and everything it started.
    end: Mutex<Option<oneshot::Sender<()>>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    error: Option<String>,
}

impl Python {
    pub(super) fn new(directory: Directory, program: String, limit: Duration) -> Self {
        Self { directory, program, limit, running: AsyncMutex::new(None) }
    }

    /// Why it cannot be started.
    pub(super) fn problem(&self) -> Option<String> {
        let handler = &self.directory.handler;
        let dir = handler.parent().unwrap_or_else(|| Path::new("/"));
        let unread = || File::open(handler).err().map(|e| format!("read handler.py: {e}"));
        family::missing(std::slice::from_ref(&self.program), dir).or_else(unread)
    }

    /// Tells its handler, and waits until that is done.
    pub(super) async fn tell(&self, event: &HookEvent) -> Result<(), String> {
        let running = self.running().await?;
        let Some((id, answer)) = running.expect() else {
            return Err("its Python has just ended".into());
        };
        let call = json!({ "id": id, "event": event.event, "context": context(event) });
        let line = format!("{call}\n");
        let told = async {
            let mut input = running.input.lock().await;
            let written = input.write_all(line.as_bytes()).await;
            drop(input);
            written.map_err(|e| format!("its Python does not listen: {e}"))?;
            match answer.await {
                Ok(None) => Ok(()),
                Ok(Some(error)) => Err(error),
                Err(_) => Err("its Python ended".into()),
            }
        };
        if let Ok(result) = tokio::time::timeout(self.limit, told).await {
            return result;
        }
        running.kill();
        Err(format!("it took more than {} s and was killed", self.limit.as_secs()))
    }

    async fn running(&self) -> Result<Arc<Running>, String> {
        let mut slot = self.running.lock().await;
        if let Some(running) = slot.as_ref().filter(|running| running.is_alive()) {
            return Ok(Arc::clone(running));
        }
        let running = Arc::new(self.start().await?);
        *slot = Some(Arc::clone(&running));
        Ok(running)
    }

    async fn start(&self) -> Result<Running, String> {
        let mut command = Command::new(&self.program);
        command.args(["-c", RUNNER]).arg(&self.directory.handler);
        if let Some(dir) = self.directory.handler.parent() {
            command.current_dir(dir);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group::start(command)?;
        let pipes =
            (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err("it has no pipes".into());
        };
        let name = self.directory.name.clone();
        tokio::spawn(async move {
            let mut said = Vec::new();
            tail::read(errors, &mut said).await;
            if !said.is_empty() {
                tracing::debug!(hook = name, said = tail::last_line(&said), "what a hook printed");
            }
        });
        let mut output = BufReader::new(output);
        match tokio::time::timeout(LOADING, answer(&mut output)).await {
            Ok(Some(Answer { id: 0, error: None })) => {}
            Ok(Some(Answer { error: Some(error), .. })) => return Err(error),
            Ok(_) => return Err(format!("{} cannot run it", self.program)),
            Err(_) => return Err("loading handler.py took too long".into()),
        }
        let calls = Arc::new(Mutex::new(Some(HashMap::new())));
        let (end, ended) = oneshot::channel();
        tokio::spawn(listen(output, Arc::clone(&calls), group, ended));
        let next = std::sync::atomic::AtomicU64::new(1);
        Ok(Running { input: AsyncMutex::new(input), calls, next, end: Mutex::new(Some(end)) })
    }
}

/// An occasion as Hermes Agent would tell it, and what it would not tell besides. In its words a chat is
/// `dm`, `group`, `forum` (a topic of Telegram) or `channel`, and what a chat does not have is an empty
/// text; see `gateway/hooks.py` of hermes-agent 0.19.
fn context(event: &HookEvent) -> Value {
    let mut context = json!(event);
    let Some(members) = context.as_object_mut() else { return context };
    let Some(chat) = &event.chat_id else { return context };
    let forum = event.thread_id.is_some() && event.platform.as_deref() == Some("telegram");
    let chat_type = event.chat_type.map(|chat_type| match chat_type {
        ChatType::Direct => "dm",
        ChatType::Group if forum => "forum",
        ChatType::Group => "group",
        ChatType::Channel => "channel",
    });
    members.insert("chat_id".into(), json!(chat));
    members.insert("chat_type".into(), json!(chat_type));
    for name in ["platform", "user_id", "thread_id", "chat_type", "session_id", "message"] {
        let member = members.entry(name).or_insert(Value::Null);
        if member.is_null() {
            *member = json!("");
        }
    }
    if event.event == "agent:end" && event.response.is_none() {
        members.insert("response".into(), json!(""));
    }
    context
}

/// Passes answers on until the Python ends, or is to end.
async fn listen(
    mut output: BufReader<ChildStdout>,
    calls: Arc<Calls>,
    group: Group,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let answer = tokio::select! {
            _ = &mut ended => None,
            answer = answer(&mut output) => answer,
        };
        let Some(Answer { id, error }) = answer else { break };
        let waiting = lock(&calls).as_mut().and_then(|calls| calls.remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(error);
        }
    }
    // Whoever waits hears that there is no answer.
    *lock(&calls) = None;
    group.end().await;
}

async fn answer(output: &mut BufReader<ChildStdout>) -> Option<Answer> {
    let mut line = Vec::new();
    loop {
        let buffer = output.fill_buf().await.ok()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |at| at + 1);
        if taken == 0 || line.len() + taken > LINE {
            return None;
        }
        line.extend_from_slice(buffer.get(..taken)?);
        output.consume(taken);
        if end.is_some() {
            return serde_json::from_slice(&line).ok();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    fn is_alive(&self) -> bool {
        lock(&self.calls).is_some()
    }

    /// A number for a call, and where its answer comes; `None`: the Python is gone.
    fn expect(&self) -> Option<(u64, oneshot::Receiver<Option<String>>)> {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (waiting, answer) = oneshot::channel();
        lock(&self.calls).as_mut()?.insert(id, waiting);
        Some((id, answer))
    }

    fn kill(&self) {
        drop(lock(&self.end).take());
        *lock(&self.calls) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(handler: &str, limit: Duration) -> (tempfile::TempDir, Python) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("handler.py");
        std::fs::write(&path, handler).unwrap();
        let directory = Directory { name: "h".into(), events: vec!["*".into()], handler: path };
        (dir, Python::new(directory, "python3".into(), limit))
    }

    fn event(chat: &str) -> HookEvent {
        let mut event = HookEvent::new("agent:start", 1);
        event.chat_id = Some(chat.into());
        event
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn handlers_keep_what_they_know_and_may_be_of_either_kind() {
        let both = "seen = []\n\
            def handle(event, context):\n    \
                print('noise')\n    \
                seen.append(context['chat_id'])\n    \
                if context['chat_id'] == 'wait': return later()\n    \
                if context['chat_id'] == 'all': open('seen', 'w').write(event + ' ' + ','.join(seen))\n\
            async def later():\n    \
                import asyncio\n    \
                await asyncio.sleep(0)\n    \
                seen.append('waited')\n";
        let (dir, python) = hook(both, LONG);
        for chat in ["a", "wait", "all"] {
            assert_eq!(python.tell(&event(chat)).await, Ok(()));
        }
        let seen = std::fs::read_to_string(dir.path().join("seen")).unwrap();
        assert_eq!(seen, "agent:start a,wait,waited,all");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_and_the_next_occasion_starts_anew() {
        let (_dir, python) = hook(
            "import os, time\n\
             def handle(event, context):\n    \
                 chat = context['chat_id']\n    \
                 if chat == 'raise': raise ValueError('no')\n    \
                 if chat == 'hang': time.sleep(600)\n    \
                 if chat == 'exit': os._exit(3)\n",
            Duration::from_secs(3),
        );
        assert_eq!(python.tell(&event("raise")).await, Err("ValueError: no".into()));
        assert_eq!(python.tell(&event("fine")).await, Ok(()), "an exception ends nothing");
        let (hang, other) = (event("hang"), event("x"));
        let (hung, beside) = tokio::join!(python.tell(&hang), python.tell(&other));
        // Both are over time, and whoever sees it first ends the Python of both.
        let why = [hung.unwrap_err(), beside.unwrap_err()];
        assert!(why.iter().any(|why| why.contains("killed")), "{why:?}");
        assert_eq!(python.tell(&event("fine")).await, Ok(()));
        assert!(python.tell(&event("exit")).await.is_err_and(|why| why.contains("ended")));
        assert_eq!(python.tell(&event("fine")).await, Ok(()));

        let (_dir, broken) = hook("import nothing_of_that_name\n", LONG);
        let why = broken.tell(&event("x")).await.unwrap_err();
        assert!(why.contains("nothing_of_that_name"), "{why}");
        let (_dir, empty) = hook("", LONG);
        assert!(empty.tell(&event("x")).await.unwrap_err().contains("handle"));
    }
}
