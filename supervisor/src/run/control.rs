//! What tools ask for, and acts that are answered when the wanted phase is reached.

use std::time::{Duration, Instant};

use protocol::control::{Act, Acted, BackedUp, Done, Refusal, Request, SCHEMA, Token, Verb};
use protocol::id::{EventId, Generation, OutboundId, ParkedId};

use super::Gateway;
use super::slot::Slot;
use super::tickets::Pending;
use super::within::{self, Command};
use crate::clock;
use crate::exit::Code;
use crate::link::Reply;
use crate::policy::closing::Stage;
use crate::policy::lifecycle::{Force, Input, Phase};
use crate::socket::Peer;
use crate::store::Answer;
use crate::text;

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

/// What a name stands for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// This slot.
    Slot(usize),
    /// Nothing, which is told among others.
    Unknown(Done),
}

#[derive(Debug)]
struct Target {
    /// `None`: nothing has the name that was asked for.
    slot: Option<usize>,
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
            Request::Status => self.ask(Pending::Counts { reply: Some(reply) }),
            Request::Events(follow) => self.subscribe(follow, reply.subscribe()),
            Request::Backup(backup) => {
                tracing::info!(path = %backup.path.display(), uid = peer.uid, "backing up the store");
                self.ask(Pending::Backup { path: backup.path, reply });
            }
            Request::Inbox(page) => {
                let first = ParkedId::Event(EventId(0));
                self.list_waiting(page.after.unwrap_or(first), page, reply);
            }
            Request::Outbox(page) => {
                let first = ParkedId::Reply(OutboundId(0));
                self.list_waiting(page.after.unwrap_or(first), page, reply);
            }
            Request::ParkedList(page) => self.list_parked(page, reply),
            Request::ParkedShow(id) => self.ask(Pending::ShowParked { id, reply }),
            Request::Decide(decision, ids) => self.decide(decision, ids, peer, reply),
            Request::Reload => {
                let Some(reply) = self.defer(&Command::Reload, peer, reply) else { return };
                self.announce_asked(None, "reload", peer);
                self.wish_reload(Some(Asker::Tool(reply)));
            }
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
        let named = match named {
            Ok(named) => named,
            Err(refusal) => match asker {
                Asker::Tool(reply) => return reply.refuse(refusal),
                Asker::Within(id) => return self.report_within(&id, &refusal.message),
            },
        };
        let force = if act.force { Force::Yes } else { Force::No };
        let now = clock::now();
        let wait = Duration::from_millis(act.wait_ms).min(WAIT_MAX);
        let mut targets = Vec::new();
        for slot in named {
            let slot = match slot {
                Named::Slot(slot) => slot,
                Named::Unknown(unknown) => {
                    let former = Generation(0);
                    targets.push((Target { slot: None, former, done: Some(unknown) }, true));
                    continue;
                }
            };
            let Some(found) = self.slots.get(slot) else { continue };
            let already = match (verb, found.life.phase()) {
                (Verb::Kill, Phase::Down) => Some("already_down"),
                (Verb::Start, Phase::Ready { .. }) => Some("already_up"),
                _ => None,
            };
            let former = found.life.generation();
            let done = already.map(|word| found.done(word, Code::Ok, Duration::ZERO));
            targets.push((Target { slot: Some(slot), former, done }, already.is_some()));
            // A person has acted.
            let name = self.slots.get(slot).map(|slot| slot.name.to_string());
            self.starts.forgive(&name.unwrap_or_default());
            self.pace(slot);
            let wish = format!("{}{}", verb.word(), if act.force { " --force" } else { "" });
            self.announce_asked(Some(slot), &wish, peer);
        }
        let input = match verb {
            Verb::Start => Input::Start,
            Verb::Restart => Input::Restart(force),
            Verb::Kill => Input::Kill(force),
        };
        for (target, already) in &targets {
            if let (Some(index), false) = (target.slot, already) {
                // A start also ends the waiting of what is held or backs off.
                let waiting = self.slots.get(index).is_some_and(|slot| {
                    matches!(slot.life.phase(), Phase::Held { .. } | Phase::Backoff { .. })
                });
                let input = if verb == Verb::Start && waiting {
                    Input::Restart(Force::No)
                } else {
                    input.clone()
                };
                self.live(index, input);
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

    /// The slot of this name.
    pub(super) fn find(&self, name: &str) -> Result<usize, Refusal> {
        let is = |slot: &Slot| !slot.removed && slot.name.as_str() == name;
        self.slots.iter().position(is).ok_or_else(|| {
            let known = self.slots.iter().filter(|slot| !slot.removed);
            let known: Vec<_> = known.map(|slot| slot.name.as_str()).collect();
            let nearest = text::nearest(name, &known);
            let known = format!("configured: {}", known.join(", "));
            Refusal {
                code: Code::Usage.number(),
                message: format!("no instance is called {name:?}"),
                hint: Some(match nearest {
                    Some(nearest) => format!("did you mean {nearest:?}? {known}"),
                    None => known,
                }),
            }
        })
    }

    /// The slots of these names, or what is told of a name that nothing has; all slots if there are no
    /// names. Refused if there is nothing to act on.
    pub(super) fn named(&self, names: &[String]) -> Result<Vec<Named>, Refusal> {
        if names.is_empty() {
            let there = self.slots.iter().enumerate().filter(|(_, slot)| !slot.removed);
            return Ok(there.map(|(index, _)| Named::Slot(index)).collect());
        }
        let (mut named, mut first) = (Vec::new(), None);
        for name in names {
            let found = self.find(name).map_or_else(
                |refusal| {
                    first.get_or_insert_with(|| refusal.clone());
                    let Refusal { code, message, hint } = refusal;
                    let told = Done { code, reason: Some(message), ..Done::new(name, "unknown") };
                    Named::Unknown(Done { remedy: hint, ..told })
                },
                Named::Slot,
            );
            if !named.contains(&found) {
                named.push(found);
            }
        }
        match first {
            Some(refusal) if !named.iter().any(|one| matches!(one, Named::Slot(_))) => Err(refusal),
            _ => Ok(named),
        }
    }

    /// Something changed: whose wish is fulfilled, or cannot be?
    pub(super) fn look_at_waiters(&mut self) {
        let now = clock::now();
        let slots = &self.slots;
        for waiter in &mut self.waiters {
            let took = now.duration_since(waiter.since);
            for target in &mut waiter.targets {
                if target.done.is_none()
                    && let Some(slot) = target.slot.and_then(|index| slots.get(index))
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
                    && let Some(slot) = target.slot.and_then(|index| slots.get(index))
                {
                    target.done = Some(slot.done(word, code, took));
                }
            }
        }
        self.answer_waiters();
    }

    /// Answers `backup`.
    pub(super) fn backed_up(path: std::path::PathBuf, reply: Reply, answer: Answer) {
        let (code, why) = match answer {
            Answer::BackedUp { bytes } => {
                return reply.answer(&BackedUp { schema: SCHEMA, path, bytes });
            }
            Answer::Busy => (Code::Temporary, "another backup is under way".into()),
            Answer::Failed(why) => (Code::CannotCreate, why),
            Answer::Full => (Code::Io, "the disk of the store is full".into()),
            other => (Code::Software, format!("{other:?}")),
        };
        reply.refuse(Refusal {
            code: code.number(),
            message: format!("back the store up to {}: {why}", path.display()),
            hint: match code {
                Code::CannotCreate => Some(
                    "name a new file, in a directory that is there and that the supervisor may write to"
                        .into(),
                ),
                Code::Temporary => Some("try again when that one is complete".into()),
                _ => None,
            },
        });
    }
}

/// Why nothing is begun any more.
pub(super) fn stopping() -> Refusal {
    Refusal {
        code: Code::Temporary.number(),
        message: "the supervisor is stopping".into(),
        hint: Some("ask the next one".into()),
    }
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
            (_, Phase::Held { .. }) => Some(self.done("held", self.fault, took)),
            (_, Phase::Down) => Some(self.done("killed", Code::Temporary, took)),
            _ => None,
        }
    }

    fn done(&self, result: &str, code: Code, took: Duration) -> Done {
        let (reason, remedy) = if code == Code::Ok { (None, None) } else { self.trouble() };
        Done {
            code: code.number(),
            phase: self.life.phase().word().into(),
            pid: self.child.as_ref().map(|running| running.child.pid()),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            reason,
            remedy,
            ..Done::new(self.name.as_str(), result)
        }
    }
}
