//! A control group for each worker, where a service manager has delegated us our own (`Delegate=yes`):
//! whatever a worker starts is born in its group, and the kernel kills all of it in one go, however
//! fast it forks (cgroup v2, `cgroup.kill`).
//!
//! Only below a group that bears the manager's mark of delegation; anywhere else nothing is touched,
//! and process groups and the subreaper do what they can.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The group that was delegated to us.
#[derive(Debug)]
pub struct Delegated {
    dir: PathBuf,
}

/// The group of one worker. Removed when dropped, if it is empty by then.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
}

const PREFIX: &str = "worker-";

impl Delegated {
    /// Ours, if there is one. What a former supervisor left in it is ended, but for the groups of `ours`.
    pub fn find(ours: &[PathBuf]) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let dir = directory(&own, &mounts)?;
        let marked = ["user.delegate", "trusted.delegate"].iter().any(|name| {
            let mut value = [0_u8; 8];
            rustix::fs::getxattr(&dir, *name, &mut value)
                .is_ok_and(|n| value.get(..n) == Some(b"1"))
        });
        if !marked || !dir.join("cgroup.kill").exists() {
            return None;
        }
        for entry in std::fs::read_dir(&dir).ok()?.flatten() {
            let is_left = !ours.contains(&entry.path());
            if is_left && entry.file_name().to_string_lossy().starts_with(PREFIX) {
                let left = Cgroup { dir: entry.path() };
                left.kill();
            }
        }
        Some(Self { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A new group.
    pub fn make(&self, name: &str) -> io::Result<Cgroup> {
        let dir = self.dir.join(format!("{PREFIX}{name}"));
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(Cgroup { dir }),
        }
    }
}

impl Cgroup {
    /// One that is there already.
    pub fn resumed(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whoever writes `0` there joins.
    pub(super) fn door(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))
    }

    /// Kills everything in it.
    pub fn kill(&self) {
        let file = OpenOptions::new().write(true).open(self.dir.join("cgroup.kill"));
        let _ = file.and_then(|mut file| file.write_all(b"1"));
    }

    /// The processes in it.
    pub fn members(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// The directory of the group `0::PATH` in the first mount of cgroup2 that shows it. A line of
/// `mountinfo` reads `31 25 0:26 ROOT MOUNTPOINT options… - cgroup2 …` (`proc_pid_mountinfo(5)`).
fn directory(own: &str, mounts: &str) -> Option<PathBuf> {
    let path = Path::new(own.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut words = left.split(' ').skip(3);
        let (root, mountpoint) = (words.next()?, words.next()?);
        Some(Path::new(mountpoint).join(path.strip_prefix(root).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_under_its_mount() {
        let mounts = "28 1 0:25 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      31 1 0:26 /system.slice /mnt rw - cgroup2 cgroup2 rw\n\
                      32 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let find = |own: &str| directory(own, mounts).map(|dir| dir.display().to_string());
        let user = "1:name=systemd:/x\n0::/user.slice/gw.service\n";
        assert_eq!(find(user).unwrap(), "/sys/fs/cgroup/user.slice/gw.service");
        assert_eq!(find("0::/system.slice/gw.service\n").unwrap(), "/mnt/gw.service");
        assert_eq!(find("4:memory:/only/v1\n"), None);
    }
}
