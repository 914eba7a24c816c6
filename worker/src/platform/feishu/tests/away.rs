//! What was said while nobody listened.

use std::collections::{HashMap, HashSet};
use std::pin::pin;

use ::tests::feishu::chat_entered;
use futures_util::future::{Either, select};
use serde_json::Value;

use super::*;
use crate::raw::feishu_ids;

fn listening(sim: Sim, cursor: Option<Cursor>) -> Rig {
    Rig::built(sim, &Network::default(), cursor, |settings| settings.catch_up_h = 24)
}

impl Rig {
    async fn cursor(&mut self, wanted: impl Fn(&Value) -> bool) -> Cursor {
        self.note(|note| match note {
            Note::Cursor(cursor) => {
                let told: Value = serde_json::from_slice(&cursor.0).unwrap();
                wanted(&told).then_some(cursor)
            }
            _ => None,
        })
        .await
    }
}

/// A worker that comes back after a minute. In these chats something was said meanwhile, and the history that
/// tells it is in trouble; it is being asked.
async fn back(chats: &[String], trouble: Trouble, times: Times) -> Rig {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    for chat in chats {
        sim.push_text(APP, chat, "ou_ann", "past");
    }
    let told = json!({"heard_ms": clock::unix_ms() - 60_000, "direct": chats, "groups": []});
    sim.fault(Scope::All, rest(Route::History, trouble), times);
    let mut rig = listening(sim, Some(Cursor(told.to_string().into_bytes())));
    rig.until_ready().await;
    rig.sim.wait_count("it is being read", LONG, 1, |entry| called(entry, "history")).await;
    rig
}

fn chats(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("oc_{number}")).collect()
}

/// F18: told while nobody was connected, and never again.
#[tokio::test]
async fn what_was_said_meanwhile_is_read_in_order_and_told_once() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    let mut rig = listening(sim, None);
    rig.until_ready().await;
    rig.sim.wait_count("bot info", LONG, 1, |entry| called(entry, "bot_info")).await;
    let mut known = Vec::new();
    for event in [Message::direct("oc_1", "ou_ann"), Message::group("oc_2", "ou_bob")] {
        rig.sim.push_message(APP, event.text("before"));
        known.extend(accept(rig.heard().await).keys);
    }
    let cursor =
        rig.cursor(|told| told["direct"][0] == "oc_1" && told["groups"][0] == "oc_2").await;

    for worker_lives in [true, false] {
        let mut last = String::new();
        let said = async |sim: &Sim, last: &mut String| {
            tokio::time::sleep(HURRIED.absence.least).await;
            // More than a page of it.
            let now = u128::try_from(clock::unix_ms()).unwrap();
            for number in 0..70 {
                let message = Message::direct("oc_1", "ou_ann").created_ms(now + number);
                sim.push_message(APP, message.text(&format!("{worker_lives} {number}")));
            }
            let to_us = Message::group("oc_2", "ou_bob").text("@_user_1 still there?");
            sim.push_message(APP, to_us.mention("@_user_1", "ou_bot", "bot"));
            *last = format!("{worker_lives} 69");
        };
        if worker_lives {
            let status = Fault::DiscoveryStatus { status: 503, body: String::new() };
            rig.sim.fault(Scope::All, status, Times::Always);
            rig.sim.drop_connections(Scope::All);
            rig.until_down().await;
            said(&rig.sim, &mut last).await;
            rig.sim.clear_faults();
        } else {
            let sim = rig.end().await;
            said(&sim, &mut last).await;
            // What it remembers may be older than the end, and what it reads is known then.
            rig = listening(sim, Some(cursor.clone()));
        }
        let mut told: Vec<Inbound> = Vec::new();
        while !(told.iter().any(|event| event.text == last)
            && told.iter().any(|event| event.chat_id == "oc_2"))
        {
            let submitted = rig.heard().await;
            let is_known = submitted.event.keys.iter().any(|key| known.contains(key));
            known.extend(submitted.event.keys.iter().cloned());
            let verdict = if is_known { Verdict::Duplicate } else { Verdict::Accepted(EventId(1)) };
            submitted.verdict.send(verdict).unwrap();
            told.extend((!is_known).then_some(submitted.event));
        }
        let (direct, group): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|event| event.chat_id == "oc_1");
        let texts: Vec<_> = direct.iter().map(|event| event.text.clone()).collect();
        let expected: Vec<_> = (0..70).map(|number| format!("{worker_lives} {number}")).collect();
        assert_eq!(texts, expected);
        assert!(direct.iter().all(|event| event.chat_type == ChatType::Direct
            && event.sender.user_id == "ou_ann"
            && event.message_id.is_some()));
        let [event] = group.as_slice() else { panic!("{group:?}") };
        assert_eq!((event.mention, event.text.as_str()), (Mention::Me, "@bot still there?"));
        assert_eq!(event.chat_type, ChatType::Group);
    }
    rig.end().await;
}

