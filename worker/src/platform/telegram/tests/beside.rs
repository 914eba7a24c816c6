//! Drafts, signs of work, files that are fetched, and what a person orders.

use protocol::content::{Busy, Fetch, Fetched};
use protocol::event::Part;
use protocol::worker::Order;

use super::*;

const GROUP: i64 = -1_000_000_000_005;

fn part(handle: &str) -> Part {
    Part { kind: "document".into(), handle: handle.into(), name: None, size: None, mime: None }
}

impl Rig {
    async fn fetch(&mut self, part: Part) -> Result<Fetched, String> {
        let instance = protocol::id::Instance::new("telegram").unwrap();
        let fetch = Fetch { instance, message_id: None, part };
        self.ask.send(Ask::Fetch(7, Box::new(fetch))).await.expect("the adapter lives");
        self.note(|note| match note {
            Note::Fetched(7, result) => Some(result),
            _ => None,
        })
        .await
    }

    async fn order(&mut self, order: Order) -> Result<String, String> {
        self.ask.send(Ask::Order(3, order)).await.expect("the adapter lives");
        self.note(|note| match note {
            Note::Ordered(3, result) => Some(result),
            _ => None,
        })
        .await
    }
}

fn drafts(sim: &Sim) -> Vec<String> {
    let shown = |entry: Entry| match entry.what {
        Observation::Draft { text, .. } => Some(text),
        _ => None,
    };
    sim.journal().into_iter().filter_map(shown).collect()
}

/// The platform takes a preview away after a while, and some tools run for longer.
#[tokio::test]
async fn a_preview_stays_as_long_as_somebody_works() {
    let mut rig = Rig::ready().await;
    rig.draft("a/k", ANN, "one").await;
    let busy = |on| {
        let chat_id = ANN.to_string();
        Ask::Busy(Busy { chat_id, thread_id: None, message_id: None, on })
    };
    rig.ask.send(busy(true)).await.unwrap();
    let drawn = |entry: &Entry| matches!(entry.what, Observation::Draft { .. });
    rig.sim.wait_count("it is shown again", LONG, 2, drawn).await;
    rig.ask.send(busy(false)).await.unwrap();
    sent(rig.send(outbound(1, |it| it.draft_key = "a/k".into())).await);
    let sim = rig.end().await;
    assert!(drafts(&sim).iter().all(|text| text == "one"));
    let last = sim.journal().iter().rposition(drawn);
    let reply = sim.journal().iter().position(
        |entry| matches!(&entry.what, Observation::Call { method, .. } if method == "sendmessage"),
    );
    assert!(last < reply, "none comes after the reply");
}

#[tokio::test]
async fn in_a_direct_chat_drafts_are_previews_and_the_reply_a_message() {
    let mut rig = Rig::ready().await;
    assert_eq!(rig.draft("a/k", ANN, "**one**").await, None);
    assert_eq!(rig.draft("a/k", ANN, "**one** two").await, None);
    let reply = outbound(1, |it| {
        it.draft_key = "a/k".into();
        it.content.text = "**one** two three".into();
    });
    sent(rig.send(reply).await);
    let sim = rig.end().await;
    assert_eq!(drafts(&sim), ["one", "one two"]);
    let texts: Vec<_> = sim.sent().into_iter().map(|it| it.text).collect();
    assert_eq!(texts, ["one two three"]);
}

#[tokio::test]
async fn where_there_are_no_previews_a_message_grows_into_the_reply() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, GROUP, Mood::Open);
    rig.sim.configure(|it| it.without_drafts = true);
    for (n, chat) in [(1, GROUP), (2, ANN)] {
        let key = format!("a/{n}");
        let shown = rig.draft(&key, chat, "one").await.expect("a message shows it");
        assert_eq!(rig.draft(&key, chat, "one two").await.as_ref(), Some(&shown));
        let reply = outbound(n, |it| {
            (it.chat_id, it.draft_key) = (chat.to_string(), key);
            it.draft_id = Some(shown.clone());
            it.content.text = "one two three".into();
        });
        assert_eq!(sent(rig.send(reply).await), [shown]);
    }
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 2, "each is one message from the beginning");
    let edits = sim.count(
        |it| matches!(&it.what, Observation::Edited { text, .. } if text.ends_with("three")),
    );
    assert_eq!(edits, 2);
}

