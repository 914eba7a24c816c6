//! Messages of blocks: headings, lists, tables, pictures between them. Pure.
//!
//! A text in them is a string, a list of texts, or an object with one inside. Of blocks that are unknown here, all
//! words are kept.

use protocol::event::Part;
use serde_json::Value;

use super::content::{FILES, part};
use crate::json::{list_of, member, number_of, text_of};

/// All words of a message, a line for each block, in Markdown where it has a sign for it.
pub(super) fn words(message: &Value) -> String {
    lines(list_of(message, "blocks"))
}

/// All files of a message.
pub(super) fn files(value: &Value, parts: &mut Vec<Part>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| files(item, parts)),
        Value::Object(members) => match kind(value) {
            Some((kind, name)) => parts.extend(part(kind, member(value, name))),
            None => members.values().for_each(|inner| files(inner, parts)),
        },
        _ => {}
    }
}

/// Texts of this type, wherever they stand.
pub(super) fn find<'a>(value: &'a Value, of: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| find(item, of, found)),
        Value::Object(members) => {
            if text_of(value, "type") == of {
                found.push(value);
            }
            members.values().for_each(|inner| find(inner, of, found));
        }
        _ => {}
    }
}

/// Our word for the file that a block shows, and the member that it is.
fn kind(block: &Value) -> Option<(&'static str, &'static str)> {
    match text_of(block, "type") {
        "voice_note" => Some(("voice", "voice_note")),
        of => FILES.iter().find(|kind| **kind == of).map(|kind| (*kind, *kind)),
    }
}

fn lines(blocks: &[Value]) -> String {
    blocks.iter().map(block).collect::<Vec<_>>().join("\n")
}

fn block(block: &Value) -> String {
    let said = text(member(block, "text"));
    match text_of(block, "type") {
        "divider" => "---".to_owned(),
        "heading" => {
            let size = number_of(block, "size").unwrap_or(1).clamp(1, 6);
            format!("{} {said}", "#".repeat(usize::try_from(size).unwrap_or(1)))
        }
        "pre" => format!("```{}\n{said}\n```", text_of(block, "language")),
        "mathematical_expression" => text_of(block, "expression").to_owned(),
        "list" => list_of(block, "items").iter().map(item).collect::<Vec<_>>().join("\n"),
        "table" => {
            let cells = |row: &Value| {
                let cells = row.as_array().into_iter().flatten();
                cells.map(|cell| text(member(cell, "text"))).collect::<Vec<_>>().join(" | ")
            };
            let rows = list_of(block, "cells").iter().map(cells);
            Some(all(block, ""))
                .filter(|caption| !caption.is_empty())
                .into_iter()
                .chain(rows)
                .collect::<Vec<_>>()
                .join("\n")
        }
        "blockquote" | "expandable_blockquote" | "pullquote" => {
            let quoted = all(block, &said);
            quoted.lines().map(|line| format!("> {line}")).collect::<Vec<_>>().join("\n")
        }
        _ => match kind(block) {
            Some((kind, _)) => format!("[{kind}] {}", all(block, "")).trim_end().to_owned(),
            None => all(block, &said),
        },
    }
}

fn item(item: &Value) -> String {
    let has = |name| member(item, name).as_bool() == Some(true);
    let mark = match (has("has_checkbox"), has("is_checked")) {
        (false, _) => "",
        (true, true) => "[x] ",
        (true, false) => "[ ] ",
    };
    format!("{} {mark}{}", text_of(item, "label"), lines(list_of(item, "blocks")))
}

/// What a block says with all of its members.
fn all(block: &Value, said: &str) -> String {
    let caption = member(block, "caption");
    let buttons = list_of(block, "buttons").iter();
    let buttons = buttons.map(|button| format!("[{}]", text(member(button, "text"))));
    let words = [
        text(member(block, "summary")),
        said.to_owned(),
        lines(list_of(block, "blocks")),
        text(caption),
        text(member(caption, "credit")),
        text(member(block, "credit")),
        buttons.collect::<Vec<_>>().join(" "),
    ];
    words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join("\n")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(texts) => texts.iter().map(text).collect(),
        _ => match text_of(value, "type") {
            "custom_emoji" => text_of(value, "alternative_text").to_owned(),
            "mathematical_expression" => text_of(value, "expression").to_owned(),
            "url" => match (text(member(value, "text")), text_of(value, "url")) {
                (said, url) if said == url => said,
                (said, url) => format!("{said} ({url})"),
            },
            "button" => format!("[{}]", text(member(member(value, "button"), "text"))),
            _ if value.is_object() => text(member(value, "text")),
            _ => String::new(),
        },
    }
}
