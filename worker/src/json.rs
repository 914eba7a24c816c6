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

/// Enough of a platform's words for people.
pub(crate) fn brief(words: &str) -> String {
    protocol::secret::excerpt(words, 200)
}

#[cfg(test)]
mod tests {
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
}
