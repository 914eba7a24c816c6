//! A server of chat completions as the agent: what it refuses, breaks and hangs (F20, F98).

use std::collections::BTreeMap;
use std::time::Duration;

use tests::feishu::{Feishu, Observation};
use tests::openai::{Answer, Away, Server, delta, finish};

use crate::gateway::{Gateway, PATIENCE};
use crate::terminal::Terminal;

async fn world(more: &str) -> (Server, Gateway, Terminal) {
    let server = Server::start().await.unwrap();
    let mut gateway = Gateway::new(&format!(
        "[platform.local]\n[agent.model]\nkind = \"openai\"\nbase_url = \"{}\"\nmodel = \"m\"\n\
         key_file = \"key\"\n{more}\n",
        server.base_url()
    ));
    std::fs::write(gateway.path("key"), "a key").unwrap();
    gateway.start();
    let terminal = Terminal::join(&gateway);
    gateway.wait("model", "gate open", |i| i["gate"]["open"] == true);
    (server, gateway, terminal)
}

fn acknowledged(gateway: &Gateway, count: u64) {
    gateway.wait("model", "settled", |i| i["gate"]["acknowledged"] == count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_and_is_no_other_ones() {
    let (server, gateway, mut terminal) = world("system = \"be kind\"").await;
    terminal.typed("t1", "one");
    assert_eq!(terminal.shown(), "You said: one");
    acknowledged(&gateway, 1);
    terminal.typed("t2", "two");
    assert_eq!(terminal.shown(), "You said: two");
    let asked = server.asked();
    assert_eq!(asked[1].texts(), ["be kind", "one", "You said: one", "two"]);
    assert_eq!(asked[0].header("authorization"), Some("Bearer a key"));
    assert_eq!((&asked[0].body["model"], &asked[0].body["stream"]), (&"m".into(), &true.into()));
    assert_eq!(asked[0].header("x-hermes-session-id"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_remembers_is_told_which_conversation_it_is() {
    let (server, gateway, mut terminal) = world("memory = \"hermes\"").await;
    terminal.typed("t1", "one");
    terminal.shown();
    acknowledged(&gateway, 1);
    terminal.typed("t2", "two");
    terminal.shown();
    let asked = server.asked();
    assert_eq!(asked[1].texts(), ["two"]);
    let session = asked[0].header("x-hermes-session-id").unwrap();
    assert!(session.starts_with("hgw-"));
    assert_eq!(asked[1].header("x-hermes-session-id"), Some(session));
    assert_eq!(asked[1].header("x-hermes-session-key"), Some(session));
    terminal.typed("t3", "/new");
    terminal.shown();
    terminal.typed("t4", "three");
    terminal.shown();
    let asked = server.asked();
    assert_ne!(asked[2].header("x-hermes-session-id"), Some(session));
    let memory = asked[2].header("x-hermes-session-key");
    assert_eq!(memory, Some(session), "what it remembers for long");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_dies_is_asked_again_and_answered_once() {
    let (server, gateway, mut terminal) =
        world("max_attempts = 20\nfirst_s = 1\npause_s = 1").await;
    let half = || vec![delta("half an ans")];
    server.script([Answer::Broken(half()), Answer::Stream(vec![delta("half"), finish("abort")])]);
    terminal.typed("t1", "hello");
    assert_eq!(terminal.shown(), "You said: hello", "and nothing of the halves");
    acknowledged(&gateway, 1);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_left_even_if_its_connection_is_kept_alive() {
    let (server, gateway, mut terminal) = world("first_s = 1\npause_s = 1\nconcurrency = 8").await;
    server.script([Answer::KeptAlive(vec![delta("half")]), Answer::Silent(vec![])]);
    terminal.typed("t1", "hello");
    assert_eq!(terminal.shown(), "You said: hello");
    acknowledged(&gateway, 1);
    gateway.until("both were closed", || (server.abandoned() == 2).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_shuts_the_gate_and_costs_no_attempt() {
    let (server, gateway, mut terminal) = world("max_attempts = 1").await;
    let mut events = gateway.events();
    server.script([
        Answer::Whole(200, "", "<html>a proxy's page".into()),
        Answer::Whole(429, "retry-after: 0.2\r\n", "{\"error\":\"slow down\"}".into()),
        Answer::Whole(503, "retry-after: 0.1\r\n", "{\"error\":\"loading\"}".into()),
    ]);
    terminal.typed("t1", "hello");
    events.wait(|event| event["event"] == "gate" && event["now"] == "shut");
    assert_eq!(terminal.shown(), "You said: hello");
    acknowledged(&gateway, 1);
    assert_eq!(server.asked().len(), 4);
    assert_eq!(gateway.instance("local")["store"]["parked"], 0);
}

/// F20: what accepts connections for a server that is away is that server, away.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_behind_a_proxy_is_waited_for() {
    let (server, gateway, mut terminal) = world("max_attempts = 1").await;
    server.away(Away::All);
    terminal.typed("t1", "one");
    terminal.typed("t2", "two");
    gateway.wait("model", "away", |i| i["gate"]["open"] == false && i["outside"] == "down");
    server.away(Away::Nothing);
    for expected in ["You said: one", "You said: two"] {
        assert_eq!(terminal.shown(), expected);
    }
    assert_eq!(gateway.instance("local")["store"]["parked"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_several_conversations_costs_none_of_them_an_event() {
    let (server, gateway, mut terminal) = world("max_attempts = 2\nconcurrency = 2").await;
    let mut other = Terminal::join_as(&gateway, "office", "bob");
    let mut events = gateway.events();
    server.away(Away::Turns);
    terminal.typed("t1", "one");
    other.typed("t2", "two");
    events.wait(|event| event["event"] == "gate" && event["now"] == "shut");
    server.away(Away::Nothing);
    assert_eq!((terminal.shown(), other.shown()), ("You said: one".into(), "You said: two".into()));
    assert_eq!(gateway.instance("local")["store"]["parked"], 0);
}

/// F20, F98: a server that cuts everybody off half way is waited for, and says so in the status.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cuts_every_answer_costs_nobody_an_event() {
    let (server, gateway, mut terminal) = world("max_attempts = 2\nconcurrency = 2").await;
    let mut other = Terminal::join_as(&gateway, "office", "bob");
    server.script((0..6).map(|_| Answer::Broken(vec![delta("half an ans")])));
    terminal.typed("t1", "one");
    other.typed("t2", "two");
    gateway.wait("model", "down", |i| i["gate"]["open"] == false && i["outside"] == "down");
    assert_eq!((terminal.shown(), other.shown()), ("You said: one".into(), "You said: two".into()));
    assert_eq!(gateway.instance("local")["store"]["parked"], 0);
    gateway.wait("model", "up", |i| i["gate"]["open"] == true && i["reason"].is_null());
}

/// A connection that is left open behind a whole answer is no broken turn.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_whole_when_it_says_so() {
    let (server, gateway, mut terminal) = world("max_attempts = 1").await;
    server.script([Answer::Silent(vec![delta("the whole answer"), finish("stop")])]);
    terminal.typed("t1", "hello");
    assert_eq!(terminal.shown(), "the whole answer");
    acknowledged(&gateway, 1);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_says_nothing_is_told_in_the_chat() {
    let (server, gateway, mut terminal) = world("").await;
    server.script([Answer::Stream(vec![finish("content_filter")])]);
    terminal.typed("t1", "hello");
    assert_eq!(terminal.shown(), "(no answer: it said nothing (content_filter))");
    acknowledged(&gateway, 1);
    assert_eq!(server.asked().len(), 1);
}

/// F22: nobody else waits for it, and it does not come for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_always_fails_is_set_aside_and_holds_nobody_up() {
    let (server, gateway, mut terminal) = world("max_attempts = 2").await;
    let mut other = Terminal::join_as(&gateway, "office", "bob");
    server.always("poison", Answer::Whole(500, "", "{\"error\":\"a template\"}".into()));
    terminal.typed("t1", "poison");
    server.wait_asked(1).await;
    other.typed("t2", "good");
    assert_eq!(other.shown(), "You said: good");
    assert_eq!(server.asked().len(), 2, "the first answer's conversation alone waits");
    terminal.typed("t3", "next");
    assert_eq!(terminal.shown(), "You said: next");
    gateway.wait("local", "set aside", |i| i["store"]["parked"] == 1);
    let poison = server.asked().iter().filter(|asked| asked.texts() == ["poison"]).count();
    assert_eq!(poison, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_talks_nonsense_is_asked_again() {
    let (server, gateway, mut terminal) = world("").await;
    server.script([
        Answer::Stream(vec!["data: what?\n\n".into(); 5]),
        Answer::Whole(200, "", "no JSON".into()),
    ]);
    terminal.typed("t1", "hello");
    assert_eq!(terminal.shown(), "You said: hello");
    acknowledged(&gateway, 1);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_never_there_is_told_of_as_that() {
    let server = Server::start().await.unwrap();
    let addr = server.addr();
    drop(server);
    let config = format!(
        "[platform.local]\n[agent.model]\nkind = \"openai\"\nbase_url = \"http://{addr}/v1\"\nmodel = \"m\"\n"
    );
    let gateway = Gateway::running(&config);
    let mut terminal = Terminal::join(&gateway);
    terminal.typed("t1", "hello");
    gateway.wait("model", "told why", |i| {
        i["outside"] == "down" && i["reason"].as_str().is_some_and(|it| it.contains("refused"))
    });
    let _server = Server::start_on(addr).await.unwrap();
    assert_eq!(terminal.shown(), "You said: hello");
    gateway.wait("model", "up", |i| i["outside"] == "up" && i["gate"]["open"] == true);
}

/// F20: a server that is not there is told of, and costs no message. `health` has an hour of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_waited_for() {
    let (server, gateway, mut terminal) = world("max_attempts = 1").await;
    let addr = server.addr();
    drop(server);
    terminal.typed("t1", "one");
    let told = gateway.wait("model", "away", |i| i["gate"]["open"] == false);
    assert_eq!((&told["outside"], &told["connected"]), (&"down".into(), &false.into()));
    assert!(told["reason"].as_str().unwrap().contains("refused"), "{told}");
    terminal.typed("t2", "two");
    terminal.typed("t3", "/status");
    assert!(terminal.shown().contains("away"));
    let store = gateway.instance("local")["store"].clone();
    assert_eq!((&store["waiting"], &store["parked"]), (&2.into(), &0.into()));
    let server = Server::start_on(addr).await.unwrap();
    for expected in ["You said: one", "You said: two"] {
        assert_eq!(terminal.shown(), expected);
    }
    acknowledged(&gateway, 2);
    gateway.wait("model", "up", |i| i["outside"] == "up");
    assert_eq!(server.asked().len(), 2, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_and_an_event_waits_for_the_right_one() {
    let (server, gateway, mut terminal) = world("max_attempts = 1").await;
    server.health(401);
    server.script([Answer::Whole(401, "", "{\"error\":{\"message\":\"no such key\"}}".into())]);
    terminal.typed("t1", "hello");
    let told = gateway.wait("model", "shut", |i| {
        i["gate"]["open"] == false && i["remedy"].as_str().is_some_and(|text| text.contains("key"))
    });
    assert_eq!(told["connected"], false);
    server.health(200);
    assert_eq!(terminal.shown(), "You said: hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_will_never_take_is_set_aside_and_the_lane_goes_on() {
    let (server, gateway, mut terminal) = world("").await;
    terminal.typed("t0", "before");
    terminal.shown();
    acknowledged(&gateway, 1);
    let long = "{\"error\":{\"message\":\"maximum context length is 4096 tokens\"}}";
    server.script([
        Answer::Whole(400, "", "{\"error\":{\"message\":\"bad words\"}}".into()),
        Answer::Whole(400, "", long.into()),
    ]);
    terminal.typed("t1", "poison");
    terminal.typed("t2", "next");
    assert_eq!(terminal.shown(), "You said: next");
    let store = ["parked", "waiting"];
    gateway
        .wait("local", "parked", |i| store.map(|it| i["store"][it].as_u64()) == [Some(1), Some(0)]);
    let asked = server.asked();
    assert_eq!(asked[2].texts().len(), 3, "with what was said before");
    assert_eq!(asked[3].texts(), ["next"], "with half of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_in_a_turn_costs_no_message() {
    let (server, gateway, mut terminal) = world("").await;
    server.script([Answer::Silent(vec![delta("half")])]);
    terminal.typed("t1", "hello");
    server.wait_asked(1).await;
    crate::gateway::signal(gateway.instance("model")["pid"].as_u64().unwrap(), "KILL");
    assert_eq!(terminal.shown(), "You said: hello");
    assert_eq!(server.asked().len(), 2);
}

async fn on_feishu(more: &str) -> (Server, Feishu, Gateway) {
    let server = Server::start().await.unwrap();
    let feishu = Feishu::start().await;
    feishu.add_app("cli_shown", "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"cli_shown\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n\
         [agent.model]\nkind = \"openai\"\nbase_url = \"{}\"\nmodel = \"m\"\n{more}\n",
        feishu.base_url(),
        server.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    gateway.start();
    feishu.wait_connected("cli_shown", 1, PATIENCE).await;
    gateway.wait("model", "gate open", |i| i["gate"]["open"] == true);
    (server, feishu, gateway)
}

/// Waits until people see `text` in the first message, and nothing of it streams any more.
fn until_shown(gateway: &Gateway, feishu: &Feishu, text: &str) {
    gateway.until(&format!("people see {text:?}"), || {
        let first = feishu.sent().first()?.message_id.clone();
        let seen = feishu.shown(&first)?;
        (seen.trim() == text && !feishu.streams(&first)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_while_it_comes_becomes_the_answer() {
    let (server, feishu, gateway) = on_feishu("").await;
    let words: Vec<String> = (0..12).map(|n| format!("word{n} ")).collect();
    let parts = words.iter().map(|word| delta(word)).chain([finish("stop")]).collect();
    server.script([Answer::Slow(Duration::from_millis(150), parts)]);
    feishu.push_text("cli_shown", "oc_1", "ou_1", "hello").acked_within(PATIENCE).await;
    let part = gateway.until("a part of it is seen", || {
        let first = feishu.sent().first()?.message_id.clone();
        feishu.shown(&first).filter(|seen| seen.contains("word0") && !seen.contains("word11"))
    });
    assert!(words.concat().starts_with(part.trim()), "{part:?}");
    until_shown(&gateway, &feishu, words.concat().trim());
    gateway.wait("feishu", "sent", |i| i["store"]["replies"] == 0 && i["store"]["waiting"] == 0);
    assert_eq!(feishu.sent().len(), 1, "one message from its first word to its last");
    assert!(feishu.violations().is_empty(), "{:?}", feishu.violations());
}

/// A crash in the middle of an answer ends in a complete message, and in one.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_kill_cuts_is_made_whole() {
    for victim in ["model", "feishu"] {
        let (server, feishu, gateway) = on_feishu("").await;
        let parts = vec![delta("half "), delta("an "), delta("answer"), finish("stop")];
        server.script([if victim == "model" {
            Answer::Silent(vec![delta("half an ans")])
        } else {
            Answer::Slow(Duration::from_millis(700), parts)
        }]);
        feishu.push_text("cli_shown", "oc_1", "ou_1", "hello").acked_within(PATIENCE).await;
        gateway.until("a part of it is seen", || {
            let first = feishu.sent().first()?.message_id.clone();
            feishu.shown(&first).filter(|seen| seen.contains("half"))
        });
        crate::gateway::signal(gateway.instance(victim)["pid"].as_u64().unwrap(), "KILL");
        if victim == "model" {
            until_shown(&gateway, &feishu, "You said: hello");
        } else {
            gateway.wait("feishu", "sent", |i| {
                i["store"]["replies"] == 0 && i["store"]["waiting"] == 0
            });
            let seen: Vec<_> =
                feishu.sent().iter().filter_map(|sent| feishu.shown(&sent.message_id)).collect();
            assert_eq!(seen.last().map(|text| text.trim()), Some("half an answer"), "{seen:?}");
        }
        gateway.wait("feishu", "settled", |i| i["store"]["waiting"] == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_dies_may_be_told_instead_of_asked_again() {
    let (server, gateway, mut terminal) = world("broken = \"report\"").await;
    server.script([Answer::Broken(vec![]), Answer::Broken(vec![delta("half an answer")])]);
    terminal.typed("t1", "hello");
    assert_eq!(terminal.shown(), "half an answer\n\n(broken off)", "nothing is asked again");
    acknowledged(&gateway, 1);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_survives_kills_and_stops_and_ends_with_a_new_beginning() {
    let (server, feishu, mut gateway) = on_feishu("").await;
    let say = async |gateway: &Gateway, text: &str| {
        feishu.push_text("cli_shown", "oc_1", "ou_1", text).acked_within(PATIENCE).await;
        if text != "two" {
            gateway.wait("feishu", "settled", |i| {
                i["store"]["waiting"] == 0 && i["store"]["replies"] == 0
            });
        }
    };
    let seen = |text: &str| {
        let sent = feishu.sent();
        let mut sent = sent.iter().filter_map(|sent| feishu.shown(&sent.message_id));
        sent.any(|shown| shown.trim() == text).then_some(())
    };
    say(&gateway, "one").await;
    server.script([Answer::Silent(vec![delta("half")])]);
    say(&gateway, "two").await;
    gateway.until("half of it is seen", || seen("half"));
    say(&gateway, "/stop").await;
    gateway.until("it is stopped", || seen("Stopped.").and(seen("half\n\n(stopped)")));
    let told = || (server.abandoned() == 1).then_some(());
    gateway.until("the server is told by the end of the connection", told);
    gateway.kill_supervisor();
    gateway.start();
    feishu.wait_connected("cli_shown", 1, PATIENCE).await;
    say(&gateway, "three").await;
    let asked = server.asked();
    assert_eq!(asked[2].texts(), ["one", "You said: one", "two", "half", "three"]);
    say(&gateway, "/new").await;
    say(&gateway, "four").await;
    assert_eq!(server.asked()[3].texts(), ["four"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_chats_at_once_keep_their_order_and_the_servers_limit() {
    const CHATS: usize = 50;
    const EACH: usize = 4;
    let server = Server::start().await.unwrap();
    server.pace(Duration::from_millis(40));
    let feishu = Feishu::start().await;
    feishu.add_app("cli_many", "secret", "ou_bot");
    let mut gateway = Gateway::new(&format!(
        "[platform.feishu]\napp_id = \"cli_many\"\napp_secret_file = \"secret\"\nbase_url = \"{}\"\n\
         access = {{ direct = \"open\" }}\n\
         [agent.model]\nkind = \"openai\"\nbase_url = \"{}\"\nmodel = \"m\"\nconcurrency = 8\n",
        feishu.base_url(),
        server.base_url()
    ));
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    gateway.start();
    feishu.wait_connected("cli_many", 1, PATIENCE).await;
    for round in 0..EACH {
        // The order of a chat is the order of acknowledgements.
        let pushed: Vec<_> = (0..CHATS)
            .map(|chat| {
                let (chat, user) = (format!("oc_{chat}"), format!("ou_{chat}"));
                feishu.push_text("cli_many", &chat, &user, &format!("m{round}"))
            })
            .collect();
        for event in pushed {
            event.acked_within(PATIENCE).await;
        }
    }
    feishu
        .wait_count("all replies", PATIENCE, CHATS * EACH, |entry| {
            matches!(entry.what, Observation::Sent(_))
        })
        .await;
    let mut replies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut first = Vec::new();
    for (at, sent) in feishu.sent().into_iter().enumerate() {
        let chat = replies.entry(sent.receive_id.clone()).or_default();
        if chat.is_empty() {
            first.push(at);
        }
        chat.push(sent.text().unwrap());
    }
    let expected: Vec<_> = (0..EACH).map(|round| format!("You said: m{round}")).collect();
    assert_eq!(replies.len(), CHATS);
    assert!(replies.values().all(|found| *found == expected), "{replies:?}");
    assert_eq!(server.most_turns(), 8, "as many as the limit allows, and no more");
    assert!(first.iter().max().unwrap() < &(CHATS * 3), "no chat waits for the end of others");
    gateway.wait("feishu", "nothing waits", |i| i["store"]["waiting"] == 0);
}