/// What shows a reply in the making stays behind in the group of before.
#[tokio::test]
async fn a_group_that_moves_in_the_middle_of_a_reply_gets_all_of_it() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, -5, Mood::Open);
    rig.sim.set_mood(TOKEN, GROUP, Mood::Open);
    let reply = |id, draft: &str, text: &str| {
        outbound(id, |it| {
            (it.chat_id, it.draft_key) = ("-5".into(), format!("a/{id}"));
            it.draft_id = Some(draft.to_owned());
            it.content.text = text.into();
        })
    };
    let shown = rig.draft("a/1", -5, "one").await.expect("a message shows it");
    rig.sim.set_mood(TOKEN, -5, Mood::Migrated(GROUP));
    // The reply finds that out.
    assert_ne!(sent(rig.send_in_turn(reply(1, &shown, "one two")).await), [shown]);
    let shown = rig.draft("a/2", -5, "three").await.expect("a message shows it there");
    assert_eq!(sent(rig.send_in_turn(reply(2, &shown, "three four")).await), [shown]);
    let sim = rig.end().await;
    let all: Vec<_> = sim.sent().into_iter().map(|it| (it.chat_id, it.text)).collect();
    let all: Vec<_> = all.iter().map(|(chat, text)| (*chat, text.as_str())).collect();
    assert_eq!(all, [(-5, "one"), (GROUP, "one two"), (GROUP, "three")]);
}

/// What an agent says just now is what people want to see; in the end all of it is there.
#[tokio::test]
async fn of_a_long_draft_its_newest_words_are_shown() {
    let mut rig = Rig::ready().await;
    let text = (0..600).fold(String::new(), |text, n| text + &format!("line {n}\n"));
    assert_eq!(rig.draft("a/1", ANN, &text).await, None);
    rig.sim.set_mood(TOKEN, GROUP, Mood::Open);
    rig.sim.configure(|it| it.without_drafts = true);
    let shown = rig.draft("a/2", GROUP, &text).await.unwrap();
    let drawn = drafts(&rig.sim).remove(0);
    for text in [drawn, rig.sim.sent()[0].text.clone()] {
        assert!(text.ends_with("\nline 599") && text.starts_with("…\nline "), "{text}");
        assert!((2000..=4096).contains(&text.len()), "{}", text.len());
    }
    let reply = outbound(1, |it| {
        (it.chat_id, it.draft_key) = (GROUP.to_string(), "a/2".into());
        (it.draft_id, it.content.text) = (Some(shown.clone()), text.clone());
    });
    let ids = sent(rig.send_in_turn(reply).await);
    assert!(ids.len() == 2 && ids[0] == shown);
    let sim = rig.end().await;
    let first = sim.journal().into_iter().find_map(|entry| match entry.what {
        Observation::Edited { text, .. } => Some(text),
        _ => None,
    });
    let all = [first.unwrap(), sim.sent().pop().unwrap().text].join("\n");
    assert_eq!(all, text.trim());
}

#[tokio::test]
async fn a_draft_that_people_deleted_costs_no_words() {
    let mut rig = Rig::ready().await;
    rig.sim.configure(|it| it.without_drafts = true);
    let shown = rig.draft("a/k", ANN, "one").await.unwrap();
    rig.sim.delete_message(TOKEN, ANN, shown.parse().unwrap());
    let reply =
        |id| outbound(id, |it| (it.draft_key, it.draft_id) = ("a/k".into(), Some(shown.clone())));
    let ids = sent(rig.send(reply(1)).await);
    assert_ne!(ids, std::slice::from_ref(&shown));
    // A later life knows of it what the supervisor kept.
    let sim = rig.end().await;
    let mut rig = Rig::on(sim, |_| {});
    rig.until_ready().await;
    sent(rig.send(reply(2)).await);
    assert_eq!(rig.end().await.sent().len(), 3);
}

