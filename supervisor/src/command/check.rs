//! `hermes-gw check`: what the configuration means, or what is wrong with it.

use std::path::Path;

use protocol::secret;
use protocol::worker::FeishuSettings;
use serde::Serialize;
use supervisor::Error;
use supervisor::config::{AgentSettings, Body, Config, Manners, PlatformSettings, Spec};
use supervisor::paths::Paths;
use supervisor::policy::busy::Mode;

use super::{agent_test, hooks, load, print, print_json_of};
use crate::args::Common;

#[derive(Serialize)]
struct Report {
    schema: u32,
    config: Option<String>,
    state_dir: String,
    socket: String,
    instances: Vec<Line>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    role: &'static str,
    kind: &'static str,
    ok: bool,
    text: String,
}

pub(super) fn run(common: &Common) -> Result<(), Error> {
    let config = load(common)?;
    let paths = super::paths(common, Some(&config))?;
    let report = Report {
        schema: 1,
        config: config.source.as_ref().map(|path| path.display().to_string()),
        state_dir: paths.state_dir.display().to_string(),
        socket: paths.socket().display().to_string(),
        instances: config.instances.iter().map(|spec| line(spec, &paths)).collect(),
        warnings: warnings(&config),
    };
    let wrong = paths.check().and_then(|()| config.check()).err();
    if common.json {
        print_json_of(&report, wrong.as_ref());
    } else {
        let source = report.config.as_deref().unwrap_or("none found; the built-in default applies");
        print(&format!("configuration  {source}"));
        print(&format!("state          {}", report.state_dir));
        print(&format!("socket         {}", report.socket));
        for line in &report.instances {
            let mark = if line.ok { "ok" } else { "WRONG" };
            // What is wrong with it is said as the error of all.
            let text = if line.ok { format!(": {}", line.text) } else { String::new() };
            print(&format!("{:<14} {:<5} {} {}{text}", line.name, mark, line.role, line.kind));
        }
        for warning in &report.warnings {
            print(&format!("warning        {}", secret::cleaned(warning.clone())));
        }
    }
    wrong.map_or(Ok(()), Err)
}

/// What is no error, each once: two hooks may run the same program.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut known = Vec::new();
    for text in config.warnings.iter().cloned().chain(config.instances.iter().flat_map(doubts)) {
        if !known.contains(&text) {
            known.push(text);
        }
    }
    known
}

/// What is in order as it is written, and will not work as things are.
fn doubts(spec: &Spec) -> Vec<String> {
    let missing = |command: &[String], dir: &Path| {
        let why = agent_test::missing(command, dir);
        why.map(|why| format!("{} is held until that changes: {why}", spec.name))
    };
    match &spec.body {
        Ok(Body::Agent { settings: AgentSettings::Exec { command, dir, .. }, .. }) => {
            missing(command, dir).into_iter().collect()
        }
        Ok(Body::Platform { settings: PlatformSettings::Exec(settings), .. }) => {
            missing(&settings.command, &settings.dir).into_iter().collect()
        }
        Ok(Body::Agent { settings: AgentSettings::Acp(settings), .. }) => {
            missing(&settings.command, &settings.dir).into_iter().collect()
        }
        Ok(Body::Agent { settings: AgentSettings::Webhook(settings), .. }) => {
            let why = agent_test::no_secret(settings.secret.expose());
            let told = why
                .map(|why| format!("{} is held until that changes: its secret: {why}", spec.name));
            told.into_iter().collect()
        }
        Ok(Body::Agent { settings: AgentSettings::Relay { home: Some(home), .. }, .. })
            if !home.is_dir() =>
        {
            vec![format!(
                "{}: home {} is not there: until it is, each connection of the agent counts as a restart of it",
                spec.name,
                home.display()
            )]
        }
        Ok(Body::Hooks(body)) => hooks::problems(&body.settings),
        _ => Vec::new(),
    }
}

