//! `hermes-gw ctl`: asking and commanding the running supervisor, for people and for scripts.

mod access;
mod act;
mod follow;
mod parked;
mod queue;
mod show;
mod telegram;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use protocol::control::{
    Acted, Answer, BackedUp, Backup, LINE_MAX, Reloaded, Request, SCHEMA, Status, Stop, Token, Verb,
};
use supervisor::error::Error;
use supervisor::identity;
use supervisor::lock::{self, Holder};
use supervisor::paths::Paths;
use supervisor::socket::Stream;
use supervisor::{clock, socket, text};
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

pub(super) use self::show::stopped;
use super::{force, locate, print, print_json, print_json_of, runtime, upgrade};
use crate::args::{self, Common, Ctl};

/// How long a healthy supervisor may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How long a backup may take.
const BACKUP: Duration = Duration::from_secs(3600);
/// How long the instances that a new configuration touches may take to end.
const RELOAD: Duration = Duration::from_secs(60);
/// How often to look for a socket that is not there.
const LOOK: Duration = Duration::from_millis(50);
/// Why nobody can be asked at such a socket.
const NONE: &str = "none runs there";

/// A connection to a supervisor.
pub(super) struct Client {
    path: PathBuf,
    /// It is another user's, who will turn us away.
    foreign: Option<u32>,
    reader: FramedRead<ReadHalf<Stream>, LinesCodec>,
    writer: FramedWrite<WriteHalf<Stream>, LinesCodec>,
}

impl Client {
    /// Connects.
    pub(super) async fn dial(path: &Path) -> Result<Self, Error> {
        let dialled = tokio::time::timeout(ANSWER, socket::dial(path)).await;
        let stream = match dialled {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) if e.kind() == ErrorKind::PermissionDenied => {
                return Err(Error::foreign(format!(
                    "ask the supervisor at {}: {e}",
                    path.display()
                )));
            }
            Ok(Err(e)) => {
                let why = match e.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => NONE.into(),
                    _ => e.to_string(),
                };
                return Err(Error::Unreachable { socket: path.into(), why });
            }
            Err(_) => return Err(hung(path)),
        };
        let foreign = socket::foreign(&stream);
        let (receive, send) = tokio::io::split(stream);
        let codec = LinesCodec::new_with_max_length(LINE_MAX);
        Ok(Self {
            path: path.into(),
            foreign,
            reader: FramedRead::new(receive, codec),
            writer: FramedWrite::new(send, LinesCodec::new()),
        })
    }

    /// Sends a request.
    pub(super) async fn say(&mut self, request: &Request) -> Result<(), Error> {
        let sent = self.writer.send(request.to_line(1)).await;
        sent.map_err(|e| self.gone(&e.to_string()))
    }

    /// It does not go on.
    fn gone(&self, why: &str) -> Error {
        let socket = self.path.clone();
        match self.foreign {
            None => Error::Unreachable { socket, why: why.into() },
            Some(uid) => {
                let at = socket.display();
                Error::foreign(format!(
                    "ask the supervisor at {at}: it is another user's (uid {uid})"
                ))
            }
        }
    }

    /// The next line; `None` once the supervisor is gone.
    async fn line(&mut self) -> Option<String> {
        self.reader.next().await?.ok()
    }

    /// Sends a request and waits for its answer. One that becomes another program meanwhile ends all
    /// connections: what does no harm twice is asked once more.
    pub(super) async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        request: &Request,
        within: Duration,
    ) -> Result<T, Error> {
        if let Some(answer) = self.ask_once(request, within).await? {
            return Ok(answer);
        }
        if request.may_repeat() && self.foreign.is_none() {
            self.again().await?;
            if let Some(answer) = self.ask_once(request, within).await? {
                return Ok(answer);
            }
        }
        Err(match self.foreign {
            Some(_) => self.gone("it ended the connection"),
            None => Error::Cut { socket: self.path.clone() },
        })
    }

    /// Connects once more, to whoever is there by now.
    async fn again(&mut self) -> Result<(), Error> {
        if self.foreign.is_some() {
            return Err(self.gone("it ended the connection"));
        }
        *self = Self::dial(&self.path.clone()).await?;
        Ok(())
    }

    /// Like [`Client::ask`]; `None` if the connection ended before the answer.
    async fn ask_once<T: serde::de::DeserializeOwned>(
        &mut self,
        request: &Request,
        within: Duration,
    ) -> Result<Option<T>, Error> {
        // One that has become another program since it answered last hears nothing more.
        if self.say(request).await.is_err() {
            return Ok(None);
        }
        let line = match tokio::time::timeout(within, self.reader.next()).await {
            Err(_) => return Err(hung(&self.path)),
            Ok(Some(Ok(line))) => line,
            Ok(_) => return Ok(None),
        };
        let answer: Answer = serde_json::from_str(&line).map_err(|e| self.gone(&e.to_string()))?;
        match (answer.result, answer.error) {
            (_, Some(refusal)) => Err(Error::Refused(refusal)),
            (Some(result), None) => {
                let result = serde_json::from_str(result.get());
                result.map(Some).map_err(|e| self.gone(&e.to_string()))
            }
            (None, None) => Err(self.gone("its answer is empty")),
        }
    }

    /// Waits until the supervisor has gone, or has said what becomes of it.
    pub(super) async fn closed(&mut self) -> Result<Option<Acted>, Error> {
        let Some(line) = self.line().await else { return Ok(None) };
        let answer: Answer = serde_json::from_str(&line)
            .map_err(|e| Error::Unreachable { socket: self.path.clone(), why: e.to_string() })?;
        match answer.error {
            Some(refusal) => Err(Error::Refused(refusal)),
            None => Ok(answer.result.and_then(|result| serde_json::from_str(result.get()).ok())),
        }
    }
}

