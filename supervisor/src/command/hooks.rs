//! `hermes-gw hooks`: what would be told, and to whom; and one occasion told now, to see what happens.
//! It needs no supervisor.

use protocol::event::ChatType;
use protocol::hook::{HookEvent, KINDS};
use protocol::secret;
use protocol::worker::HooksSettings;
use serde::Serialize;
use supervisor::config::{Body, Config};
use supervisor::exit::Code;
use supervisor::{Error, clock};
use worker::family;
use worker::service::hooks;

use super::{load, print, print_json, print_json_of, runtime};
use crate::args::{Common, Hooks};

#[derive(Serialize)]
struct List {
    schema: u32,
    hooks: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    hook: String,
    events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
struct Tested {
    schema: u32,
    event: String,
    results: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    hook: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) fn run(common: &Common, what: &Hooks) -> Result<(), Error> {
    let config = load(common)?;
    let configured = config.instances.iter().find_map(|spec| match &spec.body {
        Ok(Body::Hooks(hooks)) => Some(&hooks.settings),
        _ => None,
    });
    let Some(settings) = configured else {
        config.check()?;
        if common.json {
            print_json(&List { schema: 1, hooks: Vec::new() });
        } else {
            print("no hooks are configured: see [hooks] in the example configuration");
        }
        return Ok(());
    };
    match what {
        Hooks::List => {
            let lines = hooks::describe(settings).into_iter();
            let lines = lines.map(|(hook, events, problem)| Line { hook, events, problem });
            let list = List { schema: 1, hooks: lines.collect() };
            let wrong = list.hooks.iter().find_map(|line| {
                let problem = line.problem.as_ref()?;
                Some(Error::Unfulfilled {
                    code: Code::Config,
                    message: format!("the hook {} will not run: {problem}", line.hook),
                    hint: Some("mend it; the others would be told meanwhile".into()),
                })
            });
            if common.json {
                print_json_of(&list, wrong.as_ref());
            } else {
                list.hooks.iter().for_each(|line| match &line.problem {
                    None => print(&format!("{}: {}", line.hook, line.events.join(", "))),
                    Some(problem) => print(&format!("{}: WRONG: {problem}", line.hook)),
                });
            }
            wrong.map_or(Ok(()), Err)
        }
        Hooks::Test { event } => {
            let tested = sample(event, &config);
            family::adopt();
            let results = runtime()?.block_on(hooks::tell_once(settings, tested));
            family::end_all();
            let results = results.into_iter().map(|(hook, result)| Outcome {
                hook,
                result: if result.is_ok() { "told" } else { "failed" },
                reason: result.err().map(secret::cleaned),
            });
            let tested = Tested { schema: 1, event: event.clone(), results: results.collect() };
            let failed = tested.results.iter().find_map(|one| {
                let reason = one.reason.as_ref()?;
                Some(Error::Unfulfilled {
                    code: Code::Unavailable,
                    message: format!("{}: failed: {reason}", one.hook),
                    hint: Some("mend it, and test it again".into()),
                })
            });
            if common.json {
                print_json_of(&tested, failed.as_ref());
            } else if tested.results.is_empty() {
                print(&format!("no hook wants to know of {event}"));
            } else {
                for one in &tested.results {
                    let reason = one.reason.as_ref().map(|reason| format!(": {reason}"));
                    print(&format!("{}: {}{}", one.hook, one.result, reason.unwrap_or_default()));
                }
            }
            failed.map_or(Ok(()), Err)
        }
    }
}

/// Which hooks will not run, and why.
pub(super) fn problems(settings: &HooksSettings) -> Vec<String> {
    let described = hooks::describe(settings).into_iter();
    let wrong = described.filter_map(|(hook, _, problem)| Some((hook, problem?)));
    wrong.map(|(hook, problem)| format!("the hook {hook} will not run: {problem}")).collect()
}

/// What a handler is told of `kind`, with made-up values. Its token opens nothing.
fn sample(kind: &str, config: &Config) -> HookEvent {
    let text = |text: &str| Some(text.to_owned());
    let about_a_chat = kind.starts_with("agent:") || kind.starts_with("message:");
    let platforms = config.instances.iter().filter(|spec| spec.kind.role() == "platform");
    let platform = platforms.clone().next();
    let own = HookEvent::new(kind, clock::unix_ms());
    let own = HookEvent {
        instance: platform.map(|spec| spec.name.to_string()),
        platform: platform.map(|spec| spec.kind.told(&spec.name)),
        platforms: kind
            .starts_with("gateway:")
            .then(|| platforms.map(|spec| spec.name.to_string()).collect()),
        ..own
    };
    if !about_a_chat {
        return own;
    }
    HookEvent {
        chat_id: text("sample-chat"),
        chat_type: Some(ChatType::Group),
        chat_name: text("a sample"),
        thread_id: text("sample-thread"),
        user_id: text("sample-user"),
        user_name: text("Sample"),
        session_id: text("sample:sample-chat:sample-thread"),
        message_id: text("sample-message"),
        event_id: text("0"),
        attempt: Some(1),
        message: text("hello"),
        response: (kind == "agent:end").then(|| "hello to you".to_owned()),
        outcome: (kind == "agent:end").then(|| "acknowledged".to_owned()),
        ..own
    }
}

/// The kinds of occasions, for the command line.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, _)| *kind)
}
