//! Becoming another build of ourselves: same process, same lock, listener, children and links.
//!
//! | stage | entered when | what is done |
//! |---|---|---|
//! | none | – | – |
//! | checking | somebody asks | the other program says whether it could take over; nothing has changed yet |
//! | waiting | it could | nothing new goes to platforms; what is on its way to them may end |
//! | pausing | nothing is on its way | links are read no more; the store answers what was heard |
//! | flushing | everything is answered | links write what they have |
//! | – | everything is written | `exec` |
//!
//! Whatever fails on the way leads back to none: before the pause and after the last flush with the links as
//! they were; in between, where a verdict may be half on its way, the links end and their workers are replaced. Events that agents work on
//! stay with them: that is what a restart could not offer. What was asked in `checking` is gone before the next
//! stage, before the supervisor is and before another is asked, with all that it has started.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use protocol::control::{Refusal, Upgrade as Asked, Upgraded};
use protocol::event::Pause;
use protocol::id::{Instance, hex};
use tokio::sync::mpsc;

use super::Gateway;
use super::desk::Desk;
use super::slot::{Link, Slot};
use super::steward::STALE;
use super::takeover::Foreign;
use crate::clock;
use crate::credential::Credential;
use crate::exit::Code;
use crate::journal::Journal;
use crate::link::{Handle, Reply, Who};
use crate::lock::Lock;
use crate::policy::closing::Stage as Closing;
use crate::policy::lifecycle::Phase;
use crate::policy::liveness::Liveness;
use crate::policy::{delivery, outbox};
use crate::process::errand::Errand;
use crate::socket::{Peer, Socket};
use crate::store::{self};
use crate::upgrade::{self, Check, FORMAT, No};

/// How long the other program may take to say whether it could take over.
const CHECK: Duration = Duration::from_secs(20);
/// How long what was heard may take to be answered and written.
const PAUSE: Duration = Duration::from_secs(3);
/// How often to look what is left of a program that was asked.
const LOOK: Duration = Duration::from_millis(50);
const CALLED_OFF: &str = "an upgrade was called off";
const LEAVING: &str = "the supervisor is on its way out";
/// How long a worker of another version may take to be replaced before the next one is.
pub(super) const IN_TURN: Duration = Duration::from_secs(30);

/// What is under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    result: mpsc::Sender<Result<Check, No>>,
    stage: Stage,
    program: PathBuf,
    reply: Option<Reply>,
    /// When the stage has taken too long.
    until: Instant,
    /// How long to wait for what is on its way to platforms.
    wait: Duration,
    pub(super) paused_usec: u64,
    /// Links that are read no more, by slot.
    pub(super) paused: HashMap<usize, Paused>,
    /// Links to go on with.
    pub(super) adopt: Vec<Adopted>,
    /// Workers of another version, to be replaced one by one.
    pub(super) foreign: Vec<Foreign>,
    /// The last time that it was done.
    pub(super) done: Option<Upgraded>,
    /// The program that says whether it could take over, while anything of it is there.
    pub(super) asked: Option<Asking>,
}

/// A program that was asked something.
#[derive(Debug)]
pub(super) struct Asking {
    errand: Errand,
    /// It has answered, or nobody listens to it any more: when to look again what is left of it.
    look_at: Option<Instant>,
    /// The thread that listens to it is done.
    is_heard: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    None,
    Checking,
    Waiting,
    Pausing,
    Flushing,
}

#[derive(Debug)]
pub(super) struct Paused {
    pub(super) connection: OwnedFd,
    pub(super) rest: Vec<u8>,
    flushed: bool,
}

/// A link to go on with.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) index: usize,
    pub(super) who: Who,
    pub(super) connection: OwnedFd,
    pub(super) rest: Vec<u8>,
}

impl Upgrade {
    pub(super) fn new(result: mpsc::Sender<Result<Check, No>>, now: Instant) -> Self {
        Self {
            result,
            stage: Stage::None,
            program: PathBuf::new(),
            reply: None,
            until: now,
            wait: PAUSE,
            paused_usec: 0,
            paused: HashMap::new(),
            adopt: Vec::new(),
            foreign: Vec::new(),
            done: None,
            asked: None,
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stage = (self.stage != Stage::None).then_some(self.until);
        let foreign = self.foreign.first().and_then(|first| first.told).map(|told| told + IN_TURN);
        let asked = self.asked.as_ref().and_then(|asked| asked.look_at);
        stage.into_iter().chain(foreign).chain(asked).min()
    }

    /// What goes to agents waits meanwhile.
    pub(super) fn holds(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Pausing | Stage::Flushing)
    }

