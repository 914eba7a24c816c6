//! What this process and its children may use: many descriptors here, as many as the user meant there,
//! no cores, and no look into our memory, where the secrets of all instances are.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// More is not needed, and a table of descriptors costs memory.
const DESCRIPTORS: rlim_t = 65_536;

/// With less neither we nor a worker can begin.
const LEAST: rlim_t = 64;
/// With less a tool cannot.
const TOOL: rlim_t = 16;

/// The limits that children get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Soft and hard, as we were started.
    descriptors: (rlim_t, rlim_t),
}

/// Sets ours, and tells those for children.
pub fn set() -> io::Result<Limits> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    suffice(hard, LEAST)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(DESCRIPTORS)), hard)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    Ok(Limits { descriptors: (soft.max(LEAST), hard) })
}

/// Whether a tool has the descriptors that it needs.
pub fn suffice_for_a_tool() -> io::Result<()> {
    suffice(getrlimit(Resource::RLIMIT_NOFILE)?.0, TOOL)
}

fn suffice(allowed: rlim_t, needed: rlim_t) -> io::Result<()> {
    if allowed >= needed {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{allowed} open files are allowed, and {needed} are needed: raise that limit (`ulimit -n`, \
         LimitNOFILE=)"
    )))
}

/// How many descriptors we may have.
pub fn descriptors() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// How many descriptors are open.
pub fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

impl Limits {
    /// Soft and hard.
    pub fn numbers(self) -> (u64, u64) {
        self.descriptors
    }

    /// From [`Limits::numbers`].
    pub fn from_numbers(descriptors: (u64, u64)) -> Self {
        Self { descriptors }
    }

    /// Sets them in a child between fork and exec: a single system call.
    pub(super) fn apply(self) -> nix::Result<()> {
        setrlimit(Resource::RLIMIT_NOFILE, self.descriptors.0, self.descriptors.1)
    }
}

/// Memory that a process alone uses, in bytes.
pub fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_is_found() {
        let before = memory(std::process::id()).unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = memory(std::process::id()).unwrap();
        assert!(after > before + (48 << 20), "{before} {after} {}", block.len());
        assert_eq!(memory(u32::MAX), None);
    }
}