#[tokio::test]
async fn a_draft_whose_answer_was_lost_is_not_shown_twice() {
    let mut rig = Rig::ready().await;
    rig.sim.configure(|it| it.without_drafts = true);
    rig.sim.fault(Some("sendMessage"), Fault::LostAnswer, Some(1));
    assert_eq!(rig.draft("a/k", ANN, "one").await, None);
    assert_eq!(rig.draft("a/k", ANN, "one two").await, None);
    let sim = rig.end().await;
    assert_eq!(sim.sent().len(), 1);
}

/// Whether the reply was sent or was none that could be.
#[tokio::test]
async fn a_draft_that_comes_after_its_reply_is_not_shown() {
    let mut rig = Rig::ready().await;
    for without in [false, true] {
        rig.sim.configure(|it| it.without_drafts = without);
        for (id, is_good) in [(1, true), (2, false)] {
            let key = format!("a/{without} {id}");
            let gone = File { kind: FileKind::File, file: "gone.bin".into(), title: None };
            let reply = outbound(id, |it| {
                it.draft_key.clone_from(&key);
                if !is_good {
                    it.content = Content { files: vec![gone], ..Content::text("") };
                }
            });
            let outcome = rig.send_in_turn(reply).await;
            assert_eq!(matches!(outcome, Outcome::Sent { .. }), is_good, "{outcome:?}");
            assert_eq!(rig.draft(&key, ANN, "late").await, None);
        }
    }
    let sim = rig.end().await;
    assert_eq!((drafts(&sim).len(), sim.sent().len()), (0, 2), "the replies, and nothing else");
}

/// The reply waits for what it must know: what people see.
#[tokio::test]
async fn a_draft_on_its_way_becomes_the_reply_that_overtakes_it() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, GROUP, Mood::Open);
    rig.sim.fault(Some("sendMessage"), Fault::Hold, Some(1));
    rig.show("a/k", GROUP, "one").await;
    let held = |it: &Entry| matches!(it.what, Observation::Held { .. });
    rig.sim.wait_count("the draft's call", LONG, 1, held).await;
    let reply = outbound(1, |it| {
        (it.chat_id, it.draft_key) = (GROUP.to_string(), "a/k".into());
        it.content.text = "one two".into();
    });
    rig.outbound.send(reply).await.unwrap();
    // What was sent behind it shows that it has begun.
    sent(rig.send(outbound(2, |_| {})).await);
    rig.sim.clear_faults();
    let ids = sent(rig.outcome(OutboundId(1)).await);
    let sim = rig.end().await;
    let in_group: Vec<_> = sim.sent().into_iter().filter(|it| it.chat_id == GROUP).collect();
    assert_eq!(in_group.len(), 1, "it is one message");
    assert_eq!(ids, [in_group[0].message_id.to_string()]);
    let last = sim.journal().into_iter().rev().find_map(|it| match it.what {
        Observation::Edited { text, .. } => Some(text),
        _ => None,
    });
    assert_eq!(last.as_deref(), Some("one two"));
}

/// Nothing is shown between a reply and the draft that waited for its turn.
#[tokio::test]
async fn a_draft_that_waits_for_its_turn_makes_way_for_the_reply() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, GROUP, Mood::Open);
    let to_group = |id| outbound(id, |it| it.chat_id = GROUP.to_string());
    for id in 1..=4 {
        sent(rig.send(to_group(id)).await);
    }
    // A reply may go at once, and a draft not before all of them have been paid for: in twelve seconds.
    rig.show("a/k", GROUP, "one").await;
    rig.fetch(part("nobody")).await.unwrap_err();
    let mut reply = to_group(5);
    reply.draft_key = "a/k".into();
    sent(rig.send(reply).await);
    let sim = rig.end().await;
    let said: Vec<_> = sim.sent().into_iter().map(|it| it.text).collect();
    assert_eq!(said, ["reply 1", "reply 2", "reply 3", "reply 4", "reply 5"]);
}

