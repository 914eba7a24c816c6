//! Another configuration while we serve: read and checked first, then only what differs is touched.
//!
//! Those that are touched end and give back what they hold; when all of them have, they are made anew
//! together, so that no event is with two agents. A file that is wrong changes nothing. Wishes that
//! come in a burst are one reading, and those that come meanwhile are one more afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::control::{Refusal, Reloaded, SCHEMA};
use protocol::id::{Instance, Lane};
use tokio::sync::mpsc;

use super::Gateway;
use super::control::{self, Asker};
use super::desk::Desk;
use super::slot::{self, Slot};
use crate::clock;
use crate::config::{AgentSettings, Body, Config, Spec};
use crate::error::Error;
use crate::exit::Code;
use crate::policy::changes::{self, Changes, Part};
use crate::policy::closing::Stage;
use crate::policy::delivery;
use crate::policy::lifecycle::{Force, Input, Phase, Wanted};
use crate::store::Opened;

/// How long to wait for more wishes of the same burst.
const BURST: Duration = Duration::from_millis(100);

/// Reads the configuration, as it was read when we started.
#[derive(Clone)]
pub struct Reader(pub Arc<dyn Fn() -> Result<Config, Error> + Send + Sync>);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// What is under way.
#[derive(Debug)]
pub(super) struct Reload {
    reader: Reader,
    result: mpsc::Sender<Result<Config, Error>>,
    /// When to read.
    at: Option<Instant>,
    is_reading: bool,
    /// Who waits for the next reading.
    next: Vec<Asker>,
    /// Who waits for this one.
    now: Vec<Asker>,
    change: Option<Change>,
    opened: Opened,
}

/// A checked configuration on its way in.
#[derive(Debug)]
struct Change {
    config: Config,
    changes: Changes,
    /// Those that were wanted down before, and stay so.
    down: Vec<Instance>,
}

impl Reload {
    pub(super) fn new(
        reader: Reader,
        opened: Opened,
        result: mpsc::Sender<Result<Config, Error>>,
    ) -> Self {
        Self {
            reader,
            result,
            at: None,
            is_reading: false,
            next: Vec::new(),
            now: Vec::new(),
            change: None,
            opened,
        }
    }

    /// A configuration is read, or on its way in.
    pub(super) fn is_busy(&self) -> bool {
        self.at.is_some() || self.is_reading || self.change.is_some()
    }

    /// When to read.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at.filter(|_| !self.is_reading && self.change.is_none())
    }
}

impl Gateway {
    /// Somebody wishes that the configuration is read anew.
    pub(super) fn wish_reload(&mut self, asker: Option<Asker>) {
        if self.closing.stage() != Stage::Serving {
            return self.refuse_reload(asker, &control::stopping());
        }
        self.reload.next.extend(asker);
        self.reload.at.get_or_insert(clock::now() + BURST);
    }

    /// Nothing is changed any more: the supervisor is on its way out.
    pub(super) fn end_reloads(&mut self) {
        (self.reload.at, self.reload.change) = (None, None);
        let mut waiting = std::mem::take(&mut self.reload.next);
        waiting.append(&mut self.reload.now);
        self.refuse_reload(waiting, &control::stopping());
    }

    /// Begins to read when it is time, and goes on with what is being applied.
    pub(super) fn tick_reload(&mut self, now: Instant) {
        if self.reload.deadline().is_some_and(|at| at <= now) {
            self.reload.at = None;
            self.reload.is_reading = true;
            self.reload.now = std::mem::take(&mut self.reload.next);
            self.manager.reloading(clock::monotonic_usec());
            let (reader, result) = (self.reload.reader.clone(), self.reload.result.clone());
            // Files may lie on a disk that hangs.
            let read = move || drop(result.blocking_send((reader.0)()));
            let thread = std::thread::Builder::new().name("reload".into()).spawn(read);
            if let Err(source) = thread {
                self.reloaded(Err(Error::Os { what: "start a thread", source }));
            }
        }
        if self.reload.change.is_some() {
            self.make_way();
        }
    }

    /// The configuration was read.
    pub(super) fn reloaded(&mut self, read: Result<Config, Error>) {
        self.reload.is_reading = false;
        if self.closing.stage() != Stage::Serving {
            return;
        }
        match read.and_then(|config| self.compare(config)) {
            Ok(Change { config, changes, .. }) if changes.is_empty() => {
                self.adopted(config, changes);
            }
            Ok(change) => {
                let names = |list: &[Instance]| {
                    list.iter().map(Instance::as_str).collect::<Vec<_>>().join(", ")
                };
                let Changes { added, removed, changed, .. } = &change.changes;
                tracing::info!(
                    added = names(added),
                    removed = names(removed),
                    changed = names(changed),
                    "the configuration has changed"
                );
                self.reload.change = Some(change);
                self.make_way();
            }
            Err(e) => {
                tracing::error!(error = %e, "the configuration was not reloaded: nothing is changed");
                self.announce_config("refused", Some(e.to_string()));
                self.manager.ready();
                let (code, message) = (e.code(), format!("nothing is changed: {e}"));
                let waiting = std::mem::take(&mut self.reload.now);
                self.refuse_reload(waiting, &Refusal { code, message, hint: e.hint() });
            }
        }
    }

