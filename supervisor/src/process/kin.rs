//! What a worker has started and left behind: it dies with the worker, whatever it did to get away.
//!
//! A process that leaves its group and its parent becomes a child of ours, since we are the subreaper
//! of everything below us; so after the death of a worker its whole tree is, step by step, among our
//! own children, which keep their numbers until we collect them. Not everybody there is ours, though:
//! a shell that became us by `exec` may have had children, and process 1 is given every orphan of its
//! container. Ours are in other sessions than we are, and as process 1 we believe only in the mark
//! that every worker hands down in its environment.

use nix::unistd::{Pid, getpid, getsid};
use protocol::hello::MARK;

use super::cgroup::Cgroup;
use super::tree;
use crate::identity::{self, Identity};

/// Makes orphans of the processes below us our children.
pub fn adopt_orphans() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// What is left of a worker that has ended.
#[derive(Debug)]
pub struct Remains {
    mark: String,
    cgroup: Option<Cgroup>,
}

/// One that is still there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The letter of its state; `D`: it waits for the kernel, and no signal reaches it.
    pub state: char,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({}, state {})", self.pid, self.name, self.state)
    }
}

impl Remains {
    pub(super) fn new(mark: String, cgroup: Option<Cgroup>) -> Self {
        Self { mark, cgroup }
    }

    /// Kills what is still there, and tells it. `is_worker`: which of our children are workers.
    /// An orphan that bears no mark goes with the first worker that ends.
    pub fn sweep(&self, is_worker: impl Fn(u32) -> bool) -> Vec<Left> {
        let mut left = Vec::new();
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
            left.extend(cgroup.members().into_iter().filter_map(look));
        }
        for child in identity::children(getpid().as_raw().unsigned_abs()) {
            if is_worker(child.pid) || left.iter().any(|one| one.pid == child.pid) {
                continue;
            }
            let mark = mark(child.pid);
            if mark.as_ref().is_some_and(|mark| *mark != self.mark) || !is_ours(&child, getpid()) {
                continue;
            }
            if let Some(one) = look(child.pid) {
                tree::kill_all(child.pid);
                left.push(one);
            }
        }
        left
    }
}

/// Whether a child of `supervisor` comes from one of its workers.
pub fn is_ours(child: &Identity, supervisor: Pid) -> bool {
    let session = |pid: Pid| getsid(Some(pid)).ok();
    let Ok(pid) = i32::try_from(child.pid) else { return false };
    let elsewhere = session(Pid::from_raw(pid)) != session(supervisor);
    elsewhere && (supervisor.as_raw() != 1 || mark(child.pid).is_some())
}

/// Everything that descends from the workers of `supervisor`.
pub fn family(supervisor: u32) -> Vec<Identity> {
    let Ok(number) = i32::try_from(supervisor) else { return Vec::new() };
    let workers = identity::children(supervisor).into_iter();
    let workers = workers.filter(|child| is_ours(child, Pid::from_raw(number)));
    workers
        .flat_map(|worker| {
            let below = identity::descendants(worker.pid);
            std::iter::once(worker).chain(below)
        })
        .collect()
}

/// One that is still alive.
pub fn look(pid: u32) -> Option<Left> {
    let (name, state) = identity::name_and_state(pid)?;
    (state != 'Z' && state != 'X').then_some(Left { pid, name, state })
}

/// The mark that a process bears, if it descends from a worker and we may look.
pub fn mark(pid: u32) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}
