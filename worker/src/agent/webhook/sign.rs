//! Signatures of Standard Webhooks, version 1. Pure.
//!
//! Signed are the id, the second of this attempt and the body, joined by dots, with HMAC-SHA256; the key
//! is what the secret's base64 decodes to, not its text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// How far the clock of a sender may be from ours, in seconds.
const TOLERANCE: u64 = 300;
/// Signatures that are looked at.
const SIGNATURES: usize = 10;

/// Makes signatures, and knows its own.
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

    /// Whether somebody who knows the secret has signed this lately: id, timestamp and signatures as they
    /// stand in the headers. Every oddity is a refusal, also where the official library forgives it.
    pub(super) fn verify(
        &self,
        (id, timestamp, signatures): (&str, &str, &str),
        body: &[u8],
        now: i64,
    ) -> Result<(), &'static str> {
        let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let second: i64 =
            timestamp.parse().ok().filter(|_| digits).ok_or("bad webhook-timestamp")?;
        if now.abs_diff(second) > TOLERANCE {
            return Err("webhook-timestamp is too old or ahead");
        }
        if id.is_empty() {
            return Err("bad webhook-id");
        }
        let mut signed = format!("{id}.{second}.").into_bytes();
        signed.extend_from_slice(body);
        let is_good = |item: &str| {
            let tag = item.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok());
            tag.is_some_and(|tag| hmac::verify(&self.0, &signed, &tag).is_ok())
        };
        // Others may be made with a key that is not ours any more.
        let good = signatures.split(' ').take(SIGNATURES).any(is_good);
        if good { Ok(()) } else { Err("the signature is not right") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_library_makes_the_same_and_only_ours_are_known() {
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
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let good = signer.sign("m1", 1000, b"{}");
        let both = format!("v1a,x nonsense v1,!! {good}");
        let verify = |id, at, signatures: &str, body: &[u8], now| {
            signer.verify((id, at, signatures), body, now).is_ok()
        };
        assert!(
            verify("m1", "1000", &good, b"{}", 1300) && verify("m1", "1000", &both, b"{}", 700)
        );
        for (id, at, signatures, body, now) in [
            ("m2", "1000", good.as_str(), b"{}", 1000),
            ("m1", "1001", &good, b"{}", 1000),
            ("m1", "1000", &good, b"[]", 1000),
            ("m1", "1000", &good, b"{}", 1301),
            ("m1", "1000", &good, b"{}", 699),
            ("m1", "1000.0", &good, b"{}", 1000),
            ("m1", "+1000", &good, b"{}", 1000),
            ("m1", "", &good, b"{}", 1000),
            ("m1", "1000", "", b"{}", 1000),
            ("m1", "1000", "v1,", b"{}", 1000),
        ] {
            assert!(!verify(id, at, signatures, body, now), "{id} {at} {signatures} {now}");
        }
        for bad in ["", "whsec_", "whsec_!!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAEC"] {
            assert!(Signer::new(bad).is_none(), "{bad}");
        }
    }
}
