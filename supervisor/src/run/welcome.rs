//! Letting a worker in, and telling it what to be.

use std::time::Duration;

use protocol::event::Pause;
use protocol::hello::Hello;
use protocol::id::Instance;
use protocol::worker::{
    Adapter, Configure, Exchange, ExecPlatformSettings, ExecSettings, LocalSettings, RelaySettings,
    SocketSettings, ToWorker,
};
use tokio::sync::oneshot;

use super::Gateway;
use super::desk::Desk;
use super::slot::Link;
use super::steward::STALE;
use crate::clock;
use crate::config::{AgentSettings, ExecPlatform, PlatformSettings};
use crate::link::Handle;
use crate::policy::liveness::Liveness;
use crate::socket::Peer;

/// How often a worker shows that its event loop runs.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
const WORKER_GRACE: Duration = Duration::from_secs(4);
/// Events (or replies) of one worker without a verdict, and their bytes.
pub(super) const WINDOW: u32 = 256;
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

impl Gateway {
    /// Lets a worker in if it is the child that was made, and tells it what to be.
    pub(super) fn welcome(
        &mut self,
        hello: &Hello,
        peer: Peer,
        handle: Handle,
        welcome: oneshot::Sender<()>,
    ) {
        let Some(index) = self.by_name.get(&hello.instance).copied() else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let known = slot.child.as_mut().filter(|running| {
            let pid = peer.pid.unwrap_or(hello.pid);
            let same = running.generation == hello.generation && running.child.pid() == pid;
            same && running.nonce.as_ref().is_some_and(|nonce| nonce.matches(&hello.nonce))
        });
        let Some(running) = known else {
            tracing::warn!(instance = %hello.instance, pid = ?peer.pid, "turned away a stranger");
            return;
        };
        running.nonce = None;
        // The end of a link may come later than the next worker: what is on its way over it waits for nobody.
        if slot.link.is_some() {
            self.link_lost(index, Pause::Lost);
        }
        let Some(adapter) = self.adapter(index) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        let configure = Configure {
            adapter,
            cursor: slot.cursor.clone(),
            window: WINDOW,
            window_bytes: WINDOW_BYTES,
            heartbeat_ms: millis(HEARTBEAT),
            grace_ms: millis(WORKER_GRACE),
            log: self.log.clone(),
            exchange: Exchange { dir: self.paths.exchange(), max_bytes: self.files.max_bytes },
            network: slot.network(),
        };
        handle.send(ToWorker::Configure(Box::new(configure)));
        slot.link = Some(Link { generation: hello.generation, handle, unanswered: 0 });
        slot.liveness = Some(Liveness::new(STALE, clock::now()));
        // The link task may have ended meanwhile; then its end follows.
        let _ = welcome.send(());
        self.look_at_descriptors();
    }

    pub(super) fn adapter(&self, index: usize) -> Option<Adapter> {
        let slot = self.slots.get(index)?;
        Some(match &slot.desk {
            Desk::Broken(_) => return None,
            Desk::Hooks(desk) => Adapter::Hooks(desk.settings.clone()),
            Desk::Platform(desk) => match &desk.settings {
                PlatformSettings::Local => {
                    Adapter::Local(LocalSettings { socket: self.paths.chat_socket(&slot.name) })
                }
                PlatformSettings::Feishu(settings) => Adapter::Feishu(settings.clone()),
                PlatformSettings::Telegram(settings) => Adapter::Telegram((**settings).clone()),
                PlatformSettings::Exec(settings) => {
                    let ExecPlatform { command, dir, variables, settings, secrets, .. } =
                        (**settings).clone();
                    let instance = slot.name.clone();
                    Adapter::ExecPlatform(Box::new(ExecPlatformSettings {
                        instance,
                        command,
                        dir,
                        variables,
                        settings,
                        secrets,
                    }))
                }
            },
            Desk::Agent(desk) => match &desk.settings {
                AgentSettings::Echo => Adapter::Echo,
                AgentSettings::Socket { listen, concurrency } => Adapter::Socket(SocketSettings {
                    socket: listen.clone().unwrap_or_else(|| self.paths.agent_socket(&slot.name)),
                    concurrency: *concurrency,
                }),
                AgentSettings::Exec { command, dir, variables, concurrency } => {
                    Adapter::Exec(ExecSettings {
                        command: command.clone(),
                        dir: dir.clone(),
                        variables: variables.clone(),
                        concurrency: *concurrency,
                    })
                }
                AgentSettings::Webhook(settings) => Adapter::Webhook(settings.clone()),
                AgentSettings::OpenAi(settings) => Adapter::OpenAi(settings.clone()),
                AgentSettings::Acp(settings) => Adapter::Acp(settings.clone()),
                AgentSettings::Relay { listen, id, secret, home, concurrency, turn_limit_s } => {
                    let kind = |name: &Instance| (name.clone(), self.platform_of(name));
                    Adapter::Relay(RelaySettings {
                        listen: *listen,
                        id: id.clone(),
                        secret: secret.clone(),
                        home: home.clone(),
                        platforms: desk.hears.iter().map(kind).collect(),
                        concurrency: *concurrency,
                        turn_limit_s: *turn_limit_s,
                    })
                }
            },
        })
    }
}
