//! Directories that only their owner can use.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::error::Error;

/// Makes a directory that only its owner can use. An existing one is closed to others if it is empty
/// or ours already; somebody who names a shared directory by mistake must not lose it.
pub fn make(path: &Path) -> Result<(), Error> {
    let create = |source| Error::Create { what: "make the directory", path: path.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(create)?;
    let metadata = std::fs::metadata(path).map_err(create)?;
    let others_may_enter = metadata.permissions().mode() & 0o077 != 0;
    if !others_may_enter {
        return Ok(());
    }
    let empty = std::fs::read_dir(path).map_err(create)?.next().is_none();
    if !empty && !path.join("lock").exists() && !path.join("gw.sock").exists() {
        return Err(Error::Shared { path: path.into() });
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(create)
}
