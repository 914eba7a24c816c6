//! What tools ask for: status, and acts that are answered when the wanted phase is reached.

use std::time::{Duration, Instant};

use protocol::control::{
    Act, Acted, BackedUp, Done, FileStatus, GateStatus, InstanceStatus, Refusal, Request, SCHEMA,
    Status, StoreStatus, Token, Verb,
};
use protocol::id::Generation;
use protocol::worker::Outside;

use super::Gateway;
use super::slot::{Desk, Refusing, Slot};
use super::tickets::Pending;
use super::within::{self, Command};
use crate::clock;
use crate::exit::Code;
use crate::link::Reply;
use crate::policy::closing::Stage;
use crate::policy::lifecycle::{Force, Input, Phase, Wanted};
use crate::socket::Peer;
use crate::store::{Answer, Count};

const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A tool that waits for what it asked for.
#[derive(Debug)]
pub(super) struct Waiter {
    verb: Verb,
    since: Instant,
    pub(super) until: Instant,
    targets: Vec<Target>,
    asker: Asker,
}

/// Who waits for what becomes of a command.
#[derive(Debug)]
pub(super) enum Asker {
    /// A tool.
    Tool(Reply),
    /// Somebody within, who is told later: see [`crate::owed`].
    Within(String),
}

#[derive(Debug)]
struct Target {
    slot: usize,
    /// The incarnation when it was asked for.
    former: Generation,
    done: Option<Done>,
}

impl Gateway {
    /// Whether a request may be performed: one with a token may only look. Its asker could do everything
    /// without it, so this keeps nobody out; it keeps the mistakes of a dashboard harmless.
    pub(super) fn admit(
        &self,
        request: &Request,
        token: Option<&str>,
        reply: Reply,
    ) -> Option<Reply> {
        let (message, hint) = match token {
            None => return Some(reply),
            Some(token) if token != self.store.view_token() => {
                ("this token is not of this gateway", "`hermes-gw ctl token` shows the one that is")
            }
            Some(_) if request.only_looks() => return Some(reply),
            Some(_) => ("this token may only look", "leave it out to act"),
        };
        reply.refuse(Refusal {
            code: Code::NoPermission.number(),
            message: message.into(),
            hint: Some(hint.into()),
        });
        None
    }

    /// A tool asks.
    pub(super) fn request(&mut self, request: Request, peer: Peer, reply: Reply) {
        match request {
            Request::Status => self.ask(Pending::Counts { reply }),
            Request::Events => self.subscribe(reply.subscribe()),
            Request::Backup(backup) => {
                tracing::info!(path = %backup.path.display(), uid = peer.uid, "backing up the store");
                self.ask(Pending::Backup { path: backup.path, reply });
            }
            Request::ParkedList(page) => self.list_parked(page, reply),
            Request::ParkedShow(id) => self.ask(Pending::ShowParked { id, reply }),
            Request::Decide(decision, ids) => self.decide(decision, ids, peer, reply),
            Request::Reload if self.closing.stage() == Stage::Serving => {
                self.announce_asked(None, "reload", peer);
                self.wish_reload(Some(reply));
            }
            Request::Reload => reply.refuse(stopping()),
            Request::Send(asked) => self.send_asked(*asked, reply),
            Request::AccessList => self.list_access(reply),
            Request::Access(decide) => self.decide_access(decide, peer, reply),
            Request::Upgrade(asked) => self.wish_upgrade(asked, peer, reply),
            // What is asked for is a secret: this answer alone is not cleaned of such.
            Request::Token => {
                let token = Token { schema: SCHEMA, token: self.store.view_token() };
                reply.answer_with_content(&token);
            }
            Request::Order(order, instance) => self.order(order, &instance, peer, reply),
            Request::Act(verb, act) => {
                let command = Command::Act(verb, act.clone());
                let Some(reply) = self.defer(&command, peer, reply) else { return };
                self.act(verb, &act, peer, Asker::Tool(reply));
            }
            Request::Stop(stop) => {
                let Some(reply) = self.defer(&Command::Stop(stop), peer, reply) else { return };
                self.stop_asked(stop.force, peer, Some(reply));
            }
        }
    }

    /// Somebody tells the supervisor to leave.
    pub(super) fn stop_asked(&mut self, force: bool, peer: Peer, reply: Option<Reply>) {
        self.announce_asked(None, if force { "stop --force" } else { "stop" }, peer);
        self.leaving.extend(reply);
        let now = clock::now();
        let was_serving = self.closing.stage() == Stage::Serving;
        let action = match (force, self.closing.stage()) {
            (true, _) => self.closing.force(now),
            (false, Stage::Serving) => self.closing.ask(self.stop_budget(), now),
            // Already on the way: a second polite wish does not make it impolite.
            (false, _) => None,
        };
        if let Some(action) = action {
            if was_serving {
                self.hook_gateway("gateway:shutdown");
            }
            let word = if force { "forced" } else { "stopping" };
            self.announce_supervisor(word, Some("asked over the socket".into()), None);
            self.close(action);
        }
    }

