//! A server of a company's own, for tests: TLS with a certificate that nobody else has signed.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

/// What speaks TLS as `localhost`, and its certificate as PEM.
pub(crate) fn acceptor() -> (TlsAcceptor, String) {
    made_of(&CertificateParams::new(vec!["localhost".to_owned()]).unwrap())
}

/// The same with another certificate, which signs itself.
pub(crate) fn made_of(params: &CertificateParams) -> (TlsAcceptor, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.unwrap())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certificate.pem())
}
