//! What goes through `exec` when the supervisor becomes another build of itself: same process, same
//! children, same lock, listener and links. It is JSON in a file without a name, whose descriptor the new
//! program is told on its command line (`supervise --resume FD`), with the numbers of all descriptors that
//! were left open for it.
//!
//! Additive, as the new program may be newer than the old one: members are only ever added. A change that
//! the former program could not have meant raises [`FORMAT`]; a program that knows less than we do refuses
//! before anything is given up ([`Check`]).
#![expect(unsafe_code, reason = "descriptors come as numbers")]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use protocol::event::{Abilities, Inbound};
use protocol::hook::HookEvent;
use protocol::id::{Generation, Instance, Lane};
use protocol::worker::Outside;
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use crate::exit::Code;

/// The version of [`State`].
pub const FORMAT: u32 = 1;
/// The most that a program may say of itself.
const CHECK_MAX: u64 = 64 * 1024;

/// What a program says of itself before it may take over: the output of `hermes-gw upgrade-check`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Its version.
    pub version: String,
    /// The newest [`State`] that it understands.
    pub format: u32,
    /// The newest schema of the store that it understands.
    pub schema: i64,
    /// What is wrong with the configuration as it reads it, if anything keeps it from serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Instances whose configuration is wrong as it reads it, and why: it would give them up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<(Instance, String)>,
}

impl Check {
    /// Why this program cannot take over from one that writes `format` and has a store of `schema`.
    pub fn refusal(&self, format: u32, schema: i64) -> Option<No> {
        let older = |what: String| {
            let why = format!("it is older than the one that runs: {what}");
            Some(No { why, code: Code::Protocol })
        };
        if self.format < format {
            older(format!("it understands states up to {}, not {format}", self.format))
        } else if self.schema < schema {
            older(format!("it reads stores up to schema {}, not {schema}", self.schema))
        } else {
            self.problem.clone().map(No::new)
        }
    }
}

/// Why a program does not take over.
#[derive(PartialEq, Eq, Debug)]
pub struct No {
    /// In words.
    pub why: String,
    /// Whether it makes sense to ask again.
    pub code: Code,
}

impl No {
    /// It cannot now.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: Code::Temporary }
    }

    /// It cannot be started. What is not there, or cannot be run, will not be able to a moment later either.
    pub fn unstarted(error: &io::Error) -> Self {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        let is_none = matches!(error.kind(), NotFound | PermissionDenied | NotADirectory)
            || error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error());
        let code = if is_none { Code::NoInput } else { Code::Temporary };
        Self { why: format!("start it: {error}"), code }
    }
}

/// Asks another program whether it could take over. Its end is its asker's matter.
pub fn ask(mut command: Command) -> Result<Check, No> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| No::unstarted(&e))?;
    let output = child.stdout.take().ok_or_else(|| No::new("it has no standard output"))?;
    let mut said = String::new();
    let read = output.take(CHECK_MAX).read_to_string(&mut said);
    read.map_err(|e| No::new(format!("read what it says: {e}")))?;
    let found = said.lines().find_map(|line| serde_json::from_str(line).ok());
    found.ok_or_else(|| No::new("it is no hermes-gw that knows how to take over"))
}

/// Everything that the next program needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// The version of the worker conversation on the links.
    pub protocol: u16,
    /// When links were read last, by the monotonic clock.
    pub paused_usec: u64,
    /// When the first of these programs started, in Unix milliseconds.
    pub started_ms: i64,
    /// The same by the monotonic clock. A program that does not tell begins to count anew.
    #[serde(default)]
    pub started_usec: Option<u64>,
    /// Events up to this one were accepted before that. A program that does not tell knows of none.
    #[serde(default)]
    pub former_events: u64,
    /// The mask that children get.
    pub mask: u32,
    /// The limits of descriptors that children get.
    pub limits: (u64, u64),
    /// What tokens for handlers of hooks are made with.
    pub token_key: [u8; 16],
    /// What their holders may touch: instance, chat, message, and whether handlers have said it.
    #[serde(default)]
    pub reach: Vec<(String, String, String, bool)>,
    /// What listeners were told lately, and the last number that was given.
    #[serde(default)]
    pub recent: (u64, Vec<(u64, String)>),
    /// The instance lock.
    pub lock: RawFd,
    /// The listening socket, and where it is.
    pub socket: (RawFd, PathBuf),
    /// Its file, by device and inode.
    #[serde(default)]
    pub socket_file: Option<(u64, u64)>,
    /// The files of the store, likewise.
    #[serde(default)]
    pub store_files: Option<[(u64, u64); 2]>,
    /// Instances that are wanted down.
    pub down: Vec<Instance>,
    /// The workers.
    pub workers: Vec<Worker>,
}

