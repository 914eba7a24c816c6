//! `hermes-gw chat`: a conversation from this terminal through the running gateway.
//!
//! What is typed is kept until the gateway says that it is durable, and is said again, under the same
//! id, when the connection breaks in between: a restart of the worker is not noticed.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use protocol::control::{Refusal, Request, Status};
use protocol::id::Instance;
use protocol::local::{FromTerminal, LINE_MAX, REPLY_LINE_MAX, ToTerminal};
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::socket::Stream;
use supervisor::{clock, lock, socket, text};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use super::ctl::{self, Client};
use super::{complain, locate, printed, runtime, shown};
use crate::args::{Chat, Common};

const REDIAL: Duration = Duration::from_millis(200);
/// Answers of an agent that has said something may have more parts; a pipe waits this long for them.
const MORE: Duration = Duration::from_millis(300);

pub(super) fn run(common: &Common, options: &Chat) -> Result<(), Error> {
    let paths = locate(common)?;
    let instance = Instance::new(&options.instance).map_err(|e| Error::Usage {
        message: format!("chat through {:?}: {e}", options.instance),
        hint: "`hermes-gw ctl status` lists the instances".into(),
    })?;
    let path = paths.chat_socket(&instance);
    runtime()?.block_on(async {
        if !path.exists() {
            look_up(&paths.socket(), &instance).await?;
        }
        converse(&path, &paths.lock(), options, None).await
    })
}

