//! The one HTTP client of a worker, and the TLS settings that its sockets share.
//!
//! Every step has a limit: a call that never ends is how a gateway goes deaf while it looks alive.
//! Redirects are not followed, because requests carry secrets; a proxy is used where one is configured, and
//! never one that the environment names; answers are read up to a bound. An error names the host and never a
//! URL, because some URLs are secrets themselves.

pub mod way;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::worker::Network;
use reqwest::header::HeaderMap;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use url::Url;

use crate::Error;
use crate::proxy::Proxy;
use crate::trust;
use way::{Names, Telling, Way};

/// For the name, the connection and TLS together. A lost first packet is sent again after 1 s and 3 s;
/// after that a new attempt is better than patience.
const CONNECT: Duration = Duration::from_secs(5);
/// So much more for them on a line that was found to be slow, and for each call over such a line.
const SLOWER: Duration = Duration::from_secs(15);
/// For a whole call, unless its caller is in a greater hurry.
const CALL: Duration = Duration::from_secs(10);
/// Shorter than it takes to notice a dead line, whose idle connections nobody should try one by one.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_MAX: usize = 4;
/// For bytes that were sent and not confirmed.
const UNCONFIRMED: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const BODY_MAX: usize = 1024 * 1024;

/// A client, cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    usual: Clients,
    patient: Clients,
    is_slow: Arc<AtomicBool>,
    tls: Arc<ClientConfig>,
    proxy: Option<Arc<Proxy>>,
}

/// Those that differ in their patience for a connection.
#[derive(Clone, Debug)]
struct Clients {
    pooled: reqwest::Client,
    fresh: reqwest::Client,
}

/// An answer, whatever it says.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// When the server says that it answered, in Unix milliseconds, to the second.
    pub fn date_ms(&self) -> Option<i64> {
        let date = self.headers.get(reqwest::header::DATE)?.to_str().ok()?;
        let date = httpdate::parse_http_date(date).ok()?;
        let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    }
}

impl Http {
    /// A client for servers like the one at `base_url`. The system's certificates are only read if that
    /// one needs them.
    pub fn over(base_url: &str, network: &Network) -> Result<Self, Error> {
        let config = |why: String| Error::Config { what: "prepare TLS".to_owned(), why };
        let is_secure = base_url.starts_with("https:");
        let roots = if is_secure { roots(&network.ca)? } else { RootCertStore::empty() };
        let wrong_proxy = |why: String| Error::Config { what: "use the proxy".to_owned(), why };
        let proxy = network.proxy.as_ref().map(|proxy| Proxy::read(proxy.expose()));
        let proxy = proxy.transpose().map_err(wrong_proxy)?;
        let for_calls = proxy.as_ref().map(Proxy::for_calls).transpose();
        let for_calls = for_calls.map_err(|e| wrong_proxy(causes(&e)))?;
        let telling = Telling::new(proxy.as_ref());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| config(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = |idle: usize, more: Duration| {
            let builder = reqwest::Client::builder()
                .dns_resolver(Names)
                .connector_layer(telling.clone())
                .tls_backend_preconfigured(tls.clone())
                .http1_only()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT + more)
                .timeout(CALL + more)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                .tcp_nodelay(true);
            let builder = match &for_calls {
                Some(proxy) => builder.proxy(proxy.clone()),
                None => builder,
            };
            #[cfg(target_os = "linux")]
            let builder = builder.tcp_user_timeout(UNCONFIRMED);
            builder.build().map_err(|e| config(causes(&e)))
        };
        let clients = |more| -> Result<Clients, Error> {
            Ok(Clients { pooled: client(IDLE_MAX, more)?, fresh: client(0, more)? })
        };
        Ok(Self {
            usual: clients(Duration::ZERO)?,
            patient: clients(SLOWER)?,
            is_slow: Arc::default(),
            tls: Arc::new(tls),
            proxy: proxy.map(Arc::new),
        })
    }

    /// Whether the line is too slow for the usual limits: whoever keeps a connection over it knows.
    pub fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    fn clients(&self) -> &Clients {
        if self.is_slow.load(Ordering::Relaxed) { &self.patient } else { &self.usual }
    }

    /// What a call over a new connection may take beyond what is usual.
    pub fn slower(&self) -> Duration {
        if self.is_slow.load(Ordering::Relaxed) { SLOWER } else { Duration::ZERO }
    }

    /// For a request to fill in.
    pub fn client(&self) -> &reqwest::Client {
        &self.clients().pooled
    }

    /// The same, for a request that must not be lost on a connection that died unnoticed.
    pub fn fresh(&self) -> &reqwest::Client {
        &self.clients().fresh
    }

    /// For sockets that are no calls.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// What sockets that are no calls have to go through.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// Makes a call. The error says what went wrong, without the URL.
    pub async fn call(&self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let whole = CALL + self.slower();
        let within = Within { head: whole, stall: CALL, whole, body: BODY_MAX };
        exchange(request, within).await.map_err(|lost| lost.why)
    }