    /// What `config` changes; refused if it brings trouble that was not there before.
    fn compare(&self, config: Config) -> Result<Change, Error> {
        let before = parts(self.slots.iter().filter(|slot| !slot.removed).map(|slot| &slot.spec));
        let after = parts(config.instances.iter());
        let is_old = |spec: &Spec| before.get(&spec.name).is_some_and(|old| old.spec == spec);
        let troubles = config.instances.iter().filter(|spec| !is_old(spec));
        let troubles: Vec<_> = troubles.filter_map(|spec| spec.body.as_ref().err()).collect();
        if let Some(worst) = troubles.iter().max_by_key(|trouble| trouble.code) {
            let lines: Vec<_> = troubles.iter().map(|trouble| trouble.reason.as_str()).collect();
            return Err(Error::Refused(Refusal {
                code: worst.code.number(),
                message: lines.join("\n"),
                hint: Some(worst.remedy.into()),
            }));
        }
        if (&config.state_dir, &config.runtime_dir) != (&self.dirs.0, &self.dirs.1) {
            return Err(Error::Refused(Refusal {
                code: Code::Config.number(),
                message: "state_dir and runtime_dir cannot change while the supervisor runs".into(),
                hint: Some(
                    "end it, then start it anew: what waits stays in the directory of before"
                        .into(),
                ),
            }));
        }
        let changes = changes::between(&before, &after);
        let down = self.slots.iter().filter(|slot| !slot.removed);
        let down = down.filter(|slot| slot.life.wanted() == Wanted::Down);
        let down = down.map(|slot| slot.name.clone()).collect();
        Ok(Change { config, changes, down })
    }

    /// Ends those that are touched; once all are idle, the change is made.
    fn make_way(&mut self) {
        let Some(change) = &self.reload.change else { return };
        let touched = change.changes.removed.iter().chain(&change.changes.changed);
        let touched: Vec<_> = touched.filter_map(|name| self.by_name.get(name)).copied().collect();
        let mut all_idle = true;
        for index in touched {
            let Some(slot) = self.slots.get(index) else { continue };
            let is_down = matches!(slot.life.phase(), Phase::Down);
            // Also one that somebody has started meanwhile.
            if !is_down && slot.life.wanted() == Wanted::Up {
                self.live(index, Input::Kill(Force::No));
            }
            let Some(slot) = self.slots.get(index) else { continue };
            let is_down = matches!(slot.life.phase(), Phase::Down);
            all_idle &= is_down && slot.is_settled() && !self.tickets.concern(index);
        }
        let all_quiet = self.hold_regrouped();
        if all_idle
            && all_quiet
            && let Some(change) = self.reload.change.take()
        {
            self.apply(change);
        }
    }

    /// Agents that go on take nothing new until they can hear of others. One that works on what comes from a platform
    /// that goes is started anew after all. Whether nothing is under way.
    fn hold_regrouped(&mut self) -> bool {
        let Some(change) = &self.reload.change else { return false };
        let (mut all_quiet, mut disturbed) = (true, Vec::new());
        for name in change.changes.regrouped.clone() {
            let Some(index) = self.by_name.get(&name).copied() else { continue };
            self.deliver(index, delivery::Input::Hold(true));
            let Some(change) = &self.reload.change else { return false };
            let Some(Desk::Agent(desk)) = self.slots.get(index).map(|slot| &slot.desk) else {
                continue;
            };
            let goes = |lane: &Lane| change.changes.removed.contains(&lane.instance);
            if desk.delivery.lanes_at_work().any(goes) {
                disturbed.push(name);
            }
            all_quiet &= desk.delivery.is_quiet() && !self.tickets.concern(index);
        }
        let is_undisturbed = disturbed.is_empty();
        if let Some(change) = &mut self.reload.change {
            change.changes.regrouped.retain(|name| !disturbed.contains(name));
            change.changes.changed.append(&mut disturbed);
            change.changes.changed.sort();
        }
        all_quiet && is_undisturbed
    }

