//! The adapter that a worker is, and the channels between it and the pump.

use std::pin::Pin;

use protocol::event::Outbound;
use protocol::hook::HookEvent;
use protocol::id::Seq;
use protocol::worker::{Adapter, Configure, FromWorker};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::agent::acp::Acp;
use crate::agent::echo::Echo;
use crate::agent::exec::Exec;
use crate::agent::openai::OpenAi;
use crate::agent::relay::Relay;
use crate::agent::socket::Socket;
use crate::agent::webhook::Webhook;
use crate::agent::{self, Agent, ToAgent};
use crate::exchange::Exchange;
use crate::platform::feishu::Feishu;
use crate::platform::local::Local;
use crate::platform::telegram::Telegram;
use crate::platform::{self, Ask, Note, Platform};
use crate::service;
use crate::service::hooks::Hooks;

/// Room for what the supervisor may have on its way to an adapter.
const DOWN: usize = 4096;
pub(super) const UP: usize = 256;
pub(super) type Running = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// The pump's ends of the adapter's channels. Both roles have all of them; an adapter uses its own.
pub(super) struct Ports {
    pub(super) events: mpsc::Receiver<platform::Submitted>,
    pub(super) kept: mpsc::Receiver<platform::Kept>,
    pub(super) notes: mpsc::Receiver<Note>,
    pub(super) outbound: mpsc::Sender<Outbound>,
    pub(super) replies: mpsc::Receiver<agent::Submitted>,
    pub(super) wishes: mpsc::Receiver<agent::Wished>,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) occasions: mpsc::Sender<(Seq, Box<HookEvent>)>,
    pub(super) said: mpsc::Receiver<FromWorker>,
    pub(super) incoming: mpsc::Sender<ToAgent>,
    /// Kept so that the receivers of the other role wait instead of ending.
    _unused: Unused,
}

type Unused = (
    mpsc::Sender<platform::Submitted>,
    mpsc::Sender<platform::Kept>,
    mpsc::Sender<Note>,
    agent::Replies,
    agent::Files,
    agent::Say,
);

/// What `configure` says that this worker is. `stop` asks it to end.
pub(super) fn start(configure: Configure, stop: &CancellationToken) -> (Ports, Running) {
    let (event, events) = mpsc::channel(UP);
    let (keep, kept) = mpsc::channel(UP);
    let (note, notes) = mpsc::channel(UP);
    let (outbound, outgoing) = mpsc::channel(DOWN);
    let (reply, replies) = mpsc::channel(UP);
    let (wish, wishes) = mpsc::channel(UP);
    let (ask, asks) = mpsc::channel(DOWN);
    let (occasion, occasions) = mpsc::channel(DOWN);
    let exchange = Exchange::from(configure.exchange);
    let (say, said) = mpsc::channel(UP);
    let (incoming, arriving) = mpsc::channel(DOWN);
    let for_platform = platform::Context {
        events: platform::Events::new(event.clone(), keep.clone()),
        outbound: outgoing,
        asks,
        exchange: exchange.clone(),
        network: configure.network.clone(),
        report: platform::Report::new(note.clone()),
        stop: stop.clone(),
        cursor: configure.cursor,
    };
    let for_agent = agent::Context {
        incoming: arriving,
        replies: agent::Replies::new(reply.clone()),
        say: agent::Say::new(say.clone()),
        files: agent::Files::new(wish.clone()),
        exchange,
        network: configure.network,
        stop: stop.clone(),
    };
    let for_service =
        service::Context { occasions, say: agent::Say::new(say.clone()), stop: stop.clone() };
    let adapter: Running = match configure.adapter {
        Adapter::Local(settings) => Box::pin(Local::new(settings).run(for_platform)),
        Adapter::Feishu(settings) => Box::pin(Feishu::new(settings).run(for_platform)),
        Adapter::Telegram(settings) => Box::pin(Telegram::new(settings).run(for_platform)),
        Adapter::ExecPlatform(settings) => {
            Box::pin(platform::exec::Exec::new(*settings).run(for_platform))
        }
        Adapter::Echo => Box::pin(Echo.run(for_agent)),
        Adapter::Socket(settings) => Box::pin(Socket::new(settings).run(for_agent)),
        Adapter::Exec(settings) => Box::pin(Exec::new(settings).run(for_agent)),
        Adapter::Webhook(settings) => Box::pin(Webhook::new(settings).run(for_agent)),
        Adapter::OpenAi(settings) => Box::pin(OpenAi::new(settings).run(for_agent)),
        Adapter::Acp(settings) => Box::pin(Acp::new(settings).run(for_agent)),
        Adapter::Relay(settings) => Box::pin(Relay::new(settings).run(for_agent)),
        Adapter::Hooks(settings) => Box::pin(Hooks::new(settings).run(for_service)),
    };
    let (reply, wish) = (agent::Replies::new(reply), agent::Files::new(wish));
    let unused = (event, keep, note, reply, wish, agent::Say::new(say));
    let occasions = occasion;
    let ports = Ports {
        events,
        kept,
        notes,
        outbound,
        replies,
        wishes,
        asks: ask,
        occasions,
        said,
        incoming,
        _unused: unused,
    };
    (ports, adapter)
}