/// A worker that goes on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Worker {
    /// Its instance.
    pub instance: Instance,
    /// Which incarnation.
    pub generation: Generation,
    /// Its process.
    pub pid: u32,
    /// What it and its descendants bear in their environment.
    pub mark: String,
    /// Its control group.
    pub cgroup: Option<PathBuf>,
    /// What it is, hashed: another configuration makes another worker.
    pub settings: String,
    /// Its leash.
    pub leash: RawFd,
    /// The locks of its account.
    pub credential: Vec<RawFd>,
    /// Its link, and what was read of a frame that is not whole.
    pub link: RawFd,
    /// See `link`.
    #[serde(with = "serde_bytes")]
    pub rest: Vec<u8>,
    /// It has said that its outer connection works.
    pub ready: bool,
    /// Since when it has been in its phase, by the monotonic clock.
    #[serde(default)]
    pub since_usec: Option<u64>,
    /// Who it is logged in as.
    pub account: Option<String>,
    /// The state of its outer connection.
    pub outside: Option<Outside>,
    /// What it has confined itself to.
    pub confined: Option<String>,
    /// Whether it takes replies.
    #[serde(default)]
    pub takes: Takes,
    /// Its agent's promise: for how long, in milliseconds, and how many deliveries at once.
    pub lease: Option<(u64, u32)>,
    /// What its agent works on.
    pub at_work: Vec<AtWork>,
    /// What its agent can do besides.
    #[serde(default)]
    pub abilities: Abilities,
    /// What its agent was told of, beside its work or before: its acknowledgement settles that.
    #[serde(default)]
    pub steered: Vec<u64>,
    /// What handlers of hooks are still to be told, and the last number that was given.
    #[serde(default)]
    pub occasions: Option<(u64, Vec<HookEvent>)>,
}

/// Whether a worker takes replies. No option of an option: in JSON both of its empty values are `null`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub enum Takes {
    /// Not now.
    #[default]
    None,
    /// As they come: its platform recognises no keys.
    Unkeyed,
    /// Its platform recognises a key for so many milliseconds.
    Keyed(u64),
}