/// Drafts keep the pace, fall into no pause, and never make a reply wait.
#[tokio::test]
async fn drafts_keep_the_pace_of_their_chat() {
    let mut rig = Rig::ready().await;
    rig.sim.set_mood(TOKEN, GROUP, Mood::Open);
    rig.sim.configure(|it| {
        it.per_chat = Some(Duration::from_millis(2900));
        it.retry_after_s = 1;
    });
    let shown = rig.draft("a/k", GROUP, "one").await.unwrap();
    assert_eq!(rig.draft("a/k", GROUP, "one two").await, Some(shown));
    let limited =
        rig.sim.count(|it| matches!(it.what, Observation::Call { status: Some(429), .. }));
    assert_eq!(limited, 0);
    rig.end().await;
}

/// What a call is told of a limit, every other call for that chat knows (F37).
#[tokio::test]
async fn signs_and_drafts_fall_into_no_pause() {
    let mut rig = Rig::ready().await;
    rig.sim.configure(|it| {
        it.per_chat = Some(Duration::from_secs(2));
        it.retry_after_s = 1;
    });
    for id in 1..=4 {
        let busy = |on| Busy {
            chat_id: ANN.to_string(),
            thread_id: None,
            message_id: Some(id.to_string()),
            on,
        };
        let mut reply = outbound(id, |it| it.draft_key = format!("a/{id}"));
        loop {
            // All at once, as an agent that answers at once has it.
            rig.ask.send(Ask::Busy(busy(true))).await.unwrap();
            match rig.send(reply.clone()).await {
                Outcome::Retry { after_ms: Some(after), .. } => {
                    rig.ask.send(Ask::Busy(busy(false))).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    reply.attempt += 1;
                }
                outcome => break drop(sent(outcome)),
            }
        }
        rig.ask.send(Ask::Busy(busy(false))).await.unwrap();
    }
    let limited = |it: &Entry| matches!(it.what, Observation::Call { status: Some(429), .. });
    assert!(rig.sim.count(limited) > 0);
    // A call within a pause would be a violation.
    rig.end().await;
}

#[tokio::test]
async fn people_see_that_an_agent_is_at_work() {
    let rig = Rig::ready().await;
    rig.sim.set_forum(TOKEN, GROUP, &[42]);
    let busy = |on| Busy {
        chat_id: GROUP.to_string(),
        thread_id: Some("42".into()),
        message_id: Some("1".into()),
        on,
    };
    let shown = |it: &Entry| matches!(&it.what, Observation::Action { chat_id: GROUP, thread_id: Some(42), action } if action == "typing");
    rig.ask.send(Ask::Busy(busy(true))).await.unwrap();
    rig.sim.wait_count("a sign, and another", LONG, 2, shown).await;
    rig.ask.send(Ask::Busy(busy(false))).await.unwrap();
    rig.sim.set_mood(TOKEN, 55, Mood::Blocked);
    rig.ask
        .send(Ask::Busy(Busy { chat_id: "55".into(), thread_id: None, ..busy(true) }))
        .await
        .unwrap();
    rig.sim.wait_count("a refusal", LONG, 1, |it| {
        matches!(&it.what, Observation::Call { method, status: Some(403), .. } if method == "sendchataction")
    })
    .await;
    rig.end().await;
}

