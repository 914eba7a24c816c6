//! A way to the outside through a proxy: HTTP `CONNECT` or SOCKS 5, the same for calls and for long
//! connections. Names are looked up by the proxy, because a network that needs one often knows no others.

use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tower_service::Service;
use url::Url;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// How the proxy is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Http,
    Socks,
}

/// A proxy. Nothing of it that is a secret is ever shown.
#[derive(Clone)]
pub struct Proxy {
    kind: Kind,
    /// Where it is.
    pub host: String,
    /// Its port.
    pub port: u16,
    credentials: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} proxy {}:{}", self.kind, self.host, self.port)
    }
}

impl Proxy {
    /// Reads `http://host:port`, `socks5://host:port`, either with `user:password@`. The error does not
    /// repeat what it was given.
    pub fn read(setting: &str) -> Result<Self, String> {
        let url = Url::parse(setting).map_err(|e| e.to_string())?;
        let (kind, default) = match url.scheme() {
            "http" => (Kind::Http, 8080),
            "socks5" | "socks5h" => (Kind::Socks, 1080),
            other => return Err(format!("a proxy is http:// or socks5://, not {other}://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // The parser leaves the usual port of http out.
        let port = url.port().unwrap_or(if kind == Kind::Http && names_80(setting) {
            80
        } else {
            default
        });
        let plain = |text: &str| {
            let pairs = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
            url::form_urlencoded::parse(pairs.as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        let user = plain(url.username());
        let password = plain(url.password().unwrap_or_default());
        let named = !user.is_empty() || !password.is_empty();
        Ok(Self { kind, host, port, credentials: named.then_some((user, password)) })
    }

    /// Where it is.
    pub fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// What the HTTP client is told.
    pub(crate) fn for_calls(&self) -> Result<reqwest::Proxy, reqwest::Error> {
        // `socks5h`: the proxy looks names up.
        let scheme = if self.kind == Kind::Http { "http" } else { "socks5h" };
        let proxy = reqwest::Proxy::all(format!("{scheme}://{}", self.place()))?;
        Ok(match &self.credentials {
            Some((user, password)) => proxy.basic_auth(user, password),
            None => proxy,
        })
    }

    /// Leads `tcp`, which is connected to the proxy, on to `host`.
    pub async fn tunnel(&self, tcp: TcpStream, host: &str, port: u16) -> io::Result<TcpStream> {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let target: Uri = format!("http://{bracketed}:{port}").parse().map_err(io::Error::other)?;
        let dialled = Dialled(Some(TokioIo::new(tcp)));
        let here = Uri::from_static("http://proxy");
        let stream = match (self.kind, &self.credentials) {
            (Kind::Http, None) => Tunnel::new(here, dialled).call(target).await.map_err(refused)?,
            (Kind::Http, Some((user, password))) => {
                let word = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
                let word = HeaderValue::from_str(&word).map_err(io::Error::other)?;
                Tunnel::new(here, dialled).with_auth(word).call(target).await.map_err(refused)?
            }
            (Kind::Socks, None) => {
                SocksV5::new(here, dialled).call(target).await.map_err(refused)?
            }
            (Kind::Socks, Some((user, password))) => SocksV5::new(here, dialled)
                .with_auth(user.clone(), password.clone())
                .call(target)
                .await
                .map_err(refused)?,
        };
        Ok(stream.into_inner())
    }
}

/// Whether the port 80 was written out.
fn names_80(setting: &str) -> bool {
    setting.trim_end_matches('/').ends_with(":80")
}

fn refused(error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("the proxy does not lead there: {error}"))
}

/// A connection that is there already, for whoever wants to make one.
struct Dialled(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Dialled {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::Error::other("it was used before")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_and_never_shown() {
        let proxy = Proxy::read("socks5://ann:p%40ss+@[::1]:9050").unwrap();
        assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (Kind::Socks, "::1", 9050));
        assert_eq!(proxy.credentials, Some(("ann".to_owned(), "p@ss+".to_owned())));
        assert!(!format!("{proxy:?}").contains("p@ss"));
        let proxy = Proxy::read("http://a&b:c&d=e+f%26%25@h").unwrap();
        assert_eq!(proxy.credentials, Some(("a&b".to_owned(), "c&d=e+f&%".to_owned())));
        let port = |setting| Proxy::read(setting).unwrap().port;
        assert_eq!(port("http://h"), 8080);
        assert_eq!(port("http://h:80/"), 80);
        assert_eq!(port("socks5h://h"), 1080);
        for wrong in ["", "h:1", "https://h", "ftp://h", "http://"] {
            assert!(Proxy::read(wrong).is_err(), "{wrong}");
        }
    }
}