    /// Workers are neither made nor judged meanwhile.
    pub(super) fn stands_still(&self) -> bool {
        matches!(self.stage, Stage::Pausing | Stage::Flushing)
    }

    /// Nothing is left to do but `exec`.
    pub(super) fn is_flushed(&self) -> bool {
        self.stage == Stage::Flushing && self.paused.values().all(|paused| paused.flushed)
    }
}

impl Gateway {
    /// Somebody asks to become another program.
    pub(super) fn wish_upgrade(&mut self, asked: Asked, peer: Peer, reply: Reply) {
        let busy = match (self.upgrade.stage, self.closing.stage()) {
            (_, Closing::Draining | Closing::Ending | Closing::Killing | Closing::Gone) => {
                Some(LEAVING)
            }
            (Stage::None, Closing::Serving) if self.upgrade.asked.is_some() => {
                Some("the program that was asked before has not ended yet")
            }
            (Stage::None, Closing::Serving) => None,
            (_, Closing::Serving) => Some("an upgrade is under way already"),
        };
        if let Some(message) = busy {
            return reply.refuse(Refusal {
                code: Code::Temporary.number(),
                message: message.into(),
                hint: Some("try again a little later".into()),
            });
        }
        self.announce_asked(None, &format!("upgrade to {}", asked.program.display()), peer);
        self.upgrade.stage = Stage::Checking;
        self.upgrade.program = asked.program;
        self.upgrade.reply = Some(reply);
        self.upgrade.wait = Duration::from_millis(asked.wait_ms).max(PAUSE);
        self.upgrade.until = clock::now() + CHECK;
        let mut command = Command::new(&self.upgrade.program);
        command.arg("upgrade-check");
        if let Some(config) = &self.config_source {
            command.arg("--config").arg(config);
        }
        let random =
            clock::random::<8>().map_or_else(|_| clock::unix_ms().to_string(), |n| hex(&n));
        let errand = Errand::prepare(&mut command, format!("upgrade.{random}"));
        self.upgrade.asked = Some(Asking { errand, look_at: None, is_heard: false });
        let result = self.upgrade.result.clone();
        let check = move || drop(result.blocking_send(upgrade::ask(command)));
        let thread = std::thread::Builder::new().name("upgrade".into()).spawn(check);
        if let Err(e) = thread {
            self.upgrade.asked = None;
            self.call_off(&format!("start a thread: {e}"));
        }
    }

    /// Ends what was asked, and all that it has started; looks until nothing of it is left.
    fn end_errand(&mut self, now: Instant) {
        let Some(asked) = &mut self.upgrade.asked else { return };
        asked.look_at = Some(now + LOOK);
        if !asked.errand.sweep() && asked.is_heard {
            self.upgrade.asked = None;
        }
    }

    /// The supervisor is on its way out: it becomes nobody else.
    pub(super) fn end_upgrade(&mut self) {
        if self.upgrade.stage != Stage::None {
            self.call_off(LEAVING);
        }
    }

    /// The other program has said whether it could take over.
    pub(super) fn upgrade_checked(&mut self, found: Result<Check, No>) {
        if let Some(asked) = &mut self.upgrade.asked {
            asked.is_heard = true;
        }
        self.end_errand(clock::now());
        if self.upgrade.stage != Stage::Checking {
            return;
        }
        let refusal = |check: Check| {
            let given_up = || self.given_up(&check).map(No::new);
            check.refusal(FORMAT, store::SCHEMA).or_else(given_up)
        };
        match found.map(refusal) {
            Err(no) | Ok(Some(no)) => self.call_off_as(&no),
            Ok(None) => {
                self.upgrade.stage = Stage::Waiting;
                self.upgrade.until = clock::now() + self.upgrade.wait;
                self.hold(true);
            }
        }
    }

    /// What serves and would not any more, if so.
    fn given_up(&self, check: &Check) -> Option<String> {
        let serves = |name: &Instance| {
            let slot = self.by_name.get(name).and_then(|index| self.slots.get(*index));
            slot.is_some_and(|slot| !slot.removed && !matches!(slot.desk, Desk::Broken(_)))
        };
        let (name, reason) = check.broken.iter().find(|(name, _)| serves(name))?;
        Some(format!("it would give {name} up: {reason}"))
    }

