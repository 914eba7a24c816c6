//! What must not be seen: the values of secrets wherever they turn up, and whatever looks like one.
//!
//! Each [`Secret`] notes its value when it is made, for this process. [`clean`] replaces such values by
//! `***`, also where they were escaped for JSON or for a URL, and then what has the shape of a
//! credential although nobody told us about it: what a platform handed out, what a foreign program
//! prints. It is called at every exit of a text for people: log, panic, error, journal, answers to
//! tools, and what a worker tells its supervisor. What users and agents say to each other is theirs and
//! is never touched.

use std::borrow::Cow;
use std::sync::{OnceLock, PoisonError, RwLock};

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

/// What stands in place of a secret.
const HIDDEN: &str = "***";
/// A shorter value would tear words apart that only resemble it, and is no secret worth the name.
const SHORTEST: usize = 8;
/// Values that stay known: those of the configuration come first.
const LASTING: usize = 512;
/// Values beyond that: platforms hand out new tokens every few hours, and only the newest open anything.
const PASSING: usize = 128;

/// A text that must not be seen: it prints as `***`, and from its making on [`clean`] hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        note(&text);
        Self(text)
    }

    /// The text itself: only for the one place that must show it to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The values that this process knows, as they may turn up. A longer one stands before what is part of it.
static KNOWN: RwLock<Vec<String>> = RwLock::new(Vec::new());

fn note(value: &str) {
    if value.len() < SHORTEST {
        return;
    }
    let mut forms = vec![value.to_owned()];
    // The part of a Telegram token that makes it one.
    forms.extend(value.split_once(':').map(|(_, key)| key.to_owned()));
    // A key in a file of several lines.
    if value.contains('\n') {
        forms.extend(value.lines().map(str::to_owned));
    }
    let escaped = serde_json::to_string(value).unwrap_or_default();
    forms.extend(escaped.get(1..escaped.len().saturating_sub(1)).map(str::to_owned));
    forms.push(percent_encoded(value));
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    for form in forms {
        if form.len() >= SHORTEST && !known.contains(&form) {
            if known.len() >= LASTING + PASSING {
                known.remove(LASTING);
            }
            known.push(form);
        }
    }
}

/// As `application/x-www-form-urlencoded` and RFC 3986 write it.
fn percent_encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// What looks like a credential. The part to hide is group 2; what is around it stays. Before it stands what
/// a text must have some of: searching for that is cheap, and most texts have none.
const SHAPES: [(&[&str], &str); 5] = [
    // A bot token of Telegram: https://core.telegram.org/bots/api#authorizing-your-bot
    (&[":"], r"(\bbot|\b)([0-9]{6,}:[A-Za-z0-9_-]{30,})()"),
    // Keys with a prefix of their own: of model servers, Slack, GitHub, Standard Webhooks, Feishu.
    (
        &["sk-", "xox", "xapp-", "gh", "whsec_", "t-g", "u-g"],
        r"(\b)((?:sk-|xox[a-z]-|xapp-|gh[a-z]_|whsec_|[tu]-g)[A-Za-z0-9_./+=-]{16,})()",
    ),
    // Authorization headers.
    (&[" "], r"(?i)(\b(?:bearer|basic) )([A-Za-z0-9_.~+/=-]{8,})()"),
    // A user and a password in a URL.
    (&["://"], r#"(://)([^/@\s"']+)(@)"#),
    // Members and parameters whose name says it.
    (
        &["=", "\""],
        r#"(?i)(\b(?:access_key|ticket|token|secret|password|passwd|api_?key|app_secret|tenant_access_token|access_token|refresh_token|authorization|encrypt_key)(?:=|\\?"\s*:\s*\\?"))([^&\s"'\\,;)}\]]{6,})()"#,
    ),
];

static PATTERNS: OnceLock<Vec<(&[&str], Regex)>> = OnceLock::new();

/// `text` without the secrets that this process knows; what only looks like one stays.
pub fn without_known(text: &str) -> Cow<'_, str> {
    let mut cleaned = Cow::Borrowed(text);
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    for value in known.iter() {
        if cleaned.contains(value.as_str()) {
            cleaned = Cow::Owned(cleaned.replace(value.as_str(), HIDDEN));
        }
    }
    cleaned
}

