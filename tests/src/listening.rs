//! A listener of a simulated platform, which can be closed and opened again on the same port.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether the platform is to listen, and whether it does.
pub(crate) struct Listening {
    wanted: watch::Sender<bool>,
    actual: watch::Receiver<bool>,
}

impl Listening {
    pub(crate) async fn set(&self, wanted: bool) {
        self.wanted.send_replace(wanted);
        let mut actual = self.actual.clone();
        // The accept loop is gone only when the platform is stopping.
        let _ = actual.wait_for(|actual| *actual == wanted).await;
    }
}

/// Starts the accept loop; `serve` is given every connection, until `stop`.
pub(crate) fn start(
    stop: CancellationToken,
    listener: TcpListener,
    addr: SocketAddr,
    serve: impl Fn(TcpStream) + Send + 'static,
) -> Listening {
    let wanted = watch::Sender::new(true);
    let (report, actual) = watch::channel(true);
    let orders = wanted.subscribe();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept(serve, listener, addr, orders, report) => {}
        }
    });
    Listening { wanted, actual }
}

async fn accept(
    serve: impl Fn(TcpStream),
    listener: TcpListener,
    addr: SocketAddr,
    mut orders: watch::Receiver<bool>,
    report: watch::Sender<bool>,
) {
    let mut listener = Some(listener);
    loop {
        if let Some(open) = &listener {
            tokio::select! {
                accepted = open.accept() => {
                    if let Ok((stream, _)) = accepted {
                        serve(stream);
                    }
                }
                wanted = orders.wait_for(|wanted| !*wanted) => {
                    if wanted.is_err() {
                        return;
                    }
                    drop(wanted);
                    listener = None;
                    report.send_replace(false);
                }
            }
        } else {
            if orders.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            match TcpListener::bind(addr).await {
                Ok(bound) => {
                    listener = Some(bound);
                    report.send_replace(true);
                }
                // Somebody else has the port for the moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
