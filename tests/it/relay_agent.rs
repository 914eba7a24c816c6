//! The relay, dialled by a simulated Hermes Agent (F20, F98). The stock one is in `tests/conformance`.

use serde_json::{Value, json};
use tests::hermes::{Hermes, Said, bearer};
use tests::telegram::{Fault, Message, Telegram};

use crate::gateway::{Gateway, PATIENCE, stderr, stdout};
use crate::terminal::Terminal;

const SECRET: &str = "shared";

struct World {
    gateway: Gateway,
    url: String,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    fn new() -> Self {
        let world = Self::without_home();
        std::fs::create_dir(world.gateway.path("home")).unwrap();
        world.started()
    }

    fn without_home() -> Self {
        Self::with("home = \"home\"")
    }

    fn with(setting: &str) -> Self {
        let port = free_port();
        let gateway = Gateway::new(&format!(
            "[platform.local]\n[agent.hermes]\nkind = \"relay\"\nlisten = \"127.0.0.1:{port}\"\n\
             secret_file = \"secret\"\n{setting}\n"
        ));
        std::fs::write(gateway.path("secret"), SECRET).unwrap();
        Self { gateway, url: format!("ws://127.0.0.1:{port}/relay") }
    }

    fn started(mut self) -> Self {
        self.gateway.start();
        self.gateway.wait("hermes", "listening", |i| i["phase"] == "ready");
        self
    }