#[tokio::test]
async fn a_file_is_fetched_and_its_address_asked_for_anew() {
    let mut rig = Rig::ready().await;
    rig.sim.add_file(TOKEN, "f1", b"hello".to_vec());
    rig.sim.fault(Some("file"), refuse(404, "gone"), Some(1));
    let named =
        Part { name: Some("../a b.txt".into()), mime: Some("text/plain".into()), ..part("f1") };
    let fetched = rig.fetch(named).await.unwrap();
    assert_eq!((fetched.size, fetched.mime.as_deref()), (5, Some("text/plain")));
    assert_eq!(std::fs::read(rig.files.path().join(&fetched.file)).unwrap(), b"hello");
    let asked = rig.sim.count(|it| called(it, "getFile"));
    assert_eq!(asked, 2);
    let sim = rig.end().await;
    assert!(sim.count(|it| matches!(it.what, Observation::Read { status: 200, .. })) == 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_had_says_why() {
    let mut rig = Rig::ready().await;
    assert!(rig.fetch(part("nobody")).await.unwrap_err().contains("wrong file_id"));
    rig.sim.fault(Some("getFile"), refuse(400, "Bad Request: file is too big"), Some(1));
    let large = Part { size: Some(1 << 19), ..part("f1") };
    let why = rig.fetch(large).await.unwrap_err();
    assert!(why.contains("20 MB") && why.contains("base_url"), "{why}");
    rig.sim.add_file(TOKEN, "f2", vec![0; (1 << 20) + 1]);
    assert!(rig.fetch(part("f2")).await.unwrap_err().contains("files.max_mib"));
    let left: Vec<_> = std::fs::read_dir(rig.files.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    rig.sim.configure(|it| it.local_files = Some("/var/lib/bots".into()));
    rig.sim.add_file(TOKEN, "f1", b"hello".to_vec());
    assert!(rig.fetch(part("f1")).await.unwrap_err().contains("local_files"));
    rig.end().await;
}

#[tokio::test]
async fn a_server_of_ones_own_keeps_files_on_its_disk() {
    let kept = tempfile::tempdir().unwrap();
    let sim = Rig::sim().await;
    let dir = kept.path().to_str().unwrap().to_owned();
    sim.configure(|it| it.local_files = Some(dir));
    let mut rig = Rig::on(sim, |it| it.local_files = Some(kept.path().to_owned()));
    rig.until_ready().await;
    std::fs::write(kept.path().join("f1"), b"hello").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", kept.path().join("f2")).unwrap();
    rig.sim.add_file(TOKEN, "f1", b"hello".to_vec());
    rig.sim.add_file(TOKEN, "f2", b"hello".to_vec());
    let fetched = rig.fetch(part("f1")).await.unwrap();
    assert_eq!(std::fs::read(rig.files.path().join(&fetched.file)).unwrap(), b"hello");
    assert!(rig.fetch(part("f2")).await.unwrap_err().contains("not in local_files"));
    rig.end().await;
}

#[tokio::test]
async fn a_person_may_have_a_webhook_removed_and_what_waits_dropped() {
    let sim = Rig::sim().await;
    sim.set_webhook(TOKEN, "https://bot.example.org/secret/path");
    sim.push_text(TOKEN, ANN, "waiting");
    let mut rig = Rig::on(sim, |_| {});
    rig.until_conflict().await;
    let refused = rig.order(Order::DropPending).await.unwrap_err();
    assert!(refused.contains("bot.example.org") && !refused.contains("secret"), "{refused}");
    let told = rig.order(Order::DeleteWebhook).await.unwrap();
    assert!(told.contains("bot.example.org") && told.contains("1 updates wait"), "{told}");
    assert_eq!(accept(rig.heard().await).text, "waiting", "its updates stay");
    assert_eq!(rig.order(Order::DeleteWebhook).await.unwrap(), "there is no webhook");
    assert!(rig.order(Order::DropPending).await.unwrap().starts_with("dropped "));
    assert_eq!(rig.sim.pending(TOKEN), 0);
    rig.end().await;
}
