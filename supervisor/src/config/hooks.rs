//! `[hooks]`: who is told what happens.

use protocol::id::Instance;
use protocol::worker::{HookCommand, HooksSettings};

use super::block::{Block, Place};
use super::instance::{Body, Kind, Spec, Trouble};

/// What `[hooks]` sets besides what its worker needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hooks {
    /// For the worker.
    pub settings: HooksSettings,
    /// Occasions that may wait.
    pub backlog: u32,
}

/// Reads `[hooks]`; `None`: there is nobody to tell.
pub(super) fn hooks(mut block: Block, commands: Vec<Block>, place: &Place) -> Option<Spec> {
    let name = Instance::new("hooks").ok()?;
    let dir = block.path("dir", place);
    let python = block.string("python").unwrap_or_else(|| "python3".into());
    if python.is_empty() {
        block.problem("python must be a program, and is empty: leave the key out instead");
    }
    let timeout_s = block.number("timeout_s", 1..=3600).unwrap_or(30);
    let concurrency = block.number("concurrency", 1..=64).unwrap_or(4);
    let backlog = block.number("backlog", 1..=100_000).unwrap_or(1000);
    let mut programs = Vec::new();
    for mut inner in commands {
        let events = inner.strings("events").unwrap_or_default();
        let command = inner.strings("command").unwrap_or_default();
        let own = inner.path("dir", place);
        if events.is_empty() {
            inner.problem("events must name what the program wants to know, or be [\"*\"]");
        }
        if command.is_empty() {
            inner.problem("command must be set: the program and its arguments, a list of texts");
        }
        programs.push(HookCommand {
            events,
            command,
            dir: own.unwrap_or_else(|| place.for_programs()),
        });
        block.absorb(inner);
    }
    let is_empty = dir.is_none() && programs.is_empty();
    let settings = HooksSettings { dir, commands: programs, python, timeout_s, concurrency };
    let body = match block.finish() {
        Ok(()) if is_empty => return None,
        Ok(()) => Ok(Body::Hooks(Hooks { settings, backlog })),
        Err(problems) => Err(Trouble::wrong(problems)),
    };
    Some(Spec { name, kind: Kind::Hooks, body })
}
