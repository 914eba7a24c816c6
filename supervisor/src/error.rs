//! What can go wrong in the supervisor and its tools. A variant is a situation; it has one exit code
//! and, where a person can do something, a hint.

use std::io::ErrorKind;
use std::path::PathBuf;

use protocol::control::Refusal;

use crate::exit::Code;
use crate::store;

/// A command cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line contradicts itself or names what does not exist.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// The configuration file that was asked for is not there.
    #[error("read the configuration {}: {source}", path.display())]
    ConfigMissing {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file cannot be understood as a whole.
    #[error("read the configuration {}: {message}", path.display())]
    Config {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// What all of the configuration needs is not there.
    #[error("read the configuration {}: {message}", path.display())]
    ConfigNeeds {
        /// Where it is named.
        path: PathBuf,
        /// What is missing.
        message: String,
    },
    /// Where a running supervisor is cannot be told, as the configuration cannot be read.
    #[error(transparent)]
    Unlocated(Box<Self>),
    /// Blocks of the configuration are wrong.
    #[error("{message}")]
    Blocks {
        /// A line for each.
        message: String,
        /// The worst of them.
        code: Code,
    },
    /// A program that wants to be an agent breaks rules.
    #[error("test the program: it breaks {wrong} of the rules")]
    Nonconforming {
        /// How many.
        wrong: u32,
    },
    /// No place for the state can be told from the environment.
    #[error("choose a state directory: neither XDG_STATE_HOME nor HOME is an absolute path")]
    NoHome,
    /// A directory or file of ours cannot be made or used.
    #[error("{what} {}: {source}", path.display())]
    Create {
        /// What was attempted.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory is open to others, and something is in it.
    #[error("use the directory {}: others may enter it, and it is not empty", path.display())]
    Shared {
        /// Where.
        path: PathBuf,
    },
    /// A path is too long for a local socket.
    #[error(
        "make sockets in {}: the path has {len} bytes, at most {max} are possible", path.display()
    )]
    PathTooLong {
        /// The directory.
        path: PathBuf,
        /// Its length.
        len: usize,
        /// The most.
        max: usize,
    },
    /// Another supervisor runs on this state directory.
    #[error("start on {}: another supervisor runs there: {holder}", state_dir.display())]
    Held {
        /// The directory.
        state_dir: PathBuf,
        /// The configuration that was named: another start without it would serve another one.
        config: Option<PathBuf>,
        /// Who it is.
        holder: String,
    },
    /// It was to be replaced, and yet another one has taken its place.
    #[error("replace the one that ran: another supervisor was quicker: {holder}")]
    Overtaken {
        /// Who it is.
        holder: String,
    },
    /// Somebody who does not manage us told us to leave.
    #[error("serve on: told to leave by somebody who is not the service manager")]
    ToldByStranger,
    /// A second Ctrl-C ended it at once.
    #[error("leave in order: interrupted")]
    Interrupted,
    /// Nobody runs, or nobody answers.
    #[error("ask the supervisor at {}: {why}", socket.display())]
    Unreachable {
        /// Where it should be.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// Somebody holds the lock, and there is no socket.
    #[error("ask the supervisor at {}: {why}", socket.display())]
    Unready {
        /// Where it should be.
        socket: PathBuf,
        /// What is known of it.
        why: String,
    },
    /// It went on as another program, or ended, in the middle of what must not be asked twice.
    #[error(
        "ask the supervisor at {}: it ended the connection before it answered; it may have been done, or not",
        socket.display()
    )]
    Cut {
        /// Where it is.
        socket: PathBuf,
    },
    /// The supervisor refuses.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// A wish was not fulfilled in time, or only in part; a line for each was printed.
    #[error("{message}")]
    Unfulfilled {
        /// Of the first that failed.
        code: Code,
        /// What became of it.
        message: String,
        /// What helps.
        hint: Option<String>,
    },
    /// Time ran out.
    #[error("{what}: time ran out")]
    TimedOut {
        /// What was waited for.
        what: String,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store lost its durability while serving.
    #[error("keep events: {0}")]
    Poisoned(String),
    /// The operating system refuses.
    #[error("{what}: {source}")]
    Os {
        /// What was attempted.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Standard output takes no more.
    #[error("write to standard output: {source}")]
    Output {
        /// Why.
        source: std::io::Error,
    },
    /// Somebody holds the lock, and who it is cannot be proven from here.
    #[error(
        "kill the holder of {}: the lock is held, but nothing proves by whom; nothing was signalled",
        path.display()
    )]
    Unproven {
        /// The lock.
        path: PathBuf,
    },
    /// Process 1 of a container takes no signal from within, and does not do as it is asked.
    #[error(
        "kill the supervisor, which is process 1 here: no signal ends that from within, and {why}"
    )]
    First {
        /// What came of asking it.
        why: String,
    },
    /// A process could not be ended.
    #[error("{0}")]
    Survivors(String),
    /// A worker's own error.
    #[error(transparent)]
    Worker(#[from] worker::Error),
}

