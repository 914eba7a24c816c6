//! What people see of what is no text: short, for brackets. Pure.

use serde_json::Value;

use crate::json::{list_of, member, number_of, text_of};

/// Currencies whose smallest unit is the whole, and those that have a thousand of them in it; others have a hundred.
const WHOLE: [&str; 18] = [
    "XTR", "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI",
    "VND", "VUV", "XAF", "XOF", "XPF",
];
const THOUSANDTHS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
/// Lines of a contact's card that say more than its name and number.
const CARD: [&str; 6] = ["EMAIL", "ORG", "TITLE", "ADR", "URL", "NOTE"];

/// The word for a thing: the platform's own, but that a quiz is another poll.
pub(super) fn word<'a>(kind: &'a str, thing: &Value) -> &'a str {
    if kind == "poll" && text_of(thing, "type") == "quiz" { "quiz" } else { kind }
}

/// A file: its title or its name, and how long it is.
pub(super) fn file(kind: &str, file: &Value) -> String {
    let song = [text_of(file, "performer"), text_of(file, "title")];
    let song = song.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" - ");
    let names = [song.as_str(), text_of(file, "file_name"), text_of(file, "emoji")];
    let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let seconds = number_of(file, "duration").filter(|_| kind != "animation").unwrap_or_default();
    joined(&[name, &time(seconds)])
}

/// Anything else.
pub(super) fn detail(kind: &str, thing: &Value) -> String {
    let title = text_of(thing, "title");
    let named = |name: &str, id: Option<i64>| match (name, id) {
        ("", id) => id.map(|id| id.to_string()).unwrap_or_default(),
        (name, Some(id)) => format!("{name} ({id})"),
        (name, None) => name.to_owned(),
    };
    match kind {
        "venue" => joined(&[title, text_of(thing, "address"), &place(member(thing, "location"))]),
        "location" => place(thing),
        "contact" => contact(thing),
        "poll" => poll(thing),
        "checklist" => {
            let task = |task: &Value| {
                let is_done = !member(task, "completion_date").is_null();
                format!(" {} {}", if is_done { '☑' } else { '☐' }, text_of(task, "text"))
            };
            title.to_owned() + &list_of(thing, "tasks").iter().map(task).collect::<String>()
        }
        "dice" => {
            let value = number_of(thing, "value").unwrap_or_default();
            format!("{} {value}", text_of(thing, "emoji"))
        }
        "story" => {
            let chat = member(thing, "chat");
            joined(&[text_of(chat, "title"), text_of(chat, "first_name")])
        }
        "game" => joined(&[title, text_of(thing, "description")]),
        "invoice" => joined(&[title, &sum(thing), text_of(thing, "description")]),
        "successful_payment" | "refunded_payment" => {
            joined(&[&sum(thing), text_of(thing, "invoice_payload")])
        }
        "paid_media" => stars(thing),
        "gift" => stars(member(thing, "gift")),
        "giveaway" => {
            let winners = number_of(thing, "winner_count");
            let winners = winners.map(|count| format!("winners: {count}")).unwrap_or_default();
            joined(&[text_of(thing, "prize_description"), &winners])
        }
        "users_shared" => {
            let user = |user| named(text_of(user, "first_name"), number_of(user, "user_id"));
            let users: Vec<_> = list_of(thing, "users").iter().map(user).collect();
            users.join(", ")
        }
        "chat_shared" => named(title, number_of(thing, "chat_id")),
        "web_app_data" => text_of(thing, "button_text").to_owned(),
        _ => title.to_owned(),
    }
}

/// Those that are not empty, with commas.
pub(super) fn joined(words: &[&str]) -> String {
    words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(", ")
}

fn place(place: &Value) -> String {
    let (latitude, longitude) = (member(place, "latitude"), member(place, "longitude"));
    let live = if member(place, "live_period").is_null() { "" } else { ", live" };
    format!("{latitude}, {longitude}{live}")
}

fn contact(contact: &Value) -> String {
    let name = format!("{} {}", text_of(contact, "first_name"), text_of(contact, "last_name"));
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let name = name.split(';').next()?.rsplit('.').next()?;
        let value: Vec<_> = value.split([';', ' ']).filter(|word| !word.is_empty()).collect();
        CARD.contains(&name.to_ascii_uppercase().as_str()).then(|| value.join(" "))
    };
    let more: Vec<_> = text_of(contact, "vcard").lines().filter_map(line).collect();
    joined(&[name.trim(), text_of(contact, "phone_number"), &more.join(", ")])
}

fn poll(poll: &Value) -> String {
    let option = |option: &Value| match number_of(option, "voter_count").unwrap_or_default() {
        0 => text_of(option, "text").to_owned(),
        votes => format!("{} ({votes})", text_of(option, "text")),
    };
    let options: Vec<_> = list_of(poll, "options").iter().map(option).collect();
    let question = match text_of(poll, "description") {
        "" => text_of(poll, "question").to_owned(),
        more => format!("{} ({more})", text_of(poll, "question")),
    };
    let explained = match text_of(poll, "explanation") {
        "" => String::new(),
        why => format!(", explained: {why}"),
    };
    format!("{question} {}{explained}", options.join(" / "))
}

/// An amount of money in the smallest units of its currency.
fn sum(thing: &Value) -> String {
    let currency = text_of(thing, "currency");
    let Some(total) = number_of(thing, "total_amount") else { return currency.to_owned() };
    let (units, digits) = match currency {
        of if WHOLE.contains(&of) => (1, 0),
        of if THOUSANDTHS.contains(&of) => (1000, 3),
        _ => (100, 2),
    };
    let (whole, rest) = (total / units, (total % units).abs());
    if digits == 0 {
        return format!("{whole} {currency}");
    }
    format!("{whole}.{rest:0digits$} {currency}")
}

fn stars(thing: &Value) -> String {
    number_of(thing, "star_count").map(|count| format!("{count} stars")).unwrap_or_default()
}

/// Seconds, as players show them; empty: none.
fn time(seconds: i64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match seconds {
        ..=0 => String::new(),
        1..3600 => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}
