//! The exit codes: an interface, the same for tools, the supervisor and workers.
//!
//! The numbers are those of `sysexits.h`; 75 and 78 mean what service files of Hermes users already
//! take them to mean: "start me again" and "do not".

use crate::policy::lifecycle::Verdict;

/// An exit code with a meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Code {
    /// Done, or already so.
    Ok = 0,
    /// A bad flag, an unknown instance.
    Usage = 64,
    /// The store is damaged beyond self-healing.
    Data = 65,
    /// The configuration or a secret's file is missing.
    NoInput = 66,
    /// No supervisor answers, or a platform cannot be reached.
    Unavailable = 69,
    /// A bug of ours.
    Software = 70,
    /// The system refuses a process, a socket, a limit.
    Os = 71,
    /// A directory, the lock or the socket cannot be made.
    CannotCreate = 73,
    /// A write or a sync failed, or the disk is full.
    Io = 74,
    /// Somebody else holds the lock, or time ran out.
    Temporary = 75,
    /// Another version, or a broken frame.
    Protocol = 76,
    /// The socket refuses this user, or the platform these credentials.
    NoPermission = 77,
    /// The configuration was read, and is wrong.
    Config = 78,
}

/// Every code with a meaning, in order.
pub const ALL: [Code; 13] = [
    Code::Ok,
    Code::Usage,
    Code::Data,
    Code::NoInput,
    Code::Unavailable,
    Code::Software,
    Code::Os,
    Code::CannotCreate,
    Code::Io,
    Code::Temporary,
    Code::Protocol,
    Code::NoPermission,
    Code::Config,
];

impl Code {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Usage => "usage",
            Self::Data => "data",
            Self::NoInput => "no input",
            Self::Unavailable => "unavailable",
            Self::Software => "software",
            Self::Os => "os",
            Self::CannotCreate => "cannot create",
            Self::Io => "io",
            Self::Temporary => "temporary",
            Self::Protocol => "protocol",
            Self::NoPermission => "no permission",
            Self::Config => "config",
        }
    }

    /// The number.
    pub fn number(self) -> u8 {
        self as u8
    }

    fn of(number: i32) -> Option<Self> {
        ALL.into_iter().find(|code| i32::from(code.number()) == number)
    }
}

/// The code of a number, if it has a meaning.
pub fn code(number: u8) -> Option<Code> {
    Code::of(i32::from(number))
}

/// What a tool says that waited for a worker which ended so and is held: its own code, if that tells of a failure.
pub fn fault(ended: Ended) -> Code {
    let own = match ended {
        Ended::Exit(number) => Code::of(number).filter(|code| *code != Code::Ok),
        Ended::Signal(_) => None,
    };
    own.unwrap_or(Code::Software)
}

/// How a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Exit(number) => match Code::of(number) {
                Some(code) => write!(f, "exit {number} ({})", code.word()),
                None => write!(f, "exit {number}"),
            },
            Self::Signal(number) => write!(f, "signal {number} ({})", signal_word(number)),
        }
    }
}

fn signal_word(number: i32) -> &'static str {
    match number {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        7 => "BUS",
        8 => "FPE",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        15 => "TERM",
        24 => "XCPU",
        _ => "other",
    }
}

/// What the end of a worker means for its instance; `last_words` is what it said when it left.
pub fn judge(ended: Ended, last_words: Option<&str>) -> Verdict {
    let held = |remedy: &str| Verdict::Held {
        reason: last_words.map_or_else(|| ended.to_string(), str::to_owned),
        remedy: remedy.to_owned(),
    };
    let Ended::Exit(number) = ended else { return Verdict::Counted };
    match Code::of(number) {
        // An outage is no crash, nor is the wish to be started anew, nor what the system has no room for.
        Some(Code::Unavailable | Code::Temporary | Code::Os) => Verdict::Uncounted,
        Some(Code::Protocol) => Verdict::HeldIfAgain {
            reason: last_words.map_or_else(|| ended.to_string(), str::to_owned),
            remedy: "start the supervisor anew; if that does not help, report it with the log"
                .into(),
        },
        Some(Code::Usage | Code::Config) => held(
            "mend it, then `hermes-gw ctl reload` if that is in the configuration, else \
                 `hermes-gw ctl restart` it",
        ),
        Some(Code::NoInput) => {
            held("put the missing file in place, then `hermes-gw ctl restart` it")
        }
        Some(Code::CannotCreate) => {
            held("free the path it needs, then `hermes-gw ctl restart` the instance")
        }
        Some(Code::NoPermission) => held(
            "check this instance's credentials: `hermes-gw ctl reload` takes new ones, `hermes-gw ctl \
                 restart` tries the same once more",
        ),
        Some(Code::Ok | Code::Data | Code::Software | Code::Io) | None => Verdict::Counted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_verdict_as_the_table_says() {
        for code in ALL {
            let verdict = judge(Ended::Exit(i32::from(code.number())), None);
            let expected = match code.number() {
                64 | 66 | 73 | 77 | 78 => "held",
                69 | 71 | 75 => "uncounted",
                76 => "held if again",
                _ => "counted",
            };
            let found = match verdict {
                Verdict::Held { .. } => "held",
                Verdict::Uncounted => "uncounted",
                Verdict::HeldIfAgain { .. } => "held if again",
                Verdict::Counted => "counted",
                Verdict::NotYet(_) => "not yet",
            };
            assert_eq!(found, expected, "{code:?}");
        }
        // A restart takes what was read before.
        for code in [77, 78] {
            let held = judge(Ended::Exit(code), None);
            let Verdict::Held { remedy, .. } = held else { panic!("{held:?}") };
            assert!(remedy.contains("ctl reload") && remedy.contains("ctl restart"), "{remedy}");
        }
        assert_eq!(judge(Ended::Signal(9), None), Verdict::Counted);
        assert_eq!(judge(Ended::Exit(1), None), Verdict::Counted);
        for (ended, told) in [(77, 77), (66, 66), (0, 70), (1, 70)] {
            assert_eq!(fault(Ended::Exit(ended)).number(), told, "{ended}");
        }
        assert_eq!(fault(Ended::Signal(9)), Code::Software);
        assert_eq!(Ended::Exit(69).to_string(), "exit 69 (unavailable)");
        assert_eq!(Ended::Signal(9).to_string(), "signal 9 (KILL)");
    }
}
