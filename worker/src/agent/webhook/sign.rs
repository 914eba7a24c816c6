//! Signatures of Standard Webhooks, version 1. Pure.
//!
//! Signed are the id, the second of this attempt and the body, joined by dots, with HMAC-SHA256; the key
//! is what the secret's base64 decodes to, not its text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// Makes signatures.
#[derive(Clone, Debug)]
pub(super) struct Signer(hmac::Key);

impl Signer {
    /// With a secret; `None`: it is none.
    pub(super) fn new(secret: &str) -> Option<Self> {
        let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The `webhook-signature` of a body.
    pub(super) fn sign(&self, id: &str, second: i64, body: &[u8]) -> String {
        let mut signed = format!("{id}.{second}.").into_bytes();
        signed.extend_from_slice(body);
        format!("v1,{}", STANDARD.encode(hmac::sign(&self.0, &signed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_library_makes_the_same() {
        for (secret, id, second, body, signature) in [
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "msg_hgw_0001",
                1_795_000_000,
                r#"{"type":"message.received","data":{"text":"héllo 世界"}}"#,
                "v1,lBFibUdsC3g1PKt3h0nemmuTDDVHPpsDmqRBjg/hGwk=",
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ] {
            let made = Signer::new(secret).unwrap().sign(id, second, body.as_bytes());
            assert_eq!(made, signature);
        }
        for bad in ["", "whsec_", "whsec_!!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAEC"] {
            assert!(Signer::new(bad).is_none(), "{bad}");
        }
    }
}
