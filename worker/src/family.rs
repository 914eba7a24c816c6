//! What this worker has started ends with it, also when the supervisor that would see to it is gone:
//! its descendants, and those that broke away from it but bear its mark in their environment.
//!
//! Each is held by a pidfd and looked at again before it is killed, so that no number that has become
//! a stranger's is signalled.

use std::collections::HashMap;
use std::path::Path;

use protocol::hello::MARK;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Looks, each of which kills what it finds: more than any family of programs that only wants to live.
const LOOKS: usize = 50;

/// Why this command cannot be started in `dir`, as far as that can be seen.
pub fn missing(command: &[String], dir: &Path) -> Option<String> {
    let program = command.first().map_or("", String::as_str);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there = if program.contains('/') {
        dir.join(program).is_file()
    } else {
        std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
    };
    (!is_there).then(|| format!("there is no program {program:?}"))
}

/// Kills everything that this process has started, until nothing is left.
pub(crate) fn end() {
    let mark = std::env::var(MARK).ok().map(|mark| format!("{MARK}={mark}"));
    end_of(std::process::id(), mark.as_deref());
}

/// Of a process that is no worker: from now on it is the parent of what breaks away from what it starts, so
/// that [`end_all`] finds it.
pub fn adopt() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Kills what a process that [adopts](adopt) has started.
pub fn end_all() {
    end();
}

/// Kills the descendants of `root`, which is this process or its child, and whatever has `mark`, a
/// variable and its value, in its environment.
pub(crate) fn end_of(root: u32, mark: Option<&str>) {
    for _ in 0..LOOKS {
        let found = members(root, mark);
        if found.is_empty() {
            return;
        }
        for (pid, start) in found {
            let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            let Ok(pidfd) = pidfd_open(number, PidfdFlags::empty()) else { continue };
            if stat(pid).is_some_and(|now| now.start == start) {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
    }
}

/// What is needed of a line of `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: u32,
    start: u64,
}

/// Those that are alive, with the times they started at.
fn members(root: u32, mark: Option<&str>) -> Vec<(u32, u64)> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: HashMap<u32, Stat> = numbers.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let descends = |pid: u32| {
        let mut at = pid;
        // A chain of parents is finite, unless it changes while it is read.
        for _ in 0..all.len() {
            match all.get(&at) {
                Some(stat) if stat.parent == root => return true,
                Some(stat) => at = stat.parent,
                None => return false,
            }
        }
        false
    };
    let is_marked = |pid: u32| {
        let Some(mark) = mark else { return false };
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    all.iter()
        .filter(|(pid, stat)| **pid != own && !matches!(stat.state, 'Z' | 'X'))
        .filter(|(pid, _)| descends(**pid) || is_marked(**pid))
        .map(|(pid, stat)| (*pid, stat.start))
        .collect()
}

/// The fields 3, 4 and 22 of `proc_pid_stat(5)`, counted behind the name, which may hold anything.
fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { state, parent, start: fields.nth(17)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_a_member_until_it_is_dead() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let found =
            |pid: u32| members(std::process::id(), None).iter().any(|(member, _)| *member == pid);
        assert!(found(child.id()));
        assert!(!found(std::process::id()) && !found(1));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!found(child.id()));
    }
}
