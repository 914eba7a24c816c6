//! `ctl kill --force`: ends a supervisor that may hang or be stopped, and everything it started.
//!
//! Only what is proven ours is signalled: the process that the kernel names as the holder of this
//! state directory's lock, and what descends from its workers. Each is held by a pidfd, and its start
//! time and boot are compared before it is signalled. All are stopped first: what is stopped starts
//! nothing, so the family is complete once a look finds nobody new.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use protocol::control::{Asker, Notice, Refusal, Request, Stop};
use supervisor::clock;
use supervisor::error::Error;
use supervisor::exit::Code;
use supervisor::identity;
use supervisor::journal::Journal;
use supervisor::lock::{self, Holder, Left, Lock, Refused};
use supervisor::paths::Paths;
use supervisor::process::kin;
use supervisor::process::tree::Held;

use super::ctl::{Client, stopped};
use super::runtime;
use crate::args::Common;

const LOOK: Duration = Duration::from_millis(5);

pub(super) fn kill(common: &Common, paths: &Paths, within: Duration) -> Result<(), Error> {
    if is_within(paths) {
        return Err(Error::Refused(Refusal {
            code: Code::Temporary.number(),
            message: "kill the gateway from within: this command would end with it".into(),
            hint: Some("`hermes-gw ctl kill` waits for the end of this turn".into()),
        }));
    }
    let since = clock::now();
    let ended = match lock::proven_holder(&paths.lock()) {
        Some(holder) if holder.identity.pid == 1 => {
            first(&holder, within)?;
            Some(1)
        }
        _ => end(paths, within)?,
    };
    let took = clock::now().duration_since(since).as_millis();
    let word = if ended.is_some() { "killed" } else { "already_down" };
    stopped(common, word, ended, u64::try_from(took).unwrap_or(u64::MAX));
    Ok(())
}

/// Whether this process descends from the supervisor that holds the lock, and would end with it.
pub(super) fn is_within(paths: &Paths) -> bool {
    let holder = lock::proven_holder(&paths.lock());
    holder.is_some_and(|holder| {
        identity::ancestors(std::process::id()).any(|pid| pid == holder.identity.pid)
    })
}

/// Ends the supervisor that holds the lock and all that descends from its workers, and tells which it
/// was; `None`: nobody holds it.
pub(super) fn end(paths: &Paths, within: Duration) -> Result<Option<u32>, Error> {
    let since = clock::now();
    let path = paths.lock();
    if is_free(paths)? {
        return Ok(None);
    }
    let Some(holder) = lock::proven_holder(&path) else {
        if let Err(source) = std::fs::metadata("/proc/locks") {
            let what = "look into /proc/locks for who holds the lock; nothing was signalled";
            return Err(Error::Os { what, source });
        }
        return Err(Error::Unproven { path });
    };
    let number = holder.identity.pid;
    if number == 1 {
        return Err(Error::First { why: "it did not leave when it was asked".into() });
    }
    let Some(supervisor) = Held::hold(&holder.identity) else {
        return Err(Error::Survivors(format!("kill pid {number}: it left by itself; try again")));
    };
    supervisor.stop();
    let mut family: Vec<Held> = vec![supervisor];
    loop {
        let found = kin::family(number);
        let new: Vec<_> =
            found.iter().filter(|one| !family.iter().any(|held| held.is(one))).collect();
        let held: Vec<_> = new.into_iter().filter_map(Held::hold).collect();
        if held.is_empty() {
            break;
        }
        held.iter().for_each(Held::stop);
        family.extend(held);
    }
    family.iter().for_each(Held::kill);
    let until = since + within;
    loop {
        family.retain(Held::is_running);
        if family.is_empty() && is_free(paths)? {
            break;
        }
        if clock::now() > until {
            let pids: Vec<_> = family.iter().map(|one| one.pid().to_string()).collect();
            return Err(Error::Survivors(format!(
                "kill everything: still there: {}",
                if pids.is_empty() { "the lock".into() } else { pids.join(", ") }
            )));
        }
        wait(LOOK);
    }
    clear(paths, number);
    Ok(Some(number))
}

/// Process 1 of a container takes no signal from its own (`pid_namespaces(7)`): it is told to end at once.
fn first(holder: &Holder, within: Duration) -> Result<(), Error> {
    let asked = async {
        let mut client = Client::dial(&holder.socket).await?;
        client.say(&Request::Stop(Stop { force: true })).await?;
        client.closed().await.map(|_| ())
    };
    let asked = runtime()?.block_on(async { tokio::time::timeout(within, asked).await });
    match asked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(Error::First { why: e.to_string() }),
        Err(_) => Err(Error::First { why: "it does not answer".into() }),
    }
}

fn is_free(paths: &Paths) -> Result<bool, Error> {
    let path = paths.lock();
    // Where nobody may look, nobody knows.
    let taken = match path.try_exists() {
        Ok(false) => return Ok(true),
        Ok(true) => Lock::take(&path),
        Err(source) => Err(Refused::Io(source)),
    };
    match taken {
        Ok(lock) => {
            drop(lock);
            Ok(true)
        }
        Err(Refused::Held(_)) => Ok(false),
        Err(Refused::Io(e)) if e.kind() == ErrorKind::PermissionDenied => {
            Err(Error::foreign(format!("look at the lock {}: {e}", path.display())))
        }
        Err(Refused::Io(source)) => Err(Error::Create { what: "look at the lock", path, source }),
    }
}

/// Removes what the supervisor with this number has left, and says in its place who ended it.
fn clear(paths: &Paths, number: u32) {
    // Under the lock, so that nothing of a successor is taken for a leftover.
    let Ok(mut lock) = Lock::take(&paths.lock()) else { return };
    let _ = std::fs::remove_file(paths.socket());
    let at_ms = clock::unix_ms();
    let pid = std::process::id();
    let uid = std::fs::metadata("/proc/self").map_or(0, |own| own.uid());
    let why = format!("killed with --force by pid {pid} of user {uid}");
    let _ = lock.sign_off(Left { at_ms, error: Some(why.clone()) });
    // A journal that root makes anew would be closed to its owner.
    let journal = paths.state_dir.join("journal.jsonl");
    if std::fs::metadata(journal).is_ok_and(|found| found.uid() == uid)
        && let Ok(mut journal) = Journal::open(&paths.state_dir)
    {
        let by = Asker { uid, pid: Some(pid), command: identity::command(pid) };
        let (pid, by) = (Some(number), Some(by));
        let notice = Notice::new("supervisor", "killed", at_ms);
        journal.note(Notice { pid, reason: Some(why), by, ..notice });
        journal.finish();
    }
}

fn wait(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<Instant>();
    let _ = never.recv_timeout(time);
}
