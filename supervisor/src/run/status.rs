//! How everything stands, for `status` and for whoever asks why something is not as wished.

use std::time::Instant;

use protocol::control::{
    FileStatus, GateStatus, InstanceStatus, Refusal, SCHEMA, Status, StoreStatus, Unconfigured,
};
use protocol::id::Instance;
use protocol::worker::Outside;

use super::Gateway;
use super::desk::{Desk, Refusing};
use super::slot::Slot;
use crate::clock;
use crate::exit::Code;
use crate::link::Reply;
use crate::policy::closing::Stage;
use crate::policy::lifecycle::{Phase, Wait, Wanted};
use crate::starts;
use crate::store::{Answer, Count};

impl Gateway {
    /// The supervisor's own state in one word.
    pub(super) fn state(&self) -> &'static str {
        if self.closing.stage() != Stage::Serving {
            return "stopping";
        }
        let wanted = self.slots.iter().filter(|slot| slot.life.wanted() == Wanted::Up);
        let mut state = if self.pace.is_slow() { "degraded" } else { "serving" };
        for slot in wanted {
            match slot.life.phase() {
                // An agent that is not connected is waited for; that is what the inbox is for.
                // One that refuses what it hears is no better than one that hears nothing.
                Phase::Ready { .. } if slot.is_connected() && slot.refusing().is_none() => {}
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

    /// Answers `status` with the store's counts.
    pub(super) fn counted(&mut self, reply: Option<Reply>, answer: Answer) {
        match (answer, reply) {
            (Answer::Counts { instances, files }, reply) => {
                self.counts = (instances, files);
                if let Some(reply) = reply {
                    self.report(reply);
                }
            }
            (other, Some(reply)) => reply.refuse(Refusal {
                code: Code::Io.number(),
                message: format!("count what the store holds: {other:?}"),
                hint: None,
            }),
            (_, None) => {}
        }
    }

    /// Answers `status` with what the store has said last.
    pub(super) fn report(&self, reply: Reply) {
        let (counts, files) = &self.counts;
        let now = clock::now();
        let instances = self.slots.iter().filter(|slot| !slot.removed);
        let instances = instances.map(|slot| slot.status(counts, now)).collect();
        let is_configured =
            |name: &Instance| self.slots.iter().any(|slot| !slot.removed && slot.name == *name);
        let left = counts.iter().filter(|count| count.waiting + count.replies > 0);
        let left = left.filter(|count| !is_configured(&count.instance)).map(|count| Unconfigured {
            name: count.instance.to_string(),
            waiting: count.waiting,
            replies: count.replies,
        });
        let unconfigured = left.collect();
        let (reason, remedy) = self.slow_disk().unzip();
        reply.answer(&Status {
            schema: SCHEMA,
            state: self.state().into(),
            reason,
            remedy,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_ms: self.wall.started_ms(),
            up_ms: u64::try_from(now.duration_since(self.started).as_millis()).ok(),
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
            unconfigured,
        });
    }
}

impl Slot {
    /// What keeps it from its work, and what helps.
    pub(super) fn trouble(&self) -> (Option<String>, Option<String>) {
        if let Some(stuck) = &self.stuck {
            let reason = format!("killed, and still there: {stuck}");
            let remedy =
                "see what it waits for in /proc/PID/stack; the next start waits for its end";
            return (Some(reason), Some(remedy.into()));
        }
        match (self.life.phase(), &self.outside) {
            (Phase::Held { reason, remedy, .. }, _) => (Some(reason.clone()), Some(remedy.clone())),
            (Phase::Backoff { wait: Wait::Paced | Wait::NotYet, .. }, _) => self.waiting().unzip(),
            (_, Some(Outside::Down { reason, remedy } | Outside::Limited { reason, remedy })) => {
                (Some(reason.clone()), remedy.clone())
            }
            (_, Some(Outside::Conflict { reason, remedy })) => {
                (Some(reason.clone()), Some(remedy.clone()))
            }
            _ => self.refusing().or_else(|| self.unready()).unzip(),
        }
    }

    /// What its next start waits for, and what helps, where that is no matter of its last end.
    pub(super) fn waiting(&self) -> Option<(String, String)> {
        match self.waits()? {
            Wait::Ended => None,
            Wait::Paced => Some((
                format!(
                    "started {} times within {} min, also by supervisors before this one: once a \
                     minute for now, so that the platform does not shut it out",
                    starts::FREE,
                    starts::WITHIN_MS / 60_000
                ),
                "see its last exits in `ctl status` and the journal; `ctl restart` starts it at once"
                    .into(),
            )),
            Wait::NotYet if self.unmade.is_some() => Some((
                format!("no process can be made for it: {}", self.unmade.as_deref()?),
                "raise what limits processes and threads (TasksMax= of the service, the container's pids \
                 limit, `ulimit -u`) or memory; it is tried each second"
                    .into(),
            )),
            Wait::NotYet => Some((
                "its account is still with a worker whose supervisor has ended, and which leaves".into(),
                "it is started as soon as that one is gone".into(),
            )),
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

    /// Why a connected agent gets nothing.
    fn unready(&self) -> Option<(String, String)> {
        let Desk::Agent(desk) = &self.desk else { return None };
        let is_shut = self.is_connected() && !desk.delivery.is_open(clock::now());
        is_shut.then(|| {
            let reason = "the agent is connected, and does not say that it is ready";
            (reason.to_owned(), "events wait until it does; its own log may say more".to_owned())
        })
    }

    fn status(&self, counts: &[Count], now: Instant) -> InstanceStatus {
        let (reason, remedy) = self.trouble();
        let next_start = match self.life.phase() {
            // Whoever waits for an account is started as soon as that is free.
            Phase::Held { .. } if self.contested.is_some() => None,
            Phase::Backoff { until, .. } | Phase::Held { until, .. } => Some(Self::unix_ms(*until)),
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
                    unaddressed: desk.unaddressed,
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
                    refused: desk.refused,
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
