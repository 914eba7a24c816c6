//! The parameters of a call, however they were sent: query, form, multipart or JSON.
//!
//! In a form, what is no text is written as JSON; the accessors read both.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value};

/// The parameters of one call.
#[derive(Debug, Default)]
pub(crate) struct Params(Map<String, Value>, HashMap<String, Attached>);

/// A file that came with a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

impl Params {
    /// Reads them; none if the body is not what its type says.
    pub(crate) fn read(query: Option<&str>, kind: &str, body: &Bytes) -> Option<Self> {
        let mut all = Map::new();
        let mut files = HashMap::new();
        let mut form = |bytes: &[u8]| {
            for (key, value) in url::form_urlencoded::parse(bytes) {
                all.insert(key.into_owned(), Value::String(value.into_owned()));
            }
        };
        form(query.unwrap_or_default().as_bytes());
        if kind.starts_with("application/x-www-form-urlencoded") {
            form(body);
        } else if kind.starts_with("application/json") {
            let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return None };
            all.extend(members);
        } else if kind.starts_with("multipart/form-data") {
            let (_, boundary) = kind.split_once("boundary=")?;
            multipart(boundary.trim_matches('"'), body, &mut all, &mut files)?;
        } else if !body.is_empty() {
            return None;
        }
        Some(Self(all, files))
    }

    /// The members of a part of a call, which has the call's files.
    pub(crate) fn of(part: &Value, call: &Self) -> Self {
        let members = part.as_object().cloned().unwrap_or_default();
        Self(members, call.1.clone())
    }

    pub(crate) fn file(&self, name: &str) -> Option<&Attached> {
        self.1.get(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name).as_deref(), Some("true" | "True" | "1" | "yes"))
    }

    /// A list or an object.
    pub(crate) fn json(&self, name: &str) -> Option<Value> {
        match self.0.get(name)? {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }
}

fn multipart(
    boundary: &str,
    body: &Bytes,
    all: &mut Map<String, Value>,
    files: &mut HashMap<String, Attached>,
) -> Option<()> {
    let line = format!("--{boundary}");
    let mut rest = body.clone();
    rest = rest.slice(find(&rest, line.as_bytes())? + line.len()..);
    while !rest.starts_with(b"--") {
        let end = find(&rest, format!("\r\n{line}").as_bytes())?;
        let part = rest.slice(2..end);
        rest = rest.slice(end + 2 + line.len()..);
        let border = find(&part, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&part.slice(..border)).into_owned();
        let content = part.slice(border + 4..);
        // Libraries differ in quotes, blanks and letters.
        let member = |name: &str| {
            let lines =
                head.lines().filter(|line| line.to_lowercase().starts_with("content-disposition:"));
            let members = lines.flat_map(|line| line.split(';').skip(1));
            let mut pairs = members.filter_map(|member| member.trim().split_once('='));
            let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value);
            value.map(|value| value.trim_matches('"').to_owned())
        };
        let name = member("name")?;
        if let Some(file) = member("filename") {
            files.insert(name, Attached { name: file, bytes: content });
        } else {
            let text = String::from_utf8_lossy(&content).into_owned();
            all.insert(name, Value::String(text));
        }
    }
    Some(())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_say_the_same() {
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n7\r\n\
                         --b\r\nContent-Disposition: form-data; name=\"list\"\r\n\r\n[1]\r\n--b--\r\n";
        for (query, kind, body) in [
            (Some("chat_id=7&list=%5B1%5D"), "", ""),
            (None, "application/x-www-form-urlencoded", "chat_id=7&list=%5B1%5D"),
            (None, "application/json; charset=utf-8", r#"{"chat_id":7,"list":[1]}"#),
            (None, "multipart/form-data; boundary=b", multipart),
        ] {
            let params = Params::read(query, kind, &Bytes::from(body)).unwrap();
            assert_eq!((params.number("chat_id"), params.number("x")), (Some(7), None), "{kind}");
            assert_eq!(params.json("list"), Some(serde_json::json!([1])), "{kind}");
        }
        assert!(Params::read(None, "application/json", &Bytes::from("[")).is_none());
    }
}
