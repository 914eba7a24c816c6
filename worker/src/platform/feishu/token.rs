//! The tenant access token: kept, renewed before it ends, fetched once however many need it.
//!
//! The platform hands out the same token while 30 minutes of it remain, so renewing early is useless,
//! and it may withdraw a token at any time, so a refused one is dropped and fetched anew. It is shown to
//! nobody.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::worker::{FeishuSettings, Secret};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::clock::{self, Instant};
use crate::http::Http;
use crate::json::{brief, member, number_of, parse, text_of};

const PATH: &str = "/open-apis/auth/v3/tenant_access_token/internal";
/// Renewed when this much remains, or half of it if it is short-lived.
const MARGIN: Duration = Duration::from_mins(3);

/// Why there is no token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoToken {
    /// The network or the platform is out of order.
    Outage(String),
    /// The platform refuses the credentials, and has for so long.
    Refused(String, Duration),
}

#[derive(Clone)]
struct Kept {
    token: Secret,
    renew: Instant,
}

/// The token of one app.
pub(super) struct Tokens {
    kept: Mutex<Option<Kept>>,
    /// Since when the credentials are refused.
    refused: Mutex<Option<Instant>>,
    /// Whoever holds the one permit is fetching.
    fetching: Semaphore,
}

impl Tokens {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { kept: Mutex::new(None), refused: Mutex::new(None), fetching: Semaphore::new(1) }
    }

    /// A token that should be good.
    pub(super) async fn get(
        &self,
        http: &Http,
        settings: &FeishuSettings,
    ) -> Result<Secret, NoToken> {
        if let Some(token) = self.fresh(clock::now()) {
            return Ok(token);
        }
        // Never closed.
        let _permit = self.fetching.acquire().await;
        if let Some(token) = self.fresh(clock::now()) {
            return Ok(token);
        }
        let asked = clock::now();
        let body = json!({"app_id": settings.app_id, "app_secret": settings.app_secret.expose()});
        let url = format!("{}{PATH}", settings.base_url);
        let answer = http.call(http.client().post(url).json(&body)).await;
        let answer = answer.map_err(|why| NoToken::Outage(format!("fetch a token: {why}")))?;
        let understood = understand(answer.status, &answer.body);
        let (token, life) = self.noted(understood, asked)?;
        let renew = asked + life - MARGIN.min(life / 2);
        self.put(Some(Kept { token: token.clone(), renew }));
        Ok(token)
    }

    /// The same, knowing how long it has been so.
    fn noted<T>(&self, answer: Result<T, NoToken>, now: Instant) -> Result<T, NoToken> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Err(NoToken::Refused(why, _)) => {
                let since = *refused.get_or_insert(now);
                Err(NoToken::Refused(why, now.duration_since(since)))
            }
            Err(outage) => Err(outage),
            Ok(token) => {
                *refused = None;
                Ok(token)
            }
        }
    }

    /// Drops `refused`, unless another has taken its place already.
    pub(super) fn drop_refused(&self, refused: &Secret) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|kept| kept.token == *refused) {
            *kept = None;
        }
    }

    fn fresh(&self, now: Instant) -> Option<Secret> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| now < kept.renew).map(|kept| kept.token.clone())
    }

    fn put(&self, token: Option<Kept>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

/// Reads the answer, which is flat: nothing is in `data`.
fn understand(status: u16, body: &[u8]) -> Result<(Secret, Duration), NoToken> {
    let answer = parse(body);
    let msg = brief(text_of(&answer, "msg"));
    match number_of(&answer, "code") {
        Some(0) => {}
        Some(code @ (10_003 | 10_014 | 10_015)) => {
            let why = format!("fetch a token: {code} {msg}");
            return Err(NoToken::Refused(why, Duration::ZERO));
        }
        Some(code) => return Err(NoToken::Outage(format!("fetch a token: {code} {msg}"))),
        None => return Err(NoToken::Outage(format!("fetch a token: HTTP {status}"))),
    }
    let token = text_of(&answer, "tenant_access_token");
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(NoToken::Outage("fetch a token: the answer has none".to_owned()));
    }
    let seconds = member(&answer, "expire").as_u64().unwrap_or(60).min(7200);
    Ok((Secret::new(token), Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted() {
        let good = understand(200, br#"{"code":0,"tenant_access_token":"t-1","expire":7200}"#);
        assert_eq!(good, Ok((Secret::new("t-1"), Duration::from_hours(2))));
        assert!(matches!(understand(200, br#"{"code":10015}"#), Err(NoToken::Refused(..))));
        for outage in [
            r#"{"code":0}"#,
            r#"{"code":99}"#,
            "<html>",
            r#"{"code":0,"tenant_access_token":"a\nb"}"#,
        ] {
            assert!(
                matches!(understand(200, outage.as_bytes()), Err(NoToken::Outage(_))),
                "{outage}"
            );
        }
    }

    #[test]
    fn how_long_credentials_are_refused_is_known_until_they_are_not() {
        let (tokens, start) = (Tokens::new(), clock::now());
        let refused = || Err::<(), _>(NoToken::Refused("10015".to_owned(), Duration::ZERO));
        let told =
            |seconds: u64| match tokens.noted(refused(), start + Duration::from_secs(seconds)) {
                Err(NoToken::Refused(_, so_long)) => so_long.as_secs(),
                other => panic!("{other:?}"),
            };
        assert_eq!((told(0), told(7)), (0, 7));
        let outage = tokens.noted(Err::<(), _>(NoToken::Outage(String::new())), start);
        assert!(matches!(outage, Err(NoToken::Outage(_))));
        assert_eq!(told(9), 9);
        assert_eq!(tokens.noted(Ok(()), start), Ok(()));
        assert_eq!(told(20), 0);
    }

    #[test]
    fn only_the_refused_token_is_dropped() {
        let tokens = Tokens::new();
        let now = clock::now();
        let renew = now + Duration::from_secs(10);
        tokens.put(Some(Kept { token: Secret::new("new"), renew }));
        tokens.drop_refused(&Secret::new("old"));
        assert_eq!(tokens.fresh(now), Some(Secret::new("new")));
        assert_eq!(tokens.fresh(renew), None);
        tokens.drop_refused(&Secret::new("new"));
        assert_eq!(tokens.fresh(now), None);
    }
}