    /// Somebody gives a command.
    pub(super) fn act(&mut self, verb: Verb, act: &Act, peer: Peer, asker: Asker) {
        let named = if self.closing.stage() == Stage::Serving {
            self.named(&act.instances)
        } else {
            Err(stopping())
        };
        let slots = match named {
            Ok(slots) => slots,
            Err(refusal) => match asker {
                Asker::Tool(reply) => return reply.refuse(refusal),
                Asker::Within(id) => return self.report_within(&id, &refusal.message),
            },
        };
        let force = if act.force { Force::Yes } else { Force::No };
        let now = clock::now();
        let wait = Duration::from_millis(act.wait_ms).min(WAIT_MAX);
        let mut targets = Vec::new();
        for slot in slots {
            let Some(found) = self.slots.get(slot) else { continue };
            let already = match (verb, found.life.phase()) {
                (Verb::Kill, Phase::Down) => Some("already_down"),
                (Verb::Start, Phase::Ready { .. }) => Some("already_up"),
                _ => None,
            };
            let former = found.life.generation();
            let done = already.map(|word| found.done(word, Code::Ok, Duration::ZERO));
            targets.push((Target { slot, former, done }, already.is_some()));
            // A person has acted.
            let name = self.slots.get(slot).map(|slot| slot.name.to_string());
            self.starts.forgive(&name.unwrap_or_default());
            let wish = format!("{}{}", verb.word(), if act.force { " --force" } else { "" });
            self.announce_asked(Some(slot), &wish, peer);
        }
        let input = match verb {
            Verb::Start => Input::Start,
            Verb::Restart => Input::Restart(force),
            Verb::Kill => Input::Kill(force),
        };
        for (target, already) in &targets {
            if !already {
                // A start also ends the waiting of what is held or backs off.
                let waiting = self.slots.get(target.slot).is_some_and(|slot| {
                    matches!(slot.life.phase(), Phase::Held { .. } | Phase::Backoff { .. })
                });
                let input = if verb == Verb::Start && waiting {
                    Input::Restart(Force::No)
                } else {
                    input.clone()
                };
                self.live(target.slot, input);
            }
        }
        let targets = targets.into_iter().map(|(target, _)| target).collect();
        let waiter = Waiter { verb, since: now, until: now + wait, targets, asker };
        self.waiters.push(waiter);
        if wait.is_zero() {
            self.expire_waiters(now);
        } else {
            self.look_at_waiters();
        }
    }

    /// The slots of these names; of all if there are none.
    pub(super) fn named(&self, names: &[String]) -> Result<Vec<usize>, Refusal> {
        if names.is_empty() {
            let there = self.slots.iter().enumerate().filter(|(_, slot)| !slot.removed);
            return Ok(there.map(|(index, _)| index).collect());
        }
        let is = |slot: &Slot, name: &str| !slot.removed && slot.name.as_str() == name;
        let find = |name: &String| self.slots.iter().position(|slot| is(slot, name));
        let mut found = Vec::new();
        for name in names {
            let Some(index) = find(name) else {
                let known = self.slots.iter().filter(|slot| !slot.removed);
                let known: Vec<_> = known.map(|slot| slot.name.as_str()).collect();
                let nearest = known
                    .iter()
                    .min_by_key(|known| strsim::damerau_levenshtein(known, name))
                    .filter(|known| strsim::damerau_levenshtein(known, name) <= 2);
                let known = format!("configured: {}", known.join(", "));
                return Err(Refusal {
                    code: Code::Usage.number(),
                    message: format!("no instance is called {name:?}"),
                    hint: Some(match nearest {
                        Some(nearest) => format!("did you mean {nearest:?}? {known}"),
                        None => known,
                    }),
                });
            };
            if !found.contains(&index) {
                found.push(index);
            }
        }
        Ok(found)
    }

    /// Something changed: whose wish is fulfilled, or cannot be?
    pub(super) fn look_at_waiters(&mut self) {
        let now = clock::now();
        let slots = &self.slots;
        for waiter in &mut self.waiters {
            let took = now.duration_since(waiter.since);
            for target in &mut waiter.targets {
                if target.done.is_none()
                    && let Some(slot) = slots.get(target.slot)
                {
                    target.done = slot.reached(waiter.verb, target.former, took);
                }
            }
        }
        self.answer_waiters();
    }

