//! What this worker has started ends with it, also when the supervisor that would see to it is gone:
//! its descendants, and those that broke away from it but bear its mark in their environment.
//!
//! Each is held by a pidfd and looked at again before it is killed, so that no number that has become
//! a stranger's is signalled.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use protocol::hello::MARK;
use rustix::fs::{Access, access};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Looks, each of which kills what it finds: more than any family of programs that only wants to live.
const LOOKS: usize = 50;

/// Why this command cannot be started in `dir`, as far as that can be seen.
pub fn missing(command: &[String], dir: &Path) -> Option<String> {
    if !dir.is_dir() {
        return Some(format!("there is no directory {}", dir.display()));
    }
    let program = command.first().map_or("", String::as_str);
    let found = if program.contains('/') { vec![dir.join(program)] } else { in_path(program) };
    let found: Vec<_> = found.into_iter().filter(|path| path.is_file()).collect();
    if found.is_empty() {
        return Some(format!("there is no program {program:?}"));
    }
    let may_run = |path: &&PathBuf| access(path.as_path(), Access::EXEC_OK).is_ok();
    match found.iter().find(may_run) {
        None => Some(format!("{program:?} is not executable")),
        Some(path) => without_interpreter(path, dir)
            .map(|interpreter| format!("{program:?} wants {interpreter:?}, which is not there")),
    }
}

fn in_path(program: &str) -> Vec<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).map(|dir| dir.join(program)).collect()
}

/// The program that a script's first line names, if it is not there.
fn without_interpreter(script: &Path, dir: &Path) -> Option<String> {
    /// The kernel reads no more.
    const LINE: u64 = 256;
    let mut begin = Vec::new();
    File::open(script).ok()?.take(LINE).read_to_end(&mut begin).ok()?;
    let line = begin.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let interpreter = words.next()?;
    let path = dir.join(interpreter);
    if !path.is_file() {
        return Some(interpreter.to_owned());
    }
    // `/usr/bin/env python3`, or `env -S NAME=value python3 -u`.
    let named = (path.file_name()? == "env")
        .then(|| words.find(|word| !word.starts_with('-') && !word.contains('=')));
    let named = named.flatten().filter(|word| !word.contains('/'))?;
    (!in_path(named).iter().any(|path| path.is_file())).then(|| named.to_owned())
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
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn what_cannot_be_started_is_told_with_why() {
        let dir = tempfile::tempdir().unwrap();
        let told = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            missing(&[format!("./{name}")], dir.path())
        };
        assert_eq!(missing(&["sh".into()], dir.path()), None);
        assert_eq!(told("fine", "#!/bin/sh\n", 0o700), None);
        assert_eq!(told("env", "#!/usr/bin/env -S A=1 sh -u\n", 0o700), None);
        assert_eq!(told("plain", "no program", 0o700), None, "only the kernel knows");
        for (name, text, mode, why) in [
            ("closed", "#!/bin/sh\n", 0o600, "is not executable"),
            (
                "lost",
                "#!/no/such/python -u\n",
                0o700,
                "wants \"/no/such/python\", which is not there",
            ),
            ("env2", "#!/usr/bin/env no-such-python\n", 0o700, "wants \"no-such-python\""),
        ] {
            let told = told(name, text, mode);
            assert!(told.as_ref().is_some_and(|told| told.contains(why)), "{name}: {told:?}");
        }
        let none = missing(&["no-such-program".into()], dir.path());
        assert_eq!(none.as_deref(), Some("there is no program \"no-such-program\""));
    }
}