/// Histories are told by the platform's clock.
#[tokio::test]
async fn a_clock_of_ours_that_is_wrong_hides_nothing() {
    const BEHIND: Duration = Duration::from_hours(2);
    let sim = Rig::sim().await;
    sim.configure(|settings| {
        settings.schedule.pauses = Vec::new();
        settings.behind = BEHIND;
    });
    let mut rig = listening(sim, None);
    rig.until_ready().await;
    rig.sim.push_text(APP, "oc_1", "ou_ann", "before");
    accept(rig.heard().await);
    let cursor = rig.cursor(|told| told["direct"][0] == "oc_1").await;
    let mut told: Value = serde_json::from_slice(&cursor.0).unwrap();
    let sim = rig.end().await;
    // Before the last minute.
    told["heard_ms"] = json!(told["heard_ms"].as_i64().unwrap() - 60_000);
    let said_ms = clock::unix_ms() - i64::try_from(BEHIND.as_millis()).unwrap() - 30_000;
    let said_ms = u128::try_from(said_ms).unwrap();
    sim.push_message(APP, Message::direct("oc_1", "ou_ann").created_ms(said_ms).text("meanwhile"));
    // And with what a clock that was wrong then has left behind.
    for ahead_ms in [0, 40_000_000] {
        let mut told = told.clone();
        told["heard_ms"] = json!(told["heard_ms"].as_i64().unwrap() + ahead_ms);
        let cursor = Cursor(told.to_string().into_bytes());
        let mut rig = listening(sim.clone(), Some(cursor));
        while accept(rig.heard().await).text != "meanwhile" {}
        rig.end().await;
    }
}

/// Refused for now, or the platform does not answer: what is owed stays owed, also beyond this life.
#[tokio::test]
async fn what_is_not_read_yet_stays_owed() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    sim.push_text(APP, "oc_1", "ou_ann", "said to nobody");
    sim.fault(Scope::All, rest(Route::History, Trouble::Html { status: 502 }), Times::Always);
    let hour_ago = clock::unix_ms() - 3_600_000;
    let told = json!({"heard_ms": hour_ago, "direct": ["oc_1"], "groups": []});
    let cursor = Some(Cursor(told.to_string().into_bytes()));
    let mut rig = listening(sim, cursor);
    rig.until_ready().await;
    rig.sim.wait_count("a try", LONG, 1, |entry| called(entry, "history")).await;
    let event = rig.sim.push_text(APP, "oc_2", "ou_ann", "life goes on");
    assert_eq!(accept(rig.heard().await).text, "life goes on");
    event.acked_within(LONG).await;
    let later = rig.cursor(|told| told["direct"].as_array().unwrap().len() == 2).await;
    let told: Value = serde_json::from_slice(&later.0).unwrap();
    assert!(told["heard_ms"].as_i64() > Some(hour_ago));
    assert!(told["owed"]["oc_1"].as_i64() < Some(hour_ago), "it is owed all of it");
    let sim = rig.end().await;
    sim.clear_faults();
    let mut rig = listening(sim, Some(later));
    while accept(rig.heard().await).text != "said to nobody" {}
    rig.cursor(|told| told["owed"] == json!({})).await;
    rig.end().await;
}

#[tokio::test]
async fn nothing_is_read_at_a_first_start_or_where_nobody_wants_it() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    sim.push_text(APP, "oc_1", "ou_ann", "before my time");
    let hour_ago = json!({"heard_ms": clock::unix_ms() - 3_600_000, "direct": ["oc_1"]});
    let hour_ago = Cursor(hour_ago.to_string().into_bytes());
    let mut sim = Some(sim);
    for (cursor, hours) in [(None, 24), (Some(hour_ago), 0)] {
        let change = |settings: &mut FeishuSettings| settings.catch_up_h = hours;
        let mut rig = Rig::built(sim.take().unwrap(), &Network::default(), cursor, change);
        rig.until_ready().await;
        rig.cursor(|_| true).await;
        let rest = rig.end().await;
        assert_eq!(rest.count(|entry| called(entry, "history")), 0);
        sim = Some(rest);
    }
}

