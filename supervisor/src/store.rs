//! The store: what must survive the end of this process. This is its handle.
//!
//! One SQLite file, `store.db`, one connection, one plain thread named `store` that owns it. An
//! operation is data ([`Op`]), submitted without waiting; its answer comes back over a channel after
//! the commit that holds it. Whatever is queued becomes one transaction (group commit), so the price
//! of a sync is shared and nobody waits for company.
//!
//! The queue has no limit of its own: callers bound it by the credits they give to workers, each of
//! which may have only its window of operations under way.
//!
//! After a failed write or sync the store is *poisoned*: it answers nothing more, because nobody can
//! tell what the disk holds until it is read anew. A full disk is no such failure: see [`Answer::Full`].

mod access;
mod answer;
mod backlog;
mod backup;
mod body;
mod exits;
mod frames;
mod ground;
mod heard;
mod inbox;
mod lanes;
mod log;
mod meta;
mod names;
mod op;
mod outbox;
mod owner;
mod parked;
mod place;
mod purge;
mod reading;
mod recover;
mod salvage;
mod scan;
mod schema;
mod seen;
mod session;
mod shape;
mod space;
mod tables;
mod tally;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc as queue;
use std::thread::JoinHandle;

use protocol::event::{Inbound, InboundKind, message_key};
use protocol::id::{EventId, Instance};
use tokio::sync::mpsc;