    /// Makes a call with limits of its own, in place of those for every call.
    pub async fn call_within(
        &self,
        request: reqwest::RequestBuilder,
        within: Within,
    ) -> Result<Answer, Lost> {
        exchange(request.timeout(within.whole), within).await
    }
}

/// The way that `request` goes, and its first step.
fn begin(
    request: reqwest::RequestBuilder,
) -> (Way, impl Future<Output = Result<reqwest::Response, reqwest::Error>>) {
    let (client, request) = request.build_split();
    let way = request.as_ref().map_or_else(|_| Way::default(), |request| Way::to(request.url()));
    let sending = way.clone().scope(async move { client.execute(request?).await });
    (way, sending)
}

/// A request and its answer. The time for the whole is the request's own.
async fn exchange(request: reqwest::RequestBuilder, within: Within) -> Result<Answer, Lost> {
    let (way, sending) = begin(request);
    let late = |_| Lost { why: way.late(), left: true, late: true };
    let lost = |e: reqwest::Error| Lost::of(&e, &way);
    let mut response = timeout(within.head, sending).await.map_err(late)?.map_err(lost)?;
    let mut body = Vec::new();
    loop {
        let more = timeout(within.stall, response.chunk()).await.map_err(late)?;
        let Some(bytes) = more.map_err(lost)? else { break };
        if body.len() + bytes.len() > within.body {
            let why = format!("the answer has more than {} bytes", within.body);
            return Err(Lost { why, left: true, late: false });
        }
        body.extend_from_slice(&bytes);
    }
    let headers = std::mem::take(response.headers_mut());
    Ok(Answer { status: response.status().as_u16(), headers, body })
}

/// The limits of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Within {
    /// From the beginning to the first byte of the answer.
    pub head: Duration,
    /// Between two pieces of the answer.
    pub stall: Duration,
    /// From the beginning to the end of the answer.
    pub whole: Duration,
    /// The answer's size.
    pub body: usize,
}

impl Within {
    /// The usual limits of a call of which `whole` is all that it may take.
    pub fn whole(whole: Duration) -> Self {
        Self { head: whole, stall: whole, whole, body: BODY_MAX }
    }

    /// The same for a call over a new connection that takes so much longer.
    pub fn slower(self, by: Duration) -> Self {
        Self { head: self.head + by, whole: self.whole + by, ..self }
    }
}

/// A call without an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// What went wrong, without the URL.
    pub why: String,
    /// The request may have reached the server.
    pub left: bool,
    /// The time ran out.
    pub late: bool,
}

impl Lost {
    fn of(error: &reqwest::Error, way: &Way) -> Self {
        let left = !error.is_connect() && !error.is_builder();
        Self { why: describe(error, way), left, late: error.is_timeout() }
    }
}

