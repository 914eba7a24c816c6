//! Status and results as people read them.

use protocol::control::{Done, InstanceStatus, Reloaded, Status, Unconfigured};
use serde::Serialize;
use supervisor::text::span;

use crate::args::Common;
use crate::command::{print, print_json};

/// The whole status.
pub(super) fn status(status: &Status, now_ms: i64, colored: bool) -> String {
    let up_ms = status.up_ms.and_then(|ms| i64::try_from(ms).ok());
    let up_ms = up_ms.unwrap_or(now_ms - status.started_ms);
    let mut lines = vec![format!(
        "hermes-gw {}: {}, pid {}, up {}, state in {}",
        status.version,
        paint(&status.state, colored),
        status.pid,
        span(up_ms),
        status.state_dir
    )];
    lines.extend(status.reason.as_ref().map(|reason| format!("  {reason}")));
    lines.extend(status.remedy.as_ref().map(|remedy| format!("  hint: {remedy}")));
    let width = status.instances.iter().map(|i| i.name.len()).max().unwrap_or(0);
    for instance in &status.instances {
        lines.push(instance_line(instance, width, now_ms, colored));
        if let Some(reason) = &instance.reason {
            lines.push(format!("{:width$}  {}", "", reason.replace('\n', "; ")));
        }
        if let Some(remedy) = &instance.remedy {
            lines.push(format!("{:width$}  hint: {remedy}", ""));
        }
        if let Some(exit) = instance.exits.first() {
            lines.push(format!(
                "{:width$}  last exit {}, {} ago (generation {})",
                "",
                exit.cause,
                span(now_ms - exit.at_ms),
                exit.generation
            ));
        }
    }
    for left in &status.unconfigured {
        let Unconfigured { name, waiting, replies } = left;
        lines.push(format!(
            "{name}: not in the configuration; waiting {waiting}, replies {replies}"
        ));
        lines.push("  hint: they go on when a platform with this name is in it again".to_owned());
    }
    lines.join("\n")
}

fn instance_line(instance: &InstanceStatus, width: usize, now_ms: i64, colored: bool) -> String {
    let mut line = format!(
        "{:width$}  {} {}  {} {}",
        instance.name,
        instance.role,
        instance.kind,
        paint(&instance.phase, colored),
        span(now_ms - instance.since_ms)
    );
    if instance.outside.as_deref() == Some("conflict") {
        line.push_str(&format!("  {}", paint("conflict", colored)));
    }
    if let Some(pid) = instance.pid {
        line.push_str(&format!("  pid {pid}"));
    }
    if instance.restarts > 0 {
        line.push_str(&format!("  restarts {}", instance.restarts));
    }
    if let Some(next) = instance.next_start_ms {
        line.push_str(&format!("  next start in {}", span(next - now_ms)));
    }
    if let Some(progress) = instance.last_progress_ms {
        line.push_str(&format!("  progress {} ago", span(now_ms - progress)));
    }
    if let Some(store) = &instance.store {
        line.push_str(&format!("  accepted {}  waiting {}", store.accepted, store.waiting));
        if let Some(oldest) = store.oldest_ms {
            line.push_str(&format!(" (for {} at most)", span(now_ms - oldest)));
        }
        for (word, count) in [
            ("parked", store.parked),
            ("denied", store.denied),
            ("not to the bot", store.unaddressed),
            ("refused", store.refused),
            ("replies waiting", store.replies),
            ("undelivered", store.undelivered),
        ] {
            if count > 0 {
                line.push_str(&format!("  {word} {count}"));
            }
        }
    }
    if let Some(gate) = &instance.gate {
        let word = if gate.open { "open" } else { "shut" };
        line.push_str(&format!(
            "  gate {word}  in flight {}  acknowledged {}",
            gate.in_flight, gate.acknowledged
        ));
        if gate.refused > 0 {
            line.push_str(&format!("  replies refused {}", gate.refused));
        }
    }
    if let Some(hooks) = &instance.hooks {
        line.push_str(&format!("  told {}  waiting {}", hooks.told, hooks.waiting));
        for (word, count) in [("failed", hooks.failed), ("dropped", hooks.dropped)] {
            if count > 0 {
                line.push_str(&format!("  {word} {count}"));
            }
        }
        if let Some(last) = &hooks.last_failure {
            line.push_str(&format!("  last failure: {last}"));
        }
    }
    line
}

