//! How far a connection or a call has come, and where: it is told where the time runs out.
//!
//! A name server, a proxy and a server that do not answer read alike otherwise, and want different remedies.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tower_layer::Layer;
use tower_service::Service;
use url::Url;

use crate::proxy::Proxy;

tokio::task_local! {
    static WAY: Way;
}

/// What is waited for.
#[derive(Clone, Debug, Default)]
pub enum Step {
    /// The addresses of the host with this name.
    Name(String),
    /// A connection, with all that a proxy and TLS want, unless that is a step of its own.
    Connect,
    /// TLS and what follows it before anything is said.
    Handshake,
    /// What the server says.
    #[default]
    Answer,
}

/// The way to a host.
#[derive(Clone, Debug, Default)]
pub struct Way(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    host: String,
    proxy: Option<String>,
    step: Step,
}

impl Way {
    /// To the host of `url`, of which nothing else is told: the rest may be a secret.
    pub fn to(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Self(Arc::new(Mutex::new(State { host, proxy: None, step: Step::Answer })))
    }

    /// It goes through the proxy at `place`.
    pub fn through(&self, place: Option<String>) {
        self.with(|state| state.proxy = place);
    }

    /// This is waited for from now on.
    pub fn at(&self, step: Step) {
        self.with(|state| state.step = step);
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does `work`, in which the client's connector and resolver tell where they are.
    pub(super) fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        WAY.scope(self, work)
    }

    /// The time ran out.
    pub fn late(&self) -> String {
        self.with(|state| match &state.step {
            Step::Name(name) => format!("no answer in time: looking up the name of {name}"),
            Step::Connect => format!("no answer in time: connecting to {state}"),
            Step::Handshake => format!("no answer in time: in the handshake with {state}"),
            Step::Answer => format!("no answer in time from {state}"),
        })
    }

    /// No connection was made.
    pub fn closed(&self) -> String {
        self.with(|state| format!("no connection to {state}"))
    }

    /// One was, and it ended.
    pub fn broken(&self) -> String {
        self.with(|state| format!("the connection to {state} broke"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proxy {
            Some(proxy) => write!(f, "{} through the proxy {proxy}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// A connection that is made ahead of its call is no step of any.
fn at(step: Step) {
    let _ = WAY.try_with(|way| way.at(step));
}

/// Looks names up as the system does.
pub(super) struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            at(Step::Name(name.as_str().to_owned()));
            let found: Vec<_> = lookup_host((name.as_str(), 0)).await?.collect();
            at(Step::Connect);
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Makes a connector tell when it begins and ends, and through which proxy it goes.
#[derive(Clone, Debug)]
pub(super) struct Telling(Option<String>);

impl Telling {
    pub(super) fn new(proxy: Option<&Proxy>) -> Self {
        Self(proxy.map(Proxy::place))
    }
}

/// A connector that tells.
#[derive(Clone, Debug)]
pub(super) struct Told<S>(S, Option<String>);

impl<S> Layer<S> for Telling {
    type Service = Told<S>;

    fn layer(&self, inner: S) -> Told<S> {
        Told(inner, self.0.clone())
    }
}

impl<S, R> Service<R> for Told<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        let proxy = self.1.clone();
        Box::pin(async move {
            let _ = WAY.try_with(|way| way.through(proxy));
            at(Step::Connect);
            let connected = connecting.await?;
            at(Step::Answer);
            Ok(connected)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_that_nobody_knows_in_time_is_told() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // Every name server is this slow.
            let (free, hung) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || hung.recv());
            let way = Way::to(&Url::parse("https://localhost:1/secret").unwrap());
            let look = || way.clone().scope(Names.resolve("localhost".parse().unwrap()));
            let limit = Duration::from_millis(10);
            assert!(tokio::time::timeout(limit, look()).await.is_err());
            assert_eq!(way.late(), "no answer in time: looking up the name of localhost");
            drop(free);
            look().await.map(drop).unwrap();
            assert_eq!(way.late(), "no answer in time: connecting to localhost:1");
        });
    }
}