/// `text` without secrets.
pub fn clean(text: &str) -> Cow<'_, str> {
    let mut cleaned = without_known(text);
    let compiled = |(needs, shape): &(_, &str)| Some((*needs, Regex::new(shape).ok()?));
    for (needs, pattern) in PATTERNS.get_or_init(|| SHAPES.iter().filter_map(compiled).collect()) {
        if needs.iter().any(|part| cleaned.contains(part)) && pattern.is_match(&cleaned) {
            let hidden = pattern.replace_all(&cleaned, "${1}***${3}").into_owned();
            cleaned = Cow::Owned(hidden);
        }
    }
    cleaned
}

/// [`clean`] for a text that is ours to change.
pub fn cleaned(text: String) -> String {
    match clean(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(cleaned) => cleaned,
    }
}

/// The beginning of `text`, without secrets: cleaned before it is cut, so that no half of a secret is left.
pub fn excerpt(text: &str, bytes: usize) -> String {
    let cleaned = clean(text);
    cleaned.get(..cleaned.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
}

/// Every text within `value` is cleaned; names of members stay.
pub fn clean_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = cleaned(std::mem::take(text)),
        serde_json::Value::Array(items) => items.iter_mut().for_each(clean_json),
        serde_json::Value::Object(members) => members.values_mut().for_each(clean_json),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_known_value_is_hidden_however_it_is_written() {
        let secret = Secret::new("pa\"ss w/ord-of\\mine");
        let json = serde_json::json!({ "sent": secret.expose() }).to_string();
        let url = "https://x/?q=pa%22ss%20w%2Ford-of%5Cmine&r=1";
        for text in [format!("before {} after", secret.expose()), json, url.to_owned()] {
            let cleaned = clean(&text);
            assert!(cleaned.contains("***"), "{cleaned}");
            assert!(!cleaned.contains("ord-of"), "{cleaned}");
        }
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn a_secret_that_came_over_a_link_is_known_too() {
        let bytes = postcard::to_stdvec(&String::from("came-over-the-link")).unwrap();
        let secret: Secret = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(clean("it came-over-the-link"), "it ***");
        assert_eq!(postcard::to_stdvec(&secret).unwrap(), bytes);
    }

    #[test]
    fn what_looks_like_a_credential_is_hidden() {
        for (text, clean_text) in [
            ("GET /bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/getMe", "GET /bot***/getMe"),
            ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
            (
                "wss://x/ws?access_key=abcdef123&ticket=0123456789",
                "wss://x/ws?access_key=***&ticket=***",
            ),
            ("https://ann:pass@proxy:3128 refused", "https://***@proxy:3128 refused"),
            (r#"{"app_secret":"abcdefgh","code":0}"#, r#"{"app_secret":"***","code":0}"#),
            (r#""{\"token\": \"abcdefgh\"}""#, r#""{\"token\": \"***\"}""#),
            ("key sk-abcdefghijklmnop0123", "key ***"),
            ("t-g1044ghJRUIJJ5ZPPZMOHKWZISL33E4QSS3abcef", "***"),
        ] {
            assert_eq!(clean(text), clean_text);
        }
    }

    #[test]
    fn every_shape_is_one() {
        assert!(SHAPES.iter().all(|(needs, shape)| !needs.is_empty() && Regex::new(shape).is_ok()));
    }

    #[test]
    fn no_half_of_a_secret_is_left_by_a_cut() {
        let secret = Secret::new("never-cut-in-two");
        let text = format!("said {} and more", secret.expose());
        for bytes in 0..text.len() {
            assert!(!excerpt(&text, bytes).contains("never"));
        }
        assert_eq!(excerpt("short", 100), "short");
    }

    #[test]
    fn ordinary_words_stay() {
        for text in [
            "fetch a token: no connection: connection refused",
            "the secret in /run/credentials/feishu: it is empty",
            "bearer of good news; a t-shirt; 12:30:45.123456; user@example.org",
            "feishu: restarted, ready in 1.4 s (pid 815)",
            "chat=oc_1234567890abcdef user=\"ou_84aad35d084aa403a838cf73ee18467\" lane=telegram:-1001234567890",
        ] {
            assert!(matches!(clean(text), Cow::Borrowed(_)), "{}", clean(text));
        }
    }

    proptest! {
        #[test]
        fn whatever_surrounds_it_a_known_value_is_not_there(before in ".*", after in ".*") {
            let secret = Secret::new("n0body-may-see-this");
            let text = format!("{before}{}{after}", secret.expose());
            prop_assert!(!clean(&text).contains("body-may-see"));
        }
    }
}
