//! How much room there is on a disk.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Bytes that are free for us on the disk of `path` (statvfs(3)).
pub fn free(path: &Path) -> io::Result<u64> {
    let told = statvfs(path)?;
    Ok(told.f_bavail.saturating_mul(told.f_frsize))
}
