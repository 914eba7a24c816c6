//! The directory in which workers exchange files, while we serve. Who cleans up may take it away, empty as
//! it is most of the time; then it is made anew. A worker that has confined itself may only touch the
//! directory that was there when it began, so it is replaced.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Gateway;
use crate::clock;
use crate::config::{AgentKind, Kind, PlatformKind};
use crate::dirs;
use crate::policy::lifecycle::{Force, Input, Phase};

/// How often to look.
const LOOK: Duration = Duration::from_secs(1);

/// The directory as it was found last.
#[derive(Debug)]
pub(super) struct Exchanging {
    /// Device and inode; none: it could not be made.
    found: Option<(u64, u64)>,
    look_at: Instant,
}

impl Exchanging {
    pub(super) fn new(path: &Path) -> Self {
        Self { found: place(path), look_at: clock::now() }
    }
}

fn place(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino()))
}

impl Gateway {
    /// Makes it anew if somebody has taken it away.
    pub(super) fn look_at_exchange(&mut self, now: Instant) {
        if now < self.exchanging.look_at {
            return;
        }
        self.exchanging.look_at = now + LOOK;
        let path = self.paths.exchange();
        let was = self.exchanging.found;
        if was.is_some() && place(&path) == was {
            return;
        }
        let made = dirs::make(&path).map_err(|e| e.to_string());
        self.exchanging.found = made.is_ok().then(|| place(&path)).flatten();
        if made.is_err() && was.is_none() {
            return;
        }
        let is_made = made.is_ok();
        self.announce_exchange(&path, made);
        for index in (0..self.slots.len()).filter(|_| is_made) {
            let Some(slot) = self.slots.get_mut(index) else { return };
            let exchanges = !matches!(
                slot.kind,
                Kind::Platform(Some(PlatformKind::Local)) | Kind::Agent(Some(AgentKind::Echo))
            );
            let lives = matches!(slot.life.phase(), Phase::Starting { .. } | Phase::Ready { .. });
            let is_confined = slot.confined.as_ref().is_some_and(|how| how.starts_with("files"));
            if exchanges && lives && is_confined {
                slot.replaced = Some("replaced: its exchange directory was taken away".into());
                self.live(index, Input::Restart(Force::No));
            }
        }
    }
}