fn hung(path: &Path) -> Error {
    let why = "it does not answer: it hangs or is stopped".into();
    Error::Unreachable { socket: path.into(), why }
}

/// How long whoever waits `timeout` for a deed waits for an answer.
fn patience(timeout: Duration) -> Duration {
    timeout.clamp(Duration::from_secs(1), ANSWER)
}

pub(super) fn run(common: &Common, ctl: Ctl) -> Result<(), Error> {
    let paths = locate(common)?;
    tell(common, &paths, ctl).map_err(|e| match e {
        Error::Unreachable { why, .. } if why == NONE => no_socket(&paths),
        e => e,
    })
}

/// Nobody listens: nobody runs, or whoever does cannot be asked now.
fn no_socket(paths: &Paths) -> Error {
    let (socket, lock) = (paths.socket(), paths.lock());
    if !lock::is_held(&lock) {
        return Error::Unreachable { socket, why: NONE.into() };
    }
    Error::Unready { socket, why: unready(lock::holder(&lock).as_ref()) }
}

fn unready(holder: Option<&Holder>) -> String {
    let who = holder.map(|holder| format!(" ({holder})")).unwrap_or_default();
    format!("it runs and does not listen: it is just starting, mends its store, or leaves{who}")
}

fn tell(common: &Common, paths: &Paths, ctl: Ctl) -> Result<(), Error> {
    let socket = paths.socket();
    match ctl {
        Ctl::Kill(options) if options.act.instances.is_empty() => {
            if options.force {
                return force::kill(common, paths, options.act.timeout);
            }
            runtime()?.block_on(stop(common, paths, &options.act))
        }
        Ctl::Backup { file } => runtime()?.block_on(backup(common, &socket, &file)),
        Ctl::Inbox(queue) => {
            runtime()?.block_on(queue::run(common, &socket, Request::Inbox, &queue))
        }
        Ctl::Outbox(queue) => {
            runtime()?.block_on(queue::run(common, &socket, Request::Outbox, &queue))
        }
        Ctl::Parked(what) => runtime()?.block_on(parked::run(common, &socket, what)),
        Ctl::Access(what) => runtime()?.block_on(access::run(common, &socket, what)),
        Ctl::Telegram(what) => runtime()?.block_on(telegram::run(common, &socket, what)),
        Ctl::Status => match runtime()?.block_on(status(common, &socket)) {
            Err(Error::Unreachable { why, .. }) => Err(absent(common, paths, &why)),
            told => told,
        },
        Ctl::Upgrade { program, timeout } => {
            runtime()?.block_on(upgrade::run(common, paths, program, timeout))
        }
        Ctl::Reload => runtime()?.block_on(reload(common, &socket)),
        Ctl::Token => runtime()?.block_on(token(common, &socket)),
        Ctl::Events { timeout } => runtime()?.block_on(follow::run(common, &socket, timeout)),
        Ctl::Start(options) => {
            runtime()?.block_on(act::run(common, &socket, Verb::Start, options, false))
        }
        Ctl::Restart(options) => {
            let force = options.force;
            runtime()?.block_on(act::run(common, &socket, Verb::Restart, options.act, force))
        }
        Ctl::Kill(options) => {
            let force = options.force;
            runtime()?.block_on(act::run(common, &socket, Verb::Kill, options.act, force))
        }
    }
}