/// Whether a supervisor that runs has such a terminal. One that does not answer says nothing about it.
async fn look_up(socket: &Path, instance: &Instance) -> Result<(), Error> {
    let asked = async {
        let mut client = Client::dial(socket).await?;
        client.ask::<Status>(&Request::Status, ctl::ANSWER).await
    };
    match asked.await {
        Ok(status) => {
            let there = status.instances.iter().map(|it| (it.name.as_str(), it.kind.as_str()));
            is_local(instance.as_str(), there)
        }
        Err(Error::Unreachable { .. }) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether `name` is one of these instances, each with its kind, and a terminal.
pub(super) fn is_local<'a>(
    name: &str,
    instances: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Error> {
    let (local, others): (Vec<_>, Vec<_>) = instances.partition(|(_, kind)| *kind == "local");
    let [local, others] =
        [local, others].map(|them| them.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    if local.contains(&name) {
        return Ok(());
    }
    let known = match local.as_slice() {
        [] => "none is configured: a table [platform.local] makes one".to_owned(),
        local => format!("local here: {}", local.join(", ")),
    };
    let (message, nearest) = if others.contains(&name) {
        (format!("{name} is no local platform"), None)
    } else {
        (format!("no instance is called {name:?}"), text::nearest(name, &local))
    };
    let nearest = nearest.map_or(String::new(), |nearest| format!("did you mean {nearest:?}? "));
    Err(Error::Usage { message, hint: nearest + &known })
}

/// Talks until the input ends and everything is answered, or until `over` says that the gateway is
/// gone.
pub(super) async fn converse(
    path: &Path,
    lock: &Path,
    options: &Chat,
    mut over: Option<&mut tokio::sync::oneshot::Receiver<()>>,
) -> Result<(), Error> {
    let mut typed = lines()?;
    let mut talk = Talk::new(options)?;
    let mut input_over = false;
    let mut deadline = clock::now() + options.timeout;
    loop {
        let mut line = connect(path, lock, deadline, &talk).await?;
        let mut heard_any = false;
        let (chat, user) = (talk.chat.clone(), talk.user.clone());
        line.say(&FromTerminal::Join { chat, user, confirms: true }).await;
        for (id, text) in &talk.unsaid {
            line.say(&FromTerminal::Say { id: id.clone(), text: text.clone() }).await;
        }
        talk.prompt();
        loop {
            let due = if input_over { talk.due(deadline) } else { far() };
            if input_over && (talk.is_over() || due <= clock::now()) {
                return talk.result(path);
            }
            tokio::select! {
                text = typed.recv(), if !input_over => match text {
                    Some(Err(source)) => {
                        return Err(Error::Os { what: "read standard input", source });
                    }
                    Some(Ok(text)) if text.trim().is_empty() => talk.prompt(),
                    Some(Ok(text)) => {
                        let id = talk.say(text.clone())?;
                        line.say(&FromTerminal::Say { id, text }).await;
                    }
                    None => {
                        input_over = true;
                        deadline = clock::now() + options.timeout;
                        if io::stdin().is_terminal() {
                            return Ok(());
                        }
                    }
                },
                heard = line.hear() => match heard {
                    Some(heard) => {
                        heard_any = true;
                        // Only now it has arrived.
                        if let Some(message_id) = talk.hear(heard)? {
                            line.say(&FromTerminal::Shown { message_id }).await;
                        }
                    }
                    None => match line.foreign {
                        Some(uid) if !heard_any => {
                            let at = path.display();
                            let why = format!("talk over {at}: it is another user's (uid {uid})");
                            return Err(Error::foreign(why));
                        }
                        _ => break,
                    },
                },
                () = tokio::time::sleep_until(due.into()) => {}
                _ = async { match &mut over { Some(over) => (&mut **over).await, None => std::future::pending().await } } => {
                    return Err(talk.gone(path, "the gateway ended"));
                }
            }
        }
        if !input_over {
            deadline = clock::now() + options.timeout;
        }
    }
}

fn far() -> Instant {
    clock::now() + Duration::from_secs(24 * 3600)
}

/// What was said and heard.
struct Talk {
    chat: String,
    user: String,
    session: String,
    count: u64,
    /// Not yet durable.
    unsaid: BTreeMap<String, String>,
    /// Said and not yet answered.
    unanswered: HashSet<String>,
    shown: HashSet<String>,
    last: Option<Instant>,
    interactive: bool,
}

impl Talk {
    fn new(options: &Chat) -> Result<Self, Error> {
        let bytes: [u8; 8] =
            clock::random().map_err(|source| Error::Os { what: "draw random numbers", source })?;
        let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        Ok(Self {
            chat: options.name.clone(),
            user: user.filter(|user| !user.is_empty()).unwrap_or_else(|| "local".into()),
            session: protocol::id::hex(&bytes),
            count: 0,
            unsaid: BTreeMap::new(),
            unanswered: HashSet::new(),
            shown: HashSet::new(),
            last: None,
            interactive: io::stdin().is_terminal() && io::stdout().is_terminal(),
        })
    }

    fn say(&mut self, text: String) -> Result<String, Error> {
        if text.len() > LINE_MAX / 2 {
            return Err(Error::Usage {
                message: "say so much in one line: it is too long".into(),
                hint: format!("at most {} bytes are possible in one line", LINE_MAX / 2),
            });
        }
        self.count += 1;
        // Padded, so that texts that are said again keep their order.
        let id = format!("{}-{:08}", self.session, self.count);
        self.unsaid.insert(id.clone(), text);
        self.unanswered.insert(id.clone());
        Ok(id)
    }

    /// Shows what came. The id of a message that is shown.
    fn hear(&mut self, line: ToTerminal) -> Result<Option<String>, Error> {
        match line {
            ToTerminal::Joined => {}
            ToTerminal::Accepted { id } => drop(self.unsaid.remove(&id)),
            ToTerminal::Refused { id } => {
                self.unsaid.remove(&id);
                self.unanswered.remove(&id);
                complain("hermes-gw: not accepted now; say it again");
            }
            ToTerminal::Problem { reason } => complain(&format!("hermes-gw: {reason}")),
            ToTerminal::Message { message_id, reply_to, text } => {
                if let Some(id) = reply_to {
                    self.unanswered.remove(&id);
                    self.unsaid.remove(&id);
                }
                if !self.shown.contains(&message_id) {
                    let begin = if self.interactive { "\r< " } else { "" };
                    let text = shown(text);
                    printed(&format!("{begin}{text}"))?;
                    self.shown.insert(message_id.clone());
                }
                self.last = Some(clock::now());
                self.prompt();
                return Ok(Some(message_id));
            }
        }
        Ok(None)
    }

    fn prompt(&self) {
        if self.interactive {
            use std::io::Write;
            let mut out = io::stdout().lock();
            let _ = out.write_all(b"> ").and_then(|()| out.flush());
        }
    }

    fn is_over(&self) -> bool {
        self.unanswered.is_empty() && self.last.is_none_or(|last| last + MORE <= clock::now())
    }

    /// When to look again, once the input is over.
    fn due(&self, deadline: Instant) -> Instant {
        match self.last {
            Some(last) if self.unanswered.is_empty() => last + MORE,
            _ => deadline,
        }
    }

    fn result(&self, path: &Path) -> Result<(), Error> {
        match self.unanswered.len() {
            0 => Ok(()),
            1 => Err(Error::TimedOut { what: self.waited(path, "an answer") }),
            n => Err(Error::TimedOut { what: self.waited(path, &format!("{n} answers")) }),
        }
    }

    fn waited(&self, path: &Path, what: &str) -> String {
        format!("wait for {what} in conversation {:?} at {}", self.chat, path.display())
    }

    /// Nobody is at the other end: no gateway runs, or this instance of it does not.
    fn gone(&self, path: &Path, why: &str) -> Error {
        let lost = match self.unsaid.len() {
            0 => String::new(),
            n => format!(" ({n} lines were not accepted)"),
        };
        let hint = "`hermes-gw ctl status` tells whether a gateway runs and what its instances do; \
                    `hermes-gw supervise` starts one";
        Error::Refused(Refusal {
            code: Code::Unavailable.number(),
            message: format!("talk over {}: {why}{lost}", path.display()),
            hint: Some(hint.into()),
        })
    }
}

/// A connection to the worker of a `local` platform.
struct Line {
    /// It is another user's, who will turn us away.
    foreign: Option<u32>,
    reader: FramedRead<tokio::io::ReadHalf<Stream>, LinesCodec>,
    writer: FramedWrite<tokio::io::WriteHalf<Stream>, LinesCodec>,
}

impl Line {
    /// Says it. A broken connection shows in [`Line::hear`].
    async fn say(&mut self, line: &FromTerminal) {
        if let Ok(text) = serde_json::to_string(line) {
            let _ = self.writer.send(text).await;
        }
    }

    async fn hear(&mut self) -> Option<ToTerminal> {
        loop {
            let line = self.reader.next().await?.ok()?;
            if let Ok(heard) = serde_json::from_str(&line) {
                return Some(heard);
            }
        }
    }
}

async fn connect(path: &Path, lock: &Path, deadline: Instant, talk: &Talk) -> Result<Line, Error> {
    loop {
        match socket::dial(path).await {
            Ok(stream) => {
                let foreign = socket::foreign(&stream);
                let (receive, send) = tokio::io::split(stream);
                let codec = LinesCodec::new_with_max_length(REPLY_LINE_MAX);
                return Ok(Line {
                    foreign,
                    reader: FramedRead::new(receive, codec),
                    writer: FramedWrite::new(send, LinesCodec::new()),
                });
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::foreign(format!("talk over {}: {e}", path.display())));
            }
            Err(e) => {
                let absent = e.kind() == io::ErrorKind::NotFound;
                // One that is just starting, or mends its store, has the lock before it listens.
                let hopeless = absent
                    && !path.parent().is_some_and(|dir| dir.join("gw.sock").exists())
                    && !lock::is_held(lock);
                if hopeless || clock::now() + REDIAL >= deadline {
                    let why = if absent { "none runs there".into() } else { e.to_string() };
                    return Err(talk.gone(path, &why));
                }
            }
        }
        tokio::time::sleep(REDIAL).await;
    }
}

/// Lines of standard input, read by a thread of their own: a terminal cannot be waited for otherwise.
fn lines() -> Result<mpsc::Receiver<io::Result<String>>, Error> {
    /// One that is cut there is refused for its length.
    const MOST: u64 = LINE_MAX as u64;
    let (tell, typed) = mpsc::channel(16);
    let read = move || {
        let mut input = io::stdin().lock();
        let mut told = false;
        for number in 1_u64.. {
            let mut line = Vec::new();
            match (&mut input).take(MOST).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => {
                    let _ = tell.blocking_send(Err(e));
                    break;
                }
            }
            if line.pop_if(|last| *last == b'\n').is_some() {
                line.pop_if(|last| *last == b'\r');
            }
            let line = String::from_utf8(line).unwrap_or_else(|e| {
                if !std::mem::replace(&mut told, true) {
                    complain(&format!(
                        "hermes-gw: line {number} is not UTF-8: what is no character is said as \u{fffd}"
                    ));
                }
                String::from_utf8_lossy(e.as_bytes()).into_owned()
            });
            if tell.blocking_send(Ok(line)).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new()
        .name("terminal".into())
        .spawn(read)
        .map_err(|source| Error::Os { what: "read the terminal", source })?;
    Ok(typed)
}
