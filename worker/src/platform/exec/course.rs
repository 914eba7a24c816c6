//! A reply as messages for the program, how far it has come, and what the program's answers make of it. Pure.
//!
//! What a program does not say it can is refused here, with that reason. A long text goes in parts, one after the
//! other; what else there is goes with the last one.

use std::collections::HashSet;

use protocol::content::{Act, Content};
use protocol::event::{Outbound, Outcome, Progress, Rest};
use protocol::rpc::platform::{Ability, Initialize, Send, TextUnit, UNKNOWN};
use protocol::rpc::{BUSY, Fault};
use serde::{Deserialize, Serialize};

use crate::text;

/// A program that wants to be asked again is, but not sooner than that, in milliseconds.
const AGAIN_MS: u64 = 200;

/// What a program says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Manner {
    can: HashSet<Ability>,
    limit: Option<usize>,
    unit: TextUnit,
    pub(super) idempotent_ms: Option<u64>,
}

impl From<&Initialize> for Manner {
    fn from(said: &Initialize) -> Self {
        let can = |ability: &Ability| said.can.iter().any(|word| word == ability.word());
        Self {
            can: Ability::ALL.into_iter().filter(can).collect(),
            limit: said.text_limit.map(|limit| limit as usize),
            unit: said.text_unit,
            idempotent_ms: said.idempotent_ms,
        }
    }
}

impl Manner {
    pub(super) fn can(&self, ability: Ability) -> bool {
        self.can.contains(&ability)
    }

    /// What is said, in pieces that a message can hold.
    pub(super) fn pieces(&self, said: &str) -> Vec<String> {
        let limit = self.limit.unwrap_or(usize::MAX);
        text::split(said, limit, |c| self.unit.cost(c))
    }

    /// Why the program cannot be told to do it.
    fn beyond(&self, content: &Content) -> Option<String> {
        let act = match content.act {
            Act::Say => None,
            Act::Edit { .. } => Some(("edits", Ability::Edit)),
            Act::Recall { .. } => Some(("recalls", Ability::Recall)),
            Act::React { .. } => Some(("reactions", Ability::React)),
        };
        let files = (!content.files.is_empty()).then_some(("files", Ability::Files));
        let buttons = (!content.buttons.is_empty()).then_some(("buttons", Ability::Buttons));
        let card = content.card.is_some().then_some(("cards", Ability::Cards));
        let wanted = [act, files, buttons, card].into_iter().flatten();
        let (what, ability) = wanted.into_iter().find(|(_, ability)| !self.can(*ability))?;
        Some(format!(
            "{what} are not possible here: the program of this platform does not say that it can {:?}",
            ability.word()
        ))
    }
}

/// A reply on its way.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) outbound: Outbound,
    messages: Vec<Send>,
    /// Messages that have arrived, in this attempt or an earlier one.
    done: usize,
    /// What they became.
    ids: Vec<String>,
}

/// What the next attempt has to know: how many messages have arrived, and how many bytes they said. The same text, cut
/// there, was cut the same way before.
#[derive(Serialize, Deserialize)]
struct Reached(usize, usize);

/// What follows from an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// A message has arrived and more are to come: this is what later attempts are told.
    Reached(Progress),
    /// The reply has come to its end, as far as this attempt goes.
    End(Outcome),
}

impl Course {
    /// A reply that comes to these messages.
    pub(super) fn new(outbound: Outbound, messages: Vec<Send>) -> Self {
        let mut course = Self { outbound, messages, done: 0, ids: Vec::new() };
        if let Some(progress) = &course.outbound.progress
            && let Ok(Reached(done, bytes)) = serde_json::from_slice(&progress.note)
            && course.bytes(done) == Some(bytes)
        {
            course.ids.clone_from(&progress.message_ids);
            course.done = done;
        }
        course
    }

    /// What the first ones of its messages say, in bytes.
    fn bytes(&self, done: usize) -> Option<usize> {
        let done = self.messages.get(..done)?;
        Some(done.iter().map(|message| message.text.len()).sum())
    }

    /// The message that is to be sent now.
    pub(super) fn message(&self) -> Option<&Send> {
        self.messages.get(self.done)
    }