impl Error {
    /// What was attempted belongs to another user.
    pub fn foreign(message: String) -> Self {
        Self::Refused(Refusal {
            code: Code::NoPermission.number(),
            message,
            hint: Some("run as the user who runs the supervisor, or as root".into()),
        })
    }

    /// Whether nothing is to be said of it: it was told already, or whoever read has left.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Unfulfilled { .. } | Self::Interrupted => true,
            Self::Output { source } => source.kind() == ErrorKind::BrokenPipe,
            _ => false,
        }
    }

    /// For programs.
    pub fn refusal(&self) -> Refusal {
        Refusal { code: self.code(), message: self.to_string(), hint: self.hint() }
    }

    /// The exit code of the program.
    pub fn code(&self) -> u8 {
        match self {
            // As the shell tells of programs that the signal of a broken pipe has ended.
            Self::Output { .. } if self.is_silent() => return 128 + 13,
            Self::Interrupted => return 128 + 2,
            Self::Usage { .. } => Code::Usage,
            Self::ConfigMissing { .. } | Self::ConfigNeeds { .. } => Code::NoInput,
            Self::Config { .. } => Code::Config,
            Self::Unlocated(why) => return why.code(),
            Self::Blocks { code, .. } | Self::Unfulfilled { code, .. } => *code,
            Self::NoHome | Self::Create { .. } | Self::Shared { .. } | Self::PathTooLong { .. } => {
                Code::CannotCreate
            }
            Self::Held { .. }
            | Self::Overtaken { .. }
            | Self::TimedOut { .. }
            | Self::ToldByStranger => Code::Temporary,
            Self::Unreachable { .. } | Self::Unready { .. } | Self::Cut { .. } => Code::Unavailable,
            Self::Refused(refusal) => return refusal.code,
            Self::Store(store::Error::Newer { .. }) | Self::Nonconforming { .. } => Code::Protocol,
            Self::Store(store::Error::InUse { .. }) => Code::Temporary,
            Self::Store(store::Error::Foreign { .. } | store::Error::Link { .. }) => Code::Data,
            Self::Store(store::Error::Io { source, .. }) => match source.kind() {
                ErrorKind::PermissionDenied => Code::NoPermission,
                ErrorKind::IsADirectory => Code::CannotCreate,
                _ => Code::Io,
            },
            Self::Store(_) | Self::Poisoned(_) | Self::Output { .. } => Code::Io,
            Self::Os { .. } | Self::Unproven { .. } | Self::First { .. } | Self::Survivors(_) => {
                Code::Os
            }
            Self::Worker(e) => return e.exit_code(),
        }
        .number()
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::ConfigMissing { source, .. }
                if source.kind() == ErrorKind::NotFound =>
            {
                "name an existing file with --config, or leave it out for the built-in default".into()
            }
            Self::ConfigMissing { .. } => {
                "make it a file that this user may read, or name another one with --config".into()
            }
            Self::Config { .. } => "mend the file at that place".into(),
            Self::ConfigNeeds { .. } => "put what is missing in place".into(),
            Self::Unlocated(why) => {
                let mend = match &**why {
                    Self::ConfigMissing { .. } => "name an existing file with --config".into(),
                    why => why.hint().unwrap_or_default(),
                };
                format!(
                    "nothing was asked: {mend}, or name the directory in which the supervisor keeps its \
                     state: `--state-dir DIR` needs no file"
                )
            }
            Self::Blocks { code: Code::NoInput, .. } => {
                "put what is missing in place; the other instances would serve meanwhile".into()
            }
            Self::Blocks { .. } => "mend these blocks; the other instances would serve meanwhile".into(),
            Self::NoHome => "name a directory with --state-dir".into(),
            Self::Nonconforming { .. } => "docs/socket-agent.md has the rules".into(),
            Self::Create { source, .. } | Self::Store(store::Error::Io { source, .. })
                if source.kind() == ErrorKind::PermissionDenied =>
            {
                "run as the owner of that path, or name another one with --state-dir".into()
            }
            Self::Create { source, .. } | Self::Store(store::Error::Io { source, .. })
                if matches!(source.kind(), ErrorKind::AlreadyExists | ErrorKind::IsADirectory) =>
            {
                "move what lies there out of the way".into()
            }
            // In another directory it would begin with an empty store, beside what waits in this one.
            Self::Create { source, .. } | Self::Store(store::Error::Io { source, .. })
                if source.kind() == ErrorKind::ReadOnlyFilesystem =>
            {
                "make that file system writable again; what waits is kept there".into()
            }
            Self::Create { source, .. } | Self::Store(store::Error::Io { source, .. })
                if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                "make room on that disk (`df -h`, `df -i`); what waits is kept there".into()
            }
            Self::Shared { path } => {
                let path = path.display();
                format!(
                    "if it is the gateway's alone, as after a backup was put there: `chmod 700 {path}`; if not, \
                     name another directory with --state-dir"
                )
            }
            Self::Create { .. } => "name another directory with --state-dir".into(),
            Self::PathTooLong { .. } => {
                "name a shorter directory with runtime_dir in [gateway], or with --state-dir".into()
            }
            Self::Held { state_dir, config, .. } => {
                let config = config.as_ref().map(|path| format!(" --config {}", path.display()));
                let (config, dir) = (config.unwrap_or_default(), state_dir.display());
                format!("`hermes-gw supervise --replace{config} --state-dir {dir}` would replace it")
            }
            Self::Overtaken { .. } => {
                "the former one has left: `hermes-gw ctl status` tells how the new one does; the same command \
                 replaces that one"
                    .into()
            }
            Self::Unreachable { .. } => {
                "start one with `hermes-gw supervise`; a hung one ends by `hermes-gw ctl kill --force`"
                    .into()
            }
            Self::Unready { .. } => {
                "try again a little later; where that lasts, `hermes-gw ctl kill --force` ends it".into()
            }
            Self::Cut { .. } => "see in `hermes-gw ctl status` and the log whether it was, and ask again if not".into(),
            Self::Refused(refusal) => return refusal.hint.clone(),
            Self::ToldByStranger => {
                "the service manager starts it anew; `hermes-gw ctl kill` or the manager's own command \
                 keep it down"
                    .into()
            }
            Self::Unfulfilled { hint: Some(hint), .. } => hint.clone(),
            Self::Unfulfilled { .. } | Self::TimedOut { .. } => "`hermes-gw ctl status` tells how things stand".into(),
            Self::Store(e) => return of_store(e),
            Self::Poisoned(_) => "check the disk, and the limit of file sizes (`ulimit -f`); the supervisor recovers at its next start".into(),
            Self::Worker(e) if e.exit_code() == Code::Protocol.number() => {
                "the supervisor runs another version, or is broken: start it anew".into()
            }
            Self::Unproven { .. } => UNPROVEN.into(),
            Self::First { .. } => "end the container, from outside".into(),
            Self::Os { .. }
            | Self::Output { .. }
            | Self::Survivors(_)
            | Self::Interrupted
            | Self::Worker(_) => return None,
        })
    }
}

/// What helps where nothing proves who holds the lock.
const UNPROVEN: &str = "one in another container, or on another machine, is killed there, or by ending that container; \
    `hermes-gw ctl kill` asks it to leave";

/// What helps where the store cannot be used.
fn of_store(error: &store::Error) -> Option<String> {
    Some(match error {
        store::Error::Newer { .. } => {
            "run the newer program, or restore a backup made by this one".into()
        }
        store::Error::Unfit { .. } => {
            "name a directory on a local disk with --state-dir or state_dir in [gateway]".into()
        }
        store::Error::Foreign { .. } => {
            "move that file out of the way, or name another directory with --state-dir".into()
        }
        store::Error::Link { .. } => {
            "move the directory as a whole instead, and name it with --state-dir or state_dir in [gateway]".into()
        }
        store::Error::Removed(removed) => removed.hint(),
        store::Error::Engine { .. } => {
            "check the disk, and the limit of file sizes (`ulimit -f`)".into()
        }
        store::Error::Io { .. } | store::Error::InUse { .. } | store::Error::Poisoned { .. } => return None,
    })
}