/// Whatever ends the worker just then: with the first event of a chat it is kept that the chat is to be asked.
#[tokio::test]
async fn a_chat_is_remembered_with_its_first_event() {
    let mut rig = Rig::ready().await;
    let names = |cursor: Option<Cursor>| {
        let told: Value = serde_json::from_slice(&cursor.expect("a cursor").0).unwrap();
        assert!(told["heard_ms"].as_i64().unwrap() > 0);
        told["direct"].as_array().unwrap().len()
    };
    for chat in 1..=2 {
        let event = rig.sim.push_text(APP, &format!("oc_{chat}"), "ou_ann", "refused at first");
        let submitted = rig.heard().await;
        assert_eq!(names(submitted.cursor.clone()), chat);
        submitted.verdict.send(Verdict::Refused).unwrap();
        let submitted = rig.heard().await;
        assert_eq!(names(submitted.cursor.clone()), chat);
        accept(submitted);
        event.acked_within(LONG).await;
    }
    let event = rig.sim.push_text(APP, "oc_1", "ou_ann", "known by now");
    let submitted = rig.heard().await;
    assert_eq!(submitted.cursor, None);
    accept(submitted);
    event.acked_within(LONG).await;
    rig.end().await;
}

/// An agent that tells people apart by another id than the history names has one conversation with each.
#[tokio::test]
async fn a_history_names_people_as_the_events_did() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    let mut rig = listening(sim, None);
    rig.until_ready().await;
    let ids = |event: &Inbound| feishu_ids(&serde_json::from_slice(&event.raw).unwrap()).clone();
    let root = Message::group("oc_1", "ou_ann").message_id("om_root");
    rig.sim.push_message(APP, root.text("before"));
    let before = ids(&accept(rig.heard().await));
    assert_eq!(before["union_id"], "on_of_ou_ann");
    let cursor = rig.cursor(|told| !told["accounts"]["ou_ann"].is_null()).await;
    let sim = rig.end().await;
    tokio::time::sleep(HURRIED.absence.least).await;
    for (user, ms) in [("ou_ann", 0), ("ou_cy", 1000)] {
        let answer = Message::group("oc_1", user).reply_to("om_root", "om_root");
        let at = u128::try_from(clock::unix_ms()).unwrap() + ms;
        sim.push_message(APP, answer.created_ms(at).text("meanwhile"));
    }
    let mut rig = listening(sim, Some(cursor));
    for expected in [before, json!({"open_id": "ou_cy"})] {
        let mut event = accept(rig.heard().await);
        while event.text != "meanwhile" {
            event = accept(rig.heard().await);
        }
        assert_eq!(ids(&event), expected);
        let raw: Value = serde_json::from_slice(&event.raw).unwrap();
        assert_eq!(raw["event"]["message"]["root_id"], "om_root");
    }
    rig.end().await;
}

/// A menu's event names only who pressed it: the next life knows in which chat that is.
#[tokio::test]
async fn a_menu_is_in_the_chat_of_before() {
    let mut rig = Rig::ready().await;
    rig.sim.push_text(APP, "oc_1", "ou_ann", "hello");
    let submitted = rig.heard().await;
    let cursor = submitted.cursor.clone();
    accept(submitted);
    rig.sim.push_event(APP, chat_entered("oc_2", "ou_bob"));
    accept(rig.heard().await);
    rig.sim.push_event(APP, menu("ou_bob", "help"));
    assert_eq!(accept(rig.heard().await).chat_id, "oc_2");
    let mut rig = Rig::built(rig.end().await, &Network::default(), cursor, |_| {});
    rig.until_ready().await;
    for (user, chat) in [("ou_ann", "oc_1"), ("ou_cy", "ou_cy")] {
        rig.sim.push_event(APP, menu(user, "help"));
        assert_eq!(accept(rig.heard().await).chat_id, chat);
    }
    rig.end().await;
}

/// However many chats there are, what comes in one waits for its past, and that is read first.
#[tokio::test]
async fn nobody_overtakes_what_was_said_meanwhile() {
    const CHATS: usize = 120;
    let chats = chats(CHATS);
    let mut rig = back(&chats, Trouble::Delay { ms: 100 }, Times::Always).await;
    // The last ones that would be read otherwise, whichever they are, are among these.
    let live: Vec<_> = chats
        .iter()
        .step_by(5)
        .map(|chat| rig.sim.push_text(APP, chat, "ou_ann", "live"))
        .collect();
    let mut heard: HashMap<String, Vec<String>> = HashMap::new();
    while heard.values().map(Vec::len).sum::<usize>() < CHATS + live.len() {
        let event = accept(rig.heard().await);
        // What comes live is in the history as well; the supervisor knows it by its keys.
        let texts = heard.entry(event.chat_id).or_default();
        if !texts.contains(&event.text) {
            texts.push(event.text);
        }
    }
    for chat in chats.iter().step_by(5) {
        assert_eq!(heard[chat], ["past", "live"], "{chat}");
    }
    for event in live {
        assert_eq!(event.acked_within(LONG).await.attempt, 1);
    }
    rig.end().await;
}

