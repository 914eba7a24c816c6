//! What it means for a person that TLS was refused, and what to do about it: the library names the rule that was
//! broken, and no more. Certificates of companies, of proxies that look inside, and such as somebody made for
//! himself are what people meet.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// What an error says, with what helps if it is about TLS.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    match hint(error) {
        Some(sentence) => format!("{sentence} ({error})"),
        None => error.to_string(),
    }
}

/// What an error is about and what helps, if it is about TLS.
pub(crate) fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    cause(error).and_then(sentence)
}

/// The library's own error, which comes as one of the socket.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    match error.downcast_ref::<io::Error>() {
        Some(wrapped) => cause(wrapped.get_ref()?),
        None => cause(error.source()?),
    }
}

fn sentence(error: &rustls::Error) -> Option<&'static str> {
    use CertificateError as Wrong;
    let wrong = match error {
        rustls::Error::InvalidCertificate(wrong) => wrong,
        rustls::Error::InvalidMessage(_) => {
            return Some(
                "what answers there speaks no TLS: write http:// if that is meant, or name the right port",
            );
        }
        _ => return None,
    };
    Some(match wrong {
        Wrong::UnknownIssuer | Wrong::BadSignature => {
            "the server's certificate is signed by nobody who is trusted here: name the authority of your company or \
             proxy in ca_file, or bring the system's ca-certificates up to date"
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            "the server's certificate is out of date: renew it, unless the clock of this machine is wrong"
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "the server's certificate does not hold yet: set the clock of this machine right"
        }
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
            "the server's certificate is for another name: write a name that it is for in the URL, or have one made \
             for this name"
        }
        Wrong::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server's certificate is that of an authority, which may sign and not serve: have it sign one for the \
             server, or make one with `openssl req -x509 … -addext basicConstraints=critical,CA:FALSE`"
        }
        _ => {
            "the server's certificate is refused: check the clock of this machine, its ca-certificates, and proxies that \
             open TLS"
        }
    })
}

#[cfg(test)]
mod tests {
    use protocol::worker::Network;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, date_time_ymd};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use crate::http::Http;
    use crate::own_tls;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> (tokio_rustls::TlsAcceptor, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        own_tls::made_of(&params)
    }

    /// What a call to a server with this certificate says, where `ca` is trusted, and what a long connection does.
    async fn refused(acceptor: tokio_rustls::TlsAcceptor, ca: String) -> [String; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = acceptor.accept(stream).await;
            }
        });
        let url = format!("https://localhost:{port}");
        let http = Http::over(&url, &Network { proxy: None, ca }).unwrap();
        let called = http.call(http.client().get(&url)).await.unwrap_err();
        let tcp = TcpStream::connect(("localhost", port)).await.unwrap();
        let connector = tokio_tungstenite::Connector::Rustls(http.tls());
        let url = url.replace("https", "wss");
        let opened =
            tokio_tungstenite::client_async_tls_with_config(url, tcp, None, Some(connector));
        [called, super::told(&opened.await.unwrap_err())]
    }

    #[tokio::test]
    async fn common_troubles_of_certificates_are_told_with_what_helps() {
        let (fine, _) = made(|_| {});
        let (_, other) = made(|params| params.distinguished_name.push(DnType::CommonName, "other"));
        let own = |(acceptor, pem): (_, String)| (acceptor, pem);
        let cases = [
            ((fine, other), "signed by nobody who is trusted here: name the authority"),
            (
                own(made(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
                "that of an authority, which may sign and not serve: have it sign one",
            ),
            (
                own(made(|params| params.not_after = date_time_ymd(2001, 1, 1))),
                "out of date: renew it",
            ),
            (
                own(made(|params| params.not_before = date_time_ymd(2999, 1, 1))),
                "does not hold yet: set the clock",
            ),
            (
                own(made(|params| {
                    *params = CertificateParams::new(vec!["gw.example.org".to_owned()]).unwrap();
                })),
                "for another name: write a name that it is for in the URL",
            ),
        ];
        for ((acceptor, ca), sentence) in cases {
            for told in refused(acceptor, ca).await {
                assert!(
                    told.contains(sentence) && told.contains("invalid peer certificate"),
                    "{told}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_server_without_tls_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (_, ca) = made(|_| {});
        let http = Http::over(&url, &Network { proxy: None, ca }).unwrap();
        let call = http.call(http.client().get(&url));
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream
        };
        let (_stream, told) = tokio::join!(answer, call);
        let told = told.unwrap_err();
        assert!(told.contains("speaks no TLS: write http://"), "{told}");
    }
}
