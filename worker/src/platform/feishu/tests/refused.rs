//! What is said behind a message for which there was no room.

use std::collections::HashSet;

use ::tests::feishu::EventHandle;

use super::*;
use crate::platform::Submitted;

/// A supervisor that has room for some.
#[derive(Default)]
struct Desk {
    known: HashSet<String>,
    /// Words in the order in which they were accepted.
    taken: Vec<String>,
    /// How often something that is not known asked for room.
    asked: usize,
}

impl Desk {
    fn judge(&mut self, submitted: Submitted, has_room: bool) {
        let event = submitted.event;
        let is_known = event.keys.iter().any(|key| self.known.contains(key));
        self.asked += usize::from(!is_known);
        let verdict = if is_known {
            Verdict::Duplicate
        } else if has_room {
            self.known.extend(event.keys);
            self.taken.push(event.text);
            Verdict::Accepted(EventId(1))
        } else {
            Verdict::Refused
        };
        // Whoever was not answered in time waits no more.
        let _ = submitted.verdict.send(verdict);
    }

    /// There is room for all that comes.
    async fn until_answered(&mut self, rig: &mut Rig, events: &[EventHandle]) {
        let answered = async {
            for event in events {
                event.acked_within(LONG).await;
            }
        };
        let judging = async {
            loop {
                self.judge(rig.heard().await, true);
            }
        };
        tokio::select! { () = answered => {}, () = judging => {} }
    }
}

/// Knows its name, and listens to a platform that tells again so often.
async fn listening(repeats: usize) -> Rig {
    let sim = Rig::sim().await;
    sim.configure(|settings| {
        settings.schedule.pauses = vec![Duration::from_millis(100); repeats];
    });
    let change = |settings: &mut FeishuSettings| settings.catch_up_h = 24;
    let mut rig = Rig::built(sim, &Network::default(), None, change);
    rig.until_ready().await;
    rig.sim.wait_count("bot info", LONG, 1, |entry| called(entry, "bot_info")).await;
    rig
}

/// The words are when it was said.
fn say(rig: &Rig, message: Message, number: u128) -> EventHandle {
    let at = u128::try_from(clock::unix_ms()).unwrap() + number;
    rig.sim.push_message(APP, message.created_ms(at).text(&number.to_string()))
}

fn ann() -> Message {
    Message::direct("oc_1", "ou_ann")
}

fn topic() -> Message {
    Message::group("oc_1", "ou_ann").in_thread("omt_1", "om_root")
}

fn numbers(count: u128) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Whether the platform tells it again or not.
#[tokio::test]
async fn nothing_overtakes_what_was_refused() {
    let chats: [fn() -> Message; 2] = [ann, topic];
    for (repeats, message) in [100, 0].into_iter().flat_map(|it| chats.map(|chat| (it, chat))) {
        let (mut rig, mut desk) = (listening(repeats).await, Desk::default());
        // What was said long before is not to be heard anew.
        let hour_ago = u128::try_from(clock::unix_ms()).unwrap() - 3_600_000;
        rig.sim.push_message(APP, message().created_ms(hour_ago).text("past"));
        let _ = rig.heard().await.verdict.send(Verdict::Denied);
        let mut events = vec![say(&rig, message(), 0)];
        desk.judge(rig.heard().await, false);
        events.extend((1..6).map(|number| say(&rig, message(), number)));
        while desk.taken.len() < 6 {
            let submitted = rig.heard().await;
            assert!(submitted.cursor.is_some() || !desk.taken.is_empty(), "the chat is new");
            // There is room now and then.
            let has_room = desk.asked % 3 == 2;
            desk.judge(submitted, has_room);
        }
        assert_eq!(desk.taken, numbers(6));
        if repeats > 0 {
            desk.until_answered(&mut rig, &events).await;
        }
        assert_eq!(desk.taken, numbers(6));
        rig.end().await;
    }
}

/// What waits is not kept from the chat's other topics, of which the history tells little, nor from other chats.
#[tokio::test]
async fn only_what_the_history_tells_waits() {
    let (mut rig, mut desk) = (listening(0).await, Desk::default());
    let group = || Message::group("oc_1", "ou_ann");
    say(&rig, group(), 0);
    desk.judge(rig.heard().await, false);
    let topic = say(&rig, group().in_thread("omt_1", "om_root"), 1);
    let other = say(&rig, Message::group("oc_2", "ou_ann"), 2);
    while desk.taken.len() < 2 {
        let submitted = rig.heard().await;
        let has_room = submitted.event.text != "0";
        desk.judge(submitted, has_room);
    }
    desk.taken.sort();
    assert_eq!(desk.taken, ["1", "2"]);
    for event in [topic, other] {
        event.acked_within(LONG).await;
    }
    rig.end().await;
}

/// Then it is as if there were no order: everything is taken when it comes.
#[tokio::test]
async fn a_history_that_is_not_told_keeps_nothing_back() {
    for trouble in [Trouble::Html { status: 404 }, Trouble::Html { status: 502 }] {
        let (mut rig, mut desk) = (listening(100).await, Desk::default());
        rig.sim.fault(Scope::All, rest(Route::History, trouble), Times::Always);
        for round in 0..2 {
            let refused = say(&rig, ann(), 3 * round);
            desk.judge(rig.heard().await, false);
            let live = say(&rig, ann(), 3 * round + 1);
            desk.until_answered(&mut rig, &[refused, live.clone()]).await;
            // The second time it is known that there is nothing to wait for.
            let attempt = live.acked_within(LONG).await.attempt;
            assert!(round == 0 || attempt == 1, "{attempt}");
        }
        assert_eq!(desk.taken.len(), 4);
        rig.end().await;
    }
}