    /// The program has sent it.
    pub(super) fn sent(&mut self, ids: Vec<String>) -> Next {
        self.done += 1;
        self.ids.extend(ids);
        let message_ids = self.ids.clone();
        if self.done >= self.messages.len() {
            return Next::End(Outcome::Sent { message_ids });
        }
        let note = Reached(self.done, self.bytes(self.done).unwrap_or_default());
        Next::Reached(Progress { message_ids, note: serde_json::to_vec(&note).unwrap_or_default() })
    }

    /// The program has not.
    pub(super) fn refused(&self, fault: &Fault) -> Outcome {
        let reason = match fault.message.trim() {
            "" => format!("the program refused it (code {})", fault.code),
            said => said.to_owned(),
        };
        let rest = match (fault.data.and_then(|data| data.retry_after_ms), fault.code) {
            (Some(after), _) => {
                return Outcome::Retry { reason, after_ms: Some(after.max(AGAIN_MS)) };
            }
            (None, BUSY) => return Outcome::Retry { reason, after_ms: None },
            (None, UNKNOWN) => Rest::Unknown,
            (None, _) => Rest::Failed,
        };
        match rest {
            Rest::Failed if self.done == 0 => Outcome::Failed { reason },
            Rest::Unknown if self.done == 0 => Outcome::Unknown { reason },
            Rest::Failed | Rest::Unknown => {
                let (done, of, ids) = (self.done, self.messages.len(), self.ids.join(", "));
                let reason = format!("{done} of {of} messages were sent ({ids}): {reason}");
                Outcome::Partly { message_ids: self.ids.clone(), rest, reason }
            }
        }
    }
}

