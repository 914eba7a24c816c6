//! Service `hooks`: programs and Hermes hook directories are told what happened.
//!
//! Nothing here can delay a message: an occasion is told after the fact. Handlers of one conversation run
//! one after the other, in the order of what happened, each for a limited time; those of different
//! conversations run side by side, a limited number at once.

mod directory;
mod program;
mod python;
mod schedule;
mod tail;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use protocol::hook::{Failure, HookEvent};
use protocol::id::Seq;
use protocol::worker::{FromWorker, HooksSettings, Ready};

use self::program::Program;
use self::python::Python;
use self::schedule::{Job, Schedule};
use super::Context;
use crate::Error;

pub use self::directory::Directory;

/// For handlers under way when the worker is told to stop.
const LAST: Duration = Duration::from_secs(1);

/// The adapter.
#[derive(Debug)]
pub struct Hooks {
    settings: HooksSettings,
}

/// Somebody who wants to know.
#[derive(Debug)]
struct Handler {
    name: String,
    events: Vec<String>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Program(Program),
    Python(Python),
    /// A directory that cannot be used, and why.
    Broken(String),
}

/// Handlers that are still to be told of one occasion.
struct Open {
    left: usize,
    told: u32,
    failures: Vec<Failure>,
}

/// What would run, for people: names, events, and what is wrong with it.
pub fn describe(settings: &HooksSettings) -> Vec<(String, Vec<String>, Option<String>)> {
    let about = |handler: Handler| {
        let mistyped = handler.events.iter().find(|pattern| !HookEvent::can_happen(pattern));
        let broken = match handler.way {
            Way::Broken(why) => Some(why),
            Way::Program(program) => program.problem(),
            Way::Python(python) => python.problem(),
        };
        let broken = broken.or_else(|| mistyped.map(|name| format!("nothing is called {name:?}")));
        (handler.name, handler.events, broken)
    };
    handlers(settings).into_iter().map(about).collect()
}

/// Tells every handler that wants to know of `event`, one after the other.
pub async fn tell_once(
    settings: &HooksSettings,
    event: HookEvent,
) -> Vec<(String, Result<(), String>)> {
    let event = Arc::new(event);
    let mut results = Vec::new();
    for handler in handlers(settings) {
        if handler.events.iter().any(|pattern| event.matches(pattern)) {
            let result = handler.tell(&event).await;
            results.push((handler.name.clone(), result));
        }
    }
    results
}

fn handlers(settings: &HooksSettings) -> Vec<Handler> {
    let limit = Duration::from_secs(u64::from(settings.timeout_s));
    let programs = settings.commands.iter().map(|hook| Handler {
        name: hook.command.join(" "),
        events: hook.events.clone(),
        way: Way::Program(Program::new(hook.command.clone(), hook.dir.clone(), limit)),
    });
    let found = settings.dir.as_deref().map(Directory::find).unwrap_or_default();
    let directories = found.into_iter().map(|found| match found {
        Ok(directory) => Handler {
            name: directory.name.clone(),
            events: directory.events.clone(),
            way: Way::Python(Python::new(directory, settings.python.clone(), limit)),
        },
        Err((name, why)) => Handler { name, events: Vec::new(), way: Way::Broken(why) },
    });
    programs.chain(directories).collect()
}

impl Handler {
    async fn tell(&self, event: &Arc<HookEvent>) -> Result<(), String> {
        match &self.way {
            Way::Program(program) => program.tell(event).await,
            Way::Python(python) => python.tell(event).await,
            Way::Broken(why) => Err(why.clone()),
        }
    }
}

impl Hooks {
    /// With its settings.
    pub fn new(settings: HooksSettings) -> Self {
        Self { settings }
    }

    /// Serves until `context.stop` is cancelled.
    pub async fn run(self, mut context: Context) -> Result<(), Error> {
        let handlers: Arc<[Handler]> = handlers(&self.settings).into();
        for handler in handlers.iter() {
            match &handler.way {
                Way::Broken(why) => {
                    tracing::error!(hook = handler.name, reason = why, "a hook cannot be used");
                }
                Way::Program(_) | Way::Python(_) => {
                    tracing::info!(hook = handler.name, events = ?handler.events, "hook");
                }
            }
        }
        let account = format!("{} hooks", handlers.len());
        context.say.say(FromWorker::Ready(Ready { account, idempotent_ms: None })).await;
        let most = usize::try_from(self.settings.concurrency).unwrap_or(usize::MAX);
        let mut schedule = Schedule::new(most);
        let mut open: HashMap<Seq, Open> = HashMap::new();
        let mut running: FuturesUnordered<BoxFuture<'_, (Job, Result<(), String>)>> =
            FuturesUnordered::new();
        let stop = context.stop.clone();
        let mut until = None;
        loop {
            while let Some(job) = schedule.next() {
                let handlers = Arc::clone(&handlers);
                let told = async move {
                    let result = match handlers.get(job.handler) {
                        Some(handler) => handler.tell(&job.event).await,
                        None => Ok(()),
                    };
                    (job, result)
                };
                running.push(told.boxed());
            }
            if until.is_some() && running.is_empty() {
                return Ok(());
            }
            tokio::select! {
                () = stop.cancelled(), if until.is_none() => {
                    until = Some(crate::clock::now() + LAST);
                }
                () = tokio::time::sleep_until(until.unwrap_or_else(crate::clock::now)), if until.is_some() => {
                    return Ok(());
                }
                Some((seq, event)) = context.occasions.recv() => {
                    let event = Arc::<HookEvent>::from(event);
                    let wants = |handler: &Handler| {
                        handler.events.iter().any(|pattern| event.matches(pattern))
                    };
                    let wanting = handlers.iter().enumerate().filter(|(_, handler)| wants(handler));
                    let wanting: Vec<usize> = wanting.map(|(index, _)| index).collect();
                    if wanting.is_empty() {
                        context.say.say(done(seq, Open { left: 0, told: 0, failures: Vec::new() })).await;
                        continue;
                    }
                    open.insert(seq, Open { left: wanting.len(), told: 0, failures: Vec::new() });
                    for handler in wanting {
                        schedule.add(Job { seq, handler, event: Arc::clone(&event) });
                    }
                }
                Some((job, result)) = running.next() => {
                    schedule.done(&job);
                    let Some(entry) = open.get_mut(&job.seq) else { continue };
                    entry.left -= 1;
                    match result {
                        Ok(()) => entry.told += 1,
                        Err(reason) => {
                            let hook = handlers.get(job.handler).map(|handler| handler.name.clone());
                            entry.failures.push(Failure { hook: hook.unwrap_or_default(), reason });
                        }
                    }
                    if entry.left == 0
                        && let Some(entry) = open.remove(&job.seq)
                    {
                        context.say.say(done(job.seq, entry)).await;
                    }
                }
            }
        }
    }
}

fn done(seq: Seq, entry: Open) -> FromWorker {
    FromWorker::HookDone { seq, told: entry.told, failures: entry.failures }
}
