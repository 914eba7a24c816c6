//! `hermes-gw ctl start`, `restart`, `kill` of instances: what was asked for, and what came of it.

use std::path::Path;
use std::time::Duration;

use protocol::control::{Act, Acted, Request, SCHEMA, Status, Verb};
use supervisor::clock;
use supervisor::error::Error;
use supervisor::exit::{self, Code};

use super::{ANSWER, Client, patience, show};
use crate::args::{self, Common};
use crate::command::{print, print_json_of};

pub(super) async fn run(
    common: &Common,
    socket: &Path,
    verb: Verb,
    options: args::Act,
    force: bool,
) -> Result<(), Error> {
    let since = clock::now();
    let mut client = Client::dial(socket).await?;
    let wait = if options.no_wait { Duration::ZERO } else { options.timeout };
    let act = Act { instances: options.instances, force, wait_ms: millis(wait) };
    let patience = patience(options.timeout);
    // One that hangs is known at once, not only when the time for the deed has run out.
    let before: Status = client.ask(&Request::Status, patience).await?;
    let request = Request::Act(verb, act.clone());
    let acted = match client.ask_once(&request, wait + patience).await? {
        Some(acted) => acted,
        None if client.foreign.is_some() => return Err(client.gone("it ended the connection")),
        None => {
            let mut next = Client::dial(socket).await?;
            let took = clock::now().duration_since(since);
            let act = Act { wait_ms: millis(wait.saturating_sub(took)), ..act };
            go_on(&mut next, verb, act, &before, took).await?
        }
    };
    let failed = acted.results.iter().find(|done| done.code != 0).map(|done| Error::Unfulfilled {
        code: exit::code(done.code).unwrap_or(Code::Software),
        message: show::became(done),
        hint: done.remedy.clone(),
    });
    if common.json {
        print_json_of(&acted, failed.as_ref());
    } else if !common.quiet {
        for done in &acted.results {
            print(&show::done(done));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The supervisor has become another program, or another one has come, before it answered: the rest is
/// asked of that one. What has been restarted meanwhile is only waited for.
async fn go_on(
    client: &mut Client,
    verb: Verb,
    act: Act,
    before: &Status,
    took: Duration,
) -> Result<Acted, Error> {
    let within = Duration::from_millis(act.wait_ms) + ANSWER;
    if verb != Verb::Restart {
        return client.ask(&Request::Act(verb, act), within).await;
    }
    let now: Status = client.ask(&Request::Status, ANSWER).await?;
    let is_new = |name: &str| {
        let generation = |status: &Status| {
            status.instances.iter().find(|it| it.name == name).map(|it| it.generation)
        };
        now.pid != before.pid || generation(&now) > generation(before)
    };
    let names = if act.instances.is_empty() {
        now.instances.iter().map(|it| it.name.clone()).collect()
    } else {
        act.instances.clone()
    };
    let is_known = |name: &String| now.instances.iter().any(|it| it.name == *name);
    let (names, unknown): (Vec<_>, Vec<_>) = names.into_iter().partition(is_known);
    let (mut new, mut old): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_new(name));
    // Alone, a name that nothing has would be refused.
    if old.is_empty() { &mut new } else { &mut old }.extend(unknown);
    let mut results = Vec::new();
    for (verb, instances) in [(Verb::Restart, old), (Verb::Start, new)] {
        if instances.is_empty() {
            continue;
        }
        let request = Request::Act(verb, Act { instances, ..act.clone() });
        let Acted { results: mut done, .. } = client.ask(&request, within).await?;
        for done in &mut done {
            if matches!(done.result.as_str(), "started" | "already_up") {
                done.result = "restarted".into();
            }
            done.took_ms += millis(took);
        }
        results.extend(done);
    }
    Ok(Acted { schema: SCHEMA, results })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