/// The whole status, as people read it.
pub(super) fn status_text(status: &Status, colored: bool) -> String {
    show::status(status, clock::unix_ms(), colored)
}

async fn status(common: &Common, socket: &Path) -> Result<(), Error> {
    let mut client = Client::dial(socket).await?;
    let status: Status = client.ask(&Request::Status, ANSWER).await?;
    if common.json {
        print_json(&status);
    } else {
        print(&status_text(&status, super::colored(common)));
    }
    Ok(())
}

/// A large store takes a while: whoever tires of it may leave, the copy goes on.
async fn backup(common: &Common, socket: &Path, file: &Path) -> Result<(), Error> {
    let mut client = Client::dial(socket).await?;
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let was_there = path.symlink_metadata().is_ok();
    let request = Request::Backup(Backup { path: path.clone() });
    let mut done: Option<BackedUp> = client.ask_once(&request, BACKUP).await?;
    if done.is_none() {
        client.again().await?;
        // Made for us, and perhaps not to its end, by a program that is gone.
        if !was_there {
            let _ = std::fs::remove_file(&path);
        }
        done = client.ask_once(&request, BACKUP).await?;
    }
    let Some(done) = done else { return Err(client.gone("it ended the connection")) };
    if common.json {
        print_json(&done);
    } else if !common.quiet {
        print(&format!("{}: {} KiB", done.path.display(), done.bytes.div_ceil(1024)));
    }
    Ok(())
}

/// It runs, and does not only wait to be collected.
fn serves_elsewhere(holder: &Holder) -> bool {
    identity::is_alive(&holder.identity) && !identity::is_zombie(holder.identity.pid)
}

/// Why nobody answers.
pub(super) struct Absence {
    /// `stopped`, `crashed`, or `unreachable`: it is there and hangs.
    pub(super) state: &'static str,
    why: String,
    holder: Option<Holder>,
    pub(super) error: Error,
}

/// Nobody answers: whether it was stopped, crashed, or is there and hangs.
pub(super) fn absence(paths: &Paths, why: &str) -> Absence {
    let is_unready = why == NONE && lock::is_held(&paths.lock());
    let holder = lock::holder(&paths.lock());
    let none_yet = matches!(paths.lock().try_exists(), Ok(false));
    let is_free = !none_yet && lock::is_free(&paths.lock());
    let (state, why) = match &holder {
        _ if none_yet => ("stopped", "none has run there yet".to_owned()),
        _ if is_unready => ("unreachable", unready(holder.as_ref())),
        Some(Holder { left: Some(left), .. }) if is_free => {
            let error = left.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
            ("stopped", format!("none runs there: it left at {}{error}", text::utc(left.at_ms)))
        }
        Some(holder) if is_free && serves_elsewhere(holder) => (
            "stopped",
            format!("none runs there: this is a copy of the state of another ({holder})"),
        ),
        Some(holder) if is_free => {
            ("crashed", format!("none runs there: it ended without a word ({holder})"))
        }
        None if is_free => ("stopped", why.to_owned()),
        None if paths.lock().is_dir() => {
            let path = paths.lock();
            let why = format!("none runs there, and none can: {} is a directory", path.display());
            ("stopped", why)
        }
        Some(holder) => ("unreachable", format!("{why} ({holder})")),
        None => ("unreachable", why.to_owned()),
    };
    let (socket, told) = (paths.socket(), why.clone());
    let error = if is_unready {
        Error::Unready { socket, why: told }
    } else {
        Error::Unreachable { socket, why: told }
    };
    Absence { state, why, holder, error }
}