    /// What the agent's state file says from now on.
    fn process(&self, pid: u32, active: u32) {
        let state = json!({ "pid": pid, "start_time": 1, "active_agents": active });
        let path = self.gateway.path("home").join("gateway_state.json");
        let beside = path.with_extension("new");
        std::fs::write(&beside, state.to_string()).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    async fn dial(&self, name: &str) -> Hermes {
        Hermes::dial(&self.url, &bearer("hermes", SECRET, 0), name).await.unwrap()
    }

    fn wait_open(&self, open: bool) {
        self.gateway.wait("hermes", "gate", |i| i["gate"]["open"] == open);
    }

    fn acknowledged(&self, count: u64) {
        self.gateway.wait("hermes", "settled", |i| i["gate"]["acknowledged"] == count);
    }
}

async fn closed(hermes: &mut Hermes) -> Option<u16> {
    loop {
        if let Said::Closed(code) = hermes.hear().await {
            return code;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_to_an_agent_that_listens_and_its_answer_comes_back() {
    let world = World::new();
    let mut terminal = Terminal::join(&world.gateway);
    terminal.typed("t1", "hello");
    let mut hermes = world.dial("a").await;
    let descriptor = hermes.hello("local").await;
    assert_eq!(
        (&descriptor["platform"], &descriptor["contract_version"]),
        (&json!("local"), &json!(1))
    );
    assert_eq!(descriptor["supported_ops"], json!(["send"]));
    let event = hermes.event().await;
    assert_eq!((&event["text"], &event["message_id"]), (&json!("hello"), &json!("t1")));
    assert_eq!(event["source"]["chat_type"], "dm");
    assert_eq!(world.gateway.instance("hermes")["gate"]["acknowledged"], 0, "taken is not done");
    let result = hermes.answer(&event, "good day").await;
    assert_eq!(result["success"], true, "{result}");
    assert_eq!(terminal.shown(), "good day");
    world.acknowledged(1);
    // What is not offered is refused at once, or the agent would wait half a minute.
    let action = json!({ "op": "typing", "chat_id": "home" });
    hermes.say(json!({ "type": "outbound", "requestId": "x", "action": action })).await;
    assert_eq!(hermes.result("x").await["error"], "unsupported op");
    let action = json!({ "op": "get_chat_info", "chat_id": "home" });
    hermes.say(json!({ "type": "outbound", "requestId": "y", "action": action })).await;
    assert_eq!(hermes.result("y").await["chat_info"]["type"], "dm");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_the_secret_and_the_status_tells_why() {
    let world = World::new();
    for (id, secret, until, code) in
        [("hermes", "wrong", 0, 4401), ("other", SECRET, 0, 4401), ("hermes", SECRET, 1, 1013)]
    {
        let mut stranger = Hermes::dial(&world.url, &bearer(id, secret, until), "s").await.unwrap();
        assert_eq!(closed(&mut stranger).await, Some(code), "{id} {secret} {until}");
    }
    let elsewhere = world.url.replace("/relay", "/other");
    let refused = Hermes::dial(&elsewhere, &bearer("hermes", SECRET, 0), "s").await;
    assert!(refused.unwrap_err().to_string().contains("400"));
    let told = world.gateway.wait("hermes", "turned away", |i| {
        i["reason"].as_str().is_some_and(|why| why.contains("was turned away: expired token"))
    });
    assert_eq!(told["connected"], false);
    assert!(told["remedy"].as_str().unwrap().contains("GATEWAY_RELAY_ID and _SECRET"), "{told}");
    let mut stranger = Hermes::dial(&world.url, &bearer("hermes", "wrong", 0), "s").await.unwrap();
    closed(&mut stranger).await;
    let status = |words: &'static str| {
        world
            .gateway
            .wait("hermes", words, |i| i["reason"].as_str().is_some_and(|why| why.contains(words)));
    };
    status("was turned away: unauthorized");
    // The right secret, and then nothing.
    let mute = world.dial("mute").await;
    status("does not say hello");
    drop(mute);
    status("was turned away");
    world.dial("a").await.hello("local").await;
    world.gateway.wait("hermes", "no word of it any more", |i| {
        i["reason"].as_str().is_none_or(|why| !why.contains("turned away"))
    });
}

/// F70
#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_again_and_again_is_counted_in_the_log() {
    let world = World::new();
    for until in [0, 1].repeat(20) {
        let secret = if until == 0 { "wrong" } else { SECRET };
        let stranger = Hermes::dial(&world.url, &bearer("hermes", secret, until), "s").await;
        closed(&mut stranger.unwrap()).await;
    }
    let log = world.gateway.log();
    let said = |why: &str| log.matches(why).count();
    assert_eq!((said("why=\"unauthorized\""), said("why=\"expired token\"")), (5, 5), "{log}");
    assert!(log.contains("times=16"), "{log}");
}

/// Any program of this machine may connect and say nothing.
#[tokio::test(flavor = "multi_thread")]
async fn mute_connections_keep_no_agent_out() {
    let world = World::new();
    let address = world.url.trim_start_matches("ws://").trim_end_matches("/relay");
    let mut mute = Vec::new();
    for _ in 0..100 {
        mute.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let mut hermes = tokio::time::timeout(PATIENCE, world.dial("a")).await.expect("it comes in");
    hermes.hello("local").await;
    let mut terminal = Terminal::join(&world.gateway);
    terminal.typed("t1", "hello");
    let event = hermes.event().await;
    hermes.answer(&event, "good day").await;
    assert_eq!(terminal.shown(), "good day");
}

/// What a person has ended while its files are fetched does not come to the agent at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stopped_while_its_files_come() {
    let telegram = Telegram::start().await;
    telegram.add_bot("77:token", "bot");
    let world = World::with(&format!(
        "[platform.telegram]\ntoken_file = \"token\"\nbase_url = \"{}\"\naccess.direct = \"open\"",
        telegram.base_url()
    ));
    std::fs::write(world.gateway.path("token"), "77:token").unwrap();
    let world = world.started();
    let mut hermes = world.dial("a").await;
    hermes.hello("telegram").await;
    telegram.push_text("77:token", 9, "hello");
    let event = hermes.event().await;
    hermes.answer(&event, "good day").await;
    telegram.wait_sent(PATIENCE, 1).await;
    telegram.fault(Some("getFile"), Fault::Hold, None);
    let file = json!({"file_id": "f", "file_name": "a.pdf"});
    telegram.push_message("77:token", Message::direct(9).with("document", file));
    world.gateway.wait("hermes", "at work", |i| i["gate"]["in_flight"] == 1);
    telegram.push_text("77:token", 9, "/stop");
    assert_eq!(telegram.wait_sent(PATIENCE, 2).await[1].text, "Stopped.");
    world.acknowledged(2);
    telegram.clear_faults();
    telegram.push_text("77:token", 9, "next");
    assert_eq!(hermes.event().await["text"], "next");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_agent_says_wrong_the_next_line_works() {
    let world = World::new();
    let mut terminal = Terminal::join(&world.gateway);
    terminal.typed("t1", "hello");
    let mut hermes = world.dial("a").await;
    hermes.raw("no JSON\n[1]\n\n{\"type\":\"la").await;
    hermes.raw("ter\"}\n{\"type\":\"inbound_ack\"}\n{\"type\":\"outbound\"}\n").await;
    hermes.raw("{\"type\":\"inbound_ack\",\"bufferId\":\"77.1.1\"}\n").await;
    hermes.hello("local").await;
    let event = hermes.event().await;
    hermes.answer(&event, "good day").await;
    assert_eq!(terminal.shown(), "good day");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_restarted_gets_its_event_again_and_one_that_dialled_again_does_not() {
    let world = World::new();
    world.process(7, 1);
    let mut terminal = Terminal::join(&world.gateway);
    let mut first = world.dial("a").await;
    first.hello("local").await;
    terminal.typed("t1", "hello");
    let event = first.event().await;
    // Its reader died and it dials again: the newer connection counts.
    let mut second = world.dial("b").await;
    second.hello("local").await;
    assert_eq!(closed(&mut first).await, Some(1000));
    let probe = second.until("inbound").await;
    let source = &probe["event"]["source"];
    second.send(&source["platform"], &source["chat_id"], &Value::Null, "help").await;
    world.wait_open(true);
    second.answer(&event, "of the turn that went on").await;
    assert_eq!(terminal.shown(), "of the turn that went on");
    world.acknowledged(1);

    terminal.typed("t2", "and now");
    second.event().await;
    drop(second);
    world.wait_open(false);
    world.process(8, 0);
    let mut third = world.dial("c").await;
    third.hello("local").await;
    let event = third.event().await;
    assert_eq!(event["message_id"], "t2~hgw2", "newer agents drop a name that they have seen");
    third.answer(&event, "again").await;
    assert_eq!(terminal.shown(), "again");
    world.acknowledged(2);
}

/// A turn longer than anybody waits for, and its answer comes after all.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_its_event_was_set_aside_takes_it_from_there() {
    let world = World::with("turn_limit_s = 1").started();
    let mut terminal = Terminal::join(&world.gateway);
    let mut hermes = world.dial("a").await;
    hermes.hello("local").await;
    terminal.typed("t1", "a long story, please");
    let event = hermes.event().await;
    world.gateway.wait("local", "set aside", |i| i["store"]["parked"] == 1);
    hermes.answer(&event, "once upon a time").await;
    assert_eq!(terminal.shown(), "once upon a time");
    world.gateway.wait("local", "answered", |i| i["store"]["parked"] == 0);
    world.acknowledged(1);
}

/// Somebody started Hermes twice.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_with_one_id_the_first_is_served_and_a_person_is_told() {
    let world = World::new();
    let mut terminal = Terminal::join(&world.gateway);
    let mut first = world.dial("a").await;
    first.hello("local").await;
    terminal.typed("t1", "hello");
    let open = first.event().await;
    let mut second = world.dial("b").await;
    second.hello("local").await;
    // Asked for a sign of life, it gives it.
    let probe = first.until("inbound").await;
    assert!(probe["bufferId"].is_null(), "{probe}");
    let source = &probe["event"]["source"];
    first.send(&source["platform"], &source["chat_id"], &Value::Null, "help").await;
    world.gateway.wait("hermes", "two", |i| {
        i["outside"] == "limited" && i["connected"] == true && i["gate"]["open"] == true
    });
    let told = world.gateway.instance("hermes");
    assert!(told["reason"].as_str().unwrap().contains("runs twice"), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("end one of them"), "{told}");
    first.answer(&open, "good day").await;
    terminal.typed("t2", "and now");
    let event = first.event().await;
    first.answer(&event, "still here").await;
    assert_eq!((terminal.shown(), terminal.shown()), ("good day".into(), "still here".into()));
    world.acknowledged(2);
    drop(first);
    terminal.typed("t3", "and then");
    let event = second.event().await;
    // The first may have had it a moment before it was gone: then it comes marked.
    assert!(event["message_id"].as_str().unwrap().starts_with("t3"), "{event}");
    second.answer(&event, "here now").await;
    assert_eq!(terminal.shown(), "here now");
    world.gateway.wait("hermes", "one", |i| i["outside"] == "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_about_to_leave_is_let_go() {
    let world = World::new();
    let mut terminal = Terminal::join(&world.gateway);
    let mut hermes = world.dial("a").await;
    hermes.hello("local").await;
    terminal.typed("t1", "hello");
    let event = hermes.event().await;
    hermes.say(json!({ "type": "going_idle" })).await;
    hermes.until("going_idle_ack").await;
    world.wait_open(false);
    hermes.answer(&event, "last words").await;
    assert_eq!(terminal.shown(), "last words");
    // When the worker ends it closes politely.
    let told = world.gateway.run(&["ctl", "kill", "hermes"]);
    assert!(told.status.success(), "{}", stderr(&told));
    assert_eq!(closed(&mut hermes).await, Some(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_not_there_is_named_and_read_when_it_is() {
    let world = World::without_home();
    let path = world.gateway.path("home").display().to_string();
    let told = stdout(&world.gateway.run(&["check"]));
    let warned = |line: &str| line.starts_with("warning ") && line.contains(&path);
    assert!(told.lines().any(warned), "{told}");
    let world = world.started();
    let named = |i: &Value| i["reason"].as_str().is_some_and(|why| why.contains(&path));
    world.gateway.wait("hermes", "named without an agent", named);
    let mut terminal = Terminal::join(&world.gateway);
    let mut first = world.dial("a").await;
    first.hello("local").await;
    terminal.typed("t1", "hello");
    let event = first.event().await;
    world.gateway.wait("hermes", "named", |i| i["outside"] == "limited" && named(i));
    // While something is at work nobody is disturbed.
    std::fs::create_dir(world.gateway.path("home")).unwrap();
    world.process(7, 1);
    first.answer(&event, "good day").await;
    assert_eq!(terminal.shown(), "good day");
    world.gateway.wait("hermes", "read", |i| {
        let unconfined = i["confined"].as_str().is_some_and(|to| to.starts_with("nothing"));
        let may = i["generation"] == 2 || unconfined;
        may && i["phase"] == "ready" && i["outside"].is_string() && i["outside"] != "limited"
    });
    drop(first);

    let mut second = world.dial("b").await;
    second.hello("local").await;
    terminal.typed("t2", "and now");
    let event = second.event().await;
    drop(second);
    let mut third = world.dial("c").await;
    third.hello("local").await;
    let probe = third.until("inbound").await;
    let source = &probe["event"]["source"];
    third.send(&source["platform"], &source["chat_id"], &Value::Null, "help").await;
    world.wait_open(true);
    third.answer(&event, "of the turn that went on").await;
    assert_eq!(terminal.shown(), "of the turn that went on");
    terminal.typed("t3", "and then");
    assert_eq!(third.event().await["message_id"], "t3", "what is at work is not given twice");
}

/// A port that somebody else has costs no worker, and is taken when it is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_waited_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut gateway = Gateway::new(&format!(
        "[platform.local]\n[agent.hermes]\nkind = \"relay\"\nlisten = \"127.0.0.1:{port}\"\n\
         secret_file = \"secret\"\n"
    ));
    std::fs::write(gateway.path("secret"), SECRET).unwrap();
    gateway.start();
    let told = gateway.wait("hermes", "told", |i| {
        i["reason"].as_str().is_some_and(|it| it.contains("listen on"))
    });
    drop(taken);
    let url = format!("ws://127.0.0.1:{port}/relay");
    gateway.until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    Hermes::dial(&url, &bearer("hermes", SECRET, 0), "hermes").await.unwrap();
    assert_eq!(gateway.instance("hermes")["pid"], told["pid"]);
}
