//! Whether a bearer token was made by somebody who knows the secret. Pure.
//!
//! The token is base64url without padding of `id ":" exp ":" hex(HMAC-SHA256(secret, id ":" exp))`; `exp`
//! is Unix seconds, 0 for never; the id may contain colons itself, so it is split from the right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// What a token is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    /// Good now.
    Good,
    /// It was good once: somebody's clock is wrong.
    Expired,
    /// Not made for this id with this secret.
    Wrong,
}

/// Judges the value of an `Authorization` header.
pub(super) fn judge(header: Option<&str>, id: &str, secret: &str, now_s: i64) -> Token {
    let Some(token) = header.and_then(|header| header.strip_prefix("Bearer ")) else {
        return Token::Wrong;
    };
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(token.trim().trim_end_matches('=')) else {
        return Token::Wrong;
    };
    let Some((signed, signature)) =
        std::str::from_utf8(&bytes).ok().and_then(|text| text.rsplit_once(':'))
    else {
        return Token::Wrong;
    };
    let Some((named, until)) = signed.rsplit_once(':') else { return Token::Wrong };
    let (Some(signature), Ok(until)) = (from_hex(signature), until.parse::<i64>()) else {
        return Token::Wrong;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    // In a time that does not depend on where the two differ.
    if hmac::verify(&key, signed.as_bytes(), &signature).is_err() || named != id {
        Token::Wrong
    } else if until != 0 && until < now_s {
        Token::Expired
    } else {
        Token::Good
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(id: &str, until: i64, secret: &str) -> String {
        let signed = format!("{id}:{until}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = protocol::id::hex(hmac::sign(&key, signed.as_bytes()).as_ref());
        format!("Bearer {}", URL_SAFE_NO_PAD.encode(format!("{signed}:{signature}")))
    }

    #[test]
    fn only_who_knows_the_secret_is_let_in() {
        let judged = |token: &str| judge(Some(token), "a:b", "secret", 1000);
        assert_eq!(judged(&token("a:b", 1000, "secret")), Token::Good);
        assert_eq!(judged(&token("a:b", 0, "secret")), Token::Good);
        assert_eq!(judged(&token("a:b", 999, "secret")), Token::Expired);
        assert_eq!(judged(&token("a:b", 999, "other")), Token::Wrong, "not even expired");
        assert_eq!(judged(&token("a", 1000, "secret")), Token::Wrong);
        assert_eq!(judge(None, "a:b", "secret", 1000), Token::Wrong);
        // Made by the agent's own code: id `hermes`, secret `s3cret`, never expires.
        let theirs = "Bearer aGVybWVzOjA6ZWUwODI1ZDk1YTlkZDMzZThhODcwMjVmMjg3NmMzMDM5NTcxMTk5NWY1YjE2NGYzZDkwZjkwNTU4NTkzMjUwOQ";
        assert_eq!(judge(Some(theirs), "hermes", "s3cret", 1000), Token::Good);
    }

    proptest! {
        #[test]
        fn no_noise_is_let_in(noise in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(judge(Some(&noise), "a", "s", 0), Token::Wrong);
            let coded = format!("Bearer {}", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert_eq!(judge(Some(&coded), "a", "s", 0), Token::Wrong);
        }
    }
}
