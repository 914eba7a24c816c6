//! JSON that may have any shape: what is missing or of another type counts as nothing. Pure.

use serde_json::Value;

static NOTHING: Value = Value::Null;

/// A member; null if there is none.
pub(crate) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&NOTHING)
}

/// A member that is a text; empty if it is none.
pub(crate) fn text_of<'a>(value: &'a Value, name: &str) -> &'a str {
    member(value, name).as_str().unwrap_or_default()
}

/// A member that is a list; empty if it is none.
pub(crate) fn list_of<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    member(value, name).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A member that is a whole number.
pub(crate) fn number_of(value: &Value, name: &str) -> Option<i64> {
    member(value, name).as_i64()
}

/// One object a line, as a peer on a stream wants it.
pub(crate) fn line(value: &Value) -> String {
    let mut line = value.to_string();
    line.push('\n');
    line
}

/// Whatever JSON is in these bytes; null if it is none.
pub(crate) fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Whatever JSON is meant by these bytes, also where a strict reader refuses them: half of a character, as
/// programs leave it that cut a text, is read as �, a number beyond all bounds as none.
pub(crate) fn lenient(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok().or_else(|| {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}').trim_end_matches('\0');
        serde_json::from_str(&strict(text)).ok()
    })
}

/// JSON with what strict readers refuse put right.
fn strict(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_quoted = false;
    while let Some(next) = rest.chars().next() {
        let mut len = next.len_utf8();
        match next {
            '"' => {
                is_quoted = !is_quoted;
                out.push(next);
            }
            '\\' if is_quoted => {
                let (taken, written) = escape(rest);
                len = taken;
                out.push_str(written);
            }
            _ if is_quoted && next < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(next))),
            '-' | '0'..='9' if !is_quoted => {
                let is_part =
                    |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
                len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let number = rest.get(..len).unwrap_or_default();
                let is_endless = number.parse::<f64>().is_ok_and(f64::is_infinite);
                out.push_str(if is_endless { "null" } else { number });
            }
            _ => out.push(next),
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    out
}

/// The escape that `rest` begins with: how long it is, and what to write for it.
fn escape(rest: &str) -> (usize, &str) {
    let unit = |at: usize| {
        let digits = rest.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let len = match (unit(0), unit(6)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
        (Some(0xd800..=0xdfff), _) => return (6, "\u{fffd}"),
        (Some(_), _) => 6,
        (None, _) => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
    };
    (len, rest.get(..len).unwrap_or_default())
}

/// Enough of a platform's words for people.
pub(crate) fn brief(words: &str) -> String {
    protocol::secret::excerpt(words, 200)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_is_missing_is_nothing() {
        for value in [json!(null), json!([1]), json!("x"), json!({"a": null}), json!({"a": {}})] {
            assert_eq!((text_of(&value, "a"), number_of(&value, "a")), ("", None));
            assert!(
                list_of(&value, "a").is_empty() && text_of(member(&value, "a"), "b").is_empty()
            );
        }
        assert_eq!(parse(b"{"), Value::Null);
    }

    #[test]
    fn what_strict_readers_refuse_is_read_as_it_is_meant() {
        let cases: [(&[u8], Value); 9] = [
            (br#"{"a": "Ann \ud83d"}"#, json!({"a": "Ann \u{fffd}"})),
            (
                br#"["\ude00\ud83d\ude00\ud83d\\ud83d\"", "\ud83d\ud83d\ude00"]"#,
                json!(["\u{fffd}😀\u{fffd}\\ud83d\"", "\u{fffd}😀"]),
            ),
            (
                b"{\"a\": 1e999, \"b\": [-1E+999,2e3], \"1e999\": 0}",
                json!({"a": null, "b": [null, 2e3], "1e999": 0}),
            ),
            (b"\xef\xbb\xbf{\"a\": 1}\0\0", json!({"a": 1})),
            (b"{\"a\": \"x\xff\xe4y\"}", json!({"a": "x\u{fffd}\u{fffd}y"})),
            (b"{\"a\": \"x\ny\tz\0\"}", json!({"a": "x\ny\tz\0"})),
            (b" {} \n", json!({})),
            ("\u{feff}[\"\u{feff}\"]".as_bytes(), json!(["\u{feff}"])),
            (b"[0.1, -0, 12]", json!([0.1, -0.0, 12])),
        ];
        for (bytes, meant) in cases {
            assert_eq!(lenient(bytes), Some(meant), "{}", String::from_utf8_lossy(bytes));
        }
        for nonsense in
            [&b""[..], b"hello", b"{", b"{\"a\": \"x", b"\"\\", b"\"\\ud83", b"[1] junk"]
        {
            assert_eq!(lenient(nonsense), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_strict_json_stays(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[\"\\\\ud8c0 e9{:,}\n\\[\\]é😀-]{0,40}") {
            lenient(&bytes);
            lenient(text.as_bytes());
            let value = json!([text, bytes]);
            let written = value.to_string();
            prop_assert_eq!(serde_json::from_str::<Value>(&strict(&written)).unwrap(), value);
        }
    }
}