/// The same as a command's end.
pub(super) fn absent(common: &Common, paths: &Paths, why: &str) -> Error {
    let Absence { state, why, holder, error } = absence(paths, why);
    if common.json {
        let absent = show::Absent {
            schema: SCHEMA,
            state,
            reason: &why,
            pid: holder.as_ref().map(|holder| holder.identity.pid),
            started_ms: holder.as_ref().map(|holder| holder.started_ms),
            left_ms: holder.as_ref().and_then(|holder| Some(holder.left.as_ref()?.at_ms)),
            state_dir: paths.state_dir.display().to_string(),
        };
        print_json_of(&absent, Some(&error));
    }
    error
}

async fn token(common: &Common, socket: &Path) -> Result<(), Error> {
    let told: Token = Client::dial(socket).await?.ask(&Request::Token, ANSWER).await?;
    if common.json {
        print_json(&told);
    } else {
        print(&told.token);
    }
    Ok(())
}

async fn reload(common: &Common, socket: &Path) -> Result<(), Error> {
    let mut client = Client::dial(socket).await?;
    let told: Reloaded = client.ask(&Request::Reload, RELOAD).await?;
    if common.json {
        print_json(&told);
    } else if !common.quiet {
        print(&show::reloaded(&told));
    }
    Ok(())
}

/// The supervisor drains and leaves.
async fn stop(common: &Common, paths: &Paths, options: &args::Act) -> Result<(), Error> {
    let since = clock::now();
    let (socket, lock) = (&paths.socket(), paths.lock());
    let mut client = loop {
        match Client::dial(socket).await {
            Err(Error::Unreachable { why, .. }) if why == NONE && !lock::is_held(&lock) => {
                show::stopped(common, "already_down", None, 0);
                return Ok(());
            }
            // It leaves by itself, or will listen.
            Err(Error::Unreachable { why, .. })
                if why == NONE
                    && !options.no_wait
                    && clock::now().duration_since(since) < options.timeout =>
            {
                tokio::time::sleep(LOOK).await;
            }
            client => break client?,
        }
    };
    let status: Status = client.ask(&Request::Status, patience(options.timeout)).await?;
    loop {
        client.say(&Request::Stop(Stop { force: false })).await?;
        if options.no_wait {
            show::stopped(common, "requested", Some(status.pid), 0);
            return Ok(());
        }
        let left = options.timeout.saturating_sub(clock::now().duration_since(since));
        let told = tokio::time::timeout(left, client.closed()).await;
        let told = told.map_err(|_| Error::TimedOut {
            what: format!("stop the supervisor (pid {})", status.pid),
        })?;
        if told?.is_some() {
            show::stopped(common, "queued", Some(status.pid), 0);
            return Ok(());
        }
        // One that has become another program meanwhile has ended the connection, too, and heard nothing.
        let Ok(mut next) = Client::dial(socket).await else { break };
        let found = next.ask::<Status>(&Request::Status, ANSWER).await;
        if !found.is_ok_and(|found| found.pid == status.pid) {
            break;
        }
        client = next;
    }
    let took = u64::try_from(clock::now().duration_since(since).as_millis()).unwrap_or(u64::MAX);
    show::stopped(common, "killed", Some(status.pid), took);
    Ok(())
}
