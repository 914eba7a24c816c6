//! Words by which a person commands the gateway instead of talking to the agent: `/new`, `/stop`, `/status`.
//!
//! A command is the whole message. In a group it may name the bot before it, and behind it as Telegram
//! does (`/stop@MyBot`). Anything that is said with it makes it a message like any other.

use protocol::event::{Inbound, InboundKind};

/// What is commanded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// The conversation begins anew.
    New,
    /// What the agent works on in this conversation ends.
    Stop,
    /// How things are.
    Status,
}

/// The words for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commands {
    /// For [`Command::New`].
    pub new: Vec<String>,
    /// For [`Command::Stop`].
    pub stop: Vec<String>,
    /// For [`Command::Status`].
    pub status: Vec<String>,
}

impl Default for Commands {
    fn default() -> Self {
        let one = |word: &str| vec![word.to_owned()];
        Self { new: one("/new"), stop: one("/stop"), status: one("/status") }
    }
}

impl Commands {
    /// What `event` commands, if it is a command.
    pub fn find(&self, event: &Inbound) -> Option<Command> {
        if event.kind == InboundKind::Stop {
            return Some(Command::Stop);
        }
        // A button may say it, too. The files of an answer may be those of what it answers; its own are named in its text.
        if !matches!(event.kind, InboundKind::Message | InboundKind::Button)
            || (!event.parts.is_empty() && event.quote.is_none())
        {
            return None;
        }
        let text = event.unnamed();
        // Most texts are told from a command by their first character.
        let is = |words: &[String]| !text.is_empty() && words.iter().any(|word| equal(word, text));
        [(Command::New, &self.new), (Command::Stop, &self.stop), (Command::Status, &self.status)]
            .into_iter()
            .find(|(_, words)| is(words))
            .map(|(command, _)| command)
    }
}

/// Whether it is a command to somebody, be it the agent: what begins with `/`.
pub fn is_one(event: &Inbound) -> bool {
    event.unnamed().starts_with('/')
}

/// Whether two texts are the same but for upper and lower case.
fn equal(one: &str, other: &str) -> bool {
    one.chars().flat_map(char::to_lowercase).eq(other.chars().flat_map(char::to_lowercase))
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::event::{ChatType, Mention, Part, Sender, SenderKind};

    use super::*;

    pub(in crate::policy) fn said(text: &str, mention: Mention) -> Inbound {
        Inbound {
            kind: InboundKind::Message,
            keys: vec!["message:1".into()],
            origin_ms: 0,
            chat_id: "c".into(),
            chat_type: ChatType::Group,
            thread_id: None,
            message_id: None,
            reply_to: None,
            sender: Sender { user_id: "u".into(), name: None, kind: SenderKind::User },
            mention,
            text: text.into(),
            parts: Vec::new(),
            raw: Vec::new(),
            chat_name: None,
            quote: None,
            album: None,
        }
    }

    #[test]
    fn a_command_is_a_whole_message_to_the_bot() {
        let commands = Commands { stop: vec!["/stop".into(), "停".into()], ..Commands::default() };
        for (text, mention, found) in [
            ("/new", Mention::None, Some(Command::New)),
            (" /Stop \n", Mention::None, Some(Command::Stop)),
            ("停", Mention::None, Some(Command::Stop)),
            ("@Bot /status", Mention::Me, Some(Command::Status)),
            ("/status@my_bot", Mention::Me, Some(Command::Status)),
            ("/status @my bot", Mention::Me, None),
            ("/status@other_bot", Mention::Other, None),
            ("@Ann /status", Mention::Other, None),
            ("/new what is new?", Mention::None, None),
            ("please /stop", Mention::None, None),
            ("/newer", Mention::None, None),
            ("", Mention::Me, None),
        ] {
            assert_eq!(commands.find(&said(text, mention)), found, "{text:?}");
        }
        let edit = Inbound { kind: InboundKind::Edit, ..said("/new", Mention::None) };
        assert_eq!(commands.find(&edit), None);
        let part =
            Part { kind: "image".into(), handle: "h".into(), name: None, size: None, mime: None };
        let picture = Inbound { parts: vec![part], ..said("/new", Mention::None) };
        assert_eq!(commands.find(&picture), None);
        let to_a_picture = Inbound { quote: Some("[photo]".into()), ..picture.clone() };
        assert_eq!(commands.find(&to_a_picture), Some(Command::New), "the picture is not its own");
        let own = Inbound { text: "[photo] /new".into(), ..to_a_picture };
        assert_eq!(commands.find(&own), None);
        assert!(is_one(&said("@Bot /model x", Mention::Me)) && is_one(&said("/m", Mention::None)));
        assert!(!is_one(&said("@Ann /m", Mention::Other)) && !is_one(&said("a /m", Mention::None)));
        let none = Commands { new: Vec::new(), stop: Vec::new(), status: Vec::new() };
        assert_eq!(none.find(&said("/new", Mention::None)), None);
    }
}
