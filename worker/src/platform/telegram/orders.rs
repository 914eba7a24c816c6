//! What only a person may have done to the queue of updates.

use protocol::worker::Order;
use serde_json::json;

use super::Shared;
use super::answer::Said;
use crate::json::{brief, number_of, text_of};

/// Does it; for people, what was done or why not.
pub(super) async fn perform(shared: &Shared, order: Order) -> Result<String, String> {
    let info = done(shared.api.ask("getWebhookInfo", &json!({})).await)?;
    let url = text_of(&info, "url");
    let waiting = number_of(&info, "pending_update_count").unwrap_or_default();
    match order {
        Order::DeleteWebhook if url.is_empty() => Ok("there is no webhook".to_owned()),
        Order::DeleteWebhook if shared.api.settings().webhook.is_some() => {
            Err("this instance hears by a webhook of its own: take its table `webhook` out of the \
             configuration, and `hermes-gw ctl reload`"
                .to_owned())
        }
        Order::DeleteWebhook => {
            done(shared.api.ask("deleteWebhook", &json!({"drop_pending_updates": false})).await)?;
            Ok(format!("removed the webhook at {}; {waiting} updates wait", host(url)))
        }
        Order::DropPending => {
            let said = match &shared.api.settings().webhook {
                Some(webhook) => {
                    let mut body = super::hook::registration(shared, webhook);
                    if let Some(members) = body.as_object_mut() {
                        members.insert("drop_pending_updates".to_owned(), true.into());
                    }
                    shared.api.ask("setWebhook", &body).await
                }
                None if url.is_empty() => {
                    let body = json!({"drop_pending_updates": true});
                    shared.api.ask("deleteWebhook", &body).await
                }
                None => {
                    return Err(format!(
                        "a webhook at {} reads the updates: remove it first",
                        host(url)
                    ));
                }
            };
            done(said)?;
            Ok(format!("dropped {waiting} updates that waited at Telegram"))
        }
    }
}

/// Where a webhook leads, as far as people need to know: its path may be a secret.
pub(super) fn host(url: &str) -> String {
    let host = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next());
    host.filter(|host| !host.is_empty()).map_or_else(|| "unknown".to_owned(), brief)
}

fn done(said: Said) -> Result<serde_json::Value, String> {
    match said {
        Said::Done(result) => Ok(result),
        Said::Limited(pause) => Err(format!("Telegram wants a pause of {} s", pause.as_secs())),
        Said::Refused(why) | Said::Away(why) | Said::Unclear(why) | Said::Credentials(why) => {
            Err(why)
        }
        Said::Conflict(_) | Said::Moved(_) => Err("Telegram answers something else".to_owned()),
    }
}
