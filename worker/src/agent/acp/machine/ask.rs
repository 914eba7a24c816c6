//! Permission: an agent asks, the chat or the configuration answers, and without an answer in time it is no.
//!
//! Only "once" is offered, and only to whoever the agent works for. What is always permitted is for the
//! operator to decide, in the agent's own configuration.

use std::time::Duration;

use protocol::content::{Button, Press};
use protocol::event::Inbound;
use protocol::worker::Permission;

use super::{
    Act, Action, Content, Delivery, EventId, FromWorker, InboundKind, Instant, Lane, Machine,
    Number, Reply, Step, Stop, Value, Work, wire,
};
use crate::agent::acp::wire::Choice;

/// What stands on buttons: not told apart by case, and there is no other language yet.
const YES: &str = "Allow once";
const NO: &str = "Reject";
const PREFIX: &str = "acp:ask:";
/// Of what the agent wants to do, at most so many bytes are shown.
const TITLE: usize = 3000;

/// What an agent asks.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: Number,
    pub(super) id: Value,
    pub(super) title: String,
    pub(super) options: Vec<Choice>,
}

/// A question that is open.
#[derive(Debug)]
pub(super) struct Question {
    /// No other question has it, in no life of a worker: its buttons stay in the chat.
    name: String,
    number: Number,
    id: Value,
    yes: Option<String>,
    no: Option<String>,
    until: Instant,
}

impl Question {
    pub(super) fn refuse(&self) -> Action {
        Action::Write(self.number, wire::chosen(&self.id, self.no.as_deref()))
    }

    fn allow(&self) -> Action {
        Action::Write(self.number, wire::chosen(&self.id, self.yes.as_deref()))
    }
}

/// Whether an event is a press of one of our buttons.
pub(super) fn is_answer(event: &Inbound) -> bool {
    event.kind == InboundKind::Button && event.text.starts_with(PREFIX)
}

impl Machine {
    pub(super) fn permission(
        &mut self,
        session: &str,
        asked: Asked,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let lane = self.lane_of_session(asked.number, session);
        let kind = |kind: &str| {
            let mut options = asked.options.iter();
            options.find(|option| option.kind == kind).map(|option| option.id.clone())
        };
        let wait = Duration::from_secs(u64::from(self.settings.permission_s));
        let mut question = Question {
            name: String::new(),
            number: asked.number,
            id: asked.id,
            yes: kind("allow_once"),
            no: kind("reject_once").or_else(|| kind("reject_always")),
            until: now + wait,
        };
        let work =
            lane.and_then(|lane| self.talks.get_mut(&lane)).and_then(|talk| talk.work.as_mut());
        let Some(work) = work.filter(|work| matches!(work.step, Step::Prompting(_))) else {
            out.push(question.refuse());
            return;
        };
        work.heard = now;
        self.questions += 1;
        let (event_id, attempt) = (work.delivery.event_id, work.delivery.attempt);
        question.name = format!("{event_id}.{attempt}.{}", self.questions);
        match self.settings.permission {
            Permission::Allow if question.yes.is_some() => out.push(question.allow()),
            Permission::Ask if question.yes.is_some() && work.stop == Stop::No => {
                out.push(question.asked(work, &asked.title, self.settings.permission_s));
                work.questions.push(question);
                asking(work, out);
            }
            Permission::Allow | Permission::Ask | Permission::Reject => out.push(question.refuse()),
        }
    }

    /// Something is said while the agent works: the answer to its question, or a message that waits.
    pub(super) fn said(&mut self, event_id: EventId, more: &Delivery, out: &mut Vec<Action>) {
        let steered = |taken| Action::Say(FromWorker::Steered { event_id: more.event_id, taken });
        let Some(work) = self.work_on(event_id) else { return };
        if work.delivery.event.sender.user_id != more.event.sender.user_id {
            return out.push(steered(false));
        }
        let Some((at, yes)) = answer_to(&work.questions, more.event.unnamed()) else {
            let is_late = is_answer(&more.event);
            out.push(steered(is_late));
            if is_late {
                over(more, out);
            }
            return;
        };
        let question = work.questions.remove(at);
        out.push(if yes { question.allow() } else { question.refuse() });
        asking(work, out);
        out.push(steered(true));
        out.push(Action::Say(FromWorker::Ack { event_id: more.event_id }));
    }