impl From<Option<Option<Duration>>> for Takes {
    fn from(up: Option<Option<Duration>>) -> Self {
        match up {
            None => Self::None,
            Some(None) => Self::Unkeyed,
            Some(Some(window)) => {
                Self::Keyed(u64::try_from(window.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
}

impl Takes {
    /// What [`outbox::Input::Up`](crate::policy::outbox::Input::Up) is to say; none: nothing.
    pub fn up(self) -> Option<Option<Duration>> {
        match self {
            Self::None => None,
            Self::Unkeyed => Some(None),
            Self::Keyed(ms) => Some(Some(Duration::from_millis(ms))),
        }
    }
}

/// An event that an agent works on.
#[derive(Debug, Serialize, Deserialize)]
pub struct AtWork {
    /// The event.
    pub id: u64,
    /// Its conversation.
    pub lane: Lane,
    /// Attempts that count against it.
    pub counted: u32,
    /// The message that it is, for a sign of work.
    pub message_id: Option<String>,
    /// The chat shows a sign of work.
    pub busy: bool,
    /// Of its conversation.
    pub epoch: u64,
    /// The agent was told to end it; it asks the chat something; the chat was told that it waits.
    pub state: (bool, bool, bool),
    /// Others wait behind it in its lane.
    #[serde(default = "unknown")]
    pub is_followed: bool,
    /// What handlers of hooks were told when it began.
    pub told: Option<HookEvent>,
    /// What the agent has replied since.
    pub replies: Vec<(String, String)>,
    /// The event that it is, as far as it is needed to speak in its place.
    #[serde(default)]
    pub event: Option<Box<Inbound>>,
}

/// Of a program that did not tell: nobody is to overtake who may wait.
fn unknown() -> bool {
    true
}

/// The number of a descriptor that is to stay open.
pub fn keep(fd: BorrowedFd<'_>) -> io::Result<RawFd> {
    fcntl_setfd(fd, FdFlags::empty())?;
    Ok(fd.as_raw_fd())
}

/// The opposite of [`keep`], where nothing came of it.
pub fn close_in_children(fd: BorrowedFd<'_>) {
    let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
}

/// The descriptor of a number that came through `exec`; closed in children from now on. Each number may
/// be taken once.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number comes from the state that our former self wrote, which kept this descriptor
    // open for us alone; nothing else in this process knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

impl State {
    /// Reads what the former program left.
    pub fn read(number: RawFd) -> io::Result<Self> {
        let mut file = File::from(take(number)?);
        file.rewind()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Becomes `program`, with this state. Returns only if that is not possible.
    pub fn exec(&self, program: &Path) -> io::Error {
        let become_it = || -> io::Result<std::convert::Infallible> {
            let memory = rustix::fs::memfd_create("hermes-gw-upgrade", MemfdFlags::empty())?;
            let mut file = File::from(memory);
            file.write_all(serde_json::to_string(self)?.as_bytes())?;
            let arguments = arguments(std::env::args_os(), keep(file.as_fd())?);
            let c = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::other);
            let arguments: Vec<_> = arguments.into_iter().map(c).collect::<io::Result<_>>()?;
            Ok(nix::unistd::execv(&c(program.into())?, &arguments)?)
        };
        match become_it() {
            Ok(never) => match never {},
            Err(e) => e,
        }
    }
}

/// Our own command line, to go on instead of to begin.
fn arguments(own: impl Iterator<Item = OsString>, state: RawFd) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut own = own;
    while let Some(word) = own.next() {
        match word.to_str() {
            Some("--resume") => drop(own.next()),
            Some("--replace" | "--force" | "--wait") => {}
            _ => kept.push(word),
        }
    }
    kept.extend(["--resume".into(), state.to_string().into()]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_worker_takes_replies_survives() {
        let window = Some(Some(Duration::from_millis(7)));
        for up in [None, Some(None), window] {
            let text = serde_json::to_string(&Takes::from(up)).unwrap();
            assert_eq!(serde_json::from_str::<Takes>(&text).unwrap().up(), up, "{text}");
        }
    }

    #[test]
    fn the_command_line_goes_on_instead_of_beginning() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let begun = words("hermes-gw --config gw.toml supervise --replace --force");
        let first = arguments(begun.into_iter(), 17);
        assert_eq!(first, words("hermes-gw --config gw.toml supervise --resume 17"));
        let second = arguments(first.into_iter(), 9);
        assert_eq!(second, words("hermes-gw --config gw.toml supervise --resume 9"));
    }

    #[test]
    fn what_is_no_program_is_told_from_what_cannot_be_started_now() {
        let code = |errno: Errno| No::unstarted(&errno.into()).code;
        for none in [Errno::NOENT, Errno::ACCESS, Errno::NOTDIR, Errno::NOEXEC] {
            assert_eq!(code(none), Code::NoInput, "{none}");
        }
        for now in [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::TXTBSY] {
            assert_eq!(code(now), Code::Temporary, "{now}");
        }
    }

    #[test]
    fn a_program_that_knows_less_or_cannot_serve_is_refused() {
        let check = |format, schema, problem: Option<&str>| Check {
            version: "1".into(),
            format,
            schema,
            problem: problem.map(str::to_owned),
            broken: Vec::new(),
        };
        assert_eq!(check(1, 2, None).refusal(1, 2), None);
        assert_eq!(check(9, 9, None).refusal(1, 2), None);
        let older = check(0, 2, None).refusal(1, 2).unwrap();
        assert!(older.why.contains("older") && older.code == Code::Protocol, "{older:?}");
        assert!(check(1, 1, None).refusal(1, 2).unwrap().why.contains("schema"));
        assert_eq!(check(1, 2, Some("no")).refusal(1, 2), Some(No::new("no")));
    }
}