    /// What goes to platforms and to agents waits here, or not any more.
    fn hold(&mut self, on: bool) {
        for index in 0..self.slots.len() {
            match self.desk(index) {
                Some(Desk::Platform(_)) => self.send(index, outbox::Input::Hold(on)),
                Some(Desk::Agent(_)) => self.deliver(index, delivery::Input::Hold(on)),
                Some(Desk::Hooks(_) | Desk::Broken(_)) | None => {}
            }
        }
    }

    /// Goes on with what is under way.
    pub(super) fn tick_upgrade(&mut self, now: Instant) {
        self.tick_foreign(now);
        if self.upgrade.asked.as_ref().is_some_and(|asked| asked.look_at.is_some()) {
            self.end_errand(now);
        }
        let late = self.upgrade.until <= now;
        match self.upgrade.stage {
            Stage::None => {}
            Stage::Checking if late => {
                self.call_off("the program did not say in time whether it could take over");
            }
            Stage::Checking => {}
            Stage::Waiting => {
                if let Some(what) = self.under_way() {
                    if late {
                        self.call_off(&format!("{what}: nothing is changed"));
                    }
                    return;
                }
                self.upgrade.stage = Stage::Pausing;
                self.upgrade.until = now + PAUSE;
                self.upgrade.paused_usec = clock::monotonic_usec();
                self.manager.reloading(self.upgrade.paused_usec);
                for slot in &self.slots {
                    if let Some(link) = &slot.link {
                        link.handle.pause();
                    }
                }
                self.look_at_pause();
            }
            Stage::Pausing | Stage::Flushing if late => {
                self.call_off("what was heard could not be answered in time: nothing is changed");
            }
            Stage::Pausing => self.look_at_pause(),
            Stage::Flushing => {}
        }
    }

    /// What has to end before links can be paused.
    fn under_way(&self) -> Option<String> {
        if self.upgrade.asked.is_some() {
            return Some("the program that said it could has not ended".into());
        }
        if self.reload.is_busy() || !self.queued.is_empty() || !self.wishes.is_empty() {
            return Some("a command or a file is still under way".into());
        }
        if self.tickets.is_backing_up() {
            return Some("the store is being backed up".into());
        }
        // In the pause nothing is made again: links would be paused in vain, and lost.
        if self.tickets.wait_for_room() {
            return Some("something waits for room on the disk".into());
        }
        self.slots.iter().find_map(|slot| {
            let name = &slot.name;
            let changes = slot.departed.is_some()
                || slot.fallen.is_some()
                || matches!(slot.life.phase(), Phase::Stopping { .. })
                || slot.child.as_ref().is_some_and(|running| {
                    running.nonce.is_some()
                        || slot.link.as_ref().is_none_or(|l| l.generation != running.generation)
                });
            if changes {
                return Some(format!("{name} is just being started or ended"));
            }
            let sends = matches!(&slot.desk, Desk::Platform(desk) if !desk.outbox.is_quiet());
            sends.then(|| format!("replies are still on their way to {name}"))
        })
    }

    /// A link is read no more.
    pub(super) fn link_paused(&mut self, from: &Who, rest: Vec<u8>, connection: OwnedFd) {
        let Some(index) = self.by_name.get(&from.instance).copied() else { return };
        if self.upgrade.stands_still() {
            self.upgrade.paused.insert(index, Paused { connection, rest, flushed: false });
            self.look_at_pause();
        } else {
            // It came too late: the upgrade is called off.
            drop(connection);
            self.give_up_link(index, CALLED_OFF);
        }
    }