/// A setting that should be the beginning of URLs, without a final slash.
pub fn base_url(setting: &str) -> Result<String, Error> {
    let wrong = |why: String| Error::Config { what: "use base_url".to_owned(), why };
    let url = Url::parse(setting).map_err(|e| wrong(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it is no URL of http or https".to_owned()));
    }
    Ok(setting.trim_end_matches('/').to_owned())
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoAnswer {
    /// Nothing was sent: there was no connection.
    pub unsent: bool,
    /// What went wrong, without the URL.
    pub why: String,
}

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Stream {
    response: reqwest::Response,
    way: Way,
    /// What was looked at before it was read.
    ahead: Option<bytes::Bytes>,
}

impl Stream {
    /// Makes a call, up to its headers.
    pub async fn open(request: reqwest::RequestBuilder) -> Result<Self, NoAnswer> {
        let (way, sending) = begin(request);
        match sending.await {
            Ok(response) => Ok(Self { response, way, ahead: None }),
            Err(e) => Err(NoAnswer { unsent: e.is_connect(), why: describe(&e, &way) }),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// What is wrong with a body that comes packed, which nobody asked for.
    pub fn packed(&self) -> Option<String> {
        let packed = self.header("content-encoding").unwrap_or("identity");
        let is_packed = !packed.trim().eq_ignore_ascii_case("identity");
        is_packed.then(|| format!("it sends {packed} where nothing packed was asked for"))
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, String> {
        match self.ahead.take() {
            Some(bytes) => Ok(Some(bytes)),
            None => self.response.chunk().await.map_err(|e| describe(&e, &self.way)),
        }
    }

    /// Looks at the first bytes, which remain to be read.
    pub async fn peek(&mut self) -> Result<&[u8], String> {
        self.ahead = self.chunk().await?;
        Ok(self.ahead.as_deref().unwrap_or_default())
    }

    /// All bytes, up to a bound, cut there.
    pub async fn rest(&mut self, most: usize) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        while body.len() < most
            && let Some(bytes) = self.chunk().await?
        {
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }
}

/// The system's certificates, and those in `ca`.
fn roots(ca: &str) -> Result<RootCertStore, Error> {
    let wrong = |why: String| Error::Config { what: "prepare TLS".to_owned(), why };
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 && ca.is_empty() {
        let why = "the system has no root certificates; install its ca-certificates package";
        return Err(wrong(why.to_owned()));
    }
    let mut own = 0;
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|e| wrong(format!("ca_file: {e}")))?;
        roots.add(certificate).map_err(|e| wrong(format!("ca_file: {e}")))?;
        own += 1;
    }
    if own == 0 && !ca.is_empty() {
        return Err(wrong("ca_file has no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

/// The error and its causes, without the URL.
fn describe(error: &reqwest::Error, way: &Way) -> String {
    let what = if error.is_timeout() {
        return way.late();
    } else if error.is_builder() {
        "no request".to_owned()
    } else if error.is_connect() {
        way.closed()
    } else {
        way.broken()
    };
    match trust::hint(error) {
        Some(hint) => format!("{what}: {hint} ({})", causes(error)),
        None => format!("{what}: {}", causes(error)),
    }
}

/// reqwest's own words, and only they, contain the URL; its causes say what happened.
fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_base_url_of_no_use_is_a_mistake_in_the_settings() {
        for setting in ["", "open.feishu.cn", "ftp://x", "http://"] {
            assert!(matches!(base_url(setting), Err(Error::Config { .. })), "{setting}");
        }
        assert_eq!(base_url("https://x/").unwrap(), "https://x");
    }

    #[test]
    fn a_certificate_or_a_proxy_of_no_use_is_a_mistake_in_the_settings() {
        let over = |proxy: Option<&str>, ca: &str| {
            let proxy = proxy.map(protocol::worker::Secret::new);
            Http::over("https://x", &Network { proxy, ca: ca.to_owned() })
        };
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (proxy, ca) in [(None, "nothing"), (None, torn), (Some("ftp://x"), ""), (Some("x"), "")]
        {
            assert!(matches!(over(proxy, ca), Err(Error::Config { .. })), "{proxy:?} {ca}");
        }
        let Err(error) = over(Some("ftp://ann:secret@x"), "") else { panic!() };
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    /// A server with a certificate of its own, and its authority as PEM.
    async fn secured() -> (String, String) {
        let (acceptor, certificate) = crate::own_tls::acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        (format!("https://localhost:{port}"), certificate)
    }

    #[tokio::test]
    async fn a_companys_own_certificate_is_trusted_where_it_is_named_and_nowhere_else() {
        let (url, ca) = secured().await;
        let http = Http::over(&url, &Network { proxy: None, ca: ca.clone() }).unwrap();
        assert_eq!(http.call(http.client().get(&url)).await.unwrap().body, b"ok");
        // The way that long connections go, with the same settings.
        let target = url.trim_start_matches("https://");
        let tcp = tokio::net::TcpStream::connect(target).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(http.tls()).connect(name, tcp).await.unwrap();

        let (_, other) = secured().await;
        let stranger = Http::over(&url, &Network { proxy: None, ca: other }).unwrap();
        let refused = stranger.call(stranger.client().get(&url)).await.unwrap_err();
        assert!(refused.contains("invalid peer certificate"), "{refused}");
    }

    /// A name server, a proxy and a server that do not answer want different remedies.
    #[tokio::test]
    async fn what_hangs_is_named_with_its_step() {
        // Connections are made, and nobody is there.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mute = listener.local_addr().unwrap().to_string();
        let proxy = protocol::worker::Secret::new(format!("http://ann:secret@{mute}"));
        let (_, ca) = crate::own_tls::acceptor();
        for (url, proxy, why) in [
            (format!("http://{mute}/secret"), None, format!("no answer in time from {mute}")),
            (
                format!("https://{mute}/secret"),
                None,
                format!("no answer in time: connecting to {mute}"),
            ),
            (
                "https://example.org/secret".to_owned(),
                Some(proxy),
                format!("no answer in time: connecting to example.org through the proxy {mute}"),
            ),
        ] {
            let http = Http::over(&url, &Network { proxy, ca: ca.clone() }).unwrap();
            let limits = Within::whole(Duration::from_millis(100));
            let lost = http.call_within(http.client().get(&url), limits).await.unwrap_err();
            assert_eq!((lost.why, lost.late), (why, true));
        }
    }

    #[tokio::test]
    async fn an_error_names_no_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let http = Http::over(&base, &Network::default()).unwrap();
        let call = http.call(http.client().get(format!("{base}/secret?ticket=secret"))).await;
        let error = call.unwrap_err();
        let told = format!("no connection to {}: ", base.trim_start_matches("http://"));
        assert!(error.starts_with(&told), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
