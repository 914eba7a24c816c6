//! What the `.env` of a Hermes Agent says of its platforms (`gateway/config.py`, `gateway/authz_mixin.py` of
//! hermes-agent 0.19).

use std::path::Path;

use protocol::secret::Secret;

use super::dotenv::Variables;
use super::wanted::{
    Access, Agent, Feishu, Telegram, Wanted, ids, is_number, is_open_id, is_token,
};

/// Who may speak in groups of Telegram.
const GROUP_CHATS: &str = "TELEGRAM_GROUP_ALLOWED_CHATS";
const GROUP_USERS: &str = "TELEGRAM_GROUP_ALLOWED_USERS";

/// Whom it names for all platforms.
const EVERYWHERE: &str = "GATEWAY_ALLOWED_USERS";

/// What it is to become, and what a person must know of it.
pub(super) fn wanted(
    env: &Variables,
    home: &Path,
    relay: Secret,
) -> Result<(Wanted, Vec<String>), String> {
    let get =
        |name: &str| env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let is_on = |name: &str| {
        get(name).is_some_and(|value| ["true", "1", "yes"].contains(&value.to_lowercase().as_str()))
    };
    let mut notes = Vec::new();
    let mut access = |platform: &str, is_id: fn(&str) -> bool| {
        let of = |what: &str| format!("{platform}_{what}");
        let mut list = |name: &str| {
            let (good, mut other) = ids(get(name).unwrap_or_default(), is_id);
            let has_all = other.iter().any(|id| id == "*");
            other.retain(|id| id != "*");
            if !other.is_empty() && name != EVERYWHERE {
                let other = other.join(", ");
                notes.push(format!("{name}: {other} is no id of this platform, and was left out"));
            }
            (good, has_all)
        };
        let own = of("ALLOWED_USERS");
        let ((mut users, all), (more, all_everywhere)) = (list(&own), list(EVERYWHERE));
        users.extend(more);
        users.sort();
        users.dedup();
        // That everybody may holds only where nobody is named.
        let lists = [&own, EVERYWHERE, GROUP_CHATS, GROUP_USERS];
        let is_listed = lists.iter().any(|name| get(name).is_some());
        Access {
            open: is_on(&of("ALLOW_ALL_USERS"))
                || all
                || all_everywhere
                || !is_listed && is_on("GATEWAY_ALLOW_ALL_USERS"),
            users,
            chats: Vec::new(),
            unmentioned: get(&of("REQUIRE_MENTION"))
                .is_some_and(|value| value.eq_ignore_ascii_case("false")),
        }
    };
    let (chats, other_chats) = ids(get(GROUP_CHATS).unwrap_or_default(), is_number);
    let telegram = get("TELEGRAM_BOT_TOKEN").map(|token| {
        let access = Access { chats, ..access("TELEGRAM", is_number) };
        let proxy = get("TELEGRAM_PROXY").map(Secret::new);
        (token, Telegram { token: Secret::new(token), proxy, access })
    });
    let feishu = match (get("FEISHU_APP_ID"), get("FEISHU_APP_SECRET")) {
        (Some(app_id), Some(secret)) => Some(Feishu {
            app_id: app_id.into(),
            secret: Secret::new(secret),
            is_lark: get("FEISHU_DOMAIN")
                .is_some_and(|domain| domain.to_lowercase().contains("lark")),
            access: access("FEISHU", is_open_id),
        }),
        _ => None,
    };
    if let Some((token, _)) = &telegram
        && !is_token(token)
    {
        return Err("TELEGRAM_BOT_TOKEN is no token of a bot (123456789:ABC…)".into());
    }
    if telegram.is_none() && feishu.is_none() {
        return Err(
            "it names neither TELEGRAM_BOT_TOKEN nor FEISHU_APP_ID with FEISHU_APP_SECRET".into()
        );
    }
    for (name, key) in [("TELEGRAM_WEBHOOK_URL", "telegram"), ("FEISHU_ENCRYPT_KEY", "feishu")] {
        let is_webhook = key == "telegram" || get("FEISHU_CONNECTION_MODE") == Some("webhook");
        if get(name).is_some() && is_webhook {
            notes.push(format!(
                "Hermes is posted to by a webhook; the gateway asks by itself, unless [platform.{key}.webhook] is set"
            ));
        }
    }
    if telegram.is_some() && (!other_chats.is_empty() || get(GROUP_USERS).is_some()) {
        notes.push(format!(
            "{GROUP_CHATS}, {GROUP_USERS}: what is no number of a chat was left out; [platform.telegram.access] says who \
             may speak in groups"
        ));
    }
    let hooks = Some(home.join("hooks")).filter(|dir| dir.is_dir());
    let telegram = telegram.map(|(_, telegram)| telegram);
    let agent = Agent::Hermes { home: home.into(), secret: relay };
    Ok((Wanted { telegram, feishu, agent, hooks }, notes))
}

/// What must go from it, or two would read one bot.
pub(super) fn surplus(wanted: &Wanted) -> Vec<&'static str> {
    let telegram = wanted.telegram.is_some().then_some("TELEGRAM_BOT_TOKEN");
    let feishu = wanted.feishu.is_some().then_some(["FEISHU_APP_ID", "FEISHU_APP_SECRET"]);
    telegram.into_iter().chain(feishu.into_iter().flatten()).collect()
}