    /// A link that was paused half way cannot be taken up again: its worker sees its end, and is replaced.
    pub(super) fn give_up_link(&mut self, index: usize, why: &str) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.replaced = Some(format!("replaced: {why}"));
        }
        self.link_lost(index, Pause::Asked);
    }

    /// A paused link has written what it had.
    pub(super) fn link_flushed(&mut self, from: &Who, all: bool) {
        let Some(index) = self.by_name.get(&from.instance).copied() else { return };
        if let Some(paused) = self.upgrade.paused.get_mut(&index) {
            paused.flushed = all;
        }
        if !all && self.upgrade.stands_still() {
            self.call_off(&format!("the link of {} is over: nothing is changed", from.instance));
        }
    }

    /// Once everything that was heard is answered, links write what they have and end.
    fn look_at_pause(&mut self) {
        if self.upgrade.stage != Stage::Pausing {
            return;
        }
        let paused = |(index, slot): (usize, &Slot)| {
            slot.link.is_none() || self.upgrade.paused.contains_key(&index)
        };
        let answered = |slot: &Slot| match &slot.desk {
            Desk::Platform(desk) => desk.outbox.is_quiet(),
            Desk::Agent(desk) => desk.delivery.is_quiet(),
            Desk::Hooks(_) | Desk::Broken(_) => true,
        };
        if self.slots.iter().enumerate().all(paused)
            && self.slots.iter().all(answered)
            && self.tickets.is_empty()
        {
            self.upgrade.stage = Stage::Flushing;
            for slot in &mut self.slots {
                slot.link = None;
            }
        }
    }

    /// Everything goes on as before, and whoever asked is told why.
    fn call_off(&mut self, why: &str) {
        self.call_off_as(&No::new(why));
    }

    fn call_off_as(&mut self, No { why, code }: &No) {
        tracing::error!(why, program = %self.upgrade.program.display(), "no upgrade");
        self.announce_supervisor("not upgraded", Some(why.clone()), None);
        let (was, stood_still) = (self.upgrade.stage, self.upgrade.stands_still());
        self.upgrade.stage = Stage::None;
        self.end_errand(clock::now());
        let all_answered = was == Stage::Flushing;
        for (index, paused) in std::mem::take(&mut self.upgrade.paused) {
            let Paused { connection, rest, flushed } = paused;
            if !(all_answered && flushed) {
                drop(connection);
                self.give_up_link(index, CALLED_OFF);
                continue;
            }
            let Some(slot) = self.slots.get_mut(index) else { continue };
            let Some(running) = &slot.child else { continue };
            let who = Who { instance: slot.name.clone(), generation: running.generation };
            self.upgrade.adopt.push(Adopted { index, who, connection, rest });
        }
        if stood_still {
            self.manager.ready();
        }
        self.hold(false);
        if let Some(reply) = self.upgrade.reply.take() {
            let program = self.upgrade.program.display();
            let help = match code {
                Code::NoInput => "name a program that is there and that this user may run",
                Code::Protocol => "only a newer program can take over",
                _ => "see the log, and try again",
            };
            reply.refuse(Refusal {
                code: code.number(),
                message: format!("upgrade to {program}: {why}"),
                hint: Some(format!("{help}; everything goes on as before")),
            });
        }
    }

    /// Links to go on with.
    pub(super) fn adoptions(&mut self) -> Vec<Adopted> {
        std::mem::take(&mut self.upgrade.adopt)
    }

    /// A link goes on.
    pub(super) fn link_resumed(&mut self, index: usize, who: &Who, handle: Handle) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.link = Some(Link { generation: who.generation, handle, unanswered: 0 });
        slot.liveness = Some(Liveness::new(STALE, clock::now()));
        self.hooks_up(index);
    }

    /// Becomes the other program. Returns only if that fails: then everything goes on as before.
    pub(super) fn become_another(&mut self, socket: &Socket, lock: &Lock) {
        // The next program opens by path: it would begin with nothing, and what we have open be gone.
        if let Some(path) = self.taken_away(lock) {
            return self.call_off(&format!("somebody took {} away", path.display()));
        }
        let program = self.upgrade.program.clone();
        let from = env!("CARGO_PKG_VERSION");
        self.announce_supervisor(
            "upgrading",
            Some(format!("from {from} to {}", program.display())),
            None,
        );
        let counted = self.repeats.rest();
        self.note_repeated(counted);
        // What is to be read afterwards has to be written before.
        if let Ok(next) = Journal::open(&self.paths.state_dir) {
            std::mem::replace(&mut self.journal, next).finish();
        }
        let no = match self.legacy(socket, lock) {
            Ok(state) => No::unstarted(&state.exec(&program)),
            Err(e) => No::new(format!("start it: {e}")),
        };
        upgrade::close_in_children(socket.listening());
        upgrade::close_in_children(lock.held());
        for slot in &self.slots {
            let leash = slot.child.as_ref().and_then(|running| running.child.leash());
            leash.into_iter().for_each(upgrade::close_in_children);
            let held = slot.credential.iter().flat_map(Credential::held);
            held.for_each(upgrade::close_in_children);
        }
        for paused in self.upgrade.paused.values() {
            upgrade::close_in_children(paused.connection.as_fd());
        }
        self.call_off_as(&no);
    }
}
