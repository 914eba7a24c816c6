//! A proxy on loopback, of HTTP and of SOCKS 5 at once: the first byte tells. It wants a name and a
//! password if it was given some, and counts whom it led where.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running proxy, which ends with it.
pub struct Proxy {
    addr: SocketAddr,
    led: Arc<Mutex<Vec<String>>>,
    _running: DropGuard,
}

impl Proxy {
    /// Starts one.
    pub async fn start(credentials: Option<(&str, &str)>) -> Self {
        Self::slow(credentials, Duration::ZERO).await
    }

    /// One that takes so long for each new way.
    pub async fn slow(credentials: Option<(&str, &str)>, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let addr = listener.local_addr().expect("it is bound");
        let led = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let credentials = credentials.map(|(name, word)| (name.to_owned(), word.to_owned()));
        let task = accept(listener, credentials, led.clone(), pause);
        let over = stop.clone();
        tokio::spawn(async move { over.run_until_cancelled(task).await });
        Self { addr, led, _running: stop.drop_guard() }
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How and where it has led: `CONNECT host:port`, `POST host:port`, `SOCKS host:port`.
    pub fn led(&self) -> Vec<String> {
        self.led.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(
    listener: TcpListener,
    credentials: Option<(String, String)>,
    led: Arc<Mutex<Vec<String>>>,
    pause: Duration,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (credentials, led) = (credentials.clone(), led.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // A broken connection is its peer's affair.
            let _ = serve(stream, credentials.as_ref(), &led).await;
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    credentials: Option<&(String, String)>,
    led: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    let (how, target, ahead) = if first == [5] {
        let Some(target) = socks(&mut stream, credentials).await? else { return Ok(()) };
        ("SOCKS".to_owned(), target, Vec::new())
    } else {
        let Some(found) = http(&mut stream, credentials).await? else { return Ok(()) };
        found
    };
    led.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{how} {target}"));
    let mut onward = TcpStream::connect(&target).await?;
    onward.write_all(&ahead).await?;
    copy_bidirectional(&mut stream, &mut onward).await.map(drop)
}

async fn http(
    stream: &mut TcpStream,
    credentials: Option<&(String, String)>,
) -> io::Result<Option<(String, String, Vec<u8>)>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    if let Some((name, word)) = credentials {
        let expected = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{word}"));
        let given = text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case("proxy-authorization").then(|| value.trim().to_owned())
        });
        if given != Some(format!("Basic {expected}")) {
            let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await?;
            return Ok(None);
        }
    }
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        return Ok(Some((method.to_owned(), target.to_owned(), Vec::new())));
    }
    let host = target.trim_start_matches("http://").split('/').next().unwrap_or_default();
    Ok(Some((method.to_owned(), host.to_owned(), head)))
}

async fn socks(
    stream: &mut TcpStream,
    credentials: Option<&(String, String)>,
) -> io::Result<Option<String>> {
    stream.read_u8().await?;
    let mut methods = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut methods).await?;
    let method = if credentials.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        stream.write_all(&[5, 0xff]).await?;
        return Ok(None);
    }
    stream.write_all(&[5, method]).await?;
    if let Some((name, word)) = credentials {
        stream.read_u8().await?;
        let given = (text(stream).await?, text(stream).await?);
        let good = given == (name.clone(), word.clone());
        stream.write_all(&[1, u8::from(!good)]).await?;
        if !good {
            return Ok(None);
        }
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    let host = match request {
        [.., 1] => std::net::Ipv4Addr::from(stream.read_u32().await?).to_string(),
        [.., 3] => text(stream).await?,
        _ => return Ok(None),
    };
    let port = stream.read_u16().await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(Some(format!("{host}:{port}")))
}

async fn text(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
