//! Whose process this is.

use std::path::PathBuf;

use nix::unistd::{User, geteuid};

/// A user as the machine knows him (`passwd(5)`).
#[derive(Clone, Debug)]
pub struct Login {
    /// How he logs in.
    pub name: String,
    /// His home, whatever `HOME` says.
    pub home: PathBuf,
}

/// The user of this process by number.
pub fn number() -> u32 {
    geteuid().as_raw()
}

/// The user of this process; `None` if the machine does not know him.
pub fn login() -> Option<Login> {
    let user = User::from_uid(geteuid()).ok().flatten()?;
    Some(Login { name: user.name, home: user.dir })
}