    /// Whoever has all that he waited for is told.
    fn answer_waiters(&mut self) {
        let is_over = |waiter: &mut Waiter| waiter.targets.iter().all(|t| t.done.is_some());
        let over: Vec<_> = self.waiters.extract_if(.., is_over).collect();
        for Waiter { targets, asker, .. } in over {
            let results = targets.into_iter().filter_map(|target| target.done).collect();
            match asker {
                Asker::Tool(reply) => reply.answer(&Acted { schema: SCHEMA, results }),
                Asker::Within(id) => self.report_within(&id, &within::told(&results)),
            }
        }
    }

    /// Whose time is up?
    pub(super) fn expire_waiters(&mut self, now: Instant) {
        let slots = &self.slots;
        for waiter in &mut self.waiters {
            if waiter.until > now {
                continue;
            }
            let took = now.duration_since(waiter.since);
            let (word, code) = if waiter.until == waiter.since {
                ("requested", Code::Ok)
            } else {
                ("timed_out", Code::Temporary)
            };
            for target in &mut waiter.targets {
                if target.done.is_none()
                    && let Some(slot) = slots.get(target.slot)
                {
                    target.done = Some(slot.done(word, code, took));
                }
            }
        }
        self.answer_waiters();
    }

    /// The supervisor's own state in one word.
    pub(super) fn state(&self) -> &'static str {
        if self.closing.stage() != Stage::Serving {
            return "stopping";
        }
        let wanted = self.slots.iter().filter(|slot| slot.life.wanted() == Wanted::Up);
        let mut state = "serving";
        for slot in wanted {
            match slot.life.phase() {
                // An agent that is not connected is waited for; that is what the inbox is for.
                Phase::Ready { .. } if slot.is_connected() => {}
                Phase::Ready { .. } if matches!(slot.desk, Desk::Agent(_)) => {}
                Phase::Starting { .. } if slot.outside.is_none() && slot.starts <= 1 => {
                    if state == "serving" {
                        state = "starting";
                    }
                }
                _ => state = "degraded",
            }
        }
        state
    }

    /// Answers `backup`.
    pub(super) fn backed_up(path: std::path::PathBuf, reply: Reply, answer: Answer) {
        let (code, why) = match answer {
            Answer::BackedUp { bytes } => {
                return reply.answer(&BackedUp { schema: SCHEMA, path, bytes });
            }
            Answer::Failed(why) => (Code::CannotCreate, why),
            Answer::Full => (Code::Io, "the disk of the store is full".into()),
            other => (Code::Software, format!("{other:?}")),
        };
        reply.refuse(Refusal {
            code: code.number(),
            message: format!("back the store up to {}: {why}", path.display()),
            hint: None,
        });
    }

    /// Answers `status` with the store's counts.
    pub(super) fn report(&mut self, reply: Reply, answer: Answer) {
        let (counts, files) = match answer {
            Answer::Counts { instances, files } => (instances, files),
            other => {
                return reply.refuse(Refusal {
                    code: Code::Io.number(),
                    message: format!("count what the store holds: {other:?}"),
                    hint: None,
                });
            }
        };
        let now = clock::now();
        let instances = self.slots.iter().filter(|slot| !slot.removed);
        let instances = instances.map(|slot| slot.status(&counts, now)).collect();
        reply.answer(&Status {
            schema: SCHEMA,
            state: self.state().into(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_ms: self.started_ms,
            upgraded: self.upgrade.done.clone(),
            state_dir: self.paths.state_dir.display().to_string(),
            config: self.config_source.clone(),
            store: Some(FileStatus {
                bytes: files.bytes,
                free_bytes: files.free_bytes,
                commits: files.commits,
                checkpoints: files.checkpoints,
            }),
            instances,
        });
    }
}

fn stopping() -> Refusal {
    let message = "the supervisor is stopping".into();
    Refusal { code: Code::Temporary.number(), message, hint: None }
}

impl Slot {
    /// What became of a wish, if anything final did.
    fn reached(&self, verb: Verb, former: Generation, took: Duration) -> Option<Done> {
        let newer = self.life.generation() > former;
        match (verb, self.life.phase()) {
            (Verb::Kill, Phase::Down) => Some(self.done("killed", Code::Ok, took)),
            (Verb::Kill, _) => None,
            (Verb::Start, Phase::Ready { .. }) => Some(self.done("started", Code::Ok, took)),
            (Verb::Restart, Phase::Ready { .. }) if newer => {
                Some(self.done("restarted", Code::Ok, took))
            }
            (_, Phase::Held { .. }) => Some(self.done("held", Code::Config, took)),
            (_, Phase::Down) => Some(self.done("killed", Code::Temporary, took)),
            _ => None,
        }
    }

    fn done(&self, result: &str, code: Code, took: Duration) -> Done {
        let (reason, remedy) = if code == Code::Ok { (None, None) } else { self.trouble() };
        Done {
            instance: self.name.to_string(),
            result: result.into(),
            code: code.number(),
            phase: self.life.phase().word().into(),
            pid: self.child.as_ref().map(|running| running.child.pid()),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            reason,
            remedy,
        }
    }