/// The connection was gone for a moment. The platform repeats what was said then, but only after what comes now.
#[tokio::test]
async fn nobody_overtakes_what_was_said_in_a_short_gap() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    let limits = Limits { absence: LIMITS.absence, rival: LIMITS.rival, ..HURRIED };
    let often = |settings: &mut FeishuSettings| settings.catch_up_h = 24;
    let mut rig = Rig::limited(sim, &Network::default(), limits, None, often);
    rig.until_ready().await;
    let mut heard = vec![];
    let mut say = async |rig: &mut Rig, chat: &str, user: &str, text: &str| {
        let event = rig.sim.push_text(APP, chat, user, text);
        let mut acked = pin!(event.acked_within(LONG));
        while let Either::Left((submitted, _)) = select(pin!(rig.heard()), &mut acked).await {
            let event = accept(submitted);
            // What comes live is in the history as well; the supervisor knows it by its keys.
            heard.extend((!heard.contains(&event.text)).then_some(event.text));
        }
    };
    say(&mut rig, "oc_1", "ou_ann", "before").await;
    let status = Fault::DiscoveryStatus { status: 503, body: String::new() };
    rig.sim.fault(Scope::All, status, Times::Always);
    rig.sim.drop_connections(Scope::All);
    rig.until_down().await;
    rig.sim.push_text(APP, "oc_1", "ou_ann", "in the gap");
    rig.sim.push_text(APP, "oc_2", "ou_bob", "in the gap too");
    rig.sim.clear_faults();
    rig.until_up().await;
    say(&mut rig, "oc_1", "ou_ann", "live").await;
    say(&mut rig, "oc_2", "ou_bob", "here as well").await;
    assert_eq!(heard, ["before", "in the gap", "live", "in the gap too", "here as well"]);
    let rest = rig.end().await;
    assert_eq!(rest.count(|entry| called(entry, "history")), 2, "only where something is said");
}

/// A history that fails for a moment is waited for.
#[tokio::test]
async fn nobody_overtakes_a_past_that_cannot_be_read_at_once() {
    let mut rig = back(&chats(1), Trouble::Html { status: 502 }, Times::Only(3)).await;
    rig.sim.push_text(APP, "oc_0", "ou_ann", "live");
    let mut texts = vec![accept(rig.heard().await).text];
    while texts.len() < 2 {
        let text = accept(rig.heard().await).text;
        texts.extend((text != texts[0]).then_some(text));
    }
    assert_eq!(texts, ["past", "live"]);
    rig.end().await;
}

/// One that fails for longer keeps nothing back for so long that it could not be answered in time.
#[tokio::test]
async fn a_past_that_cannot_be_read_is_overtaken_in_time() {
    let mut rig = back(&chats(1), Trouble::Html { status: 502 }, Times::Always).await;
    for text in ["live", "next"] {
        let event = rig.sim.push_text(APP, "oc_0", "ou_ann", text);
        assert_eq!(accept(rig.heard().await).text, text);
        event.acked_within(LONG).await;
    }
    rig.end().await;
}

/// However many chats are to be read first and however slow that is: who cannot be answered in time is taken in
/// his turn all the same.
#[tokio::test]
async fn nobody_overtakes_a_past_that_is_slow() {
    const CHATS: usize = 80;
    let chats = chats(CHATS);
    let mut rig = back(&chats, Trouble::Delay { ms: 600 }, Times::Always).await;
    for text in ["first", "second"] {
        for chat in &chats {
            rig.sim.push_text(APP, chat, "ou_ann", text);
        }
    }
    let mut order: HashMap<String, Vec<String>> = HashMap::new();
    while order.values().map(Vec::len).sum::<usize>() < 3 * CHATS {
        let event = accept(rig.heard().await);
        let texts = order.entry(event.chat_id).or_default();
        texts.extend((!texts.contains(&event.text)).then_some(event.text));
    }
    for texts in order.values() {
        assert_eq!(*texts, ["past", "first", "second"]);
    }
    rig.end().await;
}

