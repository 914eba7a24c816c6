//! How long Feishu waits for the answer to an event: decoded, sent to the supervisor, committed,
//! synced, answered. The simulated platform runs in this process.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::gateway::Gateway;
use super::raw::Raw;
use super::stats::{median, quantile};
use super::table::Goal;
use super::{Bench, PATIENCE, Row, Table, clock, fault};
use crate::feishu::{End, EventHandle, Feishu};

pub(super) const APP: &str = "cli_bench";
const CHATS: usize = 20;
/// Between two events: 200 a second.
const PACE: Duration = Duration::from_millis(5);
const EVENTS: usize = 2000;
/// Before and after them, for the baseline.
const SYNCS: usize = 200;

/// The platform, on a thread of its own; it ends with its value.
pub(super) struct Simulated {
    platform: Feishu,
    runtime: Handle,
    _stop: DropGuard,
}

impl Simulated {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let platform = runtime.block_on(Feishu::start());
        platform.add_app(APP, "secret", "ou_bot");
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let guard = stop.clone().drop_guard();
        std::thread::Builder::new()
            .name("feishu".into())
            .spawn(move || runtime.block_on(stop.cancelled()))?;
        Ok(Self { platform, runtime: handle, _stop: guard })
    }

    /// The platform itself.
    pub(super) fn platform(&self) -> &Feishu {
        &self.platform
    }

    /// Lets something run beside it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// What `work` comes to, beside it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = mpsc::channel();
        self.runtime.spawn(async move { tell.send(work.await) });
        told.recv().map_err(|_| fault("the simulated Feishu is gone"))
    }

    /// The block of a configuration that leads here, open at its end.
    pub(super) fn config(&self) -> String {
        format!(
            "[platform.feishu]\napp_id = \"{APP}\"\napp_secret_file = \"secret\"\n\
             access = {{ direct = \"open\" }}\nbase_url = \"{}\"\n",
            self.platform.base_url()
        )
    }

    /// Waits for the worker's connection.
    pub(super) fn connected(&self) -> io::Result<()> {
        let connected = || (!self.platform.connections(APP).is_empty()).then_some(());
        clock::until("the worker connects to Feishu", PATIENCE, connected)
    }

    /// The times from events to their answers, in milliseconds.
    fn answers(&self) -> io::Result<Vec<f64>> {
        let (tell, told) = mpsc::channel();
        let platform = self.platform.clone();
        self.runtime.spawn(async move { tell.send(answers(platform).await) });
        told.recv().map_err(|_| fault("the simulated Feishu is gone"))?
    }
}

async fn answers(platform: Feishu) -> io::Result<Vec<f64>> {
    let mut pace = tokio::time::interval(PACE);
    let mut events = Vec::with_capacity(EVENTS);
    for n in 0..EVENTS {
        pace.tick().await;
        let (chat, text) = (format!("oc_{}", n % CHATS), "x".repeat(1024));
        events.push(platform.push_text(APP, &chat, "ou_user", &text));
    }
    let ended = future::join_all(events.iter().map(EventHandle::ended));
    let late = |_| fault("Feishu waits for an answer");
    let ended = tokio::time::timeout(PATIENCE, ended).await.map_err(late)?;
    let time = |end| match end {
        End::Acked(ack) if ack.attempt == 1 => Ok(clock::ms(ack.latency)),
        End::Acked(_) => Err(fault("Feishu had to repeat an event")),
        End::GivenUp => Err(fault("Feishu gave up an event")),
    };
    ended.into_iter().map(time).collect()
}

pub(super) fn measure(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let feishu = Simulated::start()?;
    let gateway = Gateway::start(&bench.ground, &feishu.config())?;
    feishu.connected()?;
    let mut syncs = paced(&gateway)?;
    let times = feishu.answers()?;
    syncs.extend(paced(&gateway)?);
    let (p99, sync) = (quantile(&times, 0.99), quantile(&syncs, 0.99));
    table.push(
        Row::new(
            format!("answer to Feishu at 200 events/s, {EVENTS} events"),
            format!(
                "p50 {:.2} ms, p99 {p99:.2} ms, max {:.2} ms",
                median(&times),
                quantile(&times, 1.0)
            ),
        )
        .against(
            format!("p50 {:.2} ms, p99 {sync:.2} ms one paced sync", median(&syncs)),
            p99 / sync,
        )
        .goal(Goal::AtMost(15.0), p99, " ms p99"),
    );
    Ok(())
}

/// Syncs at the pace of the events: a disk that rests in between is slower than one in a hurry.
fn paced(gateway: &Gateway) -> io::Result<Vec<f64>> {
    let mut raw = Raw::new(gateway.dir(), &[b'x'; 1024], 1)?;
    let one = |_| {
        clock::pause(PACE);
        raw.group()
    };
    (0..SYNCS).map(one).collect()
}
