//! What a Telegram bot needs.

use protocol::worker::{OtherWebhook, TelegramSettings, TelegramWebhook, Unanswered};

use super::base_url;
use crate::config::Surroundings;
use crate::config::block::{Block, Place};
use crate::config::keys::{Missing, required, secret};

const BASE_URL: &str = "https://api.telegram.org";
const WEBHOOK: &str = "127.0.0.1:8443";

/// Reads the bot's keys. `missing`: why a secret is not there.
pub(super) fn settings(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> Option<TelegramSettings> {
    let token = secret(block, place, secrets, "token_file", "token_env");
    let token = token.unwrap_or_else(|reason| {
        *missing = Some(reason);
        None
    });
    let base_url = base_url(block, BASE_URL);
    let unanswered = [("report", Unanswered::Report), ("resend", Unanswered::Resend)];
    let unanswered = block.choice("unanswered", &unanswered);
    let other_webhook = [("keep", OtherWebhook::Keep), ("remove", OtherWebhook::Remove)];
    let other_webhook = block.choice("other_webhook", &other_webhook);
    let local_files = block.path("local_files", place);
    let webhook = webhook(block);
    let menu = menu(block);
    Some(TelegramSettings {
        token: token?,
        base_url,
        unanswered: unanswered.unwrap_or(Unanswered::Report),
        other_webhook: other_webhook.unwrap_or(OtherWebhook::Keep),
        webhook,
        local_files,
        menu,
    })
}

/// A table of its own turns it on.
fn webhook(block: &mut Block) -> Option<TelegramWebhook> {
    let is_there = block.has("webhook");
    let mut inner = block.table("webhook");
    if !is_there {
        return None;
    }
    let url = required(&mut inner, "url");
    if let Some(url) = &url
        && !(url.starts_with("https://") || url.starts_with("http://"))
    {
        inner.problem(&format!("url must start with https:// or http://, not {url:?}"));
    }
    let listen = inner.string("listen").unwrap_or_else(|| WEBHOOK.to_owned());
    let addr = listen.parse().map_err(|_| {
        inner.problem(&format!(
            "listen must be an address and a port like {WEBHOOK}, not {listen:?}"
        ));
    });
    let connections = inner.number("max_connections", 1..=100).unwrap_or(40);
    block.absorb(inner);
    Some(TelegramWebhook { url: url?, listen: addr.ok()?, connections })
}

/// What the bot's menu of commands shows, within the limits of `setMyCommands`.
fn menu(block: &mut Block) -> Vec<(String, String)> {
    let mut inner = block.table("menu");
    let menu = inner.entries();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    for (name, does) in &menu {
        if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
            inner.problem(&format!(
                "a command of the menu is 1 to 32 small letters, digits and _, without a slash, not {name:?}"
            ));
        }
        if does.is_empty() || does.chars().count() > 256 {
            inner.problem(&format!("{name} must say in 1 to 256 characters what it does"));
        }
    }
    if menu.len() > 100 {
        inner.problem("a menu has at most 100 commands");
    }
    block.absorb(inner);
    menu
}