fn paint(word: &str, colored: bool) -> String {
    if !colored {
        return word.to_owned();
    }
    let color = match word {
        "ready" | "serving" => "32",
        "held" => "31",
        "down" => "2",
        _ => "33",
    };
    format!("\u{1b}[{color}m{word}\u{1b}[0m")
}

/// One line for one instance, and what helps.
pub(super) fn done(done: &Done) -> String {
    let remedy = done.remedy.as_ref().map(|remedy| format!("\nhint: {remedy}"));
    became(done) + &remedy.unwrap_or_default()
}

/// One line for one instance.
pub(super) fn became(done: &Done) -> String {
    let took = span(i64::try_from(done.took_ms).unwrap_or(i64::MAX));
    let pid = done.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    let name = &done.instance;
    let mut line = match done.result.as_str() {
        "restarted" | "started" => format!("{name}: {}, ready in {took}{pid}", done.result),
        "killed" => format!("{name}: killed in {took}"),
        "already_up" => format!("{name}: already up{pid}"),
        "already_down" => format!("{name}: already down"),
        "requested" => format!("{name}: requested, {} now", done.phase),
        "queued" => format!("{name}: when this turn is over"),
        "timed_out" => format!("{name}: still {} after {took}{pid}", done.phase),
        other => format!("{name}: {other}"),
    };
    if let Some(reason) = &done.reason {
        line.push_str(&format!(": {}", reason.replace('\n', "; ")));
    }
    line
}

/// What a new configuration leads to.
pub(super) fn reloaded(told: &Reloaded) -> String {
    let lists = [("added", &told.added), ("removed", &told.removed), ("changed", &told.changed)];
    let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
    let mut lists: Vec<_> =
        lists.map(|(word, names)| format!("{word} {}", names.join(", "))).collect();
    if !told.settings.is_empty() {
        lists.push(format!("settings {}", told.settings.join(", ")));
    }
    if told.result == "queued" {
        return "configuration: when this turn is over".to_owned();
    }
    if lists.is_empty() {
        return "configuration: unchanged".to_owned();
    }
    let mut text = format!("configuration: reloaded: {}", lists.join("; "));
    if told.settings.iter().any(|name| name == "gateway.log") {
        text.push_str("\ngateway.log holds for what starts from now on");
    }
    text
}

/// The status of one that does not answer.
#[derive(Serialize)]
pub(super) struct Absent<'a> {
    pub(super) schema: u32,
    /// `stopped`, `crashed` or `unreachable`.
    pub(super) state: &'a str,
    pub(super) reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) started_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_ms: Option<i64>,
    pub(super) state_dir: String,
}

/// What became of the supervisor itself.
#[derive(Serialize)]
struct Stopped<'a> {
    schema: u32,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    took_ms: u64,
}

/// The supervisor was stopped, or was not there.
pub(crate) fn stopped(common: &Common, result: &str, pid: Option<u32>, took_ms: u64) {
    if common.json {
        print_json(&Stopped { schema: 1, result, pid, took_ms });
    } else if !common.quiet {
        let pid = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        let took = span(i64::try_from(took_ms).unwrap_or(i64::MAX));
        print(&match result {
            "killed" => format!("supervisor: stopped in {took}{pid}"),
            "requested" => format!("supervisor: asked to stop{pid}"),
            "queued" => format!("supervisor: stops when this turn is over{pid}"),
            _ => "supervisor: already down".to_owned(),
        });
    }
}
