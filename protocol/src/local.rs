//! What `hermes-gw chat` and the worker of a `local` platform say to each other: JSON, one object a
//! line, over the worker's own socket. Unknown members are ignored.

use serde::{Deserialize, Serialize};

/// The longest line from a terminal, in bytes, without its end.
pub const LINE_MAX: usize = 512 * 1024;
/// The longest line to a terminal: a reply of full length, however it is escaped.
pub const REPLY_LINE_MAX: usize = 8 * 1024 * 1024;

/// From the terminal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromTerminal {
    /// The first line: which conversation this terminal shows from now on.
    Join {
        /// Its name.
        chat: String,
        /// Who types.
        user: String,
        /// It confirms what it has shown. One that does not has shown what was written to it.
        #[serde(default)]
        confirms: bool,
    },
    /// A message is shown.
    Shown {
        /// Its id.
        message_id: String,
    },
    /// Something was typed.
    Say {
        /// Unique for ever; repeated if the same text is sent again after a broken connection.
        id: String,
        /// What.
        text: String,
    },
}

/// To the terminal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToTerminal {
    /// The conversation is shown here from now on.
    Joined,
    /// What was typed is durable.
    Accepted {
        /// Its id.
        id: String,
    },
    /// What was typed is not durable: say it again later.
    Refused {
        /// Its id.
        id: String,
    },
    /// The agent says something.
    Message {
        /// Unique; the same if it is shown again.
        message_id: String,
        /// Which typed text it answers.
        reply_to: Option<String>,
        /// What.
        text: String,
    },
    /// The line was not understood.
    Problem {
        /// Why.
        reason: String,
    },
}
