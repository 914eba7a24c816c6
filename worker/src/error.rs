//! Why a worker ends. Each variant is a situation, and each situation has one exit code by which the
//! supervisor decides what to do next.

/// A worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The line on standard input is missing or broken: not started by a supervisor.
    #[error("read the leash: {0}")]
    Leash(String),
    /// The link to the supervisor broke, or carried what it may not carry.
    #[error("talk to the supervisor: {0}")]
    Link(#[from] protocol::Error),
    /// The supervisor said something that makes no sense here.
    #[error("talk to the supervisor: unexpected frame: {0}")]
    Unexpected(&'static str),
    /// A setting that no retry can mend.
    #[error("{what}: {why}")]
    Config {
        /// What was attempted.
        what: String,
        /// What is wrong with the setting.
        why: String,
    },
    /// The platform refuses these credentials.
    #[error("{what}: {why}")]
    Credentials {
        /// What was attempted.
        what: String,
        /// What the platform said.
        why: String,
    },
    /// The program that this worker exists for ended.
    #[error("the program ended: {why}")]
    Program {
        /// How.
        why: String,
        /// The exit code that stands for it.
        code: u8,
    },
    /// Another process may do what this one may not.
    #[error("{0}")]
    Anew(String),
    /// The operating system refuses a socket or a limit.
    #[error("{what}: {source}")]
    Os {
        /// What was attempted.
        what: String,
        /// What went wrong.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code of the process, from the table in README.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Leash(_) => 64,
            Self::Link(protocol::Error::Io(_) | protocol::Error::Torn) => 69,
            Self::Link(_) | Self::Unexpected(_) => 76,
            Self::Config { .. } => 78,
            Self::Credentials { .. } => 77,
            Self::Os { .. } => 71,
            Self::Anew(_) => 75,
            Self::Program { code, .. } => *code,
        }
    }
}
