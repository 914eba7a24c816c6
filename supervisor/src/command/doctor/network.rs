//! Whether the servers of platforms and agents can be reached from here, and whether the clock agrees
//! with theirs.

use std::time::Duration;

use futures_util::future::join_all;
use protocol::worker::Network;
use supervisor::clock;
use supervisor::config::{AgentSettings, Body, Config, PlatformSettings};
use supervisor::exit::Code;
use supervisor::text::span;
use worker::http::Http;

use super::Findings;

/// A clock that is wrong by more makes certificates and signatures fail, sooner or later.
const CLOCK_MS: u64 = 60_000;

pub(super) async fn look(config: &Config, findings: &mut Findings) {
    let mut servers: Vec<(String, &Network)> = Vec::new();
    for body in config.instances.iter().filter_map(|spec| spec.body.as_ref().ok()) {
        let (url, network) = match body {
            Body::Platform { settings, network, .. } => match settings {
                PlatformSettings::Feishu(settings) => (&settings.base_url, network),
                PlatformSettings::Telegram(settings) => (&settings.base_url, network),
                PlatformSettings::Local | PlatformSettings::Exec(_) => continue,
            },
            Body::Agent { settings, network, .. } => match settings {
                AgentSettings::OpenAi(settings) => (&settings.base_url, network),
                AgentSettings::Webhook(settings) => (&settings.url, network),
                _ => continue,
            },
            Body::Hooks(_) => continue,
        };
        // The rest of an address may be a secret.
        let server: Vec<&str> = url.splitn(4, '/').take(3).collect();
        let server = (server.join("/"), &**network);
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    let asked = servers.iter().map(|(server, network)| ask(server, network));
    for ((server, _), answer) in servers.iter().zip(join_all(asked).await) {
        // A name and a password may stand in front of the host.
        let about = server.rsplit(['/', '@']).next().unwrap_or_default();
        match answer {
            Err(why) => {
                let hint =
                    "look at the network, the name server, the proxy (`proxy = …`) and `ca_file`";
                findings.wrong(about, why, Some(hint.into()), Code::Unavailable);
            }
            Ok(Answered { after, ahead_ms }) => {
                findings.ok(about, format!("answers after {} ms", after.as_millis()));
                if let Some(ms) = ahead_ms.filter(|ms| ms.unsigned_abs() > CLOCK_MS) {
                    let where_to = if ms > 0 { "ahead of" } else { "behind" };
                    let by = span(ms.abs());
                    let text = format!("this machine's clock is {by} {where_to} that of {about}");
                    let hint = "set it, and have it kept: `timedatectl set-ntp true`";
                    findings.wrong("clock", text, Some(hint.into()), Code::Os);
                }
            }
        }
    }
}

struct Answered {
    after: Duration,
    /// By how much our clock is ahead of the server's, if it tells.
    ahead_ms: Option<i64>,
}

/// Any answer will do: that there is one is what is asked.
async fn ask(server: &str, network: &Network) -> Result<Answered, String> {
    let http = Http::over(server, network).map_err(|e| e.to_string())?;
    let began = clock::now();
    let answer = http.call(http.client().head(server)).await?;
    let after = clock::now().duration_since(began);
    // The date has whole seconds.
    let ahead_ms = answer.date_ms().map(|date| clock::unix_ms() - date);
    Ok(Answered { after, ahead_ms })
}
