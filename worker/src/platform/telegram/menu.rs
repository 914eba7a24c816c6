//! The bot's menu of commands, which shows what is configured: set once in each life, as soon as the platform is
//! heard, and beside all else. No message waits for it.

use std::time::Duration;

use serde_json::json;

use super::Shared;
use super::answer::Said;
use crate::clock;

/// Before it is tried again where the platform wants nothing else; each time twice as long.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_MOST: Duration = Duration::from_mins(1);
/// Beyond the time that the platform wants.
const MARGIN: Duration = Duration::from_millis(300);

/// Sets the menu, if there is one, unless the worker is told to stop before.
pub(super) async fn run(shared: &Shared) {
    if !shared.api.settings().menu.is_empty() {
        shared.stop.run_until_cancelled(set(shared)).await;
    }
}

async fn set(shared: &Shared) {
    let menu = &shared.api.settings().menu;
    let entry = |(name, does): &(String, String)| json!({"command": name, "description": does});
    let body = json!({"commands": menu.iter().map(entry).collect::<Vec<_>>()});
    let mut again = AGAIN;
    shared.heard.notified().await;
    loop {
        let pause = match shared.api.ask("setMyCommands", &body).await {
            Said::Done(_) => return,
            Said::Refused(why) => {
                tracing::warn!(why, "the platform does not take the menu");
                return;
            }
            Said::Limited(pause) => pause + MARGIN + clock::jitter(MARGIN),
            other => {
                tracing::info!(?other, "the menu is not set yet");
                let longer = (again * 2).min(AGAIN_MOST);
                std::mem::replace(&mut again, longer)
            }
        };
        tokio::time::sleep(pause).await;
    }
}