/// What is to be sent. The error is for the agent.
pub(super) fn messages(outbound: &Outbound, manner: &Manner) -> Result<Vec<Send>, String> {
    let content = &outbound.content;
    if let Some(why) = manner.beyond(content) {
        return Err(why);
    }
    let mut texts = manner.pieces(&content.text);
    if texts.is_empty() {
        let says = matches!(content.act, Act::Say | Act::Edit { .. });
        if says && content.files.is_empty() && content.card.is_none() {
            return Err("the reply is empty".into());
        }
        texts.push(String::new());
    }
    let parts = u32::try_from(texts.len()).unwrap_or(u32::MAX);
    let numbered = (1..).zip(texts);
    let mut messages: Vec<Send> = numbered
        .map(|(part, text)| Send {
            key: match part {
                1 => outbound.key.clone(),
                _ => format!("{}-{part}", outbound.key),
            },
            attempt: outbound.attempt,
            part,
            parts,
            chat_id: outbound.chat_id.clone(),
            thread_id: outbound.thread_id.clone(),
            text,
            ..Send::default()
        })
        .collect();
    if let Some(first) = messages.first_mut() {
        first.reply_to.clone_from(&outbound.reply_to);
        first.act(&content.act);
        first.draft = outbound.draft_id.clone().filter(|_| content.act == Act::Say);
    }
    if let Some(last) = messages.last_mut() {
        last.files.clone_from(&content.files);
        last.buttons =
            content.buttons.iter().map(|row| row.iter().map(Into::into).collect()).collect();
        last.card = content.card.as_ref().and_then(|card| serde_json::from_str(card).ok());
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use protocol::content::{Button, File, FileKind, Press};
    use protocol::id::OutboundId;
    use protocol::rpc::FaultData;

    use super::*;

    fn outbound(content: Content) -> Outbound {
        Outbound {
            id: OutboundId(1),
            key: "k".into(),
            chat_id: "c".into(),
            thread_id: None,
            reply_to: Some("m".into()),
            content,
            attempt: 1,
            draft_key: String::new(),
            draft_id: None,
            progress: None,
        }
    }

    fn manner(limit: Option<u32>, can: &[&str]) -> Manner {
        let can = can.iter().map(|word| (*word).to_owned()).collect();
        Manner::from(&Initialize { text_limit: limit, can, ..Initialize::default() })
    }

    fn begun(outbound: Outbound, manner: &Manner) -> Result<Course, String> {
        let messages = messages(&outbound, manner)?;
        Ok(Course::new(outbound, messages))
    }

    fn full() -> Content {
        Content {
            files: vec![File { kind: FileKind::Image, file: "f".into(), title: None }],
            buttons: vec![vec![Button { label: "b".into(), press: Press::Data("d".into()) }]],
            ..Content::text("one two")
        }
    }

    #[test]
    fn a_long_text_goes_in_parts_of_which_only_the_first_answers_and_the_last_has_the_rest() {
        let manner = manner(Some(4), &["files", "buttons"]);
        let course = begun(outbound(full()), &manner).unwrap();
        let of = |m: &Send| {
            (
                m.key.clone(),
                m.part,
                m.text.clone(),
                m.reply_to.is_some(),
                m.files.len(),
                m.buttons.len(),
            )
        };
        assert_eq!(
            course.messages.iter().map(of).collect::<Vec<_>>(),
            [
                ("k".into(), 1, "one ".into(), true, 0, 0),
                ("k-2".into(), 2, "two".into(), false, 1, 1)
            ]
        );
    }

    #[test]
    fn what_the_program_does_not_say_it_can_is_refused_by_its_word() {
        let act = |act| Content { act, ..Content::text("x") };
        let message_id = || "m".to_owned();
        for (content, word) in [
            (act(Act::Edit { message_id: message_id() }), "edit"),
            (act(Act::Recall { message_id: message_id() }), "recall"),
            (act(Act::React { message_id: message_id(), emoji: String::new() }), "react"),
            (Content { card: Some("{}".into()), ..Content::text("x") }, "cards"),
            (full(), "files"),
            (Content { files: Vec::new(), ..full() }, "buttons"),
        ] {
            let others: Vec<_> =
                Ability::ALL.map(Ability::word).into_iter().filter(|it| *it != word).collect();
            let why = begun(outbound(content.clone()), &manner(None, &others)).unwrap_err();
            assert!(why.ends_with(&format!("{word:?}")), "{why}");
            assert!(begun(outbound(content), &manner(None, &[word, "files", "buttons"])).is_ok());
        }
        let why = begun(outbound(Content::text(" ")), &manner(None, &[])).unwrap_err();
        assert!(why.contains("empty"), "{why}");
    }

    fn fault(code: i32, retry_after_ms: Option<u64>) -> Fault {
        let data = retry_after_ms.map(|ms| FaultData { retry_after_ms: Some(ms) });
        Fault { code, message: "no".into(), data }
    }

    #[test]
    fn each_answer_has_its_meaning_also_in_the_middle() {
        let manner = manner(Some(4), &["files", "buttons"]);
        let mut course = begun(outbound(full()), &manner).unwrap();
        let reason = || "no".to_owned();
        let retry = |after_ms| Outcome::Retry { reason: reason(), after_ms };
        assert_eq!(course.refused(&fault(1, None)), Outcome::Failed { reason: reason() });
        assert_eq!(course.refused(&fault(UNKNOWN, None)), Outcome::Unknown { reason: reason() });
        assert_eq!(course.refused(&fault(BUSY, None)), retry(None));
        assert_eq!(course.refused(&fault(1, Some(5000))), retry(Some(5000)));
        assert_eq!(course.refused(&fault(1, Some(0))), retry(Some(AGAIN_MS)), "no spinning");

        let Next::Reached(progress) = course.sent(vec!["1".into()]) else { panic!() };
        assert_eq!(course.refused(&fault(BUSY, None)), retry(None));
        let Outcome::Partly { message_ids, rest: Rest::Failed, reason } =
            course.refused(&fault(1, None))
        else {
            panic!()
        };
        assert_eq!(
            (message_ids, &*reason),
            (vec!["1".to_owned()], "1 of 2 messages were sent (1): no")
        );

        // Another attempt goes on behind what has arrived, unless it is cut otherwise by now.
        let again = || Outbound { progress: Some(progress.clone()), ..outbound(full()) };
        let mut course = begun(again(), &manner).unwrap();
        assert_eq!(course.message().unwrap().key, "k-2");
        let Next::End(Outcome::Sent { message_ids }) = course.sent(vec!["2".into()]) else {
            panic!()
        };
        assert_eq!(message_ids, ["1", "2"]);
        let anew = begun(again(), &self::manner(Some(5), &["files", "buttons"])).unwrap();
        assert_eq!(anew.message().unwrap().key, "k-2", "cut at the same place");
        let anew = begun(again(), &self::manner(Some(3), &["files", "buttons"])).unwrap();
        assert_eq!(anew.message().unwrap().part, 1);
    }
}
