//! Replies that no terminal has shown yet, or not that we know. Pure.
//!
//! What was written to a terminal may die with it. A reply has arrived when a terminal says that it is
//! shown; until then every terminal that joins its conversation gets it, and knows it by its id.

use std::collections::BTreeMap;

use protocol::content::FileKind;
use protocol::event::Outbound;
use protocol::id::OutboundId;
use protocol::local::ToTerminal;

/// In the order in which they came.
#[derive(Default, Debug)]
pub(super) struct Replies(BTreeMap<OutboundId, Outbound>);

impl Replies {
    /// One is to be shown. Another attempt at it takes its place.
    pub(super) fn add(&mut self, outbound: Outbound) {
        self.0.insert(outbound.id, outbound);
    }

    /// What a terminal that joins a conversation has to show.
    pub(super) fn of(&self, chat: &str) -> impl Iterator<Item = &Outbound> {
        self.0.values().filter(move |outbound| outbound.chat_id == chat)
    }

    /// Whether no terminal has shown it yet.
    pub(super) fn wait(&self, id: OutboundId) -> bool {
        self.0.contains_key(&id)
    }

    /// It is shown.
    pub(super) fn shown(&mut self, message_id: &str) -> Option<Outbound> {
        self.0.remove(&OutboundId(message_id.parse().ok()?))
    }
}

/// A reply as terminals get it, or why they cannot show it. Of files they show that they are there.
pub(super) fn message(outbound: &Outbound) -> Result<ToTerminal, String> {
    let mut content = outbound.content.clone();
    let files = std::mem::take(&mut content.files);
    if let Some(reason) = content.beyond_text() {
        return Err(reason);
    }
    let mut lines = vec![content.text];
    lines.extend(files.into_iter().map(|file| {
        let kind = match file.kind {
            FileKind::Image => "picture",
            FileKind::Audio => "sound",
            FileKind::Voice => "voice",
            FileKind::Video => "film",
            FileKind::File => "file",
        };
        format!("[{kind}: {}]", file.title.unwrap_or(file.file))
    }));
    lines.retain(|line| !line.is_empty());
    Ok(ToTerminal::Message {
        message_id: outbound.id.to_string(),
        reply_to: outbound.reply_to.clone(),
        text: lines.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use protocol::content::{Act, Button, Content, File, Press};

    use super::*;
    use crate::platform::rig::outbound_to;

    fn outbound(id: u64, attempt: u32, content: Content) -> Outbound {
        outbound_to("home", id, |outbound| {
            (outbound.attempt, outbound.content) = (attempt, content);
        })
    }

    #[test]
    fn a_reply_is_owed_to_every_terminal_until_one_has_shown_it() {
        let mut replies = Replies::default();
        for (id, attempt) in [(2, 1), (1, 1), (2, 2)] {
            replies.add(outbound(id, attempt, Content::text("hi")));
        }
        let owed = |replies: &Replies, chat| {
            replies.of(chat).map(|it| (it.id.0, it.attempt)).collect::<Vec<_>>()
        };
        assert_eq!(owed(&replies, "home"), [(1, 1), (2, 2)]);
        assert_eq!(owed(&replies, "office"), []);
        assert_eq!(replies.shown("1").map(|it| it.id.0), Some(1));
        assert_eq!(replies.shown("1"), None);
        assert_eq!(owed(&replies, "home"), [(2, 2)]);
    }

    #[test]
    fn a_terminal_shows_text_and_that_files_are_there_and_nothing_else() {
        let shown = |content: Content| match message(&outbound(1, 1, content)) {
            Ok(ToTerminal::Message { text, .. }) => Some(text),
            _ => None,
        };
        let file = |title: Option<&str>| File {
            kind: FileKind::Image,
            file: "x.png".into(),
            title: title.map(str::to_owned),
        };
        let files = vec![file(Some("a chart")), file(None)];
        let text = "look\n[picture: a chart]\n[picture: x.png]";
        let with_files = Content { files: files.clone(), ..Content::text("look") };
        assert_eq!(shown(with_files).as_deref(), Some(text));
        let alone = Content { files: vec![file(None)], ..Content::text("") };
        assert_eq!(shown(alone).as_deref(), Some("[picture: x.png]"));
        let press = Press::Data("b".into());
        let buttons = vec![vec![Button { label: "a".into(), press }]];
        let message_id = "1".to_owned();
        for beyond in [
            Content { buttons, ..Content::text("b") },
            Content { card: Some("{}".into()), ..Content::text("") },
            Content { act: Act::Edit { message_id: message_id.clone() }, ..Content::text("n") },
            Content { act: Act::Recall { message_id }, ..Content::text("") },
        ] {
            assert_eq!(shown(beyond), None);
        }
    }
}
