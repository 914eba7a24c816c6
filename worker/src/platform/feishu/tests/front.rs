//! What stands between us and the platform: TLS with a company's own certificate, proxies, and a network that
//! delivers in pieces of its own choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Leads to the simulated platform. Ends with the test's runtime.
struct Front {
    port: u16,
    /// Its certificate, as PEM, if it speaks TLS.
    certificate: String,
    /// Bytes that went in one piece with a handshake's answer.
    together: Arc<AtomicUsize>,
}

impl Front {
    async fn secured(sim: &Sim) -> Self {
        let (acceptor, certificate) = crate::own_tls::acceptor();
        sim.configure(|settings| settings.secured = true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), sim.addr());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    lead(stream, target, None).await;
                });
            }
        });
        Self { port, certificate, together: Arc::default() }
    }

    /// Holds what follows a handshake's answer back for a moment, and lets both go in one piece.
    async fn gathering(sim: &Sim) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), sim.addr());
        let together = Arc::new(AtomicUsize::new(0));
        let counter = together.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(lead(stream, target, Some(counter.clone())));
            }
        });
        Self { port, certificate: String::new(), together }
    }
}

async fn lead(
    near: impl AsyncRead + AsyncWrite,
    target: SocketAddr,
    gathers: Option<Arc<AtomicUsize>>,
) {
    let far = TcpStream::connect(target).await.unwrap();
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
        (tokio::io::split(near), far.into_split());
    let there = async {
        let _ = tokio::io::copy(&mut near_in, &mut far_out).await;
        let _ = far_out.shutdown().await;
    };
    let back = async {
        let mut held = Vec::new();
        let mut waits = gathers.is_some();
        held.reserve(1 << 16);
        while let Ok(1..) = far_in.read_buf(&mut held).await {
            let head = held.windows(4).position(|four| four == b"\r\n\r\n");
            if waits && held.starts_with(b"HTTP/1.1 101") {
                let Some(head) = head else { continue };
                tokio::time::sleep(Duration::from_millis(200)).await;
                while let Ok(1..) = far_in.try_read_buf(&mut held) {}
                if let Some(together) = &gathers {
                    together.fetch_add(held.len() - head - 4, Ordering::Relaxed);
                }
                waits = false;
            }
            if near_out.write_all(&held).await.and(near_out.flush().await).is_err() {
                return;
            }
            held.clear();
        }
        let _ = near_out.shutdown().await;
    };
    tokio::join!(there, back);
}

/// F19: between the answer to the handshake and the reader of frames nothing gets lost.
#[tokio::test]
async fn events_in_the_same_segment_as_the_handshakes_answer_are_heard() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.push_on_connect = true);
    let front = Front::gathering(&sim).await;
    let pushed: Vec<_> =
        (0..5).map(|i| sim.push_text(APP, "oc_1", "ou_ann", &i.to_string())).collect();
    let url = format!("http://127.0.0.1:{}", front.port);
    let mut rig = Rig::built(sim, &Network::default(), None, |settings| settings.base_url = url);
    let mut texts = Vec::new();
    for _ in 0..5 {
        texts.push(accept(rig.heard().await).text);
    }
    texts.sort();
    assert_eq!(texts, ["0", "1", "2", "3", "4"]);
    assert!(front.together.load(Ordering::Relaxed) > 5 * 200, "all of them in that segment");
    for event in pushed {
        event.acked_within(LONG).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn tls_with_an_own_certificate_works_through_every_proxy() {
    for scheme in ["", "http", "socks5"] {
        let sim = Rig::sim().await;
        let front = Front::secured(&sim).await;
        let proxy = Proxy::start(Some(("ann", "p@ss"))).await;
        let url = format!("{scheme}://ann:p%40ss@{}", proxy.addr());
        let proxied = (!scheme.is_empty()).then(|| Secret::new(&url));
        let network = Network { proxy: proxied.clone(), ca: front.certificate.clone() };
        let base_url = format!("https://localhost:{}", front.port);
        let mut rig = Rig::built(sim, &network, None, |it| it.base_url.clone_from(&base_url));
        rig.until_ready().await;
        let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
        accept(rig.heard().await);
        event.acked_within(LONG).await;
        sent(rig.send(outbound(1, |_| {})).await);
        let led = proxy.led();
        let how = match scheme {
            "" => "",
            // With TLS inside, calls are tunnelled as well.
            "http" => "CONNECT localhost:",
            _ => "SOCKS localhost:",
        };
        assert_eq!(led.is_empty(), scheme.is_empty(), "{led:?}");
        assert!(led.iter().all(|it| it.starts_with(how)), "{led:?}");
        let sim = rig.end().await;

        // Without that certificate nobody is trusted, whatever leads there.
        let network = Network { proxy: proxied, ca: String::new() };
        let mut rig = Rig::built(sim, &network, None, |it| it.base_url.clone_from(&base_url));
        let (reason, _) = rig.until_down().await;
        assert!(reason.contains("certificate"), "{reason}");
        rig.end().await;
    }
}
