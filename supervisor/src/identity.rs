//! Which process is meant, beyond doubt: a number alone may belong to a stranger tomorrow.

use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// A process of one boot of one machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot: field 22 of `proc_pid_stat(5)`.
    pub start: u64,
    /// Which boot: `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

/// This process.
pub fn own() -> std::io::Result<Identity> {
    of(std::process::id())
}

/// The process that has this number now.
pub fn of(pid: u32) -> std::io::Result<Identity> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let start = field(&stat, 22).ok_or_else(|| std::io::Error::other("unexpected stat line"))?;
    let boot = read("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok(Identity { pid, start, boot })
}

fn read(path: &str) -> std::io::Result<String> {
    let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("read {path}: {e}"));
    std::fs::read_to_string(path).map_err(named)
}

/// Whether that very process still exists.
pub fn is_alive(identity: &Identity) -> bool {
    of(identity.pid).is_ok_and(|now| now == *identity)
}

/// Whether it has ended and only waits to be collected.
pub fn is_zombie(pid: u32) -> bool {
    name_and_state(pid).is_some_and(|(_, state)| state == 'Z')
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    field(&stat, 4)
}

/// The parent of a process, its parent, and so on, up to process 1.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    // Nobody nests deeper by honest means.
    const MOST: usize = 64;
    std::iter::successors(parent(pid), |pid| parent(*pid)).take_while(|pid| *pid > 0).take(MOST)
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<Identity> {
    let family = parents();
    let of_pid = family.into_iter().filter(|(_, parent)| *parent == pid);
    of_pid.filter_map(|(child, _)| of(child).ok()).collect()
}

/// The processes whose parent, or parent's parent, and so on, is `pid`.
pub fn descendants(pid: u32) -> Vec<Identity> {
    let family = parents();
    let mut numbers = vec![pid];
    let mut next = 0;
    while let Some(parent) = numbers.get(next).copied() {
        next += 1;
        let own = family.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child);
        let new: Vec<_> = own.filter(|child| !numbers.contains(child)).collect();
        numbers.extend(new);
    }
    numbers.into_iter().skip(1).filter_map(|child| of(child).ok()).collect()
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// What a process is called, and the letter of its state.
pub fn name_and_state(pid: u32) -> Option<(String, char)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, name) = stat.rsplit_once(')')?.0.split_once('(')?;
    Some((name.to_owned(), field(&stat, 3)?))
}

/// What a process is, for people: the command line if it is this program, else only its name, since
/// the arguments of a stranger may hold secrets.
pub fn command(pid: u32) -> Option<String> {
    const MOST: usize = 256;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let program =
        std::path::Path::new(words.first()?.as_ref()).file_name()?.to_string_lossy().into_owned();
    let exe =
        |who: &str| std::fs::metadata(format!("/proc/{who}/exe")).ok().map(|m| (m.dev(), m.ino()));
    let ours = exe("self").is_some_and(|own| exe(&pid.to_string()) == Some(own));
    let mut text = program;
    for word in words.iter().skip(1).filter(|word| ours && !word.is_empty()) {
        text.push(' ');
        text.push_str(word);
    }
    Some(protocol::secret::excerpt(&text, MOST))
}

/// A field of a stat line, counted from 1. The second one, the name, may hold anything, also spaces
/// and parentheses, so counting starts behind the last `)`.
fn field<T: std::str::FromStr>(stat: &str, number: usize) -> Option<T> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_field() {
        let stat = "7 (evil) S 1 2) 3) R 42 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9001 0 0";
        assert_eq!(field::<u32>(stat, 4), Some(42));
        assert_eq!(field::<u64>(stat, 22), Some(9001));
    }

    #[test]
    fn we_are_alive_and_another_start_is_another_process() {
        let me = own().unwrap();
        assert!(is_alive(&me));
        assert!(!is_alive(&Identity { start: me.start + 1, ..me.clone() }));
        assert!(!is_alive(&Identity { boot: "another".into(), ..me }));
    }
}
