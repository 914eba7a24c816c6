//! `hermes-gw chat`: a conversation from this terminal through the running gateway.
//!
//! What is typed is kept until the gateway says that it is durable, and is said again, under the same
//! id, when the connection breaks in between: a restart of the worker is not noticed.

use std::collections::{BTreeMap, HashSet};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use protocol::control::Refusal;
use protocol::id::Instance;
use protocol::local::{FromTerminal, LINE_MAX, REPLY_LINE_MAX, ToTerminal};
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::socket::Stream;
use supervisor::{clock, socket};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use super::{complain, locate, printed, runtime};
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
    runtime()?.block_on(converse(&path, options, None))
}

/// Talks until the input ends and everything is answered, or until `over` says that the gateway is
/// gone.
pub(super) async fn converse(
    path: &Path,
    options: &Chat,
    mut over: Option<&mut tokio::sync::oneshot::Receiver<()>>,
) -> Result<(), Error> {
    let mut typed = lines()?;
    let mut talk = Talk::new(options)?;
    let mut input_over = false;
    let mut deadline = clock::now() + options.timeout;
    loop {
        let mut line = match connect(path, deadline).await {
            Ok(line) => line,
            Err(why) => return Err(talk.gone(path, &why)),
        };
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
                    Some(text) if text.trim().is_empty() => talk.prompt(),
                    Some(text) => {
                        let id = talk.say(text.clone())?;
                        line.say(&FromTerminal::Say { id, text }).await;
                    }
                    None => {
                        input_over = true;
                        deadline = clock::now() + options.timeout;
                        if std::io::stdin().is_terminal() {
                            return Ok(());
                        }
                    }
                },
                heard = line.hear() => match heard {
                    Some(heard) => {
                        // Only now it has arrived.
                        if let Some(message_id) = talk.hear(heard) {
                            line.say(&FromTerminal::Shown { message_id }).await;
                        }
                    }
                    None => break,
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
            interactive: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        })
    }

    fn say(&mut self, text: String) -> Result<String, Error> {
        if text.len() > LINE_MAX / 2 {
            return Err(Error::Usage {
                message: format!("say {} bytes at once: that is too much", text.len()),
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
    fn hear(&mut self, line: ToTerminal) -> Option<String> {
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
                    if !printed(&format!("{begin}{text}")) {
                        return None;
                    }
                    self.shown.insert(message_id.clone());
                }
                self.last = Some(clock::now());
                self.prompt();
                return Some(message_id);
            }
        }
        None
    }

    fn prompt(&self) {
        if self.interactive {
            use std::io::Write;
            let mut out = std::io::stdout().lock();
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

async fn connect(path: &Path, deadline: Instant) -> Result<Line, String> {
    loop {
        match socket::dial(path).await {
            Ok(stream) => {
                let (receive, send) = tokio::io::split(stream);
                let codec = LinesCodec::new_with_max_length(REPLY_LINE_MAX);
                return Ok(Line {
                    reader: FramedRead::new(receive, codec),
                    writer: FramedWrite::new(send, LinesCodec::new()),
                });
            }
            Err(e) => {
                let absent = e.kind() == std::io::ErrorKind::NotFound;
                let hopeless =
                    absent && !path.parent().is_some_and(|dir| dir.join("gw.sock").exists());
                if hopeless || clock::now() + REDIAL >= deadline {
                    return Err(if absent { "none runs there".into() } else { e.to_string() });
                }
            }
        }
        tokio::time::sleep(REDIAL).await;
    }
}

/// Lines of standard input, read by a thread of their own: a terminal cannot be waited for otherwise.
fn lines() -> Result<mpsc::Receiver<String>, Error> {
    let (tell, typed) = mpsc::channel(16);
    std::thread::Builder::new()
        .name("terminal".into())
        .spawn(move || {
            for line in std::io::stdin().lines() {
                let Ok(line) = line else { break };
                if tell.blocking_send(line).is_err() {
                    break;
                }
            }
        })
        .map_err(|source| Error::Os { what: "read the terminal", source })?;
    Ok(typed)
}