    fn trouble(&self) -> (Option<String>, Option<String>) {
        if let Some(stuck) = &self.stuck {
            let reason = format!("killed, and still there: {stuck}");
            let remedy =
                "see what it waits for in /proc/PID/stack; the next start waits for its end";
            return (Some(reason), Some(remedy.into()));
        }
        match (self.life.phase(), &self.outside) {
            (Phase::Held { reason, remedy, .. }, _) => (Some(reason.clone()), Some(remedy.clone())),
            (_, Some(Outside::Down { reason, remedy } | Outside::Limited { reason, remedy })) => {
                (Some(reason.clone()), remedy.clone())
            }
            (_, Some(Outside::Conflict { reason, remedy })) => {
                (Some(reason.clone()), Some(remedy.clone()))
            }
            _ => self.refusing().unzip(),
        }
    }

    /// Why events are refused, and what helps.
    fn refusing(&self) -> Option<(String, String)> {
        let Desk::Platform(desk) = &self.desk else { return None };
        let (why, remedy) = match desk.refusing? {
            Refusing::Full => (
                "as many wait as may wait",
                "look after the agent, or raise inbox.max_events or inbox.max_mib",
            ),
            Refusing::Unstored => {
                ("they cannot be stored", "make room on the disk; the log says more")
            }
        };
        Some((
            format!("new events are refused for now, and the platform repeats them: {why}"),
            remedy.into(),
        ))
    }

    fn status(&self, counts: &[Count], now: Instant) -> InstanceStatus {
        let (reason, remedy) = self.trouble();
        let next_start = match self.life.phase() {
            Phase::Backoff { until } | Phase::Held { until, .. } => Some(Self::unix_ms(*until)),
            _ => None,
        };
        let (heartbeat, at_ms) = self.heartbeat.unzip();
        let progress = heartbeat.and_then(|beat| beat.progress_age_ms).zip(at_ms);
        let last_progress_ms =
            progress.map(|(age, at)| at.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX)));
        let count = counts.iter().find(|count| count.instance == self.name);
        let (mut store, mut gate, mut last_inbound_ms, mut hooks) = (None, None, None, None);
        match &self.desk {
            Desk::Platform(desk) => {
                last_inbound_ms = desk.last_inbound_ms;
                store = Some(StoreStatus {
                    waiting: count.map_or(0, |count| count.waiting),
                    oldest_ms: count.and_then(|count| count.oldest_ms),
                    parked: count.map_or(0, |count| count.parked),
                    undelivered: count.map_or(0, |count| count.undelivered),
                    replies: count.map_or(0, |count| count.replies),
                    accepted: desk.accepted,
                    duplicates: desk.duplicates,
                    denied: desk.denied,
                    refused: desk.refused,
                    sent: desk.sent,
                    failed: desk.failed,
                    unknown: desk.unknown,
                    ignored: heartbeat.map_or(0, |beat| beat.ignored),
                    malformed: heartbeat.map_or(0, |beat| beat.malformed),
                });
            }
            Desk::Agent(desk) => {
                gate = Some(GateStatus {
                    open: desk.delivery.is_open(now),
                    in_flight: desk.delivery.in_flight() as u64,
                    acknowledged: desk.acknowledged,
                    busy: desk.busy,
                });
            }
            Desk::Hooks(desk) => hooks = Some(desk.status()),
            Desk::Broken(_) => {}
        }
        InstanceStatus {
            name: self.name.to_string(),
            role: self.kind.role().into(),
            kind: self.kind.word().into(),
            wanted: match self.life.wanted() {
                Wanted::Up => "up".into(),
                Wanted::Down => "down".into(),
            },
            phase: self.life.phase().word().into(),
            since_ms: Self::unix_ms(self.life.since()),
            reason,
            remedy,
            account: self.account.clone(),
            connected: self.is_connected(),
            outside: self.outside.as_ref().map(|outside| {
                let word = match outside {
                    Outside::Up => "up",
                    Outside::Limited { .. } => "limited",
                    Outside::Down { .. } => "down",
                    Outside::Conflict { .. } => "conflict",
                };
                word.into()
            }),
            confined: self.child.is_some().then(|| self.confined.clone()).flatten(),
            memory: self.child.is_some().then_some(self.memory).flatten(),
            generation: self.life.generation().0,
            pid: self.child.as_ref().map(|running| running.child.pid()),
            restarts: self.starts.saturating_sub(1),
            next_start_ms: next_start,
            last_heartbeat_ms: at_ms,
            last_progress_ms,
            last_inbound_ms,
            exits: self.exits.iter().cloned().collect(),
            store,
            gate,
            hooks,
        }
    }
}
