//! One instance of hermes-gw in one process: a platform account, or an agent endpoint.
//!
//! A worker knows its supervisor and the outside world, and nothing else: it opens no file but those that are
//! exchanged, keeps no state that must outlive it, and may be killed at any moment. What it heard and
//! what is not yet accepted is still owed to us by the platform; what it was told to send is still in
//! the outbox.

pub mod agent;
pub mod clock;
mod confine;
mod connection;
mod copies;
pub mod error;
pub mod exchange;
pub mod family;
mod fit;
pub mod http;
mod json;
pub mod listener;
mod meant;
#[cfg(test)]
mod own_tls;
pub mod parent;
pub mod platform;
mod program;
pub mod proxy;
mod pump;
mod raw;
mod scrub;
pub mod service;
pub mod session;
pub mod socket;
pub mod stderr;
mod strangers;
pub mod text;
mod trust;
pub mod unacked;
pub mod urls;

use std::time::Duration;

use protocol::hello::{BuildId, Hello};
use protocol::id::Nonce;
use protocol::link;
use protocol::worker::{Configure, FromWorker, ToWorker};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use error::Error;

/// From the connection to the first frame of the supervisor.
const HELLO: Duration = Duration::from_secs(10);

/// From the signal to end to the end, unless the supervisor says it on the link: its word comes behind all
/// that it has sent before, the signal overtakes that.
const SIGNAL: Duration = Duration::from_millis(500);

/// For threads that look up names and open files.
const FOR_EVER: Duration = Duration::MAX;

/// Makes the thread that names are looked up in, under the limits for files, as it is made after those. It stays: a
/// system that makes no further thread then delays a look-up and ends nobody.
async fn keep_a_thread() -> std::io::Result<()> {
    // Where there is no room for one, this says so, and the runtime would panic.
    let probe = std::thread::Builder::new().spawn(|| ())?;
    let _ = probe.join();
    tokio::task::spawn_blocking(|| ()).await.map_err(std::io::Error::other)
}

/// The whole life of a worker process. `log` is told the filter to log with.
pub fn run(build: BuildId, log: impl FnOnce(&str)) -> Result<(), Error> {
    confine::close_memory();
    let leash = parent::leash()?;
    let stop = CancellationToken::new();
    let os = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Os { what, source }
    };
    let finished = parent::watch(stop.clone()).map_err(os("start the leash thread"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(FOR_EVER)
        .build()
        .map_err(os("start the event loop"))?;
    let result = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(os("listen to signals"))?;
        confine::outlive_large_files();
        let (mut receive, mut send) = socket::dial(&leash.socket).await.map_err(|source| {
            Error::Os { what: format!("dial {}", leash.socket.display()), source }
        })?;
        link::send_preamble(&mut send, build).await?;
        let mut sender = link::Sender::new(send);
        let nonce = Nonce::from_hex(&leash.nonce)
            .ok_or_else(|| Error::Leash("the nonce is not hexadecimal".into()))?;
        let hello = Hello {
            instance: leash.instance.clone(),
            generation: leash.generation,
            nonce,
            pid: std::process::id(),
        };
        sender.send(&hello).await?;
        let (receiver, configure) = tokio::time::timeout(HELLO, async {
            link::read_preamble(&mut receive, &[]).await?;
            let mut receiver = link::Receiver::new(receive);
            match receiver.next().await? {
                Some(ToWorker::Configure(configure)) => Ok((receiver, *configure)),
                Some(_) => Err(Error::Unexpected("something before the configuration")),
                None => Err(Error::Link(protocol::Error::Torn)),
            }
        })
        .await
        .map_err(|_| Error::Link(protocol::Error::Io(std::io::ErrorKind::TimedOut.into())))??;
        log(&configure.log);
        let confined = confine::confine(&configure.adapter, &configure.exchange.dir).to_owned();
        keep_a_thread().await.map_err(os("start a thread"))?;
        sender.send(&FromWorker::Confined { to: confined }).await?;
        let told: Configure = configure;
        let by_signal = stop.clone();
        tokio::spawn(async move {
            if term.recv().await.is_some() {
                let _ = tokio::time::timeout(SIGNAL, by_signal.cancelled()).await;
                by_signal.cancel();
            }
        });
        pump::run(receiver, sender, (leash.instance, told), stop).await
    });
    // Whatever still runs in the runtime does not keep the process.
    runtime.shutdown_background();
    family::end();
    drop(finished);
    result
}
