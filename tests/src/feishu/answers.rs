//! Judging answers: what echoes its event, what breaks a rule, what comes too late.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::frame::Frame;
use super::observe::{Observation, Rule};
use super::push::{Ack, End, Progress};
use super::state::Shared;

/// A push that waits for its answer, or had it.
pub(crate) struct Delivery {
    pub(crate) connection: u64,
    pub(crate) event_id: Arc<str>,
    pub(crate) id: String,
    /// The completing frame, without its payload.
    pub(crate) frame: Frame,
    pub(crate) pushed: Instant,
    pub(crate) deadline: Instant,
    pub(crate) attempt: u32,
    pub(crate) answered: bool,
    pub(crate) progress: watch::Sender<Progress>,
}

/// What finds a delivery again: its id, or the numbers of its frame when the id was left out.
pub(crate) fn key_of(connection: u64, frame: &Frame) -> String {
    match frame.header("message_id") {
        Some(id) => id.to_owned(),
        None => format!("{connection}/{}", frame.seq_id),
    }
}

/// Judges a data frame from the peer, which can only be an answer.
pub(crate) fn answer(shared: &Shared, connection: u64, app: &str, frame: &Frame) {
    let now = Instant::now();
    let mut broken = Vec::new();
    let verdict = {
        let mut state = shared.state();
        let late_counts = state.settings.late_answers_count;
        match state.deliveries.get_mut(&key_of(connection, frame)) {
            Some(delivery) if delivery.connection == connection => {
                judge(delivery, frame, now, late_counts, &mut broken)
            }
            _ => {
                broken.push((Rule::Unknown, format!("an answer to nothing: {:?}", frame.headers)));
                None
            }
        }
    };
    for (rule, detail) in broken {
        shared.violation(app, rule, detail);
    }
    if let Some((observation, conclude)) = verdict {
        shared.journal.note(app, observation);
        conclude();
    }
}

type Conclude = Box<dyn FnOnce() + Send>;

fn judge(
    delivery: &mut Delivery,
    frame: &Frame,
    now: Instant,
    late_counts: bool,
    broken: &mut Vec<(Rule, String)>,
) -> Option<(Observation, Conclude)> {
    compare(&delivery.frame, frame, broken);
    let payload = payload(frame, broken);
    let failed = payload.as_ref().is_some_and(|(code, ..)| *code != 200);
    let biz_rt = biz_rt(frame, failed, broken);
    if delivery.answered {
        broken.push((Rule::Twice, format!("delivery {} was answered before", delivery.id)));
    }
    delivery.answered = true;
    let (code, raw, data) = payload?;
    let fatal = broken.iter().any(|(rule, _)| rule.is_fatal());
    let late = now > delivery.deadline;
    let latency = now.saturating_duration_since(delivery.pushed);
    let observation = Observation::Answered {
        connection: delivery.connection,
        event_id: delivery.event_id.to_string(),
        delivery_id: delivery.id.clone(),
        code,
        latency,
        late,
        data: raw,
    };
    let attempt = delivery.attempt;
    let ack = Ack { latency, attempt, connection: delivery.connection, biz_rt, data };
    let progress = delivery.progress.clone();
    let conclude = move || {
        progress.send_modify(|progress| {
            if late {
                progress.late += 1;
            }
            if fatal || progress.end.is_some() {
                return;
            }
            if late && late_counts && code == 200 {
                progress.end = Some(End::Acked(ack));
            } else if !late && progress.attempts == attempt {
                progress.verdict = Some(if code == 200 { Ok(ack) } else { Err(code) });
            }
        });
    };
    Some((observation, Box::new(conclude)))
}

fn compare(sent: &Frame, answer: &Frame, broken: &mut Vec<(Rule, String)>) {
    let mut same = |rule, name: &str, sent: String, answered: String| {
        if sent != answered {
            broken.push((rule, format!("{name} {answered} answers {sent}")));
        }
    };
    same(Rule::Method, "method", sent.method.to_string(), answer.method.to_string());
    same(Rule::SeqId, "SeqID", sent.seq_id.to_string(), answer.seq_id.to_string());
    same(Rule::LogId, "LogID", sent.log_id.to_string(), answer.log_id.to_string());
    same(Rule::Service, "service", sent.service.to_string(), answer.service.to_string());
    let new = |frame: &Frame| format!("{:?}", frame.log_id_new);
    same(Rule::LogId, "LogIDNew", new(sent), new(answer));
    let list = |frame: &Frame| {
        let own = frame.headers.iter().filter(|header| header.key != "biz_rt");
        own.map(|header| [&header.key, "=", &header.value, " "].concat()).collect::<String>()
    };
    same(Rule::Headers, "headers", list(sent), list(answer));
}

fn biz_rt(frame: &Frame, failed: bool, broken: &mut Vec<(Rule, String)>) -> Option<i64> {
    let Some(text) = frame.header("biz_rt") else {
        // The SDK for Python leaves it out when its handler failed.
        if failed {
            return None;
        }
        broken.push((Rule::BizRt, "the answer has no biz_rt".to_owned()));
        return None;
    };
    let number = text.parse().ok();
    if number.is_none_or(|number: i64| number < 0) {
        broken.push((Rule::BizRt, format!("biz_rt is {text:?}")));
    }
    number
}

/// The code, the `data` as it came and as it reads.
fn payload(
    frame: &Frame,
    broken: &mut Vec<(Rule, String)>,
) -> Option<(i64, Option<String>, Option<Value>)> {
    let bytes = frame.payload.as_deref().unwrap_or_default();
    let answer: Option<Value> = serde_json::from_slice(bytes).ok();
    let code = answer.as_ref().and_then(|answer| answer.get("code")).and_then(Value::as_i64);
    let (Some(answer), Some(code)) = (answer, code) else {
        let text = String::from_utf8_lossy(bytes);
        broken.push((Rule::Payload, format!("the payload has no whole code: {text:?}")));
        return None;
    };
    let raw = match answer.get("data") {
        None | Some(Value::Null) => return Some((code, None, None)),
        Some(Value::String(text)) if text.is_empty() => return Some((code, None, None)),
        Some(Value::String(text)) => text.clone(),
        Some(other) => {
            broken.push((Rule::Payload, format!("data is no string: {other}")));
            return Some((code, None, None));
        }
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(&raw).ok();
    let data = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if data.is_none() {
        broken.push((Rule::Payload, format!("data is no base64 of JSON: {raw}")));
    }
    Some((code, Some(raw), data))
}
