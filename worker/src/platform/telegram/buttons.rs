//! Buttons below a message. An address that no button may have is written out below the words. Pure.

use std::fmt::Write as _;

use protocol::content::{Button, Press};
use serde_json::{Value, json};

use super::markup::is_taken;

/// The data of a button, in bytes.
const DATA_MAX: usize = 64;

/// Rows of buttons, as the platform writes them.
pub(super) type Keys = Vec<Vec<Value>>;

/// The buttons, and lines with the addresses of those that the platform would refuse. The error is for the agent.
pub(super) fn keys(rows: &[Vec<Button>]) -> Result<(Keys, String), String> {
    let (mut keys, mut addresses) = (Keys::new(), String::new());
    for row in rows {
        let mut kept = Vec::new();
        for button in row {
            kept.extend(key(button, &mut addresses)?);
        }
        keys.extend(Some(kept).filter(|row| !row.is_empty()));
    }
    Ok((keys, addresses))
}

fn key(button: &Button, addresses: &mut String) -> Result<Option<Value>, String> {
    let label = &button.label;
    if label.trim().is_empty() {
        return Err("a button has no label".to_owned());
    }
    match &button.press {
        Press::Data(data) if data.is_empty() || data.len() > DATA_MAX => Err(format!(
            "the button {label:?} has {} bytes of data; Telegram takes 1 to {DATA_MAX}",
            data.len()
        )),
        Press::Data(data) => Ok(Some(json!({"text": label, "callback_data": data}))),
        Press::Url(url) if !is_taken(url) => {
            write_out(addresses, label, url);
            Ok(None)
        }
        Press::Url(url) => Ok(Some(json!({"text": label, "url": url}))),
    }
}

/// The buttons without those that lead somewhere, and lines with their addresses.
pub(super) fn without_addresses(keys: &Keys) -> (Keys, String) {
    let (mut left, mut addresses) = (keys.clone(), String::new());
    for row in &mut left {
        row.retain(|key| {
            let member = |name| key.get(name).and_then(Value::as_str);
            let url = member("url");
            if let Some(url) = url {
                write_out(&mut addresses, member("text").unwrap_or_default(), url);
            }
            url.is_none()
        });
    }
    left.retain(|row| !row.is_empty());
    (left, addresses)
}

fn write_out(addresses: &mut String, label: &str, url: &str) {
    let gap = if addresses.is_empty() { "\n\n" } else { "\n" };
    let _ = write!(addresses, "{gap}{label}: {url}");
}
