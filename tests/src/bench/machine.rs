//! What the figures were measured on.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The device and the file system that hold `path`.
pub fn file_system(path: &Path) -> (String, String) {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = read("/proc/self/mounts");
    let mut best = ("unknown", "unknown", 0);
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(at), Some(kind)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // A later mount at the same place covers the earlier one.
        if path.starts_with(at) && at.len() >= best.2 {
            best = (device, kind, at.len());
        }
    }
    (best.0.to_owned(), best.1.to_owned())
}

/// Machine, system and file system in one line.
pub fn line(disk: &Path) -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    let (device, kind) = file_system(disk);
    let build = if cfg!(debug_assertions) { "UNOPTIMISED build" } else { "release build" };
    format!(
        "{}, {cores} cores, Linux {}, {kind} on {device}, load {load} at the end, {build}",
        model.map_or("unknown processor", |(_, name)| name),
        kernel.trim(),
    )
}