    pub(super) fn tick_questions(&mut self, lane: &Lane, now: Instant, out: &mut Vec<Action>) {
        let Some(work) = self.talks.get_mut(lane).and_then(|talk| talk.work.as_mut()) else {
            return;
        };
        let over: Vec<_> =
            work.questions.extract_if(.., |question| question.until <= now).collect();
        if over.is_empty() {
            return;
        }
        for question in over {
            out.push(question.refuse());
            let text = "There was no answer in time: not permitted.";
            out.push(say(&work.delivery, &format!("late:{}", question.name), Content::text(text)));
        }
        asking(work, out);
    }
}

impl Question {
    /// The question as the chat sees it. The numbers are for where there are no buttons.
    fn asked(&self, work: &Work, title: &str, wait: u32) -> Action {
        let wants = match title.trim() {
            "" => "The agent wants to use a tool.".to_owned(),
            _ => format!("The agent wants to:\n\n{}", exact(title)),
        };
        let text = format!(
            "{wants}\n\n1. {YES}\n2. {NO}\n\nAnswer with the number within {wait} s; otherwise it is \
             not permitted."
        );
        let button = |label: &str, word: &str| Button {
            label: label.to_owned(),
            press: Press::Data(format!("{PREFIX}{}:{word}", self.name)),
        };
        // A terminal has no buttons.
        let buttons = if work.delivery.platform == "local" {
            Vec::new()
        } else {
            vec![vec![button(YES, "1"), button(NO, "2")]]
        };
        let content = Content { act: Act::Say, buttons, ..Content::text(text) };
        say(&work.delivery, &format!("ask:{}", self.name), content)
    }
}

/// `title`, often a command, as a block of code: whoever permits it has to see each character of it.
fn exact(title: &str) -> String {
    let (title, rest) = title.split_at(title.floor_char_boundary(TITLE));
    let mut shown = String::with_capacity(title.len());
    for c in title.chars() {
        if is_unseen(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    // Feishu makes a mention of it wherever it stands, and writes a name in the place of the words.
    let shown = shown.replace("<at ", "<\u{200b}at ");
    let ticks = shown.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(ticks + 1));
    let cut = match rest.len() {
        0 => String::new(),
        more => format!("\n\n({more} more bytes of it are not shown.)"),
    };
    format!("{fence}\n{shown}\n{fence}{cut}")
}

/// What has no sign of its own, or changes how others stand.
fn is_unseen(c: char) -> bool {
    let is_shown = matches!(c, '\n' | '\t');
    let is_mark = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    (c.is_control() && !is_shown) || is_mark
}

/// Whoever pressed a button of a question that nobody asks any more is told so.
pub(super) fn over(press: &Delivery, out: &mut Vec<Action>) {
    out.push(say(press, "over", Content::text("That question is over.")));
    out.push(Action::Say(FromWorker::Ack { event_id: press.event_id }));
}

fn say(to: &Delivery, name: &str, content: Content) -> Action {
    let reply = Reply {
        key: format!("acp:{}:{name}", to.event_id),
        lane: to.lane.clone(),
        reply_to: to.event.message_id.clone(),
        content,
    };
    Action::Reply { event_id: None, reply: Box::new(reply), turn: Box::default() }
}

/// Which question a text answers, and how. A word without a name answers the oldest one.
fn answer_to(questions: &[Question], text: &str) -> Option<(usize, bool)> {
    let (at, word) = match text.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')) {
        Some((name, word)) => (questions.iter().position(|question| question.name == name)?, word),
        None => (0, text),
    };
    questions.get(at)?;
    match word.trim_end_matches('.').to_lowercase().as_str() {
        "1" | "y" | "yes" | "allow" | "allow once" => Some((at, true)),
        "2" | "n" | "no" | "reject" | "deny" => Some((at, false)),
        _ => None,
    }
}

/// Every open question is answered with no.
pub(super) fn refuse_questions(work: &mut Work, out: &mut Vec<Action>) {
    for question in std::mem::take(&mut work.questions) {
        out.push(question.refuse());
    }
    asking(work, out);
}

pub(super) fn close_questions(work: &mut Work, out: &mut Vec<Action>) {
    if !work.questions.is_empty() {
        refuse_questions(work, out);
    }
}

fn asking(work: &Work, out: &mut Vec<Action>) {
    let (event_id, on) = (work.delivery.event_id, !work.questions.is_empty());
    out.push(Action::Say(FromWorker::Asking { event_id, on }));
}
