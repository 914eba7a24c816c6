//! What an agent has said in a turn so far. Pure, and bounded.

use super::wire::{Said, Update};

/// The largest answer.
const TEXT_MAX: usize = 512 * 1024;
/// All files that come with an answer, as base64.
const FILES_MAX: usize = 16 * 1024 * 1024;
/// Files of an answer.
const LINKS_MAX: usize = 20;
/// Tools that are shown at once.
const TOOLS: usize = 3;

/// A turn.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Turn {
    text: String,
    is_cut: bool,
    message: Option<String>,
    tools: Vec<(String, String)>,
    /// Type and base64 of each.
    pub(super) files: Vec<(String, String)>,
    file_bytes: usize,
    /// URI and name of each.
    pub(super) links: Vec<(String, String)>,
}

impl Turn {
    /// Takes what happens; whether there is more to show.
    pub(super) fn on(&mut self, update: Update) -> bool {
        match update {
            Update::Says { message, content } => self.says(message, content),
            Update::Tool { id, title, is_over } => {
                let before = self.tools.len();
                let known = self.tools.iter_mut().find(|(known, _)| *known == id);
                match (known, title, is_over) {
                    (_, _, true) => self.tools.retain(|(known, _)| *known != id),
                    (Some((_, old)), Some(title), false) => *old = title,
                    (None, Some(title), false) => self.tools.push((id, title)),
                    (_, None, false) => {}
                }
                before != self.tools.len()
            }
            Update::UserSaid(_) | Update::Alive => false,
        }
    }

    fn says(&mut self, message: Option<String>, content: Said) -> bool {
        match content {
            Said::Text(text) => {
                let another =
                    message.is_some() && self.message.is_some() && message != self.message;
                if another && !self.text.is_empty() {
                    self.text.push_str("\n\n");
                }
                self.message = message.or(self.message.take());
                if self.text.len() + text.len() > TEXT_MAX {
                    if !self.is_cut {
                        let room = TEXT_MAX.saturating_sub(self.text.len());
                        let end = text.floor_char_boundary(room);
                        self.text.push_str(text.get(..end).unwrap_or_default());
                        self.text.push_str(" […]");
                        self.is_cut = true;
                    }
                    return false;
                }
                self.text.push_str(&text);
                !text.is_empty()
            }
            Said::File { mime, data } => {
                if self.file_bytes + data.len() > FILES_MAX {
                    return self
                        .names(&format!("[{mime}: the files of this answer are too large]"));
                }
                self.file_bytes += data.len();
                self.files.push((mime, data));
                false
            }
            Said::Link { uri, name } if self.links.len() >= LINKS_MAX => {
                self.names(&format!("{name}: {uri}"))
            }
            Said::Link { uri, name } => {
                self.links.push((uri, name));
                false
            }
            Said::Beside(text) => self.names(&text),
            Said::Nothing => false,
        }
    }

    /// Says on a line of its own what came as something else than words.
    fn names(&mut self, what: &str) -> bool {
        if !self.is_cut {
            self.says(None, Said::Text(format!("\n{what}\n")));
        }
        true
    }

    /// The answer.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The answer in the making, and what the agent is at.
    pub(super) fn shown(&self) -> String {
        let mut shown = self.text.clone();
        for (_, title) in self.tools.iter().rev().take(TOOLS) {
            let title: String = title.chars().take(100).collect();
            if !shown.is_empty() {
                shown.push_str("\n\n");
            }
            shown.push_str("⚙ ");
            shown.push_str(title.replace(['\n', '\r'], " ").trim());
        }
        shown
    }
}

/// Whether a Hermes Agent says with this text that its model failed.
pub(super) fn is_failure(text: &str) -> bool {
    let rest = text.trim_start().strip_prefix("HTTP ").unwrap_or_default();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits == 3 && rest.get(3..).is_some_and(|rest| rest.starts_with(':'))
}

/// Whether a Hermes Agent says with this text that it puts a prompt behind a turn that it thinks runs.
pub(super) fn is_queued(text: &str) -> bool {
    text.trim_start().starts_with("Queued for the next turn")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(message: Option<&str>, text: &str) -> Update {
        Update::Says { message: message.map(str::to_owned), content: Said::Text(text.into()) }
    }

    #[test]
    fn an_answer_is_all_that_was_said_and_tools_are_shown_while_they_work() {
        let mut turn = Turn::default();
        assert!(turn.on(says(None, "Let me ")) && turn.on(says(None, "see.")));
        assert!(turn.on(says(Some("a"), " So:")), "the first name names what was said before");
        assert!(turn.on(says(Some("b"), "It is 4.")));
        assert_eq!(turn.text(), "Let me see. So:\n\nIt is 4.");
        let tool = |title: Option<&str>, is_over| Update::Tool {
            id: "t".into(),
            title: title.map(str::to_owned),
            is_over,
        };
        assert!(turn.on(tool(Some("read\nfile"), false)));
        assert!(!turn.on(tool(None, false)));
        assert!(turn.shown().ends_with("\n\n⚙ read file"));
        assert!(turn.on(tool(None, true)));
        assert_eq!(turn.shown(), turn.text());
    }

    #[test]
    fn too_much_is_cut() {
        let mut turn = Turn::default();
        for _ in 0..40 {
            turn.on(says(None, &"断".repeat(20_000)));
        }
        assert!(turn.text().len() <= TEXT_MAX + 10 && turn.text().ends_with("[…]"));
        let mut turn = Turn::default();
        turn.on(says(None, &"断".repeat(TEXT_MAX)));
        assert!(turn.text().len() > TEXT_MAX, "as much of one piece as there is room for");
        for _ in 0..3 {
            let data = "x".repeat(FILES_MAX / 2);
            let content = Said::File { mime: "image/png".into(), data };
            turn.on(Update::Says { message: None, content });
        }
        assert_eq!(turn.files.len(), 2);
        let mut turn = Turn::default();
        for _ in 0..3 {
            let data = "x".repeat(FILES_MAX / 2);
            let content = Said::File { mime: "image/png".into(), data };
            turn.on(Update::Says { message: None, content });
        }
        assert_eq!(turn.text(), "\n[image/png: the files of this answer are too large]\n");
    }

    #[test]
    fn failures_that_look_like_answers_are_known() {
        assert!(is_failure("HTTP 400: bad request") && is_failure(" HTTP 503: x"));
        assert!(!is_failure("HTTP 4000: x") && !is_failure("HTTP is fun") && !is_failure(""));
        assert!(is_queued("Queued for the next turn. (2 queued)") && !is_queued("I queued it"));
    }
}
