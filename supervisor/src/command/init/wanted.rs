//! What a person wants to have configured, and the files that say so. Nothing here touches anything.

use std::path::PathBuf;

use protocol::secret::Secret;
use toml::Value;

/// The addresses of Lark, where an app's base is not that of Feishu.
const LARK: &str = "https://open.larksuite.com";
/// Where a Hermes Agent dials in.
const RELAY: &str = "127.0.0.1:8765";

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) telegram: Option<Telegram>,
    pub(super) feishu: Option<Feishu>,
    pub(super) agent: Agent,
    /// Directories of hooks, as Hermes has them.
    pub(super) hooks: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Telegram {
    pub(super) token: Secret,
    pub(super) proxy: Option<Secret>,
    pub(super) access: Access,
}

#[derive(Debug)]
pub(super) struct Feishu {
    pub(super) app_id: String,
    pub(super) secret: Secret,
    pub(super) is_lark: bool,
    pub(super) access: Access,
}

/// Who may speak.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) open: bool,
    pub(super) users: Vec<String>,
    pub(super) chats: Vec<String>,
    /// In groups everything is meant for the bot.
    pub(super) unmentioned: bool,
}

#[derive(Debug)]
pub(super) enum Agent {
    /// It dials in, with this secret.
    Hermes {
        home: PathBuf,
        secret: Secret,
    },
    OpenAi {
        base_url: String,
        model: String,
        key: Option<Secret>,
    },
    Acp {
        command: Vec<String>,
    },
    Echo,
}

/// A file to be written, beside the configuration.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) text: String,
}

/// The name of what a Hermes Agent is to read.
pub(super) const HERMES_ENV: &str = "hermes.env";

impl Wanted {
    /// The configuration.
    pub(super) fn config(&self) -> String {
        let mut text = String::from(
            "# Every key, with its default: the example configuration of hermes-gw.\n",
        );
        if let Some(telegram) = &self.telegram {
            text.push_str("\n[platform.telegram]\ntoken_file = \"telegram-token\"\n");
            if telegram.proxy.is_some() {
                text.push_str("proxy_file = \"telegram-proxy\"\n");
            }
            text.push_str(&telegram.access.table("telegram", str::to_owned));
        }
        if let Some(feishu) = &self.feishu {
            let app_id = quoted(&feishu.app_id);
            text.push_str(&format!(
                "\n[platform.feishu]\napp_id = {app_id}\napp_secret_file = \"feishu-secret\"\n"
            ));
            if feishu.is_lark {
                text.push_str(&format!("base_url = {}\n", quoted(LARK)));
            }
            text.push_str(&feishu.access.table("feishu", quoted));
        }
        if self.telegram.is_none() && self.feishu.is_none() {
            text.push_str("\n[platform.local]\n");
        }
        text.push_str(&self.agent.table());
        if let Some(dir) = &self.hooks {
            text.push_str(&format!("\n[hooks]\ndir = {}\n", quoted(&dir.display().to_string())));
        }
        text
    }

    /// What only its owner may read.
    pub(super) fn secrets(&self) -> Vec<File> {
        let mut files = Vec::new();
        let mut add = |name, secret: &Secret| {
            files.push(File { name, text: format!("{}\n", secret.expose()) });
        };
        if let Some(telegram) = &self.telegram {
            add("telegram-token", &telegram.token);
            if let Some(proxy) = &telegram.proxy {
                add("telegram-proxy", proxy);
            }
        }
        if let Some(feishu) = &self.feishu {
            add("feishu-secret", &feishu.secret);
        }
        match &self.agent {
            Agent::Hermes { secret, .. } => {
                add("relay-secret", secret);
                files.push(File { name: HERMES_ENV, text: self.hermes_env(secret) });
            }
            Agent::OpenAi { key: Some(key), .. } => add("model-key", key),
            Agent::OpenAi { .. } | Agent::Acp { .. } | Agent::Echo => {}
        }
        files
    }

    /// What a Hermes Agent needs to dial in (contract 1 of its relay).
    fn hermes_env(&self, secret: &Secret) -> String {
        let mut bots = serde_json::Map::new();
        let mut bot = |name: &str, id: &str| {
            bots.insert(name.into(), serde_json::json!({ "botId": id }));
        };
        if let Some(telegram) = &self.telegram {
            bot("telegram", telegram.token.expose().split(':').next().unwrap_or_default());
        }
        if let Some(feishu) = &self.feishu {
            bot("feishu", &feishu.app_id);
        }
        let names: Vec<&str> = bots.keys().map(String::as_str).collect();
        format!(
            "GATEWAY_RELAY_URL=http://{RELAY}\nGATEWAY_RELAY_ID=hermes\nGATEWAY_RELAY_SECRET={}\n\
             GATEWAY_RELAY_PLATFORMS={}\nGATEWAY_RELAY_BOT_IDS={}\n",
            secret.expose(),
            names.join(","),
            serde_json::Value::Object(bots.clone()),
        )
    }
}

impl Access {
    /// Strangers are told a code where nobody is listed.
    fn table(&self, platform: &str, id: impl Fn(&str) -> String) -> String {
        let direct = match (self.open, self.users.is_empty()) {
            (true, _) => "open",
            (false, true) => "pairing",
            (false, false) => "list",
        };
        let mut text = format!("\n[platform.{platform}.access]\ndirect = \"{direct}\"\n");
        if self.unmentioned {
            text.push_str("groups = \"all\"\n");
        }
        for (key, ids) in [("users", &self.users), ("chats", &self.chats)] {
            if !ids.is_empty() {
                let ids: Vec<String> = ids.iter().map(|one| id(one)).collect();
                text.push_str(&format!("{key} = [{}]\n", ids.join(", ")));
            }
        }
        text
    }
}

impl Agent {
    fn table(&self) -> String {
        match self {
            Self::Hermes { home, .. } => format!(
                "\n[agent.hermes]\nkind = \"relay\"\nlisten = \"{RELAY}\"\nsecret_file = \"relay-secret\"\nhome = {}\n",
                quoted(&home.display().to_string())
            ),
            Self::OpenAi { base_url, model, key } => {
                let key = if key.is_some() { "key_file = \"model-key\"\n" } else { "" };
                let (base_url, model) = (quoted(base_url), quoted(model));
                format!(
                    "\n[agent.model]\nkind = \"openai\"\nbase_url = {base_url}\nmodel = {model}\n{key}"
                )
            }
            Self::Acp { command } => {
                let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
                format!("\n[agent.coder]\nkind = \"acp\"\ncommand = [{}]\n", words.join(", "))
            }
            Self::Echo => "\n[agent.echo]\n".into(),
        }
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// A bot's token: the bot's number, a colon, its secret.
pub(super) fn is_token(text: &str) -> bool {
    let is_secret = |text: &str| {
        text.len() >= 20 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    text.split_once(':').is_some_and(|(bot, secret)| is_number(bot) && is_secret(secret))
}

/// The ids in a list of them, and what is none.
pub(super) fn ids(text: &str, is_id: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let words = text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).partition(|word| is_id(word))
}

/// A number as it is written in TOML: neither `007` nor `+7`.
pub(super) fn is_number(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

pub(super) fn is_open_id(text: &str) -> bool {
    text.starts_with("ou_")
}