fn line(spec: &Spec, paths: &Paths) -> Line {
    let text = match &spec.body {
        Err(trouble) => trouble.reason.clone(),
        Ok(Body::Agent { settings, .. }) => match settings {
            AgentSettings::Echo => "says what it hears".into(),
            AgentSettings::Socket { listen, .. } => {
                let own = || paths.agent_socket(&spec.name);
                let path = listen.clone().unwrap_or_else(own);
                format!("an agent connects to {}", path.display())
            }
            AgentSettings::OpenAi(settings) => {
                format!("asks the model {} at {}", settings.model, settings.base_url)
            }
            AgentSettings::Webhook(settings) => {
                // The rest of it may be a secret.
                let host = settings.url.split('/').nth(2).unwrap_or_default();
                format!("posts events to {host}")
            }
            AgentSettings::Relay { listen, id, .. } => {
                format!("a Hermes Agent with the id {id} dials ws://{listen}/relay")
            }
            AgentSettings::Acp(settings) => {
                let (command, dir) = (settings.command.join(" "), settings.dir.display());
                format!("runs {command} in {dir}, speaks ACP with it")
            }
            AgentSettings::Exec { command, dir, .. } => {
                format!("runs {} in {}", command.join(" "), dir.display())
            }
        },
        Ok(Body::Hooks(hooks)) => {
            let programs = hooks.settings.commands.len();
            let dir =
                hooks.settings.dir.as_ref().map(|dir| format!(", hooks in {}", dir.display()));
            format!("tells {programs} programs{}", dir.unwrap_or_default())
        }
        Ok(Body::Platform { settings, access, agent, manners, network, .. }) => {
            let what = match settings {
                PlatformSettings::Local => "the terminal".to_owned(),
                PlatformSettings::Feishu(settings) => {
                    let FeishuSettings { app_id, base_url, .. } = settings;
                    format!("app {app_id} at {base_url}, {}", hears(access))
                }
                PlatformSettings::Exec(settings) => {
                    let (command, dir) = (settings.command.join(" "), settings.dir.display());
                    format!("runs {command} in {dir}, {}", hears(access))
                }
                PlatformSettings::Telegram(settings) => {
                    let way = settings.webhook.as_ref().map(|webhook| {
                        format!(", by a webhook that is passed on to {}", webhook.listen)
                    });
                    let way = way.unwrap_or_default();
                    format!("a bot at {}{way}, {}", settings.base_url, hears(access))
                }
            };
            let way = if network.proxy.is_some() { ", through a proxy" } else { "" };
            let what = format!("{what}{way}{}", handled(manners));
            match agent {
                Some(agent) => format!("{what}; {}heard by {agent}", routed(manners)),
                None => format!("{what}; no agent is configured, events wait"),
            }
        }
    };
    Line {
        name: spec.name.to_string(),
        role: spec.kind.role(),
        kind: spec.kind.word(),
        ok: spec.body.is_ok(),
        // An address may have a password in it.
        text: secret::cleaned(text),
    }
}

/// What differs from the usual.
fn handled(manners: &Manners) -> String {
    let mut text = String::new();
    if let Some(rule) = manners.burst {
        text.push_str(&format!("; joins what is said within {} ms", rule.quiet.as_millis()));
    }
    let busy = &manners.busy;
    let word = |mode: Mode| match mode {
        Mode::Queue => "waits",
        Mode::Interrupt => "interrupts",
        Mode::Steer => "steers",
    };
    if busy.mode != Mode::Queue || !busy.chats.is_empty() {
        text.push_str(&format!("; what comes while the agent works {}", word(busy.mode)));
    }
    for (chat, mode) in &busy.chats {
        text.push_str(&format!(", in {chat} {}", word(*mode)));
    }
    text
}

/// Its routes, in their order.
fn routed(manners: &Manners) -> String {
    let mut text = String::new();
    for route in &manners.routes {
        let chat = route.chat.as_ref().map(|chat| format!("chat {chat} "));
        let user = route.user.as_ref().map(|user| format!("user {user} directly "));
        let whole = (chat.is_none() && user.is_none()).then(|| "everything ".to_owned());
        for what in [chat, user, whole].into_iter().flatten() {
            text.push_str(&what);
        }
        text.push_str(&format!("→ {}, ", route.agent));
    }
    if !text.is_empty() {
        text.push_str("else ");
    }
    text
}

fn hears(access: &supervisor::policy::access::Access) -> String {
    use supervisor::policy::access::{Direct, Groups};
    let direct = match access.direct {
        Direct::Open if matches!(access.groups, Groups::Mention | Groups::All) => {
            "everybody may speak, in every group, too".to_owned()
        }
        Direct::Open => "everybody may speak directly".to_owned(),
        Direct::Off => "direct chats are off".to_owned(),
        Direct::Pairing => format!("{} users may speak, strangers get a code", access.users.len()),
        Direct::List if access.users.is_empty() && access.chats.is_empty() => {
            "nobody may speak yet".to_owned()
        }
        Direct::List => {
            format!("{} users and {} chats may speak", access.users.len(), access.chats.len())
        }
    };
    let groups = match access.groups {
        Groups::Mention => "groups by mention",
        Groups::All => "groups always",
        Groups::List => "groups by mention of known users",
        Groups::Off => "groups off",
    };
    format!("{direct}, {groups}")
}