    fn apply(&mut self, change: Change) {
        let Change { mut config, changes, down } = change;
        let now = clock::now();
        for name in &changes.removed {
            if let Some(slot) = self.by_name.get(name).and_then(|index| self.slots.get_mut(*index))
            {
                slot.removed = true;
            }
        }
        let (mut start, mut touched) = (Vec::new(), Vec::new());
        for spec in std::mem::take(&mut config.instances) {
            if !changes.names().any(|name| *name == spec.name) {
                continue;
            }
            let name = spec.name.clone();
            let index = if let Some(index) = self.by_name.get(&name).copied() {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.become_another(spec, &self.reload.opened);
                }
                index
            } else {
                let seed = clock::random().map_or(0, u64::from_le_bytes);
                let mut slot = Slot::new(spec, &self.reload.opened, seed, now);
                slot.recall(&self.reload.opened);
                self.slots.push(slot);
                self.by_name.insert(name.clone(), self.slots.len() - 1);
                self.slots.len() - 1
            };
            touched.push(index);
            if !down.contains(&name) {
                start.push(index);
            }
        }
        slot::connect(&mut self.slots, &self.by_name);
        for name in &changes.regrouped {
            let Some(index) = self.by_name.get(name).copied() else { continue };
            if let Some(Desk::Agent(desk)) = self.slots.get_mut(index).map(|slot| &mut slot.desk) {
                desk.delivery.regroup();
            }
            let on = self.upgrade.holds();
            self.deliver(index, delivery::Input::Hold(on));
        }
        self.adopted(config, changes);
        for index in touched {
            self.say_who_hears(index);
        }
        for index in start {
            self.pace(index);
            self.live(index, Input::Start);
        }
    }

    /// The new configuration holds.
    fn adopted(&mut self, config: Config, changes: Changes) {
        let mut settings = Vec::new();
        take(&mut self.log, config.log, "gateway.log", &mut settings);
        take(&mut self.stop, config.stop, "gateway.stop_s", &mut settings);
        take(&mut self.memory, config.memory, "gateway.memory_mb", &mut settings);
        take(&mut self.files, config.files, "[files]", &mut settings);
        take(&mut self.commands, config.commands.into(), "[commands]", &mut settings);
        let is_same = changes.is_empty() && settings.is_empty();
        let now = if is_same { "unchanged" } else { "reloaded" };
        let touched = changes.names().map(Instance::as_str);
        let touched: Vec<_> = touched.chain(settings.iter().map(String::as_str)).collect();
        let touched = touched.join(", ");
        self.announce_config(now, (!is_same).then(|| touched.clone()));
        self.manager.ready();
        let list = |names: Vec<Instance>| names.iter().map(ToString::to_string).collect();
        let told = Reloaded {
            added: list(changes.added),
            removed: list(changes.removed),
            changed: list(changes.changed),
            settings,
            ..told(now)
        };
        for asker in std::mem::take(&mut self.reload.now) {
            match asker {
                Asker::Tool(reply) => reply.answer(&told),
                Asker::Within(id) => self.report_within(&id, format!("{now} {touched}").trim_end()),
            }
        }
    }

    fn refuse_reload(&mut self, askers: impl IntoIterator<Item = Asker>, refusal: &Refusal) {
        for asker in askers {
            match asker {
                Asker::Tool(reply) => reply.refuse(refusal.clone()),
                Asker::Within(id) => {
                    let hint = refusal.hint.as_ref().map(|hint| format!("\nhint: {hint}"));
                    let became = format!("{}{}", refusal.message, hint.unwrap_or_default());
                    self.report_within(&id, &became);
                }
            }
        }
    }
}

/// What became of a reload that touches nothing.
pub(super) fn told(result: &str) -> Reloaded {
    Reloaded {
        schema: SCHEMA,
        result: result.into(),
        added: Vec::new(),
        removed: Vec::new(),
        changed: Vec::new(),
        settings: Vec::new(),
    }
}

/// Takes over a setting that is everybody's, and notes whether it is another one.
fn take<T: PartialEq>(old: &mut T, new: T, name: &str, changed: &mut Vec<String>) {
    if *old != new {
        changed.push(name.to_owned());
        *old = new;
    }
}

fn parts<'a>(specs: impl Iterator<Item = &'a Spec>) -> BTreeMap<Instance, Part<'a, &'a Spec>> {
    specs
        .map(|spec| {
            let heard_by = match &spec.body {
                Ok(Body::Platform { agent, manners, .. }) => {
                    let routed = manners.routes.iter().map(|route| route.agent.clone());
                    routed.chain(agent.clone()).collect()
                }
                Ok(Body::Agent { .. } | Body::Hooks(_)) | Err(_) => Vec::new(),
            };
            let routes = match &spec.body {
                Ok(Body::Platform { manners, .. }) => manners.routes.as_slice(),
                Ok(Body::Agent { .. } | Body::Hooks(_)) | Err(_) => &[],
            };
            let knows_all =
                matches!(&spec.body, Ok(Body::Agent { settings: AgentSettings::Relay { .. }, .. }));
            (spec.name.clone(), Part { spec, heard_by, routes, knows_all })
        })
        .collect()
}