pub use answer::{
    Answer, Begun, Count, Damage, Done, EXITS_KEPT, Exit, Files, Finished, Follower, Head, Opened,
    Parked, Payload, ReplyHead, Sending, Waits,
};
pub use op::{Arrival, Beside, Grant, Hand, Op, Pair, Pause, Quota, SendEnd, Subject, Ticket};
pub use outbox::draft_key;
pub use place::{Fate, Inode, Removed, put_back};

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the store cannot be touched.
    #[error("use the store {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file system does not keep what is written.
    #[error("use the store in {}: this file system is not fit for it: {reason}", path.display())]
    Unfit {
        /// The directory.
        path: PathBuf,
        /// What it did.
        reason: String,
    },
    /// Its file is a symbolic link.
    #[error("open the store {}: it is a symbolic link, and its log lies beside what it names", path.display())]
    Link {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("open the store {}: another process has it open", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A newer version of this program made it.
    #[error("open the store {}: it has schema {found}, this program knows up to {known}", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file belongs to another program.
    #[error("open the store {}: the file belongs to another program", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// The database engine refuses.
    #[error("use the store {}: {reason}", path.display())]
    Engine {
        /// Which.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// Somebody took its files away while it was open.
    #[error("keep events: somebody took {} away while it was in use", .0.path.display())]
    Removed(Removed),
    /// A commit failed earlier; see [`Done::Poisoned`].
    #[error("close the store: {reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
}

/// The newest schema that this program reads.
pub const SCHEMA: i64 = schema::NEWEST;

/// The handle of the run loop.
#[derive(Debug)]
pub struct Store {
    queue: queue::Sender<Op>,
    thread: JoinHandle<Result<(), Error>>,
    hash_key: seen::HashKey,
    place: place::Place,
}

/// By what it is known that a message was denied.
fn denied_key(message_id: &str) -> String {
    format!("denied:{message_id}")
}

impl Store {
    /// Whether the file system below `dir` is fit for a store.
    pub fn try_out(dir: &Path) -> Result<(), Error> {
        ground::try_out(dir)
    }

    /// Opens the store in `dir`, or makes it, and starts its thread. A damaged file is set aside and
    /// what can be read of it is carried over. `answers` gets one batch for each group; it may be
    /// small, the thread waits while it is full.
    pub fn open(
        dir: &Path,
        now_ms: i64,
        answers: mpsc::Sender<Vec<Done>>,
    ) -> Result<(Self, Opened), Error> {
        Self::resume(dir, now_ms, &[], answers)
    }

    /// [`Store::open`], while agents still have the events `with_agents`.
    pub fn resume(
        dir: &Path,
        now_ms: i64,
        with_agents: &[EventId],
        answers: mpsc::Sender<Vec<Done>>,
    ) -> Result<(Self, Opened), Error> {
        let (tables, opened) = recover::open(dir, now_ms, with_agents)?;
        Ok((Self::start(tables, answers)?, opened))
    }

    fn start(tables: tables::Tables, answers: mpsc::Sender<Vec<Done>>) -> Result<Self, Error> {
        let path = tables.paths.dir.clone();
        let io = |source| Error::Io { path: path.clone(), source };
        let hash_key = tables.seen.hash_key();
        let place = place::Place::of(&tables.paths).map_err(io)?;
        let (queue, ops) = queue::channel();
        let owner = owner::Owner::new(tables, place.clone(), answers);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || owner.run(&ops))
            .map_err(io)?;
        Ok(Self { queue, thread, hash_key, place })
    }

    /// Whether the files of the store in `dir` are those that another program had open a moment ago. Others
    /// would be taken for all that there is, and what these held be forgotten without a word.
    pub fn find(dir: &Path, inodes: [Inode; 2]) -> Result<(), Error> {
        let paths = schema::Paths::new(dir);
        let Some(path) = place::Place::known(&paths, inodes).missing().map(Path::to_owned) else {
            return Ok(());
        };
        let fate = Fate::Lost("another program was just taking over".into());
        Err(Error::Removed(Removed { path, fate, waiting: None }))
    }

    /// The files, for [`Store::find`].
    pub fn inodes(&self) -> [Inode; 2] {
        self.place.inodes()
    }

    /// The file of the store that somebody has taken away, if so: nothing may be promised any more. The
    /// thread knows it by itself with the next operation, and at its end.
    pub fn missing(&self) -> Option<&Path> {
        self.place.missing()
    }

    /// Makes an event of `instance` ready for [`Op::Accept`].
    pub fn arrival(&self, instance: &Instance, event: &Inbound) -> Arrival {
        Arrival {
            lane: event.lane(instance.clone()),
            user: event.direct_user().map(str::to_owned),
            origin_ms: event.origin_ms,
            keys: self.keys(instance, event),
            behind: None,
            body: body::encode(event),
        }
    }

    /// The same for one that is kept only if the message with this id was.
    pub fn arrival_behind(
        &self,
        instance: &Instance,
        event: &Inbound,
        message_id: &str,
    ) -> Arrival {
        let heard = self.hash_key.hash(instance, &message_key(message_id));
        let denied = self.hash_key.hash(instance, &denied_key(message_id));
        Arrival { behind: Some(op::Behind { heard, denied }), ..self.arrival(instance, event) }
    }

    /// By what an event of `instance` that is denied is known again, and that it was.
    pub fn denied_keys(&self, instance: &Instance, event: &Inbound) -> Vec<u128> {
        let mut keys = self.keys(instance, event);
        let said = event.message_id.as_ref().filter(|_| event.kind == InboundKind::Message);
        // The last: nothing is noted behind a key that is known, as of a message that was heard before.
        keys.extend(said.map(|id| self.hash_key.hash(instance, &denied_key(id))));
        keys
    }

    /// By what an event of `instance` is known again.
    fn keys(&self, instance: &Instance, event: &Inbound) -> Vec<u128> {
        event.keys.iter().map(|key| self.hash_key.hash(instance, key)).collect()
    }

    /// What lets its holder look at the gateway and no more. Known to whoever can read the store.
    pub fn view_token(&self) -> String {
        self.hash_key.view_token()
    }

    /// Queues an operation. Never waits. After the thread has ended it does nothing: the end was told
    /// by the channel of answers.
    pub fn submit(&self, op: Op) {
        let _ = self.queue.send(op);
    }

    /// Takes no more: what is queued is finished and moved into the one file, then the channel of
    /// answers ends. Receive until it does, then [`Finishing::join`]; or drop the receiver before.
    pub fn finish(self) -> Finishing {
        Finishing { thread: self.thread }
    }

    /// [`Store::finish`] for those that receive no answers any more: waits for the end.
    pub fn close(self) -> Result<(), Error> {
        self.finish().join()
    }
}

/// A store that takes no more operations.
#[derive(Debug)]
pub struct Finishing {
    thread: JoinHandle<Result<(), Error>>,
}

impl Finishing {
    /// Waits for the end of the thread: at once, if the channel of answers has ended.
    pub fn join(self) -> Result<(), Error> {
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