/// A kill while it is read is no reason to read it all again.
#[tokio::test]
async fn what_was_read_before_a_kill_is_not_read_again() {
    let chats = chats(20);
    let mut rig = back(&chats, Trouble::Hold, Times::Only(1)).await;
    let mut read = HashSet::new();
    while read.len() < chats.len() - 1 {
        read.insert(accept(rig.heard().await).chat_id);
    }
    let cursor = rig.cursor(|told| told["owed"].as_object().unwrap().len() == 1).await;
    // The next life comes so soon that nothing was missed meanwhile.
    let mut told: Value = serde_json::from_slice(&cursor.0).unwrap();
    told["heard_ms"] = json!(clock::unix_ms() + 8_000);
    let cursor = Cursor(told.to_string().into_bytes());
    let sim = rig.end().await;
    sim.clear_faults();
    let mut rig = listening(sim, Some(cursor));
    let event = accept(rig.heard().await);
    assert!(!read.contains(&event.chat_id));
    rig.cursor(|told| told["owed"] == json!({})).await;
    assert!(rig.events.try_recv().is_err(), "nothing else is read");
    rig.end().await;
}

/// A server without any history has nothing to wait for.
#[tokio::test]
async fn a_server_without_a_history_is_heard_at_once() {
    let sim = Rig::sim().await;
    let told = json!({"heard_ms": clock::unix_ms() - 60_000, "direct": ["oc_1"], "groups": []});
    sim.fault(Scope::All, rest(Route::History, Trouble::Html { status: 404 }), Times::Always);
    let mut rig = listening(sim, Some(Cursor(told.to_string().into_bytes())));
    rig.until_ready().await;
    let live = rig.sim.push_text(APP, "oc_1", "ou_ann", "live");
    assert_eq!(accept(rig.heard().await).text, "live");
    assert_eq!(live.acked_within(LONG).await.attempt, 1);
    rig.cursor(|told| told["heard_ms"].as_i64() > Some(clock::unix_ms() - 30_000)).await;
    rig.end().await;
}

/// A history that does not come keeps nothing back for good.
#[tokio::test]
async fn what_comes_does_not_wait_for_ever_for_its_past() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    let chats: Vec<_> = (0..20).map(|number| format!("oc_{number}")).collect();
    let told = json!({"heard_ms": clock::unix_ms() - 60_000, "direct": chats, "groups": []});
    let told = Cursor(told.to_string().into_bytes());
    let mut sim = Some(sim);
    // Nor does it wait until the bot knows itself.
    for route in [Route::History, Route::BotInfo] {
        let used = sim.take().unwrap();
        used.fault(Scope::All, rest(route, Trouble::Hang), Times::Always);
        // Longer than the platform waits for an answer.
        let limits = Limits { turn: Duration::from_secs(3), ..HURRIED };
        let often = |settings: &mut FeishuSettings| settings.catch_up_h = 24;
        let mut rig = Rig::limited(used, &Network::default(), limits, Some(told.clone()), often);
        rig.until_ready().await;
        for chat in &chats {
            rig.sim.push_text(APP, chat, "ou_ann", "live");
        }
        for _ in &chats {
            assert_eq!(accept(rig.heard().await).text, "live");
        }
        let rest = rig.end().await;
        rest.clear_faults();
        sim = Some(rest);
    }
}

/// The chat that is read already is read again.
#[tokio::test]
async fn an_absence_while_the_last_one_is_still_being_read_is_made_up_for() {
    let sim = Rig::sim().await;
    sim.configure(|settings| settings.schedule.pauses = Vec::new());
    sim.fault(Scope::All, rest(Route::History, Trouble::Hold), Times::Only(1));
    let told = json!({"heard_ms": clock::unix_ms() - 60_000, "direct": ["oc_1", "oc_2"]});
    for chat in ["oc_1", "oc_2"] {
        sim.push_text(APP, chat, "ou_ann", "first");
    }
    let mut rig = listening(sim, Some(Cursor(told.to_string().into_bytes())));
    rig.until_ready().await;
    assert_eq!(accept(rig.heard().await).text, "first");
    rig.sim.wait_count("the other one", LONG, 1, held).await;
    let status = Fault::DiscoveryStatus { status: 503, body: String::new() };
    rig.sim.fault(Scope::All, status, Times::Only(2));
    rig.sim.fault(Scope::All, rest(Route::History, Trouble::Hold), Times::Always);
    rig.sim.drop_connections(Scope::All);
    rig.until_down().await;
    tokio::time::sleep(HURRIED.absence.least).await;
    for chat in ["oc_1", "oc_2"] {
        rig.sim.push_text(APP, chat, "ou_ann", "second");
    }
    rig.until_up().await;
    rig.sim.clear_faults();
    let mut again = HashSet::new();
    while again.len() < 2 {
        let event = accept(rig.heard().await);
        again.extend((event.text == "second").then_some(event.chat_id));
    }
    rig.end().await;
}
