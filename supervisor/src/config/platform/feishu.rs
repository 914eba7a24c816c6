//! What a Feishu app needs.

use protocol::worker::{FeishuSettings, FeishuWebhook};

use super::base_url;
use crate::config::Surroundings;
use crate::config::block::{Block, Place};
use crate::config::keys::{Missing, optional_secret, required, secret};

const BASE_URL: &str = "https://open.feishu.cn";
const WEBHOOK: &str = "127.0.0.1:8444";
/// What was said within so many hours is read after an absence.
const CATCH_UP_H: u32 = 24;

/// Reads the app's keys. `missing`: why a secret is not there.
pub(super) fn settings(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    missing: &mut Option<Missing>,
) -> Option<FeishuSettings> {
    let app_id = required(block, "app_id");
    let app_secret = secret(block, place, secrets, "app_secret_file", "app_secret_env");
    let app_secret = app_secret.unwrap_or_else(|reason| {
        *missing = Some(reason);
        None
    });
    let base_url = base_url(block, BASE_URL);
    let working = block.string("working").unwrap_or_else(|| "Typing".to_owned());
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if working.len() > 40 || !working.bytes().all(word) {
        block.problem(&format!(
            "working must be a word of the platform for a reaction, like \"Typing\", or empty, not {working:?}"
        ));
    }
    let catch_up_h = block.number("catch_up_h", 0..=168).unwrap_or(CATCH_UP_H);
    let webhook = webhook(block, place, secrets).unwrap_or_else(|reason| {
        *missing = Some(reason);
        None
    });
    Some(FeishuSettings {
        app_id: app_id?,
        app_secret: app_secret?,
        base_url,
        working,
        webhook,
        catch_up_h,
    })
}

/// A table of its own turns it on. The error names a file or a variable that is missing.
fn webhook(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
) -> Result<Option<Box<FeishuWebhook>>, Missing> {
    let is_there = block.has("webhook");
    let mut inner = block.table("webhook");
    if !is_there {
        return Ok(None);
    }
    let listen = inner.string("listen").unwrap_or_else(|| WEBHOOK.to_owned());
    let addr = listen.parse().map_err(|_| {
        inner.problem(&format!(
            "listen must be an address and a port like {WEBHOOK}, not {listen:?}"
        ));
    });
    let path = inner.string("path").unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') {
        inner.problem(&format!("path must begin with a slash, not {path:?}"));
    }
    let key = optional_secret(&mut inner, place, secrets, "encrypt_key_file", "encrypt_key_env");
    let token = optional_secret(
        &mut inner,
        place,
        secrets,
        "verification_token_file",
        "verification_token_env",
    );
    if matches!((&key, &token), (Ok(None), Ok(None))) {
        inner.problem(
            "encrypt_key_file or verification_token_file must be set, or anybody could post events",
        );
    }
    block.absorb(inner);
    let (encrypt_key, verification_token) = (key?, token?);
    Ok(addr
        .ok()
        .map(|listen| Box::new(FeishuWebhook { listen, path, encrypt_key, verification_token })))
}
